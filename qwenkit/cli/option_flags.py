"""Makes command-line flags from dataclasses of options, so that names and help are written once.

A flag is the field's name with dashes, its help what the class's docstring says of it. A flag that
isn't used is left out, so that a file may decide.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin, get_type_hints

import typer

Command: TypeAlias = Callable[..., None]

_ARGUMENT = re.compile(r"^        (\w+): (.*(?:\n            .*)*)", re.MULTILINE)


def with_options(*kinds: type[Any]) -> Callable[[Command], Command]:
    """Give a command a flag for each field of these dataclasses.

    The command's first parameter receives a dictionary of those that were used, by their fields'
    names; its other parameters stay flags of its own and come first in the help.
    """

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        made = {each.name: each for kind in kinds for each in _parameters(kind)}

        def run(**values: Any) -> None:
            given = {name: values.pop(name) for name in made}
            command({name: v for name, v in given.items() if v is not None}, **values)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        # typer reads a command's flags from its signature.
        run.__signature__ = inspect.Signature([*own, *made.values()])  # type: ignore[attr-defined]
        return run

    return decorate


def help_of(kind: type[Any]) -> dict[str, str]:
    """What a dataclass's docstring says of each field, on one line."""
    found = _ARGUMENT.findall(kind.__doc__ or "")
    return {name: " ".join(text.replace("`", "").split()) for name, text in found}


def _parameters(kind: type[Any]) -> Iterator[inspect.Parameter]:
    hints, texts = get_type_hints(kind), help_of(kind)
    for field in fields(kind):
        option = typer.Option(
            _flag(field.name, hints[field.name]),
            help=texts[field.name],
            show_default=_default(field),
        )
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[_plain(hints[field.name]) | None, option],
        )


def _flag(name: str, hint: Any) -> str:
    dashed = name.replace("_", "-")
    return f"--{dashed}/--no-{dashed}" if _plain(hint) is bool else f"--{dashed}"


def _plain(hint: Any) -> Any:
    """What is typed for a field: of `int | None` the one, of several words all with commas."""
    if get_origin(hint) in (types.UnionType, Union):
        hint = next(each for each in get_args(hint) if each is not type(None))
    return str if get_origin(hint) is tuple else hint


def _default(field: Field[Any]) -> str | bool:
    if field.default is MISSING or field.default is None:
        return False
    if isinstance(field.default, tuple):
        return ",".join(field.default)
    if isinstance(field.default, bool):
        return "yes" if field.default else "no"
    return str(field.default)
