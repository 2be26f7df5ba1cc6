"""What the feedback log holds: answers, ratings, and runs of tools. Knows JSON; no file, no clock.

A record is one line of JSON. Its fields are those of the classes here, under their names; the JSON
Schema in `schema.json` is made from them.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from qwenkit.errors import InvalidRecord, InvalidRequest

SCHEMA = 1
ANONYMOUS = "anonymous"

JsonValue: TypeAlias = Any
Thumb: TypeAlias = Literal["up", "down"]
Verdict: TypeAlias = Literal["better", "worse", "tie"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "cancelled"]
InteractionSource: TypeAlias = Literal["api", "agent", "terminal", "mcp"]
RatingSource: TypeAlias = Literal["api", "ui", "terminal", "mcp", "langfuse", "label-studio"]
Schema: TypeAlias = Annotated[int, Field(ge=1, le=SCHEMA)]
Id: TypeAlias = Annotated[str, Field(min_length=1)]
Timestamp: TypeAlias = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", description="UTC")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUsed:
    """The LoRA adapter that an answer came from."""

    name: str
    version: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """What a request asked for beside its messages; None is what it left to the server."""

    enable_thinking: bool | None = None
    thinking_budget: int | None = None
    tool_choice: JsonValue = None
    response_format: JsonValue = None
    template_kwargs: Mapping[str, JsonValue] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText:
    """What the model said."""

    content: str
    reasoning_content: str | None = None
    tool_calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens of a request: `cached` are part of the prompt, `reasoning` of the completion."""

    prompt: int
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Seconds that a request waited, read its prompt, wrote its answer, and took in all."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One choice of an answer, and all that is needed to ask for it again.

    Args:
        id: The response's id; `<id>:i` for a choice other than the first.
        created_at: When the request came, as `timestamp` writes it.
        source: Who asked.
        model: The model's name.
        prompt_hash: `hash_prompt` of the rendered prompt; equal for answers to one prompt.
        finish_reason: Why it ended.
        usage: Token counts.
        request_id: The HTTP request's id.
        thread_id: The conversation that it belongs to.
        parent_id: The answer that this one regenerates.
        user: Who asked, as the request said.
        fingerprint: Of the weights.
        adapter: The LoRA adapter in use.
        template_hash: Of the chat template.
        messages: The conversation in OpenAI's form; None where content is not logged, or where a
            text was completed.
        prompt: The text that was completed, where it was no conversation.
        tools: Definitions in OpenAI's form.
        options: What the request asked for.
        sampling: The numbers that tokens were drawn with.
        answer: What the model said; None where content is not logged.
        timings: Seconds.
    """

    kind: Literal["interaction"] = "interaction"
    schema: Schema = SCHEMA
    id: Id
    created_at: Timestamp
    source: InteractionSource
    model: str
    prompt_hash: str
    finish_reason: FinishReason
    usage: TokenCounts
    request_id: str | None = None
    thread_id: str | None = None
    parent_id: str | None = None
    user: str | None = None
    fingerprint: str = ""
    adapter: AdapterUsed | None = None
    template_hash: str = ""
    messages: tuple[Mapping[str, JsonValue], ...] | None = None
    prompt: str | None = None
    tools: tuple[Mapping[str, JsonValue], ...] = ()
    options: RequestOptions = RequestOptions()
    sampling: Mapping[str, JsonValue] = field(default_factory=dict)
    answer: AnswerText | None = None
    timings: Durations = Durations()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How an answer compares with another one to the same prompt."""

    other_id: Id
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A person's better wording of an answer."""

    content: str
    reasoning_content: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What one person said of one answer, once.

    Args:
        id: `rating-…`.
        created_at: When it was said, as `timestamp` writes it.
        answer_id: The answer.
        source: Where it was said.
        rater: Who said it.
        thread_id: The conversation that the answer belongs to.
        thumb: Up or down.
        scale: 1 (worst) to 5.
        comment: In words.
        compared: The answer against another.
        edited: A better wording.
        external_id: The id of what it was pulled from; pulled once each.
        retracted: Whether it withdraws all that the rater said of the answer so far.
    """

    kind: Literal["rating"] = "rating"
    schema: Schema = SCHEMA
    id: Id
    created_at: Timestamp
    answer_id: Id
    source: RatingSource
    rater: Id = ANONYMOUS
    thread_id: str | None = None
    thumb: Thumb | None = None
    scale: Annotated[int, Field(ge=1, le=5)] | None = None
    comment: str | None = None
    compared: Comparison | None = None
    edited: Edit | None = None
    external_id: str | None = None
    retracted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """One run of a tool that an answer called.

    Args:
        id: The call's id.
        created_at: When it began, as `timestamp` writes it.
        name: The tool's.
        arguments: JSON text; None where content is not logged.
        result: What it gave, as text; None where content is not logged.
        is_error: Whether it failed.
        duration_s: Seconds.
        approved: Whether a person allowed it; None where nobody was asked.
        request_id: The HTTP request's id.
        thread_id: The conversation.
        answer_id: The answer that called it.
    """

    kind: Literal["tool_run"] = "tool_run"
    schema: Schema = SCHEMA
    id: Id
    created_at: Timestamp
    name: str
    arguments: str | None
    result: str | None
    is_error: bool
    duration_s: float
    approved: bool | None = None
    request_id: str | None = None
    thread_id: str | None = None
    answer_id: str | None = None


Record: TypeAlias = Interaction | Rating | ToolRun
_PARTS = (
    *(Interaction, Rating, ToolRun, AdapterUsed, RequestOptions, Call, AnswerText),
    *(TokenCounts, Durations, Comparison, Edit),
)
_NAMES = {part: tuple(each.name for each in fields(part)) for part in _PARTS}


def timestamp(moment: datetime) -> str:
    """A moment as records have it: UTC, microseconds, `Z`; sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def now() -> str:
    """This moment as records have it."""
    return timestamp(datetime.now(UTC))


