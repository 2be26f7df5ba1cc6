"""Single passes and steps of llama.cpp's trainer: what losses and gradients are made of."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.backends.base import Rows
from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.errors import EngineError
from qwenkit.models.resolve import ResolvedModel
from qwenkit.training.data.samples import Sample
from qwenkit.training.native.base import gguf_names, open_base
from qwenkit.training.native.context import TrainingContext
from qwenkit.training.native.request import LINEARS
from qwenkit.training.native.windows import Window, make_windows

N_CTX = 256
RATE = 0.5
Matrices = dict[str, np.ndarray]


def sample(seed: int, n: int, *, n_prompt: int = 1) -> Sample:
    ids = (int(i) for i in np.random.default_rng(seed).integers(10, 900, n))
    return Sample(tuple(ids), tuple(i >= n_prompt for i in range(n)), f"row {seed}")


def windows(*samples: Sample) -> list[Window]:
    return make_windows(samples, n_ctx=N_CTX, n_vocab=1024)


class Lab:
    """A model that is put back to what it was before each experiment."""

    def __init__(self, context: TrainingContext) -> None:
        self.context = context
        self.before = {name: array.copy() for name, array in context.weights.items()}

    def reset(self) -> None:
        for name, array in self.before.items():
            self.context.weights[name][:] = array

    def change(self, batch: Sequence[Window], **options: Any) -> Matrices:
        self.reset()
        given = {"learning_rate": RATE, "n_steps": 1, "max_norm": 0.0} | options
        self.context.step(batch, **given)
        return {name: array - self.before[name] for name, array in self.context.weights.items()}


@contextmanager
def open_lab(model: ResolvedModel, optimizer: Any) -> Iterator[Lab]:
    base = open_base(model)
    with TrainingContext(
        base.path,
        targets=frozenset(gguf_names(base, LINEARS)),
        n_ctx=N_CTX,
        n_threads=1,
        optimizer=optimizer,
    ) as context:
        yield Lab(context)


@pytest.fixture(scope="module")
def lab(model: ResolvedModel) -> Iterator[Lab]:
    with open_lab(model, "sgd") as opened:
        yield opened


@pytest.fixture(scope="module")
def adamw(model: ResolvedModel) -> Iterator[Lab]:
    with open_lab(model, "adamw") as opened:
        yield opened


def assert_equal(one: Matrices, other: Matrices, tolerance: float = 1e-4) -> None:
    for name, array in one.items():
        error = np.linalg.norm(array - other[name]) / np.linalg.norm(array)
        assert error < tolerance, f"{name}: {error}"


def length(matrices: Matrices) -> float:
    return float(
        np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in matrices.values()))
    )


def test_samples_in_one_window_are_read_as_if_each_were_alone(lab: Lab) -> None:
    lab.reset()
    texts = [sample(1, 90), sample(2, 60, n_prompt=20), sample(3, 80)]
    together = windows(*texts)
    assert len(together) == 1
    alone = sum(lab.context.loss(window) for text in texts for window in windows(text))
    assert lab.context.loss(together[0]) == pytest.approx(alone, rel=1e-5)


def test_samples_in_one_window_are_learned_as_if_each_were_alone(lab: Lab) -> None:
    texts = [sample(1, 90), sample(2, 60, n_prompt=20)]
    assert_equal(lab.change(windows(*texts)), lab.change([w for t in texts for w in windows(t)]))


def test_tokens_that_are_not_learned_teach_nothing(lab: Lab) -> None:
    plain = sample(4, 50, n_prompt=10)
    ids = plain.ids + (7,) * 30
    masked = Sample(ids, plain.learned + (False,) * 30, "row 4")
    whole = Sample(ids, (False,) + (True,) * 79, "row 4")
    change = lab.change(windows(plain))
    assert_equal(change, lab.change(windows(masked)))
    assert length(lab.change(windows(whole))) != pytest.approx(length(change), rel=1e-2)


def test_a_batch_takes_the_mean_over_all_its_learned_tokens(lab: Lab) -> None:
    first, second = windows(sample(5, 200))[0], windows(sample(6, 180, n_prompt=120))[0]
    n, m = first.n_learned, second.n_learned
    one, other = lab.change([first]), lab.change([second])
    mean = {name: (n * one[name] + m * other[name]) / (n + m) for name in one}
    assert_equal(lab.change([first, second]), mean)


def test_no_gradient_is_carried_into_the_next_step(lab: Lab) -> None:
    batch = windows(sample(7, 100))
    assert_equal(lab.change(batch), lab.change(batch), 1e-6)


def test_the_gradient_is_that_of_the_loss(lab: Lab) -> None:
    batch = windows(sample(8, 120, n_prompt=30))
    n = batch[0].n_learned
    lab.reset()
    before = lab.context.loss(batch[0]) / n
    rate = 1e-5
    squared = (length(lab.change(batch, learning_rate=RATE)) / RATE) ** 2
    lab.change(batch, learning_rate=rate)
    assert before - lab.context.loss(batch[0]) / n == pytest.approx(rate * squared, rel=0.1)


def test_a_long_gradient_is_clipped_and_a_short_one_is_not(lab: Lab) -> None:
    batch = windows(sample(9, 100))
    free = lab.change(batch)
    assert length(lab.change(batch, max_norm=0.25)) == pytest.approx(0.25 * RATE, rel=1e-3)
    assert_equal(lab.change(batch, max_norm=1e6), free, 1e-6)


def test_the_first_step_of_adamw_is_as_long_as_its_rate_everywhere(adamw: Lab) -> None:
    change = adamw.change(windows(sample(10, 150)), learning_rate=1e-3)
    for array in change.values():
        assert np.median(np.abs(array)) == pytest.approx(1e-3, rel=1e-2)


def test_a_step_that_is_not_the_first_is_taken_as_such(adamw: Lab) -> None:
    batch = windows(sample(11, 150))
    zeros = {name: (np.zeros_like(a),) * 2 for name, a in adamw.before.items()}
    adamw.context.restore(dict(zeros))
    early = adamw.change(batch, learning_rate=1e-3, n_steps=1)
    adamw.context.restore(dict(zeros))
    late = adamw.change(batch, learning_rate=1e-3, n_steps=10**6)
    # Without the correction the means are 0.1 of the gradient and 0.001 of its square.
    ratio = length(late) / length(early)
    assert ratio == pytest.approx(0.1 / np.sqrt(0.001), rel=2e-2)


def test_the_loss_of_an_untouched_model_is_that_of_its_logits(
    lab: Lab, model: ResolvedModel
) -> None:
    lab.reset()
    text = sample(12, 17, n_prompt=4)
    options = LlamaOptions(n_ctx=256, n_slots=1, n_batch=64, n_threads=1, kv_type="f32")
    backend = LlamaBackend(model.path, content_id="", options=options)
    n = len(text.ids)
    wanted = np.ones(n, np.int8)
    rows = Rows(
        np.array(text.ids, np.int32), np.arange(n, dtype=np.int32), np.zeros(n, np.int32), wanted
    )
    logits = backend.decode(rows).astype(np.float64)
    backend.close()
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -sum(log_probs[i - 1, text.ids[i]] for i in range(4, n))
    assert lab.context.loss(windows(text)[0]) == pytest.approx(expected, rel=1e-4)


def test_a_model_that_could_not_be_written_whole_is_not_there(lab: Lab, tmp_path: Path) -> None:
    lab.context.save(tmp_path / "whole.gguf")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(EngineError, match=r"cut\.gguf"):
            lab.context.save(tmp_path / "cut.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.gguf"]
