"""What a dry run shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenkit.cli.dry_run import show_dry_run
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.cost import Plan, Speed
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.prepare import prepare_data
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.survey import Survey, make_survey


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    rows = [{"prompt": "Hello", "completion": f"World\x1b[31m {n}"} for n in range(5)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(["{", *map(json.dumps, rows)]), encoding="utf-8")
    with open_renderer(Path(DEMO_DIR)) as renderer:
        data = prepare_data(
            [str(path)], method="sft", renderer=renderer, options=DataOptions(skip_bad=True)
        )
        return make_survey(
            data,
            method="sft",
            renderer=renderer,
            plan=Plan(row_length=64),
            config=qwen3.parse_config(read_json(Path(DEMO_DIR) / "config.json")),
            speed=Speed(tokens_per_s=10.0),
        )


def test_tables_say_what_there_is_and_mark_what_is_learned(survey, capsys) -> None:
    show_dry_run(survey, json=False)
    shown = capsys.readouterr().out
    for part in ("rows.jsonl:1", "Activations", "packed", "from a short run", "Longest"):
        assert part in shown
    assert "assistant\n«<think>\n\n</think>\n\nWorld[31m 0<|im_end|>»" in shown
    assert "\x1b" not in shown


def test_json_holds_every_number(survey, capsys) -> None:
    show_dry_run(survey, json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["n_rows"], shown["n_samples"], shown["n_skipped"]) == (6, 5, 1)
    assert shown["bad_rows"][0]["place"] == "rows.jsonl:1"
    assert shown["memory"]["total_bytes"] == survey.memory.total_bytes
    assert shown["duration"]["measured_by"] == "probe"
    assert shown["example"]["spans"][1]["kind"] == "learned"
    assert sum(bucket["n_texts"] for bucket in shown["lengths"]["histogram"]) == 5