def parse_moment(text: str, *, param: str) -> str:
    """A day or an ISO-8601 moment as records have it; UTC where it names no zone.

    Raises:
        InvalidRequest: It is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{param} is {text!r}, which is no time",
            param=param,
            hint="2026-11-25 or 2026-11-25T14:00:00Z",
        ) from None


def hash_prompt(rendered: str) -> str:
    """What stands for a rendered prompt: the SHA-256 of its text, in hex."""
    return hashlib.sha256(rendered.encode("utf-8", "replace")).hexdigest()


def new_rating_id() -> str:
    """An id that no other rating has."""
    return f"rating-{secrets.token_hex(12)}"


def choice_id(response_id: str, choice: int) -> str:
    """The id of a choice of a response."""
    return response_id if choice == 0 else f"{response_id}:{choice}"


def as_json(record: Record) -> dict[str, JsonValue]:
    """A record as plain JSON values."""
    value: dict[str, JsonValue] = json.loads(encode(record))
    return value


def encode(record: Record) -> str:
    """A record as one line of JSON, without the newline. Half surrogates become `?`.

    Raises:
        InvalidRecord: It holds something that JSON has no form for.
    """
    try:
        line = _ENCODER.encode(record)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidRecord(f"{record.kind} {record.id!r} has no form in JSON: {exc}") from exc
    return line if line.isascii() else line.encode("utf-8", "replace").decode("utf-8")


def decode(line: str | bytes) -> Record:
    """The record that a line holds. Fields that are not known are left out.

    Raises:
        InvalidRecord: It holds none, or one of a newer schema.
    """
    _refuse_constants(line)
    try:
        return _record_adapter().validate_json(line, strict=True)
    except ValidationError as exc:
        raise InvalidRecord(_complaint(line, exc)) from exc


def json_schema() -> dict[str, JsonValue]:
    """The JSON Schema of a record, as `schema.json` has it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of qwenkit's feedback log",
        **_record_adapter().json_schema(mode="serialization"),
    }


@cache
def _record_adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def _plain(value: Any) -> dict[str, JsonValue]:
    """A record or a part of one, one level deep."""
    if type(value) not in _NAMES:
        raise TypeError(f"a {type(value).__name__} can't be written")
    return {name: getattr(value, name) for name in _NAMES[type(value)]}


_ENCODER = json.JSONEncoder(
    default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")
)


def _refuse_constants(line: str | bytes) -> None:
    """Refuse `NaN` and `Infinity`, which the reader takes and JSON does not have."""
    names = ("NaN", "Infinity") if isinstance(line, str) else (b"NaN", b"Infinity")
    if any(name in line for name in names):  # type: ignore[operator]
        with suppress(ValueError, RecursionError):
            json.loads(line, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise InvalidRecord(f"{name} is no JSON")


def _complaint(line: str | bytes, error: ValidationError) -> str:
    newer = _newer_schema(line)
    if newer:
        return f"its schema is {newer}, and this qwenkit knows {SCHEMA} and older"
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"][1:]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _newer_schema(line: str | bytes) -> int | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    schema = value.get("schema") if isinstance(value, dict) else None
    return schema if isinstance(schema, int) and schema > SCHEMA else None
