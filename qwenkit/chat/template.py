"""Conversations become prompts, by a Jinja template. Knows spellings and spans, nothing of answers.

The text is what Hugging Face's `apply_chat_template` gives. Beside it a prompt knows which control
tokens the *template* wrote: the same characters in a message, a tool or an argument stay text, so
nobody can type the end of a turn. For that, control tokens in what callers send are replaced by
private-use characters before rendering and restored behind it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, wraps
from importlib import resources
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.filters
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qwenkit.backends.base import Tokenizer
from qwenkit.chat.messages import JsonValue, Message, Role, Tool, check_text, is_json
from qwenkit.errors import InvalidMessages, ModelUnsupported

_MAX_SOURCE = 1 << 20
_MAX_GROWTH = 64
_MIN_RENDERED = 1 << 20
_MAX_FACTOR = 1000
_MAX_PADDING = 100_000
# A width in a format: "%100000d", "{:100000}", "{:.100000f}", "%*d".
_WIDTH = re.compile(r"%[^%a-zA-Z]*(?:\d{5,}|\*)|\{[^{}]*:[^{}]*\d{5,}")
_PRIVATE_USE = range(0xF0000, 0xFFFFE)
_THINK, _END_THINK = "<think>", "</think>"
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "enable_thinking"})
# What a template's own mistakes, or values of a type it doesn't expect, can raise.
_TEMPLATE_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A rendered conversation.

    Args:
        text: As `apply_chat_template` renders it.
        control_spans: Start and end of each control token that the template wrote, in order.
        inside_reasoning: Whether the text ends inside an open `<think>` block.
        may_reason: Whether the model may still open one: the text neither opened nor closed it.
        continues_text: Whether the text ends within an answer that is to be continued.
    """

    text: str
    control_spans: tuple[tuple[int, int], ...]
    inside_reasoning: bool
    may_reason: bool
    continues_text: bool = False


class ChatTemplate:
    """A chat template, compiled in a sandbox.

    Args:
        source: Jinja source as models carry it; None is Qwen3's format.
        control_tokens: Spellings of the tokens that callers must not be able to write.

    Raises:
        ModelUnsupported: The source is no Jinja template, or larger than 1 MiB.
    """

    def __init__(self, source: str | None, *, control_tokens: Collection[str]) -> None:
        self.source = _qwen3() if source is None else source
        self._control = _any_of(control_tokens)
        if len(self.source) > _MAX_SOURCE:
            raise ModelUnsupported("the chat template is larger than 1 MiB")
        try:
            self._template = _environment().from_string(self.source)
        except (jinja2.TemplateError, RecursionError) as exc:
            raise ModelUnsupported(f"the chat template doesn't compile: {exc}") from exc

    @property
    def hash(self) -> str:
        """First 12 hex digits of the source's SHA-256."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        enable_thinking: bool = True,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        extra: Mapping[str, JsonValue] | None = None,
    ) -> Prompt:
        """Render a conversation.

        Args:
            messages: At least one.
            tools: Offered tools.
            enable_thinking: Qwen3's hard switch.
            add_generation_prompt: Open the assistant's turn.
            continue_final_message: Leave the last message, an assistant's, open for more. Its
                reasoning is continued when it has reasoning and no content.
            extra: More variables for the template.

        Raises:
            InvalidMessages: The template refuses the conversation, or it can't be continued.
        """
        if continue_final_message:
            _check_continuable(messages)
        variables = {
            "messages": [message.as_template_value() for message in messages],
            "tools": [tool.definition for tool in tools] or None,
            "enable_thinking": enable_thinking,
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
            **_checked(extra or {}),
        }
        mask = _Mask(variables, self._control)
        hidden = mask.hide(variables)
        if continue_final_message:
            _append_to_last(hidden["messages"][-1], mask.end)
        masked = self._generate(hidden, limit=max(_MIN_RENDERED, _MAX_GROWTH * mask.n_characters))
        if continue_final_message:
            masked = _cut_at(masked, mask.end)
        return _prompt(masked, self._control, mask, continues=continue_final_message)

    def _generate(self, variables: Mapping[str, JsonValue], *, limit: int) -> str:
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(variables):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise jinja2.TemplateRuntimeError("it renders far more than it was given")
        except _TEMPLATE_FAILURES as exc:
            raise InvalidMessages(
                f"the chat template refuses this conversation: {exc}", param="messages"
            ) from exc
        return "".join(parts)


def encode_prompt(prompt: Prompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of a prompt: the template's control tokens by id, all else as plain text.

    The same ids as `transformers` gives, unless somebody typed a control token.
    """
    control = tokenizer.control_tokens
    tokens: list[int] = []
    position = 0
    for start, end in prompt.control_spans:
        tokens.extend(_encode_plain(prompt.text[position:start], tokenizer))
        tokens.append(control[prompt.text[start:end]])
        position = end
    tokens.extend(_encode_plain(prompt.text[position:], tokenizer))
    return tuple(tokens)


