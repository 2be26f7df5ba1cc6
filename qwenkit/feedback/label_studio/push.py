"""Brings tasks to a project of Label Studio's, each once. Knows no records and no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.label_studio.client import LabelStudio, Project
from qwenkit.feedback.label_studio.tasks import KEY
from qwenkit.feedback.label_studio.templates import (
    CONFIGS,
    EMPTY_CONFIGS,
    INSTRUCTIONS,
    MARKS,
    TITLES,
    Template,
)
from qwenkit.models.progress import ProgressFactory, silent

BATCH = 500
"""Tasks of one import: a project of thousands is imported in steps that each are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """What a push did.

    Args:
        project: Where the tasks are.
        created: Whether the project is new.
        n_imported: New tasks.
        n_there: Tasks that were there before.
        webhook: Where annotations are sent as they are made; None where that was not asked for.
    """

    project: Project
    created: bool
    n_imported: int
    n_there: int
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where annotations are to be sent.

    Args:
        url: Of our receiver, as Label Studio can reach it.
        secret: That it sends along.
    """

    url: str
    secret: str


def push_tasks(
    server: LabelStudio,
    template: Template,
    tasks: Iterable[dict[str, Any]],
    *,
    project_id: int | None = None,
    webhook: Webhook | None = None,
    progress: ProgressFactory = silent,
) -> PushReport:
    """Import the tasks that the project does not have yet; make or update the project before.

    Args:
        server: Label Studio.
        template: What people are asked.
        tasks: From `tasks`; read only as far as they are imported.
        project_id: The project; by default the one of the template's title, made where there is
            none.
        webhook: Have annotations sent there.
        progress: Counts tasks.

    Raises:
        InvalidRequest: The project asks people something else.
        RemoteError: Label Studio refuses.
        RemoteUnreachable: It does not answer.
    """
    project, created = _project(server, template, project_id)
    known = set() if created else {data.get(KEY) for data in server.task_data(project)}
    n_imported = n_there = 0
    with progress(f"Pushing to {project.title!r}", total=None, unit=" tasks") as advance:
        for batch in _batches(tasks):
            new = {each[KEY]: {"data": each} for each in batch if each[KEY] not in known}
            known.update(new)
            if new:
                n_imported += server.import_tasks(project, list(new.values()))
            n_there += len(batch) - len(new)
            advance(len(batch))
    if webhook is not None:
        server.put_webhook(project, webhook.url, webhook.secret)
    return PushReport(
        project=project,
        created=created,
        n_imported=n_imported,
        n_there=n_there,
        webhook=None if webhook is None else webhook.url,
    )


def _project(
    server: LabelStudio, template: Template, project_id: int | None
) -> tuple[Project, bool]:
    config, title = CONFIGS[template], TITLES[template]
    found = server.find_project(title) if project_id is None else server.get_project(project_id)
    if found is None:
        return server.create_project(title, config, INSTRUCTIONS[template]), True
    if found.config.strip() != config.strip():
        _check_same_question(found, template)
        server.configure(found, config)
    return found, False


def _check_same_question(project: Project, template: Template) -> None:
    """Refuse to change what a project of somebody else's asks."""
    if MARKS[template] not in project.config and project.config.strip() not in EMPTY_CONFIGS:
        raise InvalidRequest(
            f"project {project.id} ({project.title!r}) asks for something else",
            hint="name another project, or leave --project out to have one made",
        )


def _batches(tasks: Iterable[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    left = iter(tasks)
    while batch := list(islice(left, BATCH)):
        yield batch
