"""Makes one answer of several replicas' answers. Knows Prometheus' text and JSON; no HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

LABEL = "replica"


def merged_metrics(pages: Mapping[str, bytes]) -> bytes:
    """Every replica's metrics as one page, each with a label that says whose it is.

    Args:
        pages: Each replica's page, by its name.
    """
    registry = CollectorRegistry()
    registry.register(_Pages(pages))
    return generate_latest(registry)


class _Pages:
    def __init__(self, pages: Mapping[str, bytes]) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, page in self._pages.items():
            for family in text_string_to_metric_families(page.decode()):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, LABEL: replica}
                    merged.samples.append(sample._replace(labels=labels))
        yield from families.values()


def merged_status(pages: Mapping[str, bytes]) -> bytes:
    """The first replica's status, and below `replicas` that of each.

    Args:
        pages: Each replica's `/admin/status`, by its name.
    """
    each: list[dict[str, Any]] = [
        {LABEL: replica, **json.loads(page)} for replica, page in sorted(pages.items())
    ]
    first = {key: value for key, value in each[0].items() if key != LABEL}
    return json.dumps({**first, "replicas": each}, separators=(",", ":")).encode()
