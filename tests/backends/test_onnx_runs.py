"""How the rows of a decode fall into runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.backends.base import Rows
from qwenkit.backends.onnx.runs import Run, cut_runs


def rows(slots: Sequence[int], wanted: Sequence[bool]) -> Rows:
    n = len(slots)
    zeros = np.zeros(n, np.int32)
    return Rows(zeros, zeros, np.array(slots, np.int32), np.array(wanted, np.int8))


@given(
    prompts=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=5),
    head_skips=st.booleans(),
)
def test_runs_cover_every_row_once_and_make_all_wanted_logits(
    prompts: list[tuple[int, int]], head_skips: bool
) -> None:
    slots = [slot for slot, (n, _) in enumerate(prompts) for _ in range(n)]
    wanted = [row >= quiet for n, quiet in prompts for row in range(n)]
    runs = list(cut_runs(rows(slots, wanted), head_skips=head_skips))
    covered = [row for run in runs for row in range(run.first, run.last)]
    made = {row for run in runs for row in range(run.first + run.n_quiet, run.last)}
    assert covered == list(range(len(slots)))
    assert {row for row, is_wanted in enumerate(wanted) if is_wanted} <= made
    assert all(slots[run.first] == slots[run.last - 1] for run in runs)


@pytest.mark.parametrize(
    ("head_skips", "runs"), [(True, [Run(0, 20, 19)]), (False, [Run(0, 19, 19), Run(19, 20, 0)])]
)
def test_a_prompt_is_cut_only_where_the_head_cannot_skip(head_skips: bool, runs: list[Run]) -> None:
    prompt = rows([3] * 20, [False] * 19 + [True])
    assert list(cut_runs(prompt, head_skips=head_skips)) == runs
