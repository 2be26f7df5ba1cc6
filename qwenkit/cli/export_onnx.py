"""`qwenkit export-onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qwenkit.cli import console
from qwenkit.cli.source_model import find_checkpoint

if TYPE_CHECKING:
    from qwenkit.export.check import ExportCheck, PromptCheck
    from qwenkit.export.onnx_folder import ExportReport
    from qwenkit.export.options import ExportOptions

app = typer.Typer()


@app.command()
def export_onnx(
    model: Annotated[
        str, typer.Argument(help="Safetensors: a folder, a Hub id, or the demo's name.")
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    *,
    precision: Annotated[
        Literal["fp32", "fp16", "int8", "int4"], typer.Option(help="Number format of the weights.")
    ] = "int4",
    provider: Annotated[
        Literal["cpu", "cuda"],
        typer.Option(help="Execution provider that will run it: fp32 is for cpu, fp16 for cuda."),
    ] = "cpu",
    block_size: Annotated[
        int | None,
        typer.Option(
            help="int8, int4: weights that share a scale: 16, 32, 64, 128 or 256.",
            show_default="32",
        ),
    ] = None,
    symmetric: Annotated[
        bool | None,
        typer.Option(
            "--symmetric/--asymmetric",
            help="int8, int4: blocks centred on 0, or with a zero point.",
            show_default="symmetric",
        ),
    ] = None,
    accuracy_level: Annotated[
        int | None,
        typer.Option(
            help="int8, int4: what products are computed in: 1 fp32, 2 fp16, 3 bf16, 4 int8, "
            "0 as the provider likes.",
            show_default="4 on cpu, 0 on cuda",
        ),
    ] = None,
    n_ctx: Annotated[
        int | None,
        typer.Option(
            help="Tokens of context; YaRN stretches it beyond the model's own.",
            show_default="the model's",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter to merge into the weights: a PEFT folder.")
    ] = None,
    lora: Annotated[
        bool, typer.Option(help="Slots that take .onnx_adapter files while it runs.")
    ] = True,
    hidden_states: Annotated[
        bool, typer.Option(help="Give the last hidden states too, for embeddings.")
    ] = True,
    exporter: Annotated[
        Literal["builder", "optimum"],
        typer.Option(help="onnxruntime-genai's model builder, or Optimum (cpu only)."),
    ] = "builder",
    check: Annotated[
        bool, typer.Option("--check", help="Compare the logits with transformers' in float32.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the folder if it holds an export.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Export safetensors to an ONNX Runtime GenAI folder.

    The folder appears whole or not at all. Every linear gets a slot that takes .onnx_adapter files
    while it runs, and the graph gives hidden states for embeddings.
    """
    from qwenkit.errors import UsageError
    from qwenkit.export.onnx_folder import export_onnx as export
    from qwenkit.export.options import ExportOptions, check_options

    if target.exists() and not force:
        raise UsageError(f"`{target}` is there already", hint="replace it with --force")
    blocks = _given(block_size=block_size, symmetric=symmetric, accuracy_level=accuracy_level)
    if blocks and precision not in ("int8", "int4"):
        name = next(iter(blocks)).replace("_", " ")
        raise UsageError(
            f"`{name}` says how weights are quantised, and {precision} doesn't quantise them",
            hint="--precision int4",
        )
    options = ExportOptions(
        precision=precision,
        provider=provider,
        n_ctx=n_ctx,
        lora=lora,
        hidden_states=hidden_states,
        exporter=exporter,
        **blocks,
    )
    check_options(options)
    report = export(
        _checkpoint(model, exporter),
        target,
        options,
        adapter=adapter,
        check=check,
        progress=console.progress,
    )
    if json:
        console.print_json(_as_json(report))
    else:
        _show(report)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _checkpoint(model: str, exporter: str) -> Path:
    from qwenkit.errors import UsageError
    from qwenkit.models.demo import DEMO_NAME

    if exporter == "optimum" and model != DEMO_NAME and not Path(model).expanduser().is_dir():
        # Where Optimum is installed, the Hub's client is too old to fetch with.
        raise UsageError(
            f"`{model}` is no folder, and --exporter optimum takes one",
            hint="fetch the model without Optimum first, and name its folder",
        )
    return find_checkpoint(model)


def _as_json(report: ExportReport) -> dict[str, Any]:
    value: dict[str, Any] = console.plain(report)
    if report.check is not None:
        whole = ("n_tokens", "max_error", "divergence", "agreement")
        value["check"] |= {name: getattr(report.check, name) for name in whole}
    return value


def _show(report: ExportReport) -> None:
    stretched = f", YaRN {report.yarn_factor:g}x" if report.yarn_factor > 1 else ""
    slots = f"{report.n_slots} matrices" if report.n_slots else "none"
    rows = [
        ("Format", _format(report.options)),
        ("Size", console.size(report.size_bytes)),
        ("Context", f"{report.n_ctx:,}{stretched}"),
        ("LoRA slots", slots),
        ("Hidden states", "yes" if report.options.hidden_states else "no"),
        ("Took", f"{report.seconds:.0f} s"),
    ]
    console.table("", ["Exported", str(report.path)], rows)
    if report.check is not None:
        _show_check(report.check)
    console.note(f"RUNTIME_BACKEND=onnx MODEL_PATH={report.path} qwenkit serve")


def _format(options: ExportOptions) -> str:
    text = f"{options.precision} for {options.provider}"
    if options.bits is None:
        return text
    zero = "symmetric" if options.symmetric else "asymmetric"
    return f"{text}, {zero} blocks of {options.block_size}, accuracy level {options.level}"


def _show_check(check: ExportCheck) -> None:
    parts: list[tuple[object, PromptCheck | ExportCheck]] = [*enumerate(check.prompts, start=1)]
    parts.append(("all", check))
    rows = [
        (
            name,
            each.n_tokens,
            f"{each.max_error:.1e}",
            f"{each.divergence:.1e}",
            f"{100 * each.agreement:.1f} %",
        )
        for name, each in parts
    ]
    columns = ["Prompt", "Tokens", "Largest error", "KL divergence", "Same next token"]
    console.table("Logits compared with transformers in float32", columns, rows)
