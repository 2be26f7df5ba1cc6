"""Records and their lines."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qwenkit.feedback
from qwenkit.errors import InvalidRecord, InvalidRequest
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Call,
    Comparison,
    Durations,
    Edit,
    Interaction,
    Rating,
    Record,
    RequestOptions,
    TokenCounts,
    ToolRun,
    as_json,
    choice_id,
    decode,
    encode,
    hash_prompt,
    json_schema,
    new_rating_id,
    parse_moment,
    timestamp,
)

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
ids = texts.filter(bool)
maybe_texts = st.none() | texts
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, json_values, max_size=3)
object_tuples = st.lists(objects, max_size=3).map(tuple)
moments = st.datetimes(timezones=st.just(UTC)).map(timestamp)
calls = st.builds(Call, id=texts, name=texts, arguments=texts)
answers = st.builds(
    AnswerText,
    content=texts,
    reasoning_content=maybe_texts,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
)
interactions = st.builds(
    Interaction,
    kind=st.just("interaction"),
    schema=st.just(1),
    id=ids,
    created_at=moments,
    source=st.sampled_from(["api", "agent", "terminal", "mcp"]),
    model=texts,
    prompt_hash=texts,
    finish_reason=st.sampled_from(["stop", "length", "tool_calls", "cancelled"]),
    usage=st.builds(TokenCounts, prompt=counts, cached=counts, completion=counts, reasoning=counts),
    request_id=maybe_texts,
    thread_id=maybe_texts,
    parent_id=maybe_texts,
    user=maybe_texts,
    fingerprint=texts,
    adapter=st.none() | st.builds(AdapterUsed, name=texts, version=texts, scale=numbers),
    template_hash=texts,
    messages=st.none() | object_tuples,
    prompt=maybe_texts,
    tools=object_tuples,
    options=st.builds(
        RequestOptions,
        enable_thinking=st.none() | st.booleans(),
        thinking_budget=st.none() | counts,
        tool_choice=json_values,
        response_format=json_values,
        template_kwargs=st.none() | objects,
        max_tokens=st.none() | counts,
        stop=st.lists(texts, max_size=2).map(tuple),
    ),
    sampling=objects,
    answer=st.none() | answers,
    timings=st.builds(
        Durations, queue_s=numbers, prefill_s=numbers, decode_s=numbers, total_s=numbers
    ),
)
ratings = st.builds(
    Rating,
    kind=st.just("rating"),
    schema=st.just(1),
    id=ids,
    created_at=moments,
    answer_id=ids,
    source=st.sampled_from(["api", "ui", "terminal", "mcp", "langfuse", "label-studio"]),
    rater=ids,
    thread_id=maybe_texts,
    thumb=st.sampled_from([None, "up", "down"]),
    scale=st.none() | st.integers(1, 5),
    comment=maybe_texts,
    compared=st.none()
    | st.builds(Comparison, other_id=ids, verdict=st.sampled_from(["better", "worse", "tie"])),
    edited=st.none() | st.builds(Edit, content=texts, reasoning_content=maybe_texts),
    external_id=maybe_texts,
    retracted=st.booleans(),
)
tool_runs = st.builds(
    ToolRun,
    kind=st.just("tool_run"),
    schema=st.just(1),
    id=ids,
    created_at=moments,
    name=texts,
    arguments=maybe_texts,
    result=maybe_texts,
    is_error=st.booleans(),
    duration_s=numbers,
    approved=st.none() | st.booleans(),
    request_id=maybe_texts,
    thread_id=maybe_texts,
    answer_id=maybe_texts,
)
records = interactions | ratings | tool_runs

SCHEMA_FILE = Path(qwenkit.feedback.__file__).with_name("schema.json")
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


@settings(max_examples=40, deadline=None)
@given(records)
def test_what_is_encoded_is_one_line_that_decodes_to_the_same(record: Record) -> None:
    line = encode(record)

    assert "\n" not in line
    assert decode(line) == record
    assert decode(line.encode()) == record


@settings(max_examples=40, deadline=None)
@given(records)
def test_every_line_is_valid_by_the_schema_that_is_shipped(record: Record) -> None:
    VALIDATOR.validate(as_json(record))


def test_the_schema_that_is_shipped_is_the_one_of_the_records() -> None:
    shipped = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))

    assert shipped == json_schema()


@settings(max_examples=40, deadline=None)
@given(records, st.integers(0, 200))
def test_a_line_that_is_cut_off_is_no_record(record: Record, n_kept: int) -> None:
    line = encode(record)

    with pytest.raises(InvalidRecord):
        decode(line[: min(n_kept, len(line) - 1)])


def test_fields_that_are_not_known_are_left_out(rating) -> None:
    value = as_json(rating(thumb="up")) | {"mood": "sunny"}

    assert decode(json.dumps(value)) == rating(thumb="up")


@pytest.mark.parametrize("change", [{"schema": 2}, {"schema": 2, "kind": "dream"}])
def test_a_record_of_a_newer_schema_is_refused_by_name(rating, change) -> None:
    value = as_json(rating(thumb="up")) | change

    with pytest.raises(InvalidRecord, match=r"schema is 2, and this qwenkit knows 1"):
        decode(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "dream"},
        {"schema": 0},
        {"schema": "1"},
        {"id": ""},
        {"id": 7},
        {"created_at": "2026-11-25"},
        {"created_at": "2026-11-25T10:00:00.000000+02:00"},
        {"thumb": "sideways"},
        {"scale": 0},
        {"scale": 6},
        {"scale": "5"},
        {"rater": None},
        {"compared": {"other_id": "x", "verdict": "nicer"}},
        {"retracted": "no"},
    ],
)
def test_a_field_of_another_type_or_range_is_refused(rating, change) -> None:
    value = as_json(rating(thumb="up")) | change

    with pytest.raises(InvalidRecord):
        decode(json.dumps(value))


@pytest.mark.parametrize("line", [b"", b"[]", b"7", b"null", b"{}", b"\xff\xfe", b"GET / HTTP/1.1"])
def test_a_foreign_line_is_no_record(line: bytes) -> None:
    with pytest.raises(InvalidRecord):
        decode(line)


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
def test_what_has_no_form_in_json_is_refused(interaction, value) -> None:
    with pytest.raises(InvalidRecord, match="chatcmpl-1"):
        encode(interaction(sampling={"temperature": value}))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_is_refused(interaction, constant: str) -> None:
    line = encode(interaction(sampling={"temperature": 0.125}))

    with pytest.raises(InvalidRecord, match="is no JSON"):
        decode(line.replace("0.125", constant))


def test_the_names_of_such_numbers_may_be_said(interaction) -> None:
    said = interaction(answer=AnswerText(content="NaN is not Infinity"))

    assert decode(encode(said)) == said


def test_half_a_surrogate_pair_does_not_make_a_line_that_cannot_be_read(interaction) -> None:
    line = encode(interaction(answer=AnswerText(content="a\ud800b")))

    decoded = decode(line.encode("utf-8"))
    assert isinstance(decoded, Interaction)
    assert decoded.answer == AnswerText(content="a?b")


def test_moments_are_utc_with_microseconds_and_sort_as_time_does() -> None:
    noon = datetime(2026, 11, 25, 14, tzinfo=timezone(timedelta(hours=2)))

    assert timestamp(noon) == "2026-11-25T12:00:00.000000Z"
    assert timestamp(noon) < timestamp(noon + timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("given_text", "moment"),
    [
        ("2026-11-25", "2026-11-25T00:00:00.000000Z"),
        ("2026-11-25T14:00", "2026-11-25T14:00:00.000000Z"),
        ("2026-11-25T14:00:00+02:00", "2026-11-25T12:00:00.000000Z"),
        ("2026-11-25T12:00:00.5Z", "2026-11-25T12:00:00.500000Z"),
    ],
)
def test_days_and_moments_are_read_as_utc_unless_they_name_a_zone(given_text, moment) -> None:
    assert parse_moment(given_text, param="since") == moment


@pytest.mark.parametrize("given_text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00+05:00"])
def test_what_is_no_time_is_refused_by_its_field(given_text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_moment(given_text, param="until")

    assert caught.value.param == "until"


def test_ids_tell_choices_and_ratings_apart() -> None:
    assert choice_id("chatcmpl-1", 0) == "chatcmpl-1"
    assert choice_id("chatcmpl-1", 2) == "chatcmpl-1:2"
    assert new_rating_id() != new_rating_id()


def test_a_prompts_hash_is_the_sha256_of_its_text() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    assert hash_prompt("") == empty
