"""`qwenkit feedback push`: hands the log to a service, which each has a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from qwenkit.cli.feedback.export import Format
from qwenkit.cli.feedback.label_studio import Template
from qwenkit.cli.feedback.log import Adapter, Model, Since, Thread, Until
from qwenkit.cli.feedback.services import Service, refuse_flags
from qwenkit.cli.flags import with_settings
from qwenkit.settings import Settings


@with_settings("log_dir")
def push(
    settings: Settings,
    *,
    to: Annotated[Service, typer.Option(help="Where to.")],
    everything: Annotated[
        bool, typer.Option("--everything", help="Langfuse: send what was sent before as well.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Langfuse: make rows of --format a dataset of that name instead.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        Format | None,
        typer.Option(help="Langfuse: what the rows of a dataset are for.", show_default="sft"),
    ] = None,
    template: Annotated[
        Template | None,
        typer.Option(
            help="Label Studio: whether people choose between two answers, or rate one.",
            show_default="pairs",
        ),
    ] = None,
    project: Annotated[
        int | None,
        typer.Option(
            metavar="ID",
            help="Label Studio: the project; by default one is made for the template.",
        ),
    ] = None,
    max_pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Label Studio: most pairs of one prompt.", show_default="1"),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Label Studio: take answers that were judged before as well."),
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Label Studio: have it report judgements to this server of ours as they are made.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    from_model: Model = None,
    from_adapter: Adapter = None,
    thread: Thread = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send answers to Langfuse, or to Label Studio for people to judge.

    In Langfuse they become traces, and ratings scores; in Label Studio they become tasks. What was
    sent before is not sent again, and what is sent twice is there once. --since, --until,
    --from-model, --from-adapter and --thread choose answers for tasks and for --dataset.
    """
    from qwenkit.cli.feedback import label_studio, langfuse
    from qwenkit.feedback.query import Query

    for_langfuse = [("--everything", everything), ("--dataset", dataset), ("--format", format)]
    for_label_studio = [
        ("--template", template),
        ("--project", project),
        ("--max-pairs", max_pairs),
        ("--again", again),
        ("--webhook", webhook),
    ]
    filters = [
        ("--since", since),
        ("--until", until),
        ("--from-model", from_model),
        ("--from-adapter", from_adapter),
        ("--thread", thread),
    ]
    refuse_flags(f"with {to}", for_label_studio if to is Service.LANGFUSE else for_langfuse)
    if template is Template.RATINGS:
        refuse_flags("with --template ratings", [("--max-pairs", max_pairs)])
    if to is Service.LANGFUSE and dataset is None:
        refuse_flags("without --dataset", [("--format", format), *filters])
    if dataset is not None:
        refuse_flags("with --dataset", [("--everything", everything)])
    query = Query(
        thread_id=thread, model=from_model, adapter=from_adapter, since=since, until=until
    )
    if to is Service.LABEL_STUDIO:
        options = label_studio.TaskOptions(
            template=template or Template.PAIRS,
            project=project,
            max_pairs=max_pairs or 1,
            again=again,
            webhook=webhook,
        )
        label_studio.push(settings, query, options, json=json)
    elif dataset is None:
        langfuse.push(settings, everything=everything, json=json)
    else:
        rows = format or Format.SFT
        langfuse.push_dataset(settings, query, name=dataset, format=rows.value, json=json)
