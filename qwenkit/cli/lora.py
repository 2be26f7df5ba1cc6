"""`qwenkit lora`: adapters in files and in a running server. Each command is one library call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qwenkit.cli import console
from qwenkit.cli.remote_admin import ApiKey, Url, ask_server, server_path

if TYPE_CHECKING:
    from qwenkit.adapters.base import BaseShapes
    from qwenkit.adapters.check import Difference

app = typer.Typer(no_args_is_help=True, help="Load, convert and merge LoRA adapters.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Check = Annotated[
    bool, typer.Option("--check", help="Read the result back and compare every number.")
]


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="PEFT folder, .gguf adapter or .onnx_adapter.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    *,
    base: Annotated[
        str | None,
        typer.Option(
            help="Model that it must fit: a path, a Hub id that is here, or a demo's name. "
            "For an .onnx_adapter its ONNX folder.",
            metavar="MODEL",
        ),
    ] = None,
    format_: Annotated[
        Literal["gguf", "onnx"] | None,
        typer.Option("--format", help="What to write, where the target's name doesn't say."),
    ] = None,
    check: Check = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
    json: Json = False,
) -> None:
    """Convert an adapter to the format of a runtime: GGUF for llama.cpp, or .onnx_adapter."""
    from qwenkit.adapters.convert import convert_adapter

    _refuse_existing(target, force)
    made = convert_adapter(source, target, format=format_, base=_base(base), check=check)
    if json:
        console.print_json(console.plain(made))
        return
    console.line(str(target))
    targets = ", ".join(made.targets)
    console.note(f"rank {made.rank} on {targets}, {console.size(made.size_bytes)}")
    _note_check(made.check)


@app.command()
def merge(
    base: Annotated[
        str,
        typer.Argument(help="Safetensors: a folder, a Hub id that is here, or a demo's name."),
    ],
    adapter: Annotated[Path, typer.Argument(help="PEFT folder, .gguf adapter or .onnx_adapter.")],
    target: Annotated[Path, typer.Argument(help="Folder to write, or a .gguf file.")],
    *,
    scale: Annotated[
        float, typer.Option(help="Strength of the adapter; 1 is as it was trained.")
    ] = 1.0,
    dtype: Annotated[
        str,
        typer.Option(help="Number format: auto (as the base), f32, f16, bf16, and for .gguf q8_0."),
    ] = "auto",
    check: Check = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the folder or file if it is there.")
    ] = False,
    json: Json = False,
) -> None:
    """Merge an adapter into its base: a model of its own, as safetensors or GGUF."""
    from qwenkit.adapters.merge import merge_adapter

    _refuse_existing(target, force)
    made = merge_adapter(
        _model_path(base),
        adapter,
        target,
        scale=scale,
        dtype=dtype,
        check=check,
        progress=console.progress,
    )
    if json:
        console.print_json(console.plain(made))
        return
    console.line(str(target))
    console.note(f"{made.n_merged} matrices changed, {console.size(made.size_bytes)}")
    _note_check(made.check)


@app.command()
def load(
    name: Annotated[str, typer.Argument(help="What requests will call it, as their model.")],
    path: Annotated[str, typer.Argument(help="PEFT folder, .gguf adapter or .onnx_adapter.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the name from an adapter from elsewhere.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Load an adapter into a running server, or a new version of one, while requests run.

    The server takes adapters from the folders of its LORA_PATHS and LORA_DIRS, and from
    QWENKIT_HOME/adapters.
    """
    body = {"name": name, "path": server_path(path), "replace": replace}
    made = ask_server(url, api_key, "POST", "/admin/adapters", body)
    if json:
        console.print_json(made)
        return
    console.line(f"{made['name']} {made['version']}")
    console.note(f"rank {made['rank']}, {console.size(made['size_bytes'])}")
    _note_template(made)


@app.command()
def unload(
    name: Annotated[str, typer.Argument(help="What requests call it.")],
    *,
    url: Url = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Take an adapter from a running server; requests that run with it end with it."""
    from urllib.parse import quote

    gone = ask_server(url, api_key, "DELETE", f"/admin/adapters/{quote(name, safe='')}")
    if json:
        console.print_json(gone)
        return
    console.note(f"{gone['name']} is unloaded")


@app.command("list")
def list_(*, url: Url = None, api_key: ApiKey = None, json: Json = False) -> None:
    """List the adapters of a running server."""
    adapters = ask_server(url, api_key, "GET", "/admin/adapters")["adapters"]
    if json:
        console.print_json(adapters)
        return
    rows = [
        (
            each["name"],
            each["version"],
            each["rank"],
            console.size(each["size_bytes"]),
            each["path"],
        )
        for each in adapters
    ]
    console.table("", ["Adapter", "Version", "Rank", "Size", "From"], rows)
    for each in adapters:
        _note_template(each)


def _refuse_existing(target: Path, force: bool) -> None:
    from qwenkit.errors import UsageError

    if target.exists() and not force:
        raise UsageError(f"`{target}` is there already", hint="replace it with --force")


def _model_path(model: str) -> Path:
    from qwenkit.models.library import local_path
    from qwenkit.settings import Settings

    return local_path(model, Settings.load().qwenkit_home)


def _base(model: str | None) -> BaseShapes | None:
    from qwenkit.adapters.base import base_of

    return None if model is None else base_of(_model_path(model))


def _note_template(adapter: dict[str, Any]) -> None:
    if adapter.get("template_fits") is False:
        console.note(
            f"{adapter['name']} was trained with the chat template {adapter['template_hash']}, "
            "which is not the served model's: it may answer worse than it could"
        )


def _note_check(found: Difference | None) -> None:
    if found is not None:
        console.note(
            f"checked {found.n_matrices} matrices: "
            f"off by at most {found.max_abs:.1e}, {found.max_rel:.1e} of the largest number"
        )
