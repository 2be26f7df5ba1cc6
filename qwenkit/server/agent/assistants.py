"""Assistants: presets of what runs choose, by name. One is built in and stays as it is.

Knows their versions; keeps them in the database's rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Self

from qwenkit.errors import InvalidRequest
from qwenkit.server.agent.records import Records, contains, now
from qwenkit.server.agent.run_request import GRAPH_ID, chosen
from qwenkit.server.agent.schema import AssistantBody, AssistantPatch, AssistantSearch
from qwenkit.server.errors import Conflict, NotThere

# LangGraph's own namespace, so that its clients find the graph's assistant under the id they know.
NAMESPACE = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
BUILT_IN = str(uuid.uuid5(NAMESPACE, GRAPH_ID))

Assistant = dict[str, Any]


class Assistants:
    """Every assistant of a server.

    Args:
        records: Keeps them.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._latest: dict[str, int] = {BUILT_IN: 1}
        self._versions: dict[str, list[Assistant]] = {BUILT_IN: [_built_in()]}

    @classmethod
    async def load(cls, records: Records) -> Self:
        """The assistants of a database."""
        assistants = cls(records)
        for latest, versions in await records.assistants():
            assistant_id = versions[0]["assistant_id"]
            assistants._latest[assistant_id] = latest
            assistants._versions[assistant_id] = versions
        return assistants

    def get(self, assistant_id: str) -> Assistant:
        """The assistant of an id, or the built-in one by its graph's name.

        Raises:
            NotThere: There is none.
        """
        versions = self.versions(assistant_id)
        latest = self._latest[versions[0]["assistant_id"]]
        return next(each for each in versions if each["version"] == latest)

    def versions(self, assistant_id: str) -> list[Assistant]:
        """Every version of an assistant, oldest first.

        Raises:
            NotThere: There is none.
        """
        wanted = BUILT_IN if assistant_id == GRAPH_ID else assistant_id
        if wanted not in self._versions:
            raise NotThere(f"no assistant {assistant_id!r}", param="assistant_id")
        return self._versions[wanted]

    def search(self, query: AssistantSearch) -> list[Assistant]:
        """The assistants that fit, sorted, all pages."""
        found = [
            each
            for each in map(self.get, self._versions)
            if contains(each["metadata"], query.metadata or {})
            and query.graph_id in (None, each["graph_id"])
            and (query.name or "").lower() in each["name"].lower()
        ]
        key = query.sort_by or "created_at"
        return sorted(found, key=lambda each: each[key], reverse=query.sort_order != "asc")

    async def create(self, body: AssistantBody) -> Assistant:
        """A new assistant.

        Raises:
            Conflict: There is one of that id.
            InvalidRequest: It chooses what can't be.
        """
        _check_graph(body.graph_id)
        assistant_id = body.assistant_id or str(uuid.uuid4())
        if assistant_id in self._versions or assistant_id == GRAPH_ID:
            if body.if_exists == "do_nothing":
                return self.get(assistant_id)
            raise Conflict(f"there is an assistant {assistant_id!r} already", param="assistant_id")
        moment = now()
        assistant = _assistant(
            assistant_id,
            name=body.name or "Untitled",
            description=body.description,
            config=body.config or {},
            context=body.context or {},
            metadata=body.metadata or {},
            created_at=moment,
        )
        chosen(assistant)
        await self._keep(assistant_id, [assistant], 1)
        return assistant

    async def update(self, assistant_id: str, body: AssistantPatch) -> Assistant:
        """A changed assistant, as its newest version.

        Raises:
            NotThere: There is none.
            Conflict: It is the built-in one.
            InvalidRequest: It chooses what can't be.
        """
        before = self._changeable(assistant_id)
        _check_graph(body.graph_id or GRAPH_ID)
        versions = self._versions[before["assistant_id"]]
        version = max(each["version"] for each in versions) + 1
        changes = body.model_dump(exclude_unset=True, exclude_none=True, exclude={"graph_id"})
        changes["metadata"] = before["metadata"] | (body.metadata or {})
        after = {**before, **changes, "version": version, "updated_at": now()}
        chosen(after)
        await self._keep(before["assistant_id"], [*versions, after], version)
        return after

    async def set_latest(self, assistant_id: str, version: int) -> Assistant:
        """Let another version hold.

        Raises:
            NotThere: There is no such assistant or version.
            Conflict: It is the built-in one.
        """
        found = self._changeable(assistant_id)
        versions = self._versions[found["assistant_id"]]
        if version not in [each["version"] for each in versions]:
            raise NotThere(f"no version {version}", param="version")
        await self._keep(found["assistant_id"], versions, version)
        return self.get(assistant_id)

    async def delete(self, assistant_id: str) -> None:
        """Forget an assistant.

        Raises:
            NotThere: There is none.
            Conflict: It is the built-in one.
        """
        found = self._changeable(assistant_id)["assistant_id"]
        await self._records.delete_assistant(found)
        del self._versions[found], self._latest[found]

    def _changeable(self, assistant_id: str) -> Assistant:
        found = self.get(assistant_id)
        if found["assistant_id"] == BUILT_IN:
            raise Conflict(
                "the built-in assistant stays as it is",
                param="assistant_id",
                hint="make another one of the graph `agent`",
            )
        return found

    async def _keep(self, assistant_id: str, versions: list[Assistant], latest: int) -> None:
        await self._records.put_assistant(assistant_id, latest, versions)
        self._versions[assistant_id], self._latest[assistant_id] = versions, latest


def _check_graph(graph_id: str) -> None:
    if graph_id != GRAPH_ID:
        raise InvalidRequest(f"no graph {graph_id!r}; there is `{GRAPH_ID}`", param="graph_id")


def _built_in() -> Assistant:
    return _assistant(BUILT_IN, name=GRAPH_ID, metadata={"created_by": "system"}, created_at=now())


def _assistant(
    assistant_id: str,
    *,
    name: str,
    metadata: Mapping[str, Any],
    created_at: str,
    description: str | None = None,
    config: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Assistant:
    return {
        "assistant_id": assistant_id,
        "graph_id": GRAPH_ID,
        "config": dict(config or {}),
        "context": dict(context or {}),
        "metadata": dict(metadata),
        "name": name,
        "description": description,
        "version": 1,
        "created_at": created_at,
        "updated_at": created_at,
    }
