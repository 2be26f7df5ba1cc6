"""Columns of each format: their types, for Parquet and for the card. Knows no rows.

JSON lines leave out what a message doesn't have, so that no reader could tell a column's type from
some of them; the types in the card are what `datasets` then goes by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from qwenkit.errors import InvalidData
from qwenkit.extras import import_extra
from qwenkit.feedback.datasets.options import ExportOptions

Scalar: TypeAlias = Literal["string", "bool", "int64", "float64"]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of one type."""

    item: Type


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with these fields, of which each may be absent."""

    types: Mapping[str, Type]


Type: TypeAlias = "Scalar | ListOf | Fields"

_CALL = Fields(
    {
        "id": "string",
        "type": "string",
        "function": Fields({"name": "string", "arguments": "string"}),
    }
)
_MESSAGES = ListOf(
    Fields(
        {
            "role": "string",
            "content": "string",
            "reasoning_content": "string",
            "tool_calls": ListOf(_CALL),
            "tool_call_id": "string",
            "name": "string",
        }
    )
)
_STRINGS = ListOf("string")
_SOURCE: dict[str, Type] = {
    "origin": "string",
    "answers": _STRINGS,
    "ratings": _STRINGS,
    "prompt_hash": "string",
}
_ANSWERS = {
    "dpo": ("chosen", "rejected"),
    "reward": ("chosen", "rejected"),
    "kto": ("completion",),
    "sft": ("completion",),
    "ppo": ("response",),
}
_NUMBERS: dict[str, dict[str, Type]] = {"kto": {"label": "bool"}, "ppo": {"reward": "float64"}}


@dataclass(slots=True)
class Variables:
    """Types of the variables in `chat_template_kwargs`, as rows turn out to have them."""

    types: dict[str, Scalar] = field(default_factory=lambda: {"enable_thinking": "bool"})

    def note(self, values: Mapping[str, Any]) -> None:
        """Look at one row's variables.

        Raises:
            InvalidData: One has another type than before, and no column can hold both.
        """
        for name, value in values.items():
            kind = _scalar(value)
            before = self.types.setdefault(name, kind)
            if kind != before:
                self.types[name] = _both(name, before, kind)


def columns(options: ExportOptions, variables: Variables) -> dict[str, Type]:
    """The columns of the rows of an export, in order."""
    if options.format == "trlx":
        return {"sample": _STRINGS, "reward": "float64", **_SOURCE}
    text: Type = "string" if options.prompts == "raw" else _MESSAGES
    before = prompt_columns(options, variables, "query" if options.format == "ppo" else "prompt")
    answers = dict.fromkeys(_ANSWERS[options.format], text)
    return {**before, **answers, **_NUMBERS.get(options.format, {}), **_SOURCE}


def prompt_columns(
    options: ExportOptions, variables: Variables, name: str = "prompt"
) -> dict[str, Type]:
    """The columns of what stands before an answer."""
    if options.prompts == "raw":
        return {name: "string"}
    kinds: dict[str, Type] = dict(variables.types)
    return {name: _MESSAGES, "tools": "string", "chat_template_kwargs": Fields(kinds)}


def arrow_schema(types: Mapping[str, Type]) -> Any:
    """Columns as pyarrow has them.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    pyarrow = import_extra("pyarrow", extra="train")
    return pyarrow.schema([(name, _arrow(pyarrow, kind)) for name, kind in types.items()])


def card_features(types: Mapping[str, Type]) -> list[dict[str, Any]]:
    """Columns as a card's `dataset_info` has them."""
    return [{"name": name, **_feature(kind)} for name, kind in types.items()]


def _arrow(pyarrow: Any, kind: Type) -> Any:
    if isinstance(kind, ListOf):
        return pyarrow.list_(_arrow(pyarrow, kind.item))
    if isinstance(kind, Fields):
        return pyarrow.struct([(name, _arrow(pyarrow, each)) for name, each in kind.types.items()])
    return (
        pyarrow.string() if kind == "string" else getattr(pyarrow, kind.replace("bool", "bool_"))()
    )


def _feature(kind: Type) -> dict[str, Any]:
    if isinstance(kind, ListOf):
        item = kind.item
        return {"list": card_features(item.types) if isinstance(item, Fields) else item}
    if isinstance(kind, Fields):
        return {"struct": card_features(kind.types)}
    return {"dtype": kind}


def _scalar(value: Any) -> Scalar:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    return "float64" if isinstance(value, float) else "string"


def _both(name: str, one: Scalar, other: Scalar) -> Scalar:
    if {one, other} == {"int64", "float64"}:
        return "float64"
    raise InvalidData(
        f"the template variable `{name}` is {one} in one answer and {other} in another, and a "
        "column has one type",
        hint="export the answers of each kind by themselves, by time, model or adapter",
    )
