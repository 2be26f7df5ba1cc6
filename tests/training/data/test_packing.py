"""Packing loses nothing, mixes nothing, and wastes little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.errors import InvalidSettings
from qwenkit.training.data.packing import pack, packed_row_lengths
from qwenkit.training.data.samples import Sample

LENGTH = 16


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    flags = draw(st.lists(st.lists(st.booleans(), min_size=1, max_size=LENGTH), max_size=30))
    return [
        Sample(tuple(range(100 * n, 100 * n + len(each))), tuple(each), f"rows:{n}")
        for n, each in enumerate(flags)
    ]


@given(samples())
def test_every_sample_is_in_one_row_whole_and_beside_others(given_: list[Sample]) -> None:
    found = {}
    for row in pack(given_, length=LENGTH):
        assert len(row.ids) == len(row.learned) == sum(row.lengths) <= LENGTH
        start = 0
        for place, length in zip(row.places, row.lengths, strict=True):
            assert place not in found
            found[place] = row.ids[start : start + length], row.learned[start : start + length]
            assert row.positions[start : start + length] == tuple(range(length))
            start += length
    assert found == {each.place: (each.ids, (False, *each.learned[1:])) for each in given_}


@given(samples())
def test_rows_are_more_than_half_full_all_but_one(given_: list[Sample]) -> None:
    n_tokens = sorted(row.n_tokens for row in pack(given_, length=LENGTH))
    assert all(2 * n > LENGTH for n in n_tokens[1:])


@given(samples())
def test_the_lengths_of_rows_can_be_told_without_packing(given_: list[Sample]) -> None:
    lengths = packed_row_lengths([each.n_tokens for each in given_], length=LENGTH)
    assert sorted(lengths) == sorted(row.n_tokens for row in pack(given_, length=LENGTH))


@given(samples(), st.randoms())
def test_equal_samples_make_equal_rows(given_: list[Sample], random) -> None:
    assert pack(given_, length=LENGTH) == pack(tuple(given_), length=LENGTH)


def test_real_lengths_leave_little_empty() -> None:
    from random import Random

    random = Random(0)
    lengths = [min(512, max(8, int(random.lognormvariate(4.5, 0.8)))) for _ in range(2000)]
    rows = packed_row_lengths(lengths, length=512)
    assert sum(rows) / (512 * len(rows)) > 0.99


def test_a_sample_longer_than_a_row_is_refused_by_name() -> None:
    long = Sample(tuple(range(9)), (False,) * 9, "rows:7")
    with pytest.raises(InvalidSettings, match="rows:7"):
        pack([long], length=8)
