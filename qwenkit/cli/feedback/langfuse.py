"""`qwenkit feedback push --to langfuse` and `pull --from langfuse`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qwenkit.cli import console
from qwenkit.cli.feedback.log import open_index, open_log
from qwenkit.errors import InvalidSettings
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.chat.events import ChatEvent
    from qwenkit.cli.chat.source import AnswerSource
    from qwenkit.feedback.datasets.options import Format
    from qwenkit.feedback.langfuse.client import LangfuseClient, Refused
    from qwenkit.feedback.langfuse.observations import Labels
    from qwenkit.feedback.langfuse.runs import RunReport
    from qwenkit.feedback.query import Query
    from qwenkit.settings import LangfuseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a dataset of Langfuse's is answered.

    Args:
        dataset: Its name.
        name: What the run is called; None is the model's name and the time.
        model: The model; with a server its name there.
        thinking: Whether the model thinks; None leaves it to the model.
        max_tokens: Most tokens of an answer.
        seed: Makes the draws repeatable.
    """

    dataset: str
    name: str | None = None
    model: str | None = None
    thinking: bool | None = None
    max_tokens: int | None = None
    seed: int | None = None


def push(settings: Settings, *, everything: bool, json: bool) -> None:
    """Send what the log has and Langfuse has not, and say what came of it."""
    from qwenkit.feedback.langfuse.push import Marks, project_name, push_log

    with open_index(settings) as index, _connected(settings) as (client, spec, labels):
        report = push_log(
            index,
            client,
            labels=labels,
            marks=Marks(index.folder, project_name(spec.base_url, spec.public_key)),
            everything=everything,
            progress=console.progress,
        )
    said = (
        f"{report.n_answers} answers, {report.n_tool_runs} tool runs and {report.n_scores} scores "
        f"sent, {report.n_deleted} scores deleted"
    )
    _tell(said, console.plain(report), json=json)
    if report.n_from_langfuse:
        console.note(f"{report.n_from_langfuse} ratings came from Langfuse and were not sent")
    _note_left_out(report.left_out)
    _note_refused(report.refused)


def push_dataset(
    settings: Settings,
    query: Query,
    *,
    name: str,
    format: Format,  # noqa: A002
    json: bool,
) -> None:
    """Make the rows of an export a dataset of Langfuse's, and say what came of it."""
    from qwenkit.feedback.datasets.export import iter_rows
    from qwenkit.feedback.datasets.options import ExportOptions
    from qwenkit.feedback.langfuse.push import push_rows

    options = ExportOptions(format=format, filters=query)
    with open_index(settings) as index, _connected(settings) as (client, _, _):
        n_items = push_rows(
            iter_rows(index, options),
            index,
            client,
            name=name,
            format=format,
            options=options.as_json(),
            progress=console.progress,
        )
    said = f"{n_items} items sent to the dataset {name!r}"
    _tell(said, {"dataset": name, "n_items": n_items}, json=json)


def pull(settings: Settings, *, since: str | None, evaluators: bool, json: bool) -> None:
    """Bring scores of Langfuse's into the log, each once, and say what came of it."""
    from qwenkit.feedback.langfuse.pull import EVALUATORS, PEOPLE, pull_scores
    from qwenkit.feedback.records import parse_moment

    moment = None if since is None else parse_moment(since, param="since")
    with (
        open_index(settings) as index,
        open_log(settings) as log,
        _connected(settings) as (client, _, _),
    ):
        report = pull_scores(
            client,
            index,
            log,
            sources=(*PEOPLE, EVALUATORS) if evaluators else PEOPLE,
            since=moment,
            progress=console.progress,
        )
    _tell(f"{report.n_ratings} ratings are new", console.plain(report), json=json)
    for reason, n in report.left_out.most_common():
        console.note(f"{n} left out: the score {reason}")


def run(settings: Settings, options: RunOptions, *, json: bool) -> None:
    """Have a model answer a dataset of Langfuse's, record the run, and say what came of it."""
    report, name = asyncio.run(_run(settings, options))
    mean = report.mean_similarity
    said = f"{report.n_answers} answers are in the run {name!r} of {options.dataset!r}"
    if mean is not None:
        said += (
            f"\n{report.n_exact} of {len(report.similarities)} are the expected ones; "
            f"the mean similarity is {mean:.3f}"
        )
    whole = {**console.plain(report), "run": name, "mean_similarity": mean}
    _tell(said, whole, json=json)
    _note_left_out(report.left_out)
    _note_refused(report.refused)


async def _run(settings: Settings, options: RunOptions) -> tuple[RunReport, str]:
    from qwenkit.cli.chat.session import AnswerOptions
    from qwenkit.feedback.langfuse.run_record import Run
    from qwenkit.feedback.langfuse.runs import run_dataset

    answer = AnswerOptions(
        thinking=options.thinking, max_tokens=options.max_tokens, seed=options.seed
    )
    with _connected(settings) as (client, _, labels):
        source = await _source(settings, options.model)

        def ask(
            messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]
        ) -> AsyncGenerator[ChatEvent, None]:
            return source.answer(messages, answer, tools)

        name = options.name or f"{source.name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        run = Run(dataset=options.dataset, name=name, model=source.name)
        try:
            report = await run_dataset(client, ask, run, labels=labels, progress=console.progress)
        finally:
            await source.close()
    return report, name


async def _source(settings: Settings, model: str | None) -> AnswerSource:
    from qwenkit.cli.chat.source import RemoteSource

    url = settings.openai_api_base_url
    if url is not None:
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
        return await RemoteSource.connect(url, api_key=key, model=model)
    from qwenkit.cli.chat.local import LocalSource

    return LocalSource(settings.model_copy(update={"model_path": model} if model else {}))


@contextmanager
def _connected(settings: Settings) -> Iterator[tuple[LangfuseClient, LangfuseSpec, Labels]]:
    """The project that the settings name.

    Raises:
        InvalidSettings: They name none, or turn it off.
        MissingExtra: The extra `langfuse` is not installed.
    """
    from qwenkit.feedback.langfuse.client import LangfuseClient
    from qwenkit.feedback.langfuse.observations import labels_of

    spec = settings.langfuse_spec()
    if spec is None:
        if not settings.langfuse_tracing_enabled:
            raise InvalidSettings(
                "Langfuse is turned off", hint="unset LANGFUSE_TRACING_ENABLED, or set it to true"
            )
        raise InvalidSettings(
            "there are no keys for Langfuse",
            hint="set LANGFUSE_API_KEY to PUBLIC:SECRET, and LANGFUSE_BASE_URL for your own server",
        )
    with LangfuseClient(spec) as client:
        yield client, spec, labels_of(spec)


def _tell(said: str, report: dict[str, Any], *, json: bool) -> None:
    """Say what came of it, to a person or as JSON."""
    if json:
        console.print_json(report)
    else:
        console.line(said)


def _note_left_out(left_out: Counter[str]) -> None:
    for reason, n in left_out.most_common():
        console.note(f"{n} left out: {reason}")


def _note_refused(refused: Sequence[Refused]) -> None:
    for each in refused[:5]:
        console.note(f"Langfuse refused {each.id}: {each.why}")
    if len(refused) > 5:
        console.note(f"and {len(refused) - 5} more")
