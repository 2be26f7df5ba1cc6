"""Records become observations, as Langfuse's attributes say them. Pure: no HTTP, no protobuf.

Source of the attributes' names: `LangfuseOtelSpanAttributes` of Langfuse's SDK 4.18. Values that
are neither text nor whole numbers are JSON, as there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import qwenkit
from qwenkit.errors import InvalidRecord
from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.records import AnswerText, Call, Interaction, ToolRun, timestamp
from qwenkit.settings import LangfuseSpec

Attribute: TypeAlias = str | int | tuple[str, ...]

TYPE = "langfuse.observation.type"
INPUT = "langfuse.observation.input"
OUTPUT = "langfuse.observation.output"
LEVEL = "langfuse.observation.level"
STATUS = "langfuse.observation.status_message"
METADATA = "langfuse.observation.metadata"
MODEL = "langfuse.observation.model.name"
PARAMETERS = "langfuse.observation.model.parameters"
USAGE = "langfuse.observation.usage_details"
COMPLETION_START = "langfuse.observation.completion_start_time"
TRACE_NAME = "langfuse.trace.name"
TRACE_TAGS = "langfuse.trace.tags"
TRACE_METADATA = "langfuse.trace.metadata"
USER = "user.id"
SESSION = "session.id"
ENVIRONMENT = "langfuse.environment"
RELEASE = "langfuse.release"

MAX_NAME = 200
"""Most characters of a user's and a session's name; Langfuse drops longer ones."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE_NAMES = {
    "api": "chat completion",
    "agent": "agent run",
    "terminal": "terminal chat",
    "mcp": "mcp chat",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What every observation carries.

    Args:
        environment: Such as `production`; None is Langfuse's `default`.
        release: The version of what is served.
        extra: More attributes.
    """

    environment: str | None = None
    release: str | None = None
    extra: Mapping[str, Attribute] = field(default_factory=dict)

    def attributes(self) -> dict[str, Attribute]:
        """As attributes."""
        named = {ENVIRONMENT: self.environment, RELEASE: self.release}
        return {name: value for name, value in named.items() if value} | dict(self.extra)


def labels_of(spec: LangfuseSpec) -> Labels:
    """What the settings say of every observation."""
    return Labels(environment=spec.environment, release=spec.release or qwenkit.__version__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A step of a trace, with a beginning and an end.

    Args:
        trace_id: 32 hex digits.
        id: 16 hex digits.
        parent_id: The step that it is a part of; None for a trace's own steps.
        name: For people.
        start_ns: Nanoseconds since 1970.
        end_ns: The same.
        attributes: Everything else, by Langfuse's names.
    """

    trace_id: str
    id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute]

    @property
    def size(self) -> int:
        """About how many bytes it is sent as."""
        return sum(
            len(name) + (len(value) if isinstance(value, str) else 16)
            for name, value in self.attributes.items()
        )


def observe_answer(record: Interaction, labels: Labels) -> Observation:
    """An answer as a generation.

    Raises:
        InvalidRecord: It holds something that JSON has no form for.
    """
    name = _TRACE_NAMES[record.source] if record.prompt is None else "text completion"
    start = datetime.fromisoformat(record.created_at)
    times = record.timings
    about = _about_answer(record)
    attributes: dict[str, Attribute | None] = {
        **labels.attributes(),
        **_trace(record, name, about),
        TYPE: "generation",
        MODEL: record.model,
        PARAMETERS: json_text(_parameters(record)),
        USAGE: json_text(_usage(record)),
        COMPLETION_START: json_text(
            timestamp(start + timedelta(seconds=times.queue_s + times.prefill_s))
        ),
        INPUT: _asked(record),
        OUTPUT: None if record.answer is None else _said(record, record.answer),
        **_status(record),
        **_metadata(METADATA, about),
    }
    return Observation(
        trace_id=ids.trace_id(record),
        id=ids.answer_observation_id(record.id),
        parent_id=None,
        name=name,
        start_ns=_nanoseconds(start),
        end_ns=_nanoseconds(start) + int(times.total_s * 1e9),
        attributes=_present(attributes),
    )


def observe_tool(run: ToolRun, labels: Labels) -> Observation:
    """A run of a tool, under the answer that called it."""
    start = datetime.fromisoformat(run.created_at)
    about = {"call_id": run.id, "request_id": run.request_id, "approved": run.approved}
    attributes: dict[str, Attribute | None] = {
        **labels.attributes(),
        SESSION: _short(run.thread_id),
        TYPE: "tool",
        INPUT: run.arguments,
        OUTPUT: run.result,
        LEVEL: "ERROR" if run.is_error else None,
        STATUS: "the tool failed" if run.is_error else None,
        **_metadata(METADATA, about),
    }
    parent = run.answer_id
    return Observation(
        trace_id=ids.trace_id(run),
        id=ids.tool_observation_id(run),
        parent_id=None if parent is None else ids.answer_observation_id(parent),
        name=run.name,
        start_ns=_nanoseconds(start),
        end_ns=_nanoseconds(start) + int(run.duration_s * 1e9),
        attributes=_present(attributes),
    )


