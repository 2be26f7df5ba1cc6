"""What a report says of its numbers. No torch here, but for the picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from qwenkit.errors import InvalidData
from qwenkit.quality.metrics import Perplexity
from qwenkit.training.data.samples import (
    AnySample,
    LabelSample,
    PreferenceSample,
    PreparedData,
    PromptSample,
    Sample,
)
from qwenkit.training.qat.report import Part, QatReport, QatRow, held_out_tokens


def report(**perplexities: float) -> QatReport:
    """A report with these perplexities, `trained` perhaps among them."""
    full = perplexities.get("trained", perplexities["base"])
    parts: tuple[Part, ...] = ("base", "trained", "ptq", "qat")
    rows = tuple(
        QatRow(part, Path(f"{part}.gguf"), 7, Perplexity(value, 0.5, 100), value / full)
        for part in parts
        if (value := perplexities.get(part)) is not None
    )
    return QatReport("q4_0", "llama.cpp", 256, rows)


def data(*samples: AnySample) -> PreparedData:
    return PreparedData(samples, (), len(samples), "hash", "print")


def test_a_comparison_is_fair_when_the_quantised_model_was_taught_the_same() -> None:
    fair = report(base=50.0, trained=10.0, ptq=12.0, qat=11.0)
    assert fair.is_fair
    assert fair.is_better
    assert fair.row("qat").ratio == pytest.approx(1.1)
    assert fair.recovered == pytest.approx(math.log(12 / 11) / math.log(1.2))


def test_without_a_twin_nothing_is_said_to_be_recovered() -> None:
    unfair = report(base=50.0, ptq=55.0, qat=11.0)
    assert not unfair.is_fair
    assert unfair.recovered is None
    with pytest.raises(KeyError):
        unfair.row("trained")


def test_a_worse_model_recovers_less_than_nothing() -> None:
    worse = report(base=50.0, trained=10.0, ptq=11.0, qat=12.0)
    assert not worse.is_better
    assert worse.recovered is not None
    assert worse.recovered < 0


def test_where_quantising_cost_nothing_there_is_nothing_to_recover() -> None:
    assert report(base=50.0, trained=10.0, ptq=9.9, qat=9.8).recovered is None


def test_a_report_is_json() -> None:
    value = json.loads(json.dumps(report(base=50.0, trained=10.0, ptq=12.0, qat=11.0).to_json()))
    assert value["fair"]
    assert value["better"]
    assert [model["part"] for model in value["models"]] == ["base", "trained", "ptq", "qat"]
    assert value["models"][2]["perplexity"] == 12.0


def test_the_answers_that_are_liked_are_what_is_held_out() -> None:
    found = held_out_tokens(
        data(
            Sample((1, 2), (False, True), "a:1"),
            PreferenceSample((3,), (4, 5), (6,), "a:2"),
            LabelSample((7,), (8,), True, "a:3"),
            LabelSample((7,), (9,), False, "a:4"),
        )
    )
    assert found.tolist() == [1, 2, 3, 4, 5, 7, 8]


def test_prompts_alone_measure_nothing() -> None:
    with pytest.raises(InvalidData):
        held_out_tokens(data(PromptSample((1, 2), [], {}, "a:1")))


@pytest.mark.parity
@pytest.mark.parametrize("trained", [10.0, None])
def test_a_report_is_written_and_drawn(tmp_path: Path, trained: float | None) -> None:
    from qwenkit.training.qat.plot import write_report

    values = {"base": 50.0, "ptq": 12.0, "qat": 11.0} | ({"trained": trained} if trained else {})
    made = report(**values)
    write_report(made, tmp_path)
    assert (tmp_path / "qat.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "qat.json").read_text(encoding="utf-8")) == made.to_json()
