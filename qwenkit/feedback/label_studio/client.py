"""Talks to a Label Studio server through its SDK. Knows projects, tasks and annotations as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

import httpx

from qwenkit.chat.remote import is_local
from qwenkit.errors import InvalidSettings, RemoteError, RemoteUnreachable
from qwenkit.extras import import_extra

Json: TypeAlias = dict[str, Any]
TIMEOUT_S = 60.0
ANNOTATION_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
SECRET_HEADER = "X-Qwenkit-Secret"  # noqa: S105 - a header's name


@dataclass(frozen=True, slots=True)
class Project:
    """A project of Label Studio's.

    Args:
        id: Its number.
        title: What people call it.
        config: The configuration of its page.
    """

    id: int
    title: str
    config: str


class LabelStudio(Protocol):
    """What pushing and pulling need of a server."""

    def find_project(self, title: str) -> Project | None:
        """The project of exactly that title; the oldest, where there are several."""

    def get_project(self, project_id: int) -> Project:
        """The project of that number."""

    def create_project(self, title: str, config: str, instruction: str) -> Project:
        """A new project."""

    def configure(self, project: Project, config: str) -> None:
        """Change the configuration of a project's page."""

    def task_data(self, project: Project) -> Iterator[Json]:
        """The data of every task, page by page."""

    def import_tasks(self, project: Project, tasks: Sequence[Json]) -> int:
        """Add tasks; returns how many there are of them."""

    def annotated_tasks(self, project: Project) -> list[Json]:
        """Every task that somebody judged, with its annotations, as Label Studio exports it."""

    def task(self, task_id: int) -> Json:
        """One task with its annotations, each with the person who made it; `project` is its own."""

    def people(self) -> Mapping[int, str]:
        """The address of each person, by number."""

    def put_webhook(self, project: Project, url: str, secret: str) -> None:
        """Have annotations sent to a URL with this secret, once each."""


