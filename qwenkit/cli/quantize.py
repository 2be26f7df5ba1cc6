"""`qwenkit quantize`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwenkit.cli import console
from qwenkit.cli.source_model import find_gguf

if TYPE_CHECKING:
    from qwenkit.quality.measure import Quality
    from qwenkit.quantize.run import QuantizeReport

app = typer.Typer()


@app.command()
def quantize(
    model: Annotated[
        str | None,
        typer.Argument(help="A GGUF, a folder of safetensors, a Hub id, or the demo's name."),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Argument(help="Types to make of it, such as Q4_K_M Q8_0.")
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .gguf file for one type, or a folder.", show_default="here"
        ),
    ] = None,
    imatrix: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Weigh columns by their use on DATA: a text, JSONL, a GGUF importance matrix, "
            "or `builtin`.",
        ),
    ] = None,
    save_imatrix: Annotated[
        Path | None, typer.Option(help="Keep the importance matrix that was computed.")
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=TYPE", help="Type of the tensors that a regex finds."),
    ] = None,
    output_tensor_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Type of the head.")
    ] = None,
    token_embedding_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Type of the token embeddings.")
    ] = None,
    pure: Annotated[
        bool, typer.Option("--pure", help="Give every matrix the type's main format.")
    ] = False,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Take a source that is quantised already.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Measure what was lost.")
    ] = True,
    text: Annotated[
        Path | None,
        typer.Option(help="Text or JSONL to measure on.", show_default="one of ours"),
    ] = None,
    ctx: Annotated[int, typer.Option(help="Tokens of a window; its second half is scored.")] = 512,
    windows: Annotated[
        int | None, typer.Option(help="Most windows to measure.", show_default="the whole text")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the report as a PNG.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=0, max=1024, help="CPU threads.", show_default="N_THREADS, or one a core"),
    ] = None,
    list_types: Annotated[bool, typer.Option("--list", help="List the types and leave.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Quantise a model to GGUF files, and measure what that cost.

    Several types make one report. Perplexity, KL divergence and agreement are measured against the
    source on the same text, as llama-perplexity does it.
    """
    from qwenkit.extras import import_extra
    from qwenkit.quantize.run import (
        QuantizeOptions,
        ReportOptions,
        check_targets,
        parse_overrides,
        plan_targets,
        quantize,
    )
    from qwenkit.settings import Settings

    if list_types:
        _list(json=json)
        return
    model, types = _required(model, types)
    _check_report(plot, text, windows, report=report)
    if plot is not None:
        check_targets([plot], replace=force)
        import_extra("matplotlib", extra="plots")
    overrides = parse_overrides(tensor or [])
    plan_targets(types, output, name="model")  # a type that is none costs no download
    settings = Settings.load()
    source = find_gguf(model)
    targets = plan_targets(types, output, name=source.name)
    check_targets([*targets.values(), *filter(None, (save_imatrix, plot))], replace=force)
    made = quantize(
        source.path,
        targets,
        QuantizeOptions(
            imatrix=imatrix,
            save_imatrix=save_imatrix,
            overrides=overrides,
            output_type=output_tensor_type,
            embedding_type=token_embedding_type,
            pure=pure,
            allow_requantize=allow_requantize,
            n_threads=settings.n_threads if threads is None else threads,
            n_gpu_layers=settings.n_gpu_layers,
        ),
        report=ReportOptions(text=text, n_ctx=ctx, n_windows=windows) if report else None,
        progress=console.progress,
    )
    if plot is not None:
        _draw(made, plot)
    if json:
        console.print_json(_as_json(made))
    else:
        _show(made)


def _required(model: str | None, types: list[str] | None) -> tuple[str, list[str]]:
    from qwenkit.errors import UsageError

    if not model or not types:
        raise UsageError(
            "name a model and at least one type", hint="qwenkit quantize --list shows the types"
        )
    return model, types


def _check_report(
    plot: Path | None, text: Path | None, windows: int | None, *, report: bool
) -> None:
    from qwenkit.errors import UsageError

    for name, value in (("--plot", plot), ("--text", text), ("--windows", windows)):
        if value is not None and not report:
            raise UsageError(f"{name} is for the report, and --no-report leaves it out")


def _list(*, json: bool) -> None:
    from qwenkit.quantize.types import FILE_TYPES

    if json:
        console.print_json(
            [
                {
                    "name": each.name,
                    "bits": each.bits,
                    "needs_imatrix": each.needs_imatrix,
                    "about": each.about,
                }
                for each in FILE_TYPES
            ]
        )
        return
    rows = [
        (each.name, f"{each.bits:.2f}", "needed" if each.needs_imatrix else "", each.about)
        for each in FILE_TYPES
    ]
    console.table("", ["Type", "Bits in Qwen3-8B", "--imatrix", ""], rows)


def _draw(made: QuantizeReport, target: Path) -> None:
    from qwenkit.quality.plot import plot_quality

    plot_quality(made.qualities, target, labels=made.labels)


def _as_json(made: QuantizeReport) -> dict[str, Any]:
    value: dict[str, Any] = console.plain(made)
    for quality, label in zip(value["qualities"], made.labels, strict=False):
        quality["label"] = label
    return value


def _show(made: QuantizeReport) -> None:
    rows = [
        (
            str(each.path),
            console.size(each.size_bytes),
            f"{each.bits_per_weight:.2f}",
            ", ".join(f"{n} {kind}" for kind, n in each.n_tensors.items()),
            f"{each.seconds:.1f} s",
        )
        for each in made.models
    ]
    console.table("", ["Quantised", "Size", "Bits a weight", "Tensors", "Took"], rows)
    for each in made.models:
        for fallback in each.fallbacks:
            console.note(
                f"{each.type}: `{fallback.tensor}` has rows of {fallback.n_columns}, which "
                f"{fallback.wanted} does not fit: stored as {fallback.given}"
            )
    if made.qualities:
        _show_quality(made)
    console.note(f"MODEL_PATH={made.models[0].path} qwenkit serve")


def _show_quality(made: QuantizeReport) -> None:
    n_tokens = made.qualities[0].perplexity.n_tokens
    rows = [
        _quality_row(quality, label)
        for quality, label in zip(made.qualities, made.labels, strict=True)
    ]
    columns = ["Model", "Size", "Bits", "Perplexity", "Ratio", "KL mean", "median", "99 %", "max"]
    title = f"Quality on {made.text}: {n_tokens:,} tokens, KL in nats"
    console.table(title, [*columns, "Same token"], rows)


def _quality_row(quality: Quality, label: str) -> tuple[object, ...]:
    measured, far = quality.perplexity, quality.divergence
    return (
        label,
        console.size(quality.size_bytes),
        f"{quality.bits_per_weight:.2f}",
        _with_error(measured.value, measured.standard_error),
        _with_error(quality.ratio, quality.ratio_error),
        *(f"{value:.2g}" for value in (far.mean, far.median, far.p99, far.maximum)),
        f"{100 * quality.agreement:.1f} %",
    )


def _with_error(value: float, error: float) -> str:
    """Both with as many digits as the error has meaning: two of its own."""
    digits = 1 - math.floor(math.log10(error)) if error > 0 else 4
    digits = min(max(digits, 0), 6)
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"
