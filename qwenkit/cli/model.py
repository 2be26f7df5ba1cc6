"""`qwenkit model`: weights, on this machine and in a running server. Each command is one call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwenkit.cli import console
from qwenkit.cli.flags import MODEL_FLAGS, with_changes
from qwenkit.cli.remote_admin import ApiKey, Url, reload_server, server_path
from qwenkit.settings import ReloadMode

if TYPE_CHECKING:
    from qwenkit.models.info import ModelInfo
    from qwenkit.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Fetch, list, inspect, convert and load models.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Dtype = Annotated[
    str, typer.Option(help="Number format: auto (as stored), f32, f16, bf16 or q8_0.")
]
INFO_CONTEXTS = (4096, 32768, 131072)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="Hub id: owner/name or owner/name:QUANT.")],
    *,
    json: Json = False,
) -> None:
    """Fetch a model from the Hub, convert it when it needs that, and print where it is."""
    from qwenkit.models.resolve import resolve

    settings = _settings()
    spec = settings.model_spec()
    found = resolve(
        model,
        home=spec.qwenkit_home,
        backend=spec.runtime_backend,
        dtype=spec.convert_dtype,
        hub_token=spec.hub_token,
        offline=spec.hub_offline,
        progress=console.progress,
    )
    if json:
        console.print_json(console.plain(found))
        return
    console.line(str(found.path))
    console.note(f"{found.name} is ready: MODEL_PATH={found.source} qwenkit serve")


@app.command("list")
def list_(*, json: Json = False) -> None:
    """List the models on this machine."""
    from qwenkit.models.library import list_models

    models = list_models(_settings().qwenkit_home)
    if json:
        console.print_json(console.plain(models))
        return
    rows = [(m.model, m.place, m.format, console.size(m.size_bytes)) for m in models]
    console.table("", ["Model", "Place", "Format", "Size"], rows)


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="A path, a Hub id that is here, or a demo's name.")],
    *,
    json: Json = False,
) -> None:
    """Say what a model is, and the memory it takes."""
    from qwenkit.models.info import inspect_model
    from qwenkit.models.library import local_path

    found = inspect_model(local_path(model, _settings().qwenkit_home))
    if json:
        console.print_json(console.plain(found))
        return
    console.table("", ["Model", found.name], _info_rows(found))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of safetensors.")],
    target: Annotated[Path, typer.Argument(help="The .gguf file to write.")],
    *,
    dtype: Dtype = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
    json: Json = False,
) -> None:
    """Convert safetensors to GGUF."""
    from qwenkit.errors import UsageError
    from qwenkit.models.convert import convert_checkpoint
    from qwenkit.models.info import inspect_model

    if target.exists() and not force:
        raise UsageError(f"`{target}` is there already", hint="replace it with --force")
    convert_checkpoint(source, target, dtype=dtype, progress=console.progress)
    made = inspect_model(target)
    if json:
        console.print_json(console.plain(made))
        return
    console.line(str(target))
    console.note(f"{console.size(made.size_bytes)}, {_types(made)}")


@app.command()
@with_changes(*(name for name in MODEL_FLAGS if name != "model_path"))
def load(
    changes: dict[str, Any],
    model: Annotated[
        str | None,
        typer.Argument(help="As in MODEL_PATH; without it, the model that is served."),
    ] = None,
    *,
    name: Annotated[
        str | None, typer.Option(help="What clients call it from then on.", show_default=False)
    ] = None,
    mode: Annotated[
        ReloadMode | None,
        typer.Option(help="How it gets its room; by default RELOAD_MODE.", show_default=False),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Load another model into a running server, or the same one in another way.

    Requests go on: those that run end on the old model, later ones get the new one. What no flag
    names stays as it is; if the new model can't be loaded, the old one serves on.
    """
    paths = {"model_path": model, "draft_model_path": changes.get("draft_model_path")}
    body = {**changes, "name": name, "mode": mode}
    body |= {each: server_path(path) for each, path in paths.items() if path is not None}
    report = reload_server(url, api_key, body)
    if json:
        console.print_json(report)
        return
    console.line(report["model"])
    console.note(f"loaded in {report['seconds']:.1f} s ({report['mode']})")
    for each in report["left_out"]:
        console.note(f"adapter {each['name']} is left out: {each['reason']}")


def _settings() -> Settings:
    from qwenkit.settings import Settings

    return Settings.load()


def _info_rows(found: ModelInfo) -> list[tuple[str, str]]:
    f16, q8_0 = found.kv_bytes_per_token["f16"], found.kv_bytes_per_token["q8_0"]
    n_parameters = "unknown" if found.n_parameters is None else f"{found.n_parameters:,}"
    return [
        ("Format", f"{found.format}, {found.architecture}, {found.n_layers} layers"),
        ("Parameters", n_parameters),
        ("Size", f"{console.size(found.size_bytes)} in {found.n_files} file(s)"),
        ("Weights", _types(found) or "unknown"),
        ("Vocabulary", f"{found.n_vocab:,}"),
        ("Context", f"{found.n_ctx:,} {found.rope_scaling}".strip()),
        ("Chat template", "yes" if found.has_chat_template else "no"),
        ("KV cache a token", f"{console.size(f16)} in f16, {console.size(q8_0)} in q8_0"),
        *(
            (f"Memory at {n:,}", f"{console.size(found.memory_bytes(n))} and compute buffers")
            for n in INFO_CONTEXTS
        ),
    ]


def _types(found: ModelInfo) -> str:
    return ", ".join(f"{t.type} {console.size(t.n_bytes)} ({t.n_tensors})" for t in found.types)
