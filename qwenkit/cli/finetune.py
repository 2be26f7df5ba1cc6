"""`qwenkit finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwenkit.cli import console
from qwenkit.cli.failure import EXIT_INTERRUPTED
from qwenkit.cli.option_flags import with_options
from qwenkit.cli.source_model import find_checkpoint, find_gguf
from qwenkit.training.data.options import DataOptions
from qwenkit.training.methods import Method
from qwenkit.training.options import LoopOptions, LoraOptions

if TYPE_CHECKING:
    from qwenkit.training.evaluate import Evaluation
    from qwenkit.training.finish import Finished
    from qwenkit.training.qat.report import QatReport
    from qwenkit.training.request import FinetuneReport, Stopped
    from qwenkit.training.run_config import RunConfig

app = typer.Typer()


@app.command()
@with_options(LoraOptions, LoopOptions, DataOptions)
def finetune(
    options: dict[str, Any],
    model: Annotated[
        str | None, typer.Argument(help="Safetensors: a folder, a Hub id, or the demo's name.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="JSONL or Parquet files, folders of them, or Hub datasets."),
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; it must not be there.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="What is learned from the data.", show_default="sft")
    ] = None,
    trainer: Annotated[
        str | None,
        typer.Option(help="peft trains by torch, llama.cpp by its own code.", show_default="peft"),
    ] = None,
    eval: Annotated[  # noqa: A002
        str | None,
        typer.Option(
            metavar="DATA|SHARE", help="Measure on this before and after, or hold a share out."
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="How much worse held-out data may become before the adapter is flagged.",
            show_default="0.05",
        ),
    ] = None,
    qat: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME", help="Learn on a grid: int4, int8, q4_0, q8_0 or onnx-int4."
        ),
    ] = None,
    qat_baseline: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Compare with a run on the same data without --qat."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with any of these names; flags win over it.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A choice of the method, such as beta=0.2."
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the data and what training would take.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Teach a model from data: adapters, or all of its weights.

    Adapters come in a format for each runtime. A run can be stopped at any moment, and goes on from
    its newest checkpoint. Several GPUs train together by `accelerate launch -m qwenkit finetune`.
    """
    from qwenkit.cli.assignments import assignments
    from qwenkit.errors import UsageError
    from qwenkit.training.run_config import make_config

    named = {
        "model": model,
        "data": data or None,
        "output": output,
        "method": method,
        "trainer": trainer,
        "eval": eval,
        "margin": margin,
        "qat": qat,
        "qat_baseline": qat_baseline,
    }
    if resume is not None and output is not None:
        raise UsageError("--resume goes on in its own folder", hint="leave out --output")
    given = {name: value for name, value in named.items() if value is not None}
    values = _from_files(config, resume) | given | options | assignments(set_ or [])
    if dry_run:
        values.setdefault("output", Path("run"))  # nothing is written
    chosen = make_config(values)
    if dry_run:
        _dry_run(chosen, json=json)
    elif chosen.run.trainer == "llama.cpp":
        _train_native(chosen, resume=resume is not None, json=json)
    else:
        _train(chosen, resume=resume is not None, json=json)


def _from_files(config: Path | None, resume: Path | None) -> dict[str, Any]:
    from qwenkit.training.config_file import read_config_file
    from qwenkit.training.run_folder import RunFolder

    values: dict[str, Any] = {}
    if resume is not None:
        saved = RunFolder(resume).saved_config()["choices"]
        values |= {name: value for name, value in saved.items() if value is not None}
    if config is not None:
        values |= read_config_file(config)
    if resume is not None:
        values["output"] = resume
    return values


def _train(config: RunConfig, *, resume: bool, json: bool) -> None:
    from qwenkit.training.finetune import finetune as train
    from qwenkit.training.request import FinetuneRequest, Stopped

    request = FinetuneRequest(
        config=config, checkpoint=find_checkpoint(config.run.model), resume=resume
    )
    made = train(request, progress=console.progress, watch=console.training, tell=console.note)
    if isinstance(made, Stopped):
        _show_stopped(made, json=json)
    elif made is not None and json:
        console.print_json(console.plain(made))
    elif made is not None:
        _show(made)


