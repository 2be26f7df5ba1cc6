"""Tools of MCP servers as a model sees them: safe names, bounded texts. Pure.

A server names its tools as it likes; a model and OpenAI's API want `[A-Za-z0-9_-]{1,64}`, each name
once. A name that two servers share becomes `server__tool` for both of them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Any, TypeAlias

from qwenkit.chat.constraint import can_be_held_to
from qwenkit.chat.messages import JsonValue

Identity: TypeAlias = tuple[str, str]
"""A server and what it calls its tool."""

MAX_NAME = 64
MAX_NAMES = 2000
"""Names that one server's tools may have had; one that renames without end gets no more."""
MAX_DESCRIPTION = 4000
MAX_SCHEMA = 20_000
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What a server says of a tool's effects: a hint, not to be trusted of strangers.

    Args:
        title: A name for people.
        read_only: It changes nothing.
        destructive: It may delete or overwrite.
        idempotent: Calling it again changes nothing more.
        open_world: It reaches beyond the server, as a web search does.
    """

    title: str = ""
    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class McpTool:
    """A tool of a server.

    Args:
        server: The server that has it.
        name: What the model calls it, unique among all servers.
        own_name: What the server calls it.
        description: What it does, for the model.
        parameters: JSON schema of its arguments.
        annotations: What it does to the world, as its server says.
        allowed: Whether it runs without asking, by the configuration.
    """

    server: str
    name: str
    own_name: str
    description: str
    parameters: Mapping[str, JsonValue]
    annotations: Annotations = field(default_factory=Annotations)
    allowed: bool = False

    def as_function(self) -> dict[str, Any]:
        """As OpenAI's API has it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
            },
        }


def described(
    description: str,
    parameters: Mapping[str, JsonValue],
    *,
    can_hold: Callable[[Mapping[str, JsonValue]], bool] = can_be_held_to,
) -> tuple[str, Mapping[str, JsonValue]]:
    """A tool's description and schema as a model can be offered them.

    A schema that calls can't be held to would fail every answer that offers the tool: it becomes
    any object, and the description shows what it was.

    Args:
        can_hold: Tells whether calls can be held to a schema.
    """
    text = json.dumps(parameters, ensure_ascii=False)
    if len(text) <= MAX_SCHEMA and can_hold(parameters):
        return shortened(description), parameters
    shown = f"{description}\n\nArguments as JSON schema: {text}".strip()
    return shortened(shown), {"type": "object"}


class ToolNames:
    """Names that a model can call tools by; none ever comes to mean another tool.

    Whoever has approved a call, or begun an answer, knows the tool by its name: no server may move
    that name to another tool by what it lists later.
    """

    def __init__(self) -> None:
        self._owners: dict[str, Identity] = {}
        self._n_owned: Counter[str] = Counter()
        self._servers: tuple[Sequence[McpTool], ...] = ()
        self._named: tuple[McpTool, ...] = ()

    def name(self, servers: Sequence[Sequence[McpTool]]) -> tuple[McpTool, ...]:
        """All tools, each of them under a name of its own.

        Args:
            servers: Every server's tools as it names them, in a fixed order.
        """
        # They are asked for with every call and seldom change.
        same = len(servers) == len(self._servers) and all(map(is_, servers, self._servers))
        if not same:
            self._servers, self._named = tuple(servers), tuple(self._all(servers))
        return self._named

    def owner(self, name: str) -> Identity | None:
        """The server and its own name of the tool that has a name, or has had it."""
        return self._owners.get(name)

    def _all(self, servers: Sequence[Sequence[McpTool]]) -> Iterator[McpTool]:
        shared = Counter(name for tools in servers for name in {safe(t.own_name) for t in tools})
        taken: set[str] = set()
        for tool in (tool for tools in servers for tool in tools):
            name = safe(tool.own_name)
            if shared[name] > 1:
                name = f"{safe(tool.server)}__{name}"
            found = self._free(name[:MAX_NAME], tool, taken)
            if found is not None:
                taken.add(found)
                yield replace(tool, name=found)

    def _free(self, name: str, tool: McpTool, taken: Container[str]) -> str | None:
        """A name that is the tool's or nobody's; None for a server that has had too many."""
        identity = (tool.server, tool.own_name)
        numbered = (f"{name[: MAX_NAME - 5]}_{count}" for count in itertools.count(2))
        for found in itertools.chain([name], numbered):
            if found not in taken and self._owners.get(found, identity) == identity:
                break
        if found not in self._owners:
            if self._n_owned[tool.server] >= MAX_NAMES:
                return None
            self._n_owned[tool.server] += 1
            self._owners[found] = identity
        return found


def safe(name: str) -> str:
    """A name with nothing in it that a model's tool can't be called."""
    return _UNSAFE.sub("_", name)[:MAX_NAME] or "tool"


def shortened(text: str, limit: int = MAX_DESCRIPTION) -> str:
    """A text of at most so many characters; what was cut is marked."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int) -> str:
    """A stranger's text for logs and people: one line, nothing that a terminal would obey."""
    return shortened("".join(c if c.isprintable() else " " for c in text[: limit + 1]), limit)
