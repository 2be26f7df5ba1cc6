"""`qwenkit feedback push --to label-studio` and `pull --from label-studio`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from qwenkit.cli import console
from qwenkit.cli.feedback.log import open_index, open_log
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.feedback.index import FeedbackIndex
    from qwenkit.feedback.label_studio.client import SdkLabelStudio
    from qwenkit.feedback.label_studio.push import Webhook
    from qwenkit.feedback.label_studio.templates import Template as LabelStudioTemplate
    from qwenkit.feedback.query import Query


class Template(StrEnum):
    """What people are asked."""

    PAIRS = "pairs"
    RATINGS = "ratings"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Which answers become tasks, and where.

    Args:
        template: What people are asked.
        project: The project's number; None is the one of the template's title.
        max_pairs: Most pairs of a prompt.
        again: Whether answers that were judged before are taken, too.
        webhook: Our server, as Label Studio reaches it, for it to report judgements to.
    """

    template: Template = Template.PAIRS
    project: int | None = None
    max_pairs: int = 1
    again: bool = False
    webhook: str | None = None


def push(settings: Settings, query: Query, options: TaskOptions, *, json: bool) -> None:
    """Bring answers to a project, each once."""
    from qwenkit.feedback.label_studio.push import push_tasks

    with open_index(settings) as index, _server(settings) as server:
        report = push_tasks(
            server,
            _template(options.template),
            _tasks(index, query, options),
            project_id=options.project,
            webhook=None if options.webhook is None else _webhook(settings, options.webhook),
            progress=console.progress,
        )
    project = report.project
    if json:
        named = {"id": project.id, "title": project.title}
        console.print_json(console.plain(report) | {"project": named})
        return
    verb = "made" if report.created else "found"
    console.line(f"new tasks: {report.n_imported}; there before: {report.n_there}")
    console.note(f"{verb} project {project.id}, {project.title!r}")
    if report.webhook is not None:
        console.note(f"judgements are reported to {report.webhook}")


def pull(settings: Settings, *, template: Template, project: int | None, json: bool) -> None:
    """Bring a project's annotations into the log, each once."""
    from qwenkit.errors import UsageError
    from qwenkit.feedback.label_studio.pull import pull_project
    from qwenkit.feedback.label_studio.templates import TITLES

    title = TITLES[_template(template)]
    with open_index(settings) as index, open_log(settings) as log, _server(settings) as server:
        found = server.find_project(title) if project is None else server.get_project(project)
        if found is None:
            raise UsageError(
                f"Label Studio has no project {title!r}",
                hint="make it with `qwenkit feedback push --to label-studio`, "
                "or name one by --project",
            )
        report = pull_project(server, found, index, log.rating, progress=console.progress)
    if json:
        console.print_json(console.plain(report))
        return
    console.line(f"new ratings: {report.n_new}; there before: {report.n_known}")
    for why, n in report.skipped.most_common():
        console.note(f"{n} left out: {why}")


def _server(settings: Settings) -> SdkLabelStudio:
    from qwenkit.errors import InvalidSettings
    from qwenkit.feedback.label_studio.client import SdkLabelStudio

    url, key = settings.label_studio_url, settings.label_studio_api_key
    if url is None or key is None:
        missing = "LABEL_STUDIO_URL" if url is None else "LABEL_STUDIO_API_KEY"
        raise InvalidSettings(
            f"{missing} is not set", hint=f"set {missing} in the environment or in `.env`"
        )
    return SdkLabelStudio(url, key.get_secret_value())


def _template(template: Template) -> LabelStudioTemplate:
    from qwenkit.feedback.label_studio.templates import Template as LabelStudioTemplate

    return LabelStudioTemplate(template.value)


def _tasks(index: FeedbackIndex, query: Query, options: TaskOptions) -> Iterator[dict[str, Any]]:
    from qwenkit.feedback.label_studio.tasks import pair_tasks, rating_tasks

    if options.template is Template.PAIRS:
        groups = index.prompt_groups(query)
        return pair_tasks(groups, max_pairs=options.max_pairs, again=options.again)
    return rating_tasks(index.answers(query), again=options.again)


def _webhook(settings: Settings, url: str) -> Webhook:
    from qwenkit.errors import InvalidSettings
    from qwenkit.feedback.label_studio.push import Webhook

    secret = settings.label_studio_webhook_secret
    if secret is None:
        raise InvalidSettings(
            "LABEL_STUDIO_WEBHOOK_SECRET is not set",
            hint="set it here and where `qwenkit serve` runs",
        )
    root = url.rstrip("/").removesuffix("/v1")
    return Webhook(f"{root}/v1/feedback/label-studio", secret.get_secret_value())