class SdkLabelStudio:
    """A server, by `label-studio-sdk`; a context manager. Both kinds of its API keys work.

    Raises:
        InvalidSettings: The URL is none of a server, or has a password in it; or the key is none.
        MissingExtra: The extra `label-studio` is not installed.
    """

    def __init__(self, url: str, api_key: str) -> None:
        address = _address(url)
        if not (api_key.isascii() and api_key.isprintable()):
            raise InvalidSettings(
                "LABEL_STUDIO_API_KEY is no token", hint="copy it from Account & Settings"
            )
        sdk = import_extra("label_studio_sdk", extra="label-studio")
        self._refusal = import_extra(
            "label_studio_sdk.core.api_error", extra="label-studio"
        ).ApiError
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            timeout=TIMEOUT_S,
            follow_redirects=True,
            # A proxy from the environment can't reach a server on this machine.
            trust_env=not is_local(address),
        )
        self._api = sdk.LabelStudio(
            base_url=self._url, api_key=api_key, httpx_client=self._http, timeout=TIMEOUT_S
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def find_project(self, title: str) -> Project | None:
        """The project of exactly that title; the oldest, where there are several."""
        with self._translated():
            found = [each for each in self._api.projects.list(title=title) if each.title == title]
        return self.get_project(min(each.id for each in found)) if found else None

    def get_project(self, project_id: int) -> Project:
        """The project of that number."""
        with self._translated():
            return _project(self._api.projects.get(id=project_id))

    def create_project(self, title: str, config: str, instruction: str) -> Project:
        """A new project."""
        with self._translated():
            made = self._api.projects.create(
                title=title,
                label_config=config,
                expert_instruction=instruction,
                show_instruction=True,
            )
            return _project(made)

    def configure(self, project: Project, config: str) -> None:
        """Change the configuration of a project's page."""
        with self._translated():
            self._api.projects.update(id=project.id, label_config=config)

    def task_data(self, project: Project) -> Iterator[Json]:
        """The data of every task, page by page."""
        with self._translated():
            for task in self._api.tasks.list(project=project.id, fields="all"):
                yield dict(task.data or {})

    def import_tasks(self, project: Project, tasks: Sequence[Json]) -> int:
        """Add tasks; returns how many there are of them."""
        with self._translated():
            done = self._api.projects.import_tasks(
                id=project.id, request=list(tasks), return_task_ids=True
            )
        return len(done.task_ids or ())

    def annotated_tasks(self, project: Project) -> list[Json]:
        """Every task that somebody judged, with its annotations, as Label Studio exports it."""
        with self._translated():
            pieces = self._api.projects.exports.download_sync(id=project.id, export_type="JSON")
            tasks: list[Json] = json.loads(b"".join(pieces))
        return tasks

    def task(self, task_id: int) -> Json:
        """One task with its annotations, each with the person who made it; `project` is its own."""
        with self._translated():
            task = self._api.tasks.get(id=str(task_id))
            return {
                "id": task.id,
                "project": task.project,
                "data": dict(task.data or {}),
                "annotations": list(task.annotations or ()),
            }

    def people(self) -> Mapping[int, str]:
        """The address of each person, by number."""
        with self._translated():
            return {person.id: person.email for person in self._api.users.list()}

    def put_webhook(self, project: Project, url: str, secret: str) -> None:
        """Have annotations sent to a URL with this secret, once each."""
        said = {
            "url": url,
            "headers": {SECRET_HEADER: secret},
            "actions": list(ANNOTATION_ACTIONS),
            "is_active": True,
            "send_for_all_actions": False,
            "send_payload": True,
        }
        with self._translated():
            hooks = self._api.webhooks
            there = [
                hook.id
                for hook in hooks.list(project=str(project.id))
                if hook.url == url and hook.project == project.id
            ]
            if there:
                hooks.update(min(there), **said)
            else:
                hooks.create(project=project.id, **said)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._refusal as exc:
            raise self._refused(exc.status_code, exc.body) from exc
        except httpx.HTTPError as exc:
            raise RemoteUnreachable(
                f"Label Studio at {self._url} does not answer: {str(exc) or type(exc).__name__}",
                hint="start it, or set LABEL_STUDIO_URL",
            ) from exc
        # The SDK takes answers apart unchecked.
        except (AttributeError, TypeError, ValueError) as exc:
            raise self._strange(httpx.codes.OK) from exc

    def _refused(self, status: int, body: Any) -> InvalidSettings | RemoteError:
        if status == httpx.codes.UNAUTHORIZED:
            return InvalidSettings(
                f"Label Studio at {self._url} refuses the key",
                hint="set LABEL_STUDIO_API_KEY to a token from Account & Settings",
            )
        if httpx.codes.is_success(status):
            return self._strange(status)
        return RemoteError(
            f"Label Studio at {self._url} answers {status}: {_reason(body)}",
            status=status,
            hint="check LABEL_STUDIO_URL and the project's number" if status == 404 else "",
        )

    def _strange(self, status: int) -> RemoteError:
        return RemoteError(
            f"what answers at {self._url} is no Label Studio",
            status=status,
            hint="check LABEL_STUDIO_URL",
        )


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not address.host or address.userinfo:
        raise InvalidSettings(
            "LABEL_STUDIO_URL is no address of a server",
            hint="such as http://127.0.0.1:8080, without a password in it",
        )
    return address


def _project(made: Any) -> Project:
    return Project(id=made.id, title=made.title or "", config=made.label_config or "")


def _reason(body: Any) -> str:
    if not isinstance(body, dict):
        return str(body)[:200]
    faults = body.get("validation_errors")
    if isinstance(faults, dict):
        return "; ".join(f"{field}: {_joined(each)}" for field, each in faults.items())
    return str(body.get("detail", body))[:500]


def _joined(fault: Any) -> str:
    return ", ".join(map(str, fault)) if isinstance(fault, list) else str(fault)
