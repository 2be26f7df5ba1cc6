"""`qwenkit feedback export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli import console
from qwenkit.cli.feedback.log import Adapter, Model, Rater, Since, Thread, Until, open_index
from qwenkit.cli.flags import with_settings
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.chat.template import ChatTemplate
    from qwenkit.feedback.datasets.report import ExportReport


class Format(StrEnum):
    """What the rows are for."""

    DPO = "dpo"
    KTO = "kto"
    PPO = "ppo"
    TRLX = "trlx"
    SFT = "sft"
    REWARD = "reward"


class Thinking(StrEnum):
    """What becomes of reasoning."""

    KEEP = "keep"
    STRIP = "strip"


class Prompts(StrEnum):
    """Which prompts are taken."""

    CHAT = "chat"
    RAW = "raw"


class Files(StrEnum):
    """What files are written."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@with_settings("log_dir")
def export(
    settings: Settings,
    *,
    format: Annotated[Format, typer.Option(help="What the rows are for.")],  # noqa: A002
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder to make, or a file that ends in .jsonl or .parquet.",
            show_default="feedback-FORMAT",
        ),
    ] = None,
    files: Annotated[
        Files | None,
        typer.Option(help="What files are written.", show_default="by --output, or jsonl"),
    ] = None,
    thinking: Annotated[
        Thinking, typer.Option(help="Keep the answers' reasoning, or strip it.")
    ] = Thinking.KEEP,
    prompts: Annotated[
        Prompts, typer.Option(help="Conversations, or raw texts that were completed.")
    ] = Prompts.CHAT,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.99, help="Share that is held out.", show_default="0.1; 0 for a file"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides what is held out.")] = 0,
    since: Since = None,
    until: Until = None,
    from_model: Model = None,
    from_adapter: Adapter = None,
    rater: Rater = None,
    thread: Thread = None,
    unfinished: Annotated[
        bool,
        typer.Option("--unfinished", help="Take answers that were cancelled or cut off as well."),
    ] = False,
    min_gap: Annotated[
        int, typer.Option(min=1, max=4, help="Points of the scale that make a preference.")
    ] = 1,
    min_margin: Annotated[
        int, typer.Option(min=1, help="Raters that make a majority over the others.")
    ] = 1,
    max_pairs: Annotated[int, typer.Option(min=1, help="Most pairs of one prompt.")] = 16,
    template: Annotated[
        Path | None,
        typer.Option(
            help="Chat template, a Jinja file, that trlx's texts are written with.",
            show_default="Qwen3's",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what was exported there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn judged answers into rows to train with.

    A folder holds data/train and data/validation, and a card that says where rows come from and why
    others were left out. `qwenkit finetune` and `datasets` read them.
    """
    from qwenkit.errors import UsageError
    from qwenkit.feedback.datasets.export import export_dataset
    from qwenkit.feedback.datasets.options import ExportOptions
    from qwenkit.feedback.query import Query

    out = Path(f"feedback-{format}") if output is None else output
    suffix = out.suffix.removeprefix(".")
    is_file = suffix in list(Files)
    if out.exists() and not force:
        raise UsageError(f"`{out}` is there already", hint="replace it with --force")
    share = (0.0 if is_file else 0.1) if validation is None else validation
    options = ExportOptions(
        format=format.value,
        thinking=thinking.value,
        prompts=prompts.value,
        files=(files or (Files(suffix) if is_file else Files.JSONL)).value,
        validation_share=share,
        seed=seed,
        filters=Query(
            thread_id=thread,
            model=from_model,
            adapter=from_adapter,
            rater=rater,
            since=since,
            until=until,
        ),
        unfinished=unfinished,
        min_gap=min_gap,
        min_margin=min_margin,
        max_pairs=max_pairs,
        template=None if template is None else _read_template(template),
    )
    with open_index(settings) as index:
        report = export_dataset(index, options, out, console.progress)
    if json:
        console.print_json({**report.as_json(), "output": str(out)})
    else:
        _show(report, out)


def _read_template(path: Path) -> ChatTemplate:
    from qwenkit.chat.template import ChatTemplate
    from qwenkit.errors import UsageError

    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the chat template `{path}` can't be read: {exc}") from exc
    return ChatTemplate(source, control_tokens=())


def _show(report: ExportReport, out: Path) -> None:
    splits = [split for split, n in report.by_split.items() if n]
    rows = [
        (origin, *(report.rows[split].get(origin, 0) for split in splits), n)
        for origin, n in report.by_origin.items()
    ]
    total = ("all", *(report.by_split[split] for split in splits), report.n_rows)
    console.table(str(out), ["Rows", *splits, "all"], [*rows, total])
    if report.left_out:
        left_out = [(n, reason) for reason, n in report.left_out.items()]
        console.table("Left out", ["", ""], left_out)
    if report.format not in ("ppo", "trlx") and report.by_split["train"]:
        train = out / report.files[0] if out.is_dir() else out
        console.note(f"qwenkit finetune MODEL {train} --method {report.format}")
