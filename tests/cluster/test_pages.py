"""Several replicas' answers as one."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from qwenkit.cluster.pages import merged_metrics, merged_status

PAGE = b"""# HELP qwenkit_requests_total Requests answered.
# TYPE qwenkit_requests_total counter
qwenkit_requests_total{route="/v1/models",status="200"} %d
# HELP qwenkit_step_seconds Steps.
# TYPE qwenkit_step_seconds histogram
qwenkit_step_seconds_bucket{le="1.0"} 2.0
qwenkit_step_seconds_bucket{le="+Inf"} 3.0
qwenkit_step_seconds_count 3.0
qwenkit_step_seconds_sum 4.5
"""


def test_every_sample_says_whose_it_is_and_no_family_is_described_twice() -> None:
    merged = merged_metrics({"a": PAGE % 1, "b": PAGE % 2}).decode()
    families = list(text_string_to_metric_families(merged))
    assert [(each.name, each.type) for each in families] == [
        ("qwenkit_requests", "counter"),
        ("qwenkit_step_seconds", "histogram"),
    ]
    counted = {each.labels["replica"]: each.value for each in families[0].samples}
    assert counted == {"a": 1.0, "b": 2.0}
    assert merged.count("# TYPE qwenkit_step_seconds histogram") == 1
    assert len(families[1].samples) == 8


def test_a_status_has_the_shape_of_one_server_and_every_replica_below() -> None:
    pages = {"b": b'{"state": "replacing"}', "a": b'{"state": "ready"}'}
    assert json.loads(merged_status(pages)) == {
        "state": "ready",
        "replicas": [
            {"replica": "a", "state": "ready"},
            {"replica": "b", "state": "replacing"},
        ],
    }