def _train_native(config: RunConfig, *, resume: bool, json: bool) -> None:
    from qwenkit.training.native_run import check_followed, finetune_native

    check_followed(config)
    model = find_gguf(config.run.model, dtype="f32")
    made = finetune_native(
        config, model, resume=resume, progress=console.progress, tell=console.note
    )
    if json:
        console.print_json(console.plain(made))
        return
    training = made.training
    rows = [
        ("Steps", f"{training.n_steps:,}"),
        ("Took", f"{training.duration_s:.0f} s"),
        ("Speed", f"{training.tokens_per_s:,.0f} tokens/s"),
        ("Loss", f"{training.epochs[0].loss:.3f} → {training.epochs[-1].loss:.3f}"),
        ("Rank keeps", f"{training.share:.1%} of the change"),
    ]
    _show_finished(made.output, rows, made.finished, made.finished.commands)


def _show_stopped(made: Stopped, *, json: bool) -> None:
    if json:
        console.print_json(console.plain(made))
    console.note(f"stopped after step {made.step} of {made.n_steps}; go on: {made.again}")
    raise typer.Exit(EXIT_INTERRUPTED)


def _show(made: FinetuneReport) -> None:
    rows = [
        ("Steps", f"{made.n_steps:,}"),
        ("Samples", f"{made.n_samples:,}, {made.n_tokens:,} tokens"),
        ("Took", f"{made.seconds:.0f} s"),
    ]
    if made.tokens_per_s:
        rows.append(("Speed", f"{made.tokens_per_s:,.0f} tokens/s"))
    if made.first_loss is not None and made.last_loss is not None:
        rows.append(("Loss", f"{made.first_loss:.3f} → {made.last_loss:.3f}"))
    if made.before is not None and made.after is not None:
        rows += _changes(made.before, made.after)
    if made.qat is not None:
        artefact = made.qat.artefact
        rows.append(
            (str(artefact.scheme), f"{artefact.path} ({console.size(artefact.size_bytes)})")
        )
    commands = made.qat.commands if made.qat is not None else made.finished.commands
    _show_finished(made.output, rows, made.finished, commands)
    if made.qat is not None and made.qat.report is not None:
        _show_qat(made.qat.report)
    if made.verdict is not None and made.verdict.flagged:
        console.note(f"worse than before: {made.verdict.reason}")


def _show_finished(
    output: Path, rows: list[tuple[str, str]], finished: Finished, commands: tuple[str, ...]
) -> None:
    rows += [
        (each.kind, f"{each.path} ({console.size(each.size_bytes)})") for each in finished.artefacts
    ]
    if finished.checks:
        worst = max(check.max_rel for check in finished.checks.values())
        differ = f"by at most {worst:.1e} of the largest number" if worst else "in no number"
        rows.append(("Formats differ", differ))
    console.table("", ["Trained", str(output)], rows)
    if finished.note:
        console.note(finished.note)
    for command in commands:
        console.note(command)


def _show_qat(report: QatReport) -> None:
    labels = {
        "base": "base, full precision",
        "trained": "trained, full precision",
        "ptq": f"{report.scheme} after training",
        "qat": f"{report.scheme} while training",
    }
    rows = [
        (labels[row.part], row.perplexity.value, f"± {row.perplexity.standard_error:.2g}")
        for row in report.rows
    ]
    console.table("Perplexity of held-out data", ["Model", "Perplexity", ""], rows)
    if not report.is_fair:
        console.note(
            "the base was quantised untaught: name a run on the same data by --qat-baseline for a "
            "comparison of like with like"
        )


def _changes(before: Evaluation, after: Evaluation) -> list[tuple[str, str]]:
    names = {
        "perplexity": "Held-out perplexity",
        "accuracy": "Held-out accuracy",
        "reward": "Held-out reward",
    }
    return [
        (label, f"{getattr(before, name):.4g} → {getattr(after, name):.4g}")
        for name, label in names.items()
        if getattr(before, name) is not None and getattr(after, name) is not None
    ]


def _dry_run(config: RunConfig, *, json: bool) -> None:
    from qwenkit.cli.dry_run import show_dry_run
    from qwenkit.training.dry_run import survey_run

    survey = survey_run(config, find_checkpoint(config.run.model), progress=console.progress)
    show_dry_run(survey, json=json)
