"""The page of the docs on Python: what a program may import, from the modules' own docstrings.

Knows the list of modules that are meant for programs; whatever else is there may change without
notice.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from types import ModuleType, NoneType
from typing import Any

INTRODUCTION = """\
Whatever a command does, one import can do. These modules are meant for programs; others may
change without notice. Functions take plain values and read no settings, raise the exceptions of
[`qwenkit.errors`](errors.md), and import heavy packages only when they run.

Any client of OpenAI's API can talk to [a server](http.md); this page is for programs that want
the parts in their own process."""
WIDTH = 88
MODULES = (
    "qwenkit.models.resolve",
    "qwenkit.models.convert",
    "qwenkit.chat.loading",
    "qwenkit.chat.completion",
    "qwenkit.chat.template",
    "qwenkit.chat.parser",
    "qwenkit.engine.engine",
    "qwenkit.backends.scripted",
    "qwenkit.agent",
    "qwenkit.adapters.convert",
    "qwenkit.adapters.merge",
    "qwenkit.quantize.run",
    "qwenkit.export.onnx_folder",
    "qwenkit.training.native.train",
    "qwenkit.training.evaluate",
    "qwenkit.training.rewards",
    "qwenkit.feedback.log",
    "qwenkit.feedback.index",
    "qwenkit.feedback.datasets.export",
    "qwenkit.improve.loop",
    "qwenkit.server.app",
)


def python_page() -> str:
    """The whole page."""
    parts = ["# Python", INTRODUCTION]
    for name in MODULES:
        parts += _module(import_module(name))
    return "\n\n".join(parts) + "\n"


def _module(module: ModuleType) -> Iterator[str]:
    yield f"## `{module.__name__}`"
    yield inspect.getdoc(module) or ""
    for name, value in _public(module):
        yield f"### `{name}`"
        yield f"```python\n{_head(name, value)}\n```"
        if text := inspect.getdoc(value):
            yield _prose(text)


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes that are the module's own; a package's are those that it names."""
    names = getattr(module, "__all__", None) or vars(module)
    for name in names:
        value = getattr(module, name)
        is_own = "__all__" in vars(module) or getattr(value, "__module__", "") == module.__name__
        is_kind = inspect.isfunction(value) or inspect.isclass(value)
        if is_own and is_kind and not name.startswith("_"):
            yield name, value


def _head(name: str, value: Any) -> str:
    """The signature, on one line, or with a parameter a line where that is too long."""
    keyword = "class" if inspect.isclass(value) else "def"
    if inspect.iscoroutinefunction(value):
        keyword = "async def"
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return f"{keyword} {name}"
    inside = list(_parameters(signature))
    returns = _annotation(" -> ", signature.return_annotation)
    line = f"{keyword} {name}({', '.join(inside)}){returns}"
    if len(line) <= WIDTH:
        return line
    lines = "".join(f"    {each},\n" for each in inside)
    return f"{keyword} {name}(\n{lines}){returns}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    is_marked = False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not is_marked:
            yield "*"
        is_marked = is_marked or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        kind = _annotation(": ", each.annotation)
        yield f"{stars}{each.name}{kind}{_default(each.default, ' = ' if kind else '=')}"


def _annotation(sign: str, annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    if annotation is None:
        return f"{sign}None"
    return f"{sign}{annotation if isinstance(annotation, str) else annotation.__name__}"


def _default(value: Any, sign: str) -> str:
    if value is inspect.Parameter.empty:
        return ""
    if isinstance(value, Enum):
        return f"{sign}{type(value).__name__}.{value.name}"
    if isinstance(value, (str, int, float, NoneType)) or value == ():
        return f"{sign}{value!r}"
    return f"{sign}{getattr(value, '__name__', '…')}"


def _prose(text: str) -> str:
    """A docstring as Markdown: its `Args:` and the like become paragraphs and lists."""
    lines = []
    for line in text.splitlines():
        if line in ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:"):
            lines += [f"**{line[:-1]}**", ""]
        elif line.startswith("    ") and not line.startswith("        "):
            lines.append(f"- {_item(line.strip())}")
        elif line.startswith("        "):
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines)


def _item(text: str) -> str:
    name, colon, rest = text.partition(": ")
    return f"`{name}`: {rest}" if colon and name.isidentifier() else text