def observe_text(
    *,
    trace_id: str,
    id: str,  # noqa: A002 - as `Observation` has it
    name: str,
    start_ns: int,
    end_ns: int,
    given: Any,
    said: Any,
    labels: Labels,
    about: Mapping[str, Any],
    level: Literal["ERROR"] | None = None,
    status: str | None = None,
) -> Observation:
    """A step that stands above others: what went in and what came out.

    Args:
        trace_id: The trace.
        id: Its own id.
        name: For people; also the trace's name.
        start_ns: Nanoseconds since 1970.
        end_ns: The same.
        given: What went in.
        said: What came out; None where nothing did.
        labels: What every observation carries.
        about: Its metadata.
        level: How it went, where that was not well.
        status: Why.
    """
    attributes: dict[str, Attribute | None] = {
        **labels.attributes(),
        TRACE_NAME: name,
        TYPE: "span",
        INPUT: as_value(given),
        OUTPUT: None if said is None else as_value(said),
        LEVEL: level,
        STATUS: status,
        **_metadata(METADATA, about),
    }
    return Observation(
        trace_id=trace_id,
        id=id,
        parent_id=None,
        name=name,
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=_present(attributes),
    )


def as_value(value: Any) -> str:
    """A value as an attribute has it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


def json_text(value: Any) -> str:
    """JSON text.

    Raises:
        InvalidRecord: The value has no form in JSON.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidRecord(f"a {type(value).__name__} has no form in JSON: {exc}") from exc


def _trace(record: Interaction, name: str, about: Mapping[str, Any]) -> dict[str, Attribute | None]:
    """What is said of the whole request. On every observation, for none of them is the first."""
    shared = ("request_id", "adapter", "adapter_version", "template_hash")
    return {
        TRACE_NAME: name,
        TRACE_TAGS: (record.source,),
        USER: _short(record.user),
        SESSION: _short(record.thread_id),
        **_metadata(TRACE_METADATA, {each: about[each] for each in shared}),
    }


def _about_answer(record: Interaction) -> dict[str, Any]:
    adapter = record.adapter
    return {
        "answer_id": record.id,
        "request_id": record.request_id,
        "parent_id": record.parent_id,
        "source": record.source,
        "finish_reason": record.finish_reason,
        "fingerprint": record.fingerprint or None,
        "adapter": None if adapter is None else adapter.name,
        "adapter_version": None if adapter is None else adapter.version,
        "adapter_scale": None if adapter is None else adapter.scale,
        "template_hash": record.template_hash or None,
        "prompt_hash": record.prompt_hash or None,
        "queue_s": record.timings.queue_s,
        "prefill_s": record.timings.prefill_s,
        "decode_s": record.timings.decode_s,
    }


def _parameters(record: Interaction) -> dict[str, Any]:
    """What the answer was made with; what was left to the server and has no number is left out."""
    options = record.options
    asked = {
        "max_tokens": options.max_tokens,
        "stop": list(options.stop) or None,
        "enable_thinking": options.enable_thinking,
        "thinking_budget": options.thinking_budget,
        "tool_choice": _flat(options.tool_choice),
        "response_format": _flat(options.response_format),
    }
    sampling = {name: _flat(value) for name, value in record.sampling.items()}
    return {name: value for name, value in (sampling | asked).items() if value is not None}


def _flat(value: Any) -> Any:
    """A parameter as Langfuse shows it: a number, a text, or JSON text; infinities are none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict | list | tuple):
        return json_text(value) if value else None
    return value


def _usage(record: Interaction) -> dict[str, int]:
    """Token counts whose parts don't overlap: Langfuse adds up what begins alike."""
    usage = record.usage
    return {
        "input": max(usage.prompt - usage.cached, 0),
        "input_cached_tokens": usage.cached,
        "output": max(usage.completion - usage.reasoning, 0),
        "output_reasoning_tokens": usage.reasoning,
        "total": usage.prompt + usage.completion,
    }


def _asked(record: Interaction) -> str | None:
    if record.messages is None:
        return record.prompt
    messages = list(record.messages)
    return json_text(
        {"messages": messages, "tools": list(record.tools)} if record.tools else messages
    )


def _said(record: Interaction, answer: AnswerText) -> str:
    if record.prompt is not None:
        return answer.content
    message: dict[str, Any] = {"role": "assistant", "content": answer.content}
    if answer.reasoning_content:
        message["reasoning_content"] = answer.reasoning_content
    if answer.tool_calls:
        message["tool_calls"] = [_call(each) for each in answer.tool_calls]
    return json_text(message)


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _status(record: Interaction) -> dict[str, Attribute | None]:
    if record.finish_reason != "cancelled":
        return {}
    return {LEVEL: "WARNING", STATUS: "cancelled before its end"}


def _metadata(prefix: str, about: Mapping[str, Any]) -> dict[str, Attribute | None]:
    return {
        f"{prefix}.{name}": value if isinstance(value, str | int) else json_text(value)
        for name, value in about.items()
        if value is not None
    }


def _present(attributes: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    return {name: value for name, value in attributes.items() if value is not None}


def _short(name: str | None) -> str | None:
    return None if name is None else name[:MAX_NAME]


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
