"""Samples side by side in windows."""

from __future__ import annotations

import numpy as np

from qwenkit.training.data.samples import Sample
from qwenkit.training.native.windows import make_windows


def test_each_target_stands_before_itself_and_no_sample_learns_from_another() -> None:
    first = Sample((5, 6, 7), (False, False, True), "a")
    second = Sample((8, 9), (False, True), "b")
    [window] = make_windows([first, second], n_ctx=256, n_vocab=100)
    assert window.n_tokens == 5
    assert window.n_learned == 2
    learned = np.flatnonzero(window.learned)
    pairs = {(int(window.ids[i]), int(window.labels[i])) for i in learned}
    assert pairs == {(6, 7), (8, 9)}
    assert list(window.blocks[:6]) == [0, 0, 0, 1, 1, 2]


def test_samples_with_nothing_to_learn_take_no_room() -> None:
    kept = Sample((5, 6), (False, True), "a")
    silent = Sample((5, 6), (False, False), "b")
    [window] = make_windows([silent, kept], n_ctx=256, n_vocab=100)
    assert window.n_tokens == 2
