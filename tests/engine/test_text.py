"""Bytes become text, and stop strings are found in it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwenkit.engine.text import TextStream

STOPS = st.lists(st.text("abé🦙", min_size=1, max_size=4), max_size=3)


def read(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[str, str | None]:
    stream = TextStream(stops)
    text = ""
    for piece in pieces:
        text += stream.feed(piece)
        if stream.stopped_by is not None:
            break
    return text + stream.flush(), stream.stopped_by


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(ends)]


def ends_at(text: str, stops: list[str]) -> tuple[str, str | None]:
    """What is left of a text, and the stop that ended it: the one complete first, by hand."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


@given(st.binary(max_size=40), st.lists(st.integers(0, 100), max_size=10))
@example("🦙".encode(), [1, 2, 3])
def test_the_text_is_the_same_however_its_bytes_are_split(data: bytes, cuts: list[int]) -> None:
    assert read(cut(data, cuts)) == (data.decode("utf-8", "replace"), None)


@given(st.text("abé🦙", max_size=20), STOPS)
def test_a_stop_string_is_found_at_the_byte_that_completes_it(text: str, stops: list[str]) -> None:
    data = text.encode()
    assert read([data[i : i + 1] for i in range(len(data))], tuple(stops)) == ends_at(text, stops)


@given(
    st.text("abé🦙", max_size=20),
    st.text("abé🦙", min_size=1, max_size=4),
    st.lists(st.integers(0, 100), max_size=10),
)
def test_one_stop_string_is_found_across_any_split(text: str, stop: str, cuts: list[int]) -> None:
    before, found, _ = text.partition(stop)
    expected = (before, stop) if found else (text, None)
    assert read(cut(text.encode(), cuts), (stop,)) == expected


@given(st.text("ab", max_size=12), STOPS)
def test_what_is_held_back_is_the_start_of_a_stop_string(text: str, stops: list[str]) -> None:
    stream = TextStream(tuple(stops))
    shown = ""
    for n_fed, character in enumerate(text, start=1):
        shown += stream.feed(character.encode())
        if stream.stopped_by is not None:
            break
        held = text[len(shown) : n_fed]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)
        assert not any(stop in shown for stop in stops)
    assert text.startswith(shown)


def test_no_more_than_the_start_of_a_stop_string_is_held_back() -> None:
    stream = TextStream(("xyz",))
    assert [stream.feed(piece) for piece in (b"abx", b"y", b"c")] == ["ab", "", "xyc"]


def test_of_two_matches_the_earliest_wins_and_then_the_longest() -> None:
    assert read([b"abcd"], ("cd", "bc")) == ("a", "bc")
    assert read([b"abcd"], ("b", "bcd")) == ("a", "bcd")


def test_a_stop_string_cannot_begin_where_it_does_not_count() -> None:
    stream = TextStream(("ab",))
    assert stream.feed(b"xa", stoppable=False) == "xa"
    assert stream.feed(b"b") == "b"
    assert stream.stopped_by is None
    assert stream.feed(b"a") == ""
    assert stream.feed(b"b", stoppable=False) == "ab"


@pytest.mark.parametrize("stops", [(), ("x",)])
def test_an_incomplete_character_becomes_a_replacement_at_the_end(stops: tuple[str, ...]) -> None:
    stream = TextStream(stops)
    assert stream.feed("é".encode()[:1]) == ""
    assert stream.flush() == "�"


def test_after_a_stop_string_nothing_is_left_to_flush() -> None:
    stream = TextStream(("b",))
    assert stream.feed(b"ab\xc3") == "a"
    assert stream.flush() == ""