def _encode_plain(text: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(text, special=False) if text else []


class _Mask:
    """Private-use characters that stand in for control tokens in what the caller sent.

    Args:
        values: Everything the template will see.
        control: Matches control tokens.
    """

    def __init__(self, values: JsonValue, control: re.Pattern[str]) -> None:
        given = "\n".join(_texts(values))
        self.n_characters = len(given)
        free = _unused_characters(given)
        self.end = next(free)
        self._control = control
        self._stands_for = {next(free): found for found in sorted(set(control.findall(given)))}
        self._stand_in = {token: stand_in for stand_in, token in self._stands_for.items()}
        # A template may write JSON in ASCII; the stand-in then comes back escaped.
        escaped = {_escaped(stand_in): token for stand_in, token in self._stands_for.items()}
        self._stands_for |= escaped
        self._stand_ins = _any_of(self._stands_for)

    def hide(self, value: JsonValue) -> JsonValue:
        """A copy of a JSON value with stand-ins for the control tokens in its strings."""
        if isinstance(value, str):
            return self._control.sub(lambda found: self._stand_in[found[0]], value)
        if isinstance(value, Mapping):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value

    def reveal(self, text: str) -> str:
        """Rendered text with the control tokens back in it."""
        return self._stand_ins.sub(lambda found: self._stands_for[found[0]], text)


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value))
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _unused_characters(text: str) -> Iterator[str]:
    for character in map(chr, _PRIVATE_USE):
        if character not in text and _escaped(character) not in text:
            yield character
    raise InvalidMessages("the conversation uses every private-use character", param="messages")


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


def _any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    # The longest first, as an alternation takes the first that fits; no spelling fits nowhere.
    longest_first = sorted(spellings, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _prompt(masked: str, control: re.Pattern[str], mask: _Mask, *, continues: bool) -> Prompt:
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    position = length = 0
    for found in control.finditer(masked):
        before = mask.reveal(masked[position : found.start()])
        parts += before, found[0]
        spans.append((length + len(before), length + len(before) + len(found[0])))
        length = spans[-1][1]
        position = found.end()
    tail = mask.reveal(masked[position:])
    inside = tail.rfind(_THINK) > tail.rfind(_END_THINK)
    return Prompt(
        text="".join((*parts, tail)),
        control_spans=tuple(spans),
        inside_reasoning=inside,
        may_reason=not continues and _THINK not in tail and _END_THINK not in tail,
        continues_text=continues and not inside,
    )


def _check_continuable(messages: Sequence[Message]) -> None:
    place = f"messages[{len(messages) - 1}]"
    if messages[-1].role is not Role.ASSISTANT:
        raise InvalidMessages("only an assistant's message can be continued", param=f"{place}.role")
    if messages[-1].tool_calls:
        raise InvalidMessages(
            "a message with tool calls can't be continued", param=f"{place}.tool_calls"
        )


def _append_to_last(message: dict[str, JsonValue], mark: str) -> None:
    thinks = not message["content"] and message.get("reasoning_content")
    message["reasoning_content" if thinks else "content"] += mark


def _cut_at(text: str, mark: str) -> str:
    before, found, _ = text.rpartition(mark)
    if not found:
        raise InvalidMessages("the chat template doesn't show the last message", param="messages")
    return before


def _checked(extra: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    for name, value in extra.items():
        place = f"chat_template_kwargs.{name}"
        if name in _RESERVED:
            raise InvalidMessages(f"{name} has a field of its own", param=place)
        check_text(value, place)
        if not is_json(value):
            raise InvalidMessages(f"{place} is no JSON value", param=place)
    return extra


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, where a template can't multiply its way through the memory either."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call something, but no method of a string that pads it without measure."""
        if isinstance(getattr(obj, "__self__", None), str):
            _refuse_wide(*args, *kwargs.values())
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """A string's `format` as Jinja's sandbox has it, of a string without large widths."""
        if isinstance(getattr(value, "__self__", None), str):
            _refuse_wide_format(value)
        return super().wrap_str_format(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%":
            _refuse_wide_text(left)
            return super().call_binop(context, operator, left, right)
        for factor in (left, right):
            is_small = isinstance(factor, int | float) and abs(factor) <= _MAX_FACTOR
            if not is_small and not (operator == "*" and _is_short(factor)):
                raise SecurityError(f"{operator} with an operand that is too large")
        return super().call_binop(context, operator, left, right)


def _refuse_wide(*values: Any) -> None:
    if any(isinstance(value, int) and abs(value) > _MAX_PADDING for value in values):
        raise SecurityError("a text is padded to a width that is too large")


def _refuse_wide_format(method: Any) -> None:
    if method.__name__ in ("format", "format_map"):
        _refuse_wide_text(method.__self__)


def _refuse_wide_text(value: Any) -> None:
    if isinstance(value, str) and _WIDTH.search(value):
        raise SecurityError("a format has a width that is too large")


def _is_short(value: Any) -> bool:
    return isinstance(value, str | list | tuple) and len(value) <= _MAX_FACTOR


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, with which training marks an assistant's text; here without effect."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


@cache
def _environment() -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _Generation],
    )
    environment.filters["tojson"] = _to_json
    for name in ("center", "indent", "wordwrap"):
        environment.filters[name] = _measured(environment.filters[name])
    environment.filters["format"] = _format
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _measured(pad: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses widths without measure."""

    @wraps(pad)
    def measured(*args: Any, **kwargs: Any) -> Any:
        _refuse_wide(*args, *kwargs.values())
        return pad(*args, **kwargs)

    return measured


def _format(value: str, *args: Any, **kwargs: Any) -> str:
    _refuse_wide_text(value)
    return jinja2.filters.do_format(value, *args, **kwargs)


def _to_json(
    value: JsonValue,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateRuntimeError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


@cache
def _qwen3() -> str:
    return resources.files("qwenkit.chat").joinpath("qwen3.jinja").read_text(encoding="utf-8")
