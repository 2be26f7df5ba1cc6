"""`qwenkit feedback pull`: brings judgements from a service, which each has a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from qwenkit.cli.feedback.label_studio import Template
from qwenkit.cli.feedback.services import Service, refuse_flags
from qwenkit.cli.flags import with_settings
from qwenkit.settings import Settings


@with_settings("log_dir", "openai_api_base_url", "openai_api_key")
def pull(
    settings: Settings,
    *,
    from_: Annotated[Service, typer.Option("--from", help="Where from.")],
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Langfuse: only what was said since then."),
    ] = None,
    evaluators: Annotated[
        bool, typer.Option("--evaluators", help="Langfuse: take its evaluators' scores as well.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Langfuse: have the model answer this dataset instead, and record a run of it.",
        ),
    ] = None,
    run_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the run is called.", show_default="MODEL TIME"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model of the run; with --url, its name there. [MODEL_PATH]"),
    ] = None,
    think: Annotated[
        bool | None, typer.Option("--think/--no-think", help="Whether it thinks before it answers.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the draws repeatable.")] = None,
    template: Annotated[
        Template | None,
        typer.Option(help="Label Studio: what people were asked.", show_default="pairs"),
    ] = None,
    project: Annotated[
        int | None,
        typer.Option(
            metavar="ID", help="Label Studio: the project; by default the template's own."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring what people said in Langfuse or Label Studio into the log, each judgement once."""
    from qwenkit.cli.feedback import label_studio, langfuse

    for_scores = [("--since", since), ("--evaluators", evaluators)]
    for_run = [
        ("--run-name", run_name),
        ("--model", model),
        ("--think", None if think is None else True),
        ("--max-tokens", max_tokens),
        ("--seed", seed),
    ]
    for_langfuse = [*for_scores, ("--dataset", dataset), *for_run]
    for_label_studio = [("--template", template), ("--project", project)]
    refuse_flags(f"with {from_}", for_label_studio if from_ is Service.LANGFUSE else for_langfuse)
    if dataset is None:
        refuse_flags("without --dataset", for_run)
    else:
        refuse_flags("with --dataset", for_scores)
    if from_ is Service.LABEL_STUDIO:
        kind = template or Template.PAIRS
        label_studio.pull(settings, template=kind, project=project, json=json)
        return
    if dataset is None:
        langfuse.pull(settings, since=since, evaluators=evaluators, json=json)
        return
    options = langfuse.RunOptions(
        dataset=dataset,
        name=run_name,
        model=model,
        thinking=think,
        max_tokens=max_tokens,
        seed=seed,
    )
    langfuse.run(settings, options, json=json)
