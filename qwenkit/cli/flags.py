"""Makes command-line flags from settings, so that names, help and meaning are written once.

A flag is the setting's name with dashes, its help the setting's docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeAlias, get_args

import typer
from pydantic.fields import FieldInfo

from qwenkit.settings import Settings

Command: TypeAlias = Callable[..., None]

MODEL_FLAGS = (
    "model_path",
    "runtime_backend",
    "n_ctx",
    "n_parallel",
    "n_batch",
    "n_threads",
    "n_gpu_layers",
    "rope_scaling",
    "kv_type",
    "use_mmap",
    "use_mlock",
    "convert_dtype",
    "onnx_precision",
    "onnx_provider",
    "onnx_decoder",
    "speculation",
    "draft_model_path",
)
"""What decides how a model is loaded."""

SHORT_NAMES = {
    "model_path": "--model",
    "runtime_backend": "--backend",
    "n_threads": "--threads",
    "draft_model_path": "--draft-model",
    "use_mmap": "--mmap/--no-mmap",
    "use_mlock": "--mlock/--no-mlock",
    "openai_api_base_url": "--url",
    "openai_api_key": "--api-key",
    "api_keys": "--api-key",
}
"""Settings whose flag is not simply their name."""


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Give a command the flags of these settings.

    The command's first parameter receives the `Settings` that come of flags, environment and
    `.env`; its other parameters stay flags of its own and come first in the help.
    """

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(**values: Any) -> None:
            flags = {name: values.pop(name) for name in names}
            command(Settings.load(**flags), **values)

        return _disguised(run, command, [*own, *map(_parameter, names)])

    return decorate


def with_changes(*names: str) -> Callable[[Command], Command]:
    """Give a command the flags of these settings, of which only those count that are used.

    The command's first parameter receives a dictionary of their values; neither environment nor
    `.env` adds to it.
    """

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(**values: Any) -> None:
            flags = {name: values.pop(name) for name in names}
            given = {name: value for name, value in flags.items() if value is not None}
            settings = Settings.load(**given)
            command({name: getattr(settings, name) for name in given}, **values)

        return _disguised(run, command, [*own, *map(_parameter, names)])

    return decorate


def _disguised(run: Command, command: Command, parameters: list[inspect.Parameter]) -> Command:
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    # typer reads a command's flags from its signature.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def flag_of(name: str) -> str:
    """The flag of a setting: `--n-ctx`, or `--mmap/--no-mmap` for a switch."""
    return SHORT_NAMES.get(name, f"--{name.replace('_', '-')}")


def _parameter(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    option = typer.Option(
        flag_of(name), help=_help(name, field), metavar=_metavar(field), show_default=False
    )
    kind = bool if field.annotation is bool else str
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _help(name: str, field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    return f"{text} [{name.upper()}]"


def _metavar(field: FieldInfo) -> str | None:
    kinds = get_args(field.annotation) or (field.annotation,)
    kind = kinds[0]  # of `int | None` and its like
    if issubclass(kind, StrEnum):
        return f"<{'|'.join(kind)}>"
    return None if kind is bool else f"<{kind.__name__ if kind in (int, float) else 'str'}>"
