"""What happens around the steps of a run, told by a trainer that only says where it is."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qwenkit.errors import DecodeFailed, InvalidSettings
from qwenkit.training.checkpoints import Checkpoints
from qwenkit.training.evaluate import Evaluation
from qwenkit.training.loop import Loop
from qwenkit.training.metrics import MetricsLog, read_metrics
from qwenkit.training.options import LoopOptions
from qwenkit.training.processes import Processes
from qwenkit.training.stopping import StopRequest
from qwenkit.training.watching import Standing, unwatched

MODEL = SimpleNamespace(parameters=lambda: iter(()))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    metrics = MetricsLog(tmp_path / "metrics.jsonl")

    def make(n_steps: int = 20, look: Any = lambda _: None, **options: Any) -> Loop:
        tmp_path.joinpath("checkpoints").mkdir(exist_ok=True)
        loop = Loop(
            options=LoopOptions(**options),
            processes=Processes(0, 1, "cpu"),
            checkpoints=Checkpoints(tmp_path / "checkpoints", keep=2),
            metrics=metrics,
            stop=StopRequest(),
            watch=unwatched,
            look=look,
            tokens_per_step=100.0,
            scales_loss=False,
            again="qwenkit finetune --resume run",
        )
        loop.begin(0, n_steps)
        return loop

    yield make
    metrics.close()


def step(loop: Loop, number: int) -> SimpleNamespace:
    state = SimpleNamespace(global_step=number, max_steps=loop.n_steps, epoch=number / 10)
    control = SimpleNamespace(should_save=False, should_log=False, should_training_stop=False)
    loop.after_step(state, control, MODEL)
    return control


def saved(loop: Loop) -> list[int]:
    return [n for n in range(1, loop.n_steps + 1) if step(loop, n).should_save]


def test_checkpoints_come_ten_times_a_run_and_not_at_its_end(make: Callable[..., Loop]) -> None:
    assert saved(make()) == [2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_checkpoints_come_as_often_as_was_said(make: Callable[..., Loop]) -> None:
    assert saved(make(save_every=7)) == [7, 14]
    assert saved(make(save_every=0)) == []


def test_the_loss_of_the_last_step_is_looked_at_however_rarely_lines_are_written(
    make: Callable[..., Loop],
) -> None:
    loop = make(n_steps=3, save_every=0, log_every=1000)
    assert [step(loop, n).should_log for n in (1, 2, 3)] == [False, False, True]


def test_a_stop_is_saved_after_the_step_and_logged_before(make: Callable[..., Loop]) -> None:
    loop = make(save_every=0)
    assert not step(loop, 1).should_training_stop
    loop.stop.is_made = True
    control = step(loop, 2)
    assert (control.should_training_stop, control.should_save, control.should_log) == (True,) * 3
    assert loop.is_stopped


def test_a_stop_at_the_last_step_is_the_end(make: Callable[..., Loop]) -> None:
    loop = make()
    loop.stop.is_made = True
    assert not step(loop, 20).should_training_stop
    assert not loop.is_stopped


@pytest.mark.parametrize(
    "logs", [{"loss": float("nan")}, {"loss": 1.0, "grad_norm": float("inf")}], ids=str
)
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(
    make: Callable[..., Loop], logs: dict[str, float]
) -> None:
    loop = make()
    step(loop, 3)
    with pytest.raises(DecodeFailed, match="at step 3") as caught:
        loop.after_log(logs)
    assert "--learning-rate" in caught.value.hint


def test_gradients_too_large_for_fp16_are_skipped_and_no_failure(make: Callable[..., Loop]) -> None:
    loop = make()
    loop.scales_loss = True
    step(loop, 3)
    loop.after_log({"loss": 1.0, "grad_norm": float("inf")})


def test_a_full_disk_is_told_before_a_checkpoint_is_written(
    make: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make(save_every=2)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    heavy = SimpleNamespace(
        parameters=lambda: [SimpleNamespace(requires_grad=True, numel=lambda: 1000)]
    )
    state = SimpleNamespace(global_step=2, max_steps=20, epoch=0.1)
    with pytest.raises(InvalidSettings) as caught:
        loop.after_step(state, SimpleNamespace(), heavy)
    assert "--resume run" in caught.value.hint


def test_held_out_data_is_looked_at_in_between(make: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make(look=lambda _: Evaluation(n_tokens=5, perplexity=float(np.e)), eval_every=8)
    for n in range(1, 21):
        step(loop, n)
    found = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in found] == [8, 16]
    assert found[0]["held_out_loss"] == pytest.approx(1.0)


def test_lines_say_where_the_run_stands(make: Callable[..., Loop], tmp_path: Path) -> None:
    told: list[Standing] = []
    loop = make()
    loop._tell = told.append
    step(loop, 5)
    loop.after_log({"loss": 2.5, "learning_rate": 1e-4, "grad_norm": 0.5, "entropy": 1.5})
    loop.after_log({"train_runtime": 3.0})
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert {name: line[name] for name in ("step", "loss", "n_tokens", "entropy")} == {
        "step": 5,
        "loss": 2.5,
        "n_tokens": 500,
        "entropy": 1.5,
    }
    assert (told[0].step, told[0].n_steps, told[0].loss) == (5, 20, 2.5)
    assert told[0].tokens_per_s
    assert told[0].eta_s == pytest.approx(15 * 100 / told[0].tokens_per_s)
