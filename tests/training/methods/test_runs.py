"""Whole runs of each method: from rows to a folder with adapters, measured before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.finetune import finetune
from qwenkit.training.request import FinetuneReport, FinetuneRequest
from qwenkit.training.run_config import make_config

pytestmark = pytest.mark.parity

PAIRS = [
    {"prompt": "2 + 3 = ?", "chosen": "It is seven.", "rejected": "5"},
    {"prompt": "What is qwenkit?", "chosen": "A small fish.", "rejected": "A toolkit."},
]
PROMPTS = [{"prompt": row["prompt"], "answer": row["chosen"]} for row in PAIRS]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., FinetuneReport]:
    """Train two steps on rows, and measure on the same rows in another file."""
    pytest.importorskip("torch").set_num_threads(1)

    def run(method: str, rows: Sequence[Any], **choices: Any) -> FinetuneReport:
        files = [tmp_path / f"{method}-{part}.jsonl" for part in ("train", "eval")]
        for path in files:
            path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        config = make_config(
            {
                "model": str(DEMO_DIR),
                "data": [str(files[0])],
                "eval": str(files[1]),
                "output": tmp_path / method,
                "method": method,
                "n_steps": 2,
                "learning_rate": 2e-3,
                "warmup": 0.0,
                "schedule": "constant",
                "batch_size": 2,
                "accumulate": 2,
                **choices,
            }
        )
        report = finetune(FinetuneRequest(config=config, checkpoint=DEMO_DIR))
        assert isinstance(report, FinetuneReport)
        return report

    return run


@pytest.mark.parametrize("method", ["dpo", "kto", "orpo"])
def test_a_run_on_pairs_leaves_an_adapter_for_every_runtime(
    method: str, run: Callable[..., FinetuneReport]
) -> None:
    report = run(method, PAIRS)
    assert report.before is not None
    assert report.after is not None
    assert report.before.reward_margin == 0
    assert report.after.reward_accuracy == 1
    assert report.verdict is not None
    assert "accuracy on pairs" in report.verdict.reason
    for name in ("adapter/adapter_model.safetensors", "adapter.gguf", "adapter.onnx_adapter"):
        assert (report.output / name).is_file(), name


def test_kto_compares_answers_of_a_batch_without_being_told_its_size(
    run: Callable[..., FinetuneReport],
) -> None:
    report = run("kto", PAIRS, batch_size=None, accumulate=None)
    assert report.last_loss != report.first_loss


def test_a_reward_model_then_judges_answers(run: Callable[..., FinetuneReport]) -> None:
    judge = run("reward", PAIRS)
    assert judge.before is not None
    assert judge.after is not None
    assert judge.after.margin > judge.before.margin
    assert not (judge.output / "adapter.gguf").exists()
    taught = run(
        "grpo",
        PROMPTS,
        rewards=[f"judge:{judge.output / 'adapter'}", "contains:answer"],
        n_answers=4,
        max_new_tokens=8,
    )
    assert taught.before is not None
    assert taught.before.n_answers == 2
    assert taught.before.reward is not None
    assert taught.verdict is not None
    assert "the mean reward" in taught.verdict.reason
    lines = (taught.output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert any("held_out_reward" in json.loads(line) for line in lines)
    assert (taught.output / "adapter.gguf").is_file()
