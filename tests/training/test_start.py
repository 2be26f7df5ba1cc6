"""A run that goes on from an adapter instead of beginning a new one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.adapters.read import read_adapter
from qwenkit.errors import InvalidSettings, ModelNotFound
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.finetune import finetune
from qwenkit.training.request import FinetuneReport, FinetuneRequest
from qwenkit.training.run_config import make_config

pytestmark = pytest.mark.parity


@pytest.fixture
def run(tmp_path: Path, rows: Path) -> Callable[..., FinetuneReport]:
    def run(name: str, **choices: Any) -> FinetuneReport:
        values = {
            "model": str(DEMO_DIR),
            "data": [str(rows)],
            "eval": 0.25,
            "output": tmp_path / name,
            "n_steps": 2,
            "learning_rate": 2e-3,
            "warmup": 0.0,
            "max_length": 128,
            "n_threads": 1,
        }
        request = FinetuneRequest(config=make_config(values | choices), checkpoint=DEMO_DIR)
        report = finetune(request)
        assert isinstance(report, FinetuneReport)
        return report

    return run


def test_it_begins_as_good_as_the_adapter_was_and_with_its_shape(
    run: Callable[..., FinetuneReport],
) -> None:
    first = run("first", rank=4, alpha=8, targets=["q_proj", "v_proj"])
    start = first.output / "adapter"
    second = run("second", start=start)
    assert second.before == first.after
    assert second.after != second.before
    shape = json.loads((second.output / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert (shape["r"], shape["lora_alpha"]) == (4, 8)
    assert sorted(shape["target_modules"]) == ["q_proj", "v_proj"]
    saved = json.loads((second.output / "config.json").read_text("utf-8"))
    assert saved["made_for"]["start_version"] == read_adapter(start).version()


def test_what_is_not_trained_stays_the_very_adapter(
    run: Callable[..., FinetuneReport],
) -> None:
    start = run("first").output / "adapter"
    still = run("still", start=start, n_steps=1, learning_rate=1e-30).output / "adapter"
    for old, new in zip(read_adapter(start).pairs, read_adapter(still).pairs, strict=True):
        np.testing.assert_array_equal(old.a, new.a)
        np.testing.assert_array_equal(old.b, new.b)


def test_another_adapter_is_another_run(run: Callable[..., FinetuneReport], rows: Path) -> None:
    first = run("first").output / "adapter"
    other = run("other", seed=1).output / "adapter"
    output = run("second", start=first).output
    (output / "report.json").unlink()
    values = json.loads((output / "config.json").read_text("utf-8"))["choices"]
    chosen = {name: value for name, value in values.items() if value is not None}
    config = make_config(chosen | {"start": other, "output": output, "data": [str(rows)]})
    with pytest.raises(InvalidSettings, match="start_version"):
        finetune(FinetuneRequest(config=config, checkpoint=DEMO_DIR, resume=True))


def test_a_file_and_nothing_are_no_adapters_to_go_on_from(
    run: Callable[..., FinetuneReport], tmp_path: Path
) -> None:
    file = run("first").output / "adapter.gguf"
    with pytest.raises(InvalidSettings, match="PEFT folder"):
        run("second", start=file)
    with pytest.raises(ModelNotFound):
        run("third", start=tmp_path / "nothing")
    assert not (tmp_path / "second").exists()


def test_full_training_has_nothing_to_go_on_from() -> None:
    with pytest.raises(InvalidSettings, match="full"):
        make_config({"model": "a", "data": ["b"], "output": "c", "full": True, "start": "d"})
