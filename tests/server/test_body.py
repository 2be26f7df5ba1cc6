import json

import pytest

from qwenkit.errors import InvalidRequest
from qwenkit.server.body import MAX_DEPTH, parse


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    return caught.value


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400 + ".0"]
)
def test_a_number_that_is_not_finite_is_refused_with_its_place(number):
    body = f'{{"a": [{{"temperature": {number}}}], "e": 1e3}}'.encode()
    assert refusal(body).param == "a[0].temperature"


@pytest.mark.parametrize("escape", ["\\ud800", "\\uDFFF", "x\\udc00y", "\\udc00\\ud800"])
def test_a_lone_surrogate_is_refused_with_its_place(escape):
    body = f'{{"messages": [{{"content": "{escape}"}}]}}'.encode()
    assert refusal(body).param == "messages[0].content"


def test_a_lone_surrogate_in_a_key_is_refused_with_its_object():
    assert refusal(b'{"a": {"\\ud800": 1}}').param == "a"


def test_a_pair_of_surrogates_is_a_character():
    assert parse(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_is_refused_however_deep_it_is(opening):
    for depth in (MAX_DEPTH + 1, 5_000, 100_000):
        closing = b"]" if opening == b"[" else b"}"
        body = b'{"a":' + opening * depth + b"1" + closing * depth + b"}"
        assert "levels deep" in refusal(body).message


def test_nesting_up_to_the_limit_passes():
    depth = MAX_DEPTH - 1
    assert parse(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


def test_many_brackets_side_by_side_are_no_depth():
    value = {"a": [[i] for i in range(10 * MAX_DEPTH)]}
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a": 1,}', b"{'a': 1}", b"\xff\xfe{}", b"[]", b"1", b"null", b'"text"']
)
def test_what_is_no_json_object_in_utf8_is_refused(body):
    refusal(body)


def test_a_number_of_thousands_of_digits_is_refused():
    refusal(b'{"n": ' + b"9" * 10_000 + b"}")


def test_a_byte_order_mark_is_ignored():
    assert parse(b"\xef\xbb\xbf{}") == {}
