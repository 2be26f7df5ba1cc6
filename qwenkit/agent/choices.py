"""What a run may choose: the model, its thinking, its sampling, its tools. Pure.

The names are those of `configurable` in a LangGraph config, of which nothing else is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from qwenkit.chat.presets import sampling
from qwenkit.engine.request import SamplingParams
from qwenkit.errors import InvalidRequest

MAX_STEPS = 100
"""Most model calls of a turn, whatever a run asks for."""
SAMPLING = tuple(each.name for each in fields(SamplingParams) if each.name != "logit_bias")
"""Sampling parameters that a run may choose."""
_WHOLE = ("top_k", "repeat_last_n", "dry_allowed_length", "seed")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a run chose; None leaves it to the agent, and then to the model.

    Args:
        model: The served model's name, or an adapter's.
        thinking: Whether the model thinks.
        thinking_budget: Most thinking tokens of a model call.
        sampling: Fields of `SamplingParams`.
        max_tokens: Most tokens of a model call.
        system_prompt: What the model is told before everything else.
        tools: Names of the tools that are offered; None offers all.
        allowed_tools: Names of tools that run without asking.
        max_steps: Most model calls of a turn.
    """

    model: str | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    system_prompt: str | None = None
    tools: frozenset[str] | None = None
    allowed_tools: frozenset[str] = frozenset()
    max_steps: int | None = None


def read_choices(configurable: Mapping[str, Any]) -> Choices:
    """The choices among a config's values; those of other names are none of ours.

    Raises:
        InvalidRequest: A value can't be; `param` names it.
    """
    tools = _names(configurable, "tools")
    return Choices(
        model=_optional(configurable, "model", str),
        thinking=_optional(configurable, "thinking", bool),
        thinking_budget=_count(configurable, "thinking_budget", at_least=0),
        sampling=_sampling(configurable),
        max_tokens=_count(configurable, "max_tokens", at_least=1),
        system_prompt=_optional(configurable, "system_prompt", str),
        tools=tools,
        allowed_tools=_names(configurable, "allowed_tools") or frozenset(),
        max_steps=_count(configurable, "max_steps", at_least=1, at_most=MAX_STEPS),
    )


def _optional(given: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = given.get(name)
    if value is None or type(value) is kind:
        return value
    raise InvalidRequest(f"{name} must be of type {kind.__name__}", param=_place(name))


def _count(
    given: Mapping[str, Any], name: str, *, at_least: int, at_most: int | None = None
) -> int | None:
    value = _optional(given, name, int)
    if value is not None and (value < at_least or (at_most is not None and value > at_most)):
        bound = f"{at_least} or more" if at_most is None else f"from {at_least} to {at_most}"
        raise InvalidRequest(f"{name} is {value}; it must be {bound}", param=_place(name))
    return value


def _names(given: Mapping[str, Any], name: str) -> frozenset[str] | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return frozenset(value)
    raise InvalidRequest(f"{name} must be a list of names", param=_place(name))


def _sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: given[name] for name in SAMPLING if given.get(name) is not None}
    for name, value in named.items():
        whole = name in _WHOLE
        if type(value) is not int and (whole or type(value) is not float):
            kind = "a whole number" if whole else "a number"
            raise InvalidRequest(f"{name} must be {kind}", param=_place(name))
    try:
        sampling(True, **named)
    except InvalidRequest as exc:
        exc.param = exc.param and _place(exc.param)
        raise
    return named


def _place(name: str) -> str:
    return f"config.configurable.{name}"
