"""Reads `mcp.json`, in the format that other MCP clients share. Knows files and words; connects to
nothing.

    {"mcpServers": {
      "files": {"command": "npx", "args": ["-y", "…"], "env": {"TOKEN": "${TOKEN}"}, "cwd": "/srv"},
      "web":   {"url": "https://example.org/mcp", "type": "http", "headers": {"X-Key": "${KEY}"}}
    }}

Every string may hold `${NAME}` or `${NAME:-default}`, and, as VS Code has it, `${env:NAME}`. Every
mistake is named with its place, all of them at once. Fields that only other clients know are left
alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from qwenkit.errors import InvalidSettings

DEFAULT_TIMEOUT_S = 60.0
MAX_TIMEOUT_S = 3600.0
MAX_SERVERS = 100
EVERY_TOOL = "*"

Kind: TypeAlias = Literal["stdio", "http", "sse"]
_KINDS: dict[str, Kind] = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamableHttp": "http",
    "sse": "sse",
}
_NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,64}")
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """What servers of every kind have.

    Args:
        name: What they are called.
        disabled: Whether they are left alone.
        allowed: Tools that run without asking, as the server calls them; `*` is all of them.
        hidden: Tools that nobody gets to see.
        timeout_s: Seconds that a call may take.
    """

    name: str
    disabled: bool = False
    allowed: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    timeout_s: float = DEFAULT_TIMEOUT_S

    def allows(self, tool: str) -> bool:
        """Whether a tool runs without asking."""
        return tool in self.allowed or EVERY_TOOL in self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioServer(_Server):
    """A program that is started here and spoken to over its stdin and stdout.

    Args:
        command: The program.
        args: Its arguments.
        env: Variables that it gets beside PATH, HOME and their like.
        cwd: The folder that it is started in; None is this process's.
    """

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None

    @property
    def kind(self) -> Kind:
        """How it is reached."""
        return "stdio"

    @property
    def where(self) -> str:
        """Its program; arguments may hold secrets."""
        return self.command


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer(_Server):
    """A server at a URL.

    Args:
        url: Its address.
        headers: Sent with every request.
        kind: `http` is streamable HTTP; `sse` is what came before it.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    kind: Literal["http", "sse"] = "http"

    @property
    def where(self) -> str:
        """Its address, without what may be secret."""
        if self.disabled:  # its variables may be missing, so it need be no URL
            return ""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


ServerConfig: TypeAlias = StdioServer | HttpServer


def load_config(path: Path, environment: Mapping[str, str]) -> tuple[ServerConfig, ...]:
    """The servers of a file.

    Args:
        environment: What `${NAME}` stands for.

    Raises:
        InvalidSettings: The file can't be read, or there are mistakes in it; each is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise InvalidSettings(
            f"`{path}` can't be read: {exc.strerror}", hint="set MCP_CONFIG to the file's path"
        ) from exc
    except UnicodeDecodeError as exc:
        raise InvalidSettings(f"`{path}` is not UTF-8", hint="save it as UTF-8") from exc
    return parse_config(text, environment, source=f"`{path}`")


def parse_config(
    text: str, environment: Mapping[str, str], *, source: str = "the configuration"
) -> tuple[ServerConfig, ...]:
    """The servers of a JSON text.

    Args:
        environment: What `${NAME}` stands for.
        source: What the text is called in messages.

    Raises:
        InvalidSettings: There are mistakes in it; each is named.
    """
    try:
        document = json.loads(text, object_pairs_hook=_without_repetitions)
    except json.JSONDecodeError as exc:
        place = f"line {exc.lineno}, column {exc.colno}"
        raise InvalidSettings(f"{source} is no JSON: {exc.msg} at {place}") from exc
    except (_RepeatedName, RecursionError, ValueError) as exc:
        raise InvalidSettings(f"{source} can't be used: {exc}") from exc
    mistakes: list[str] = []
    servers = _servers(document, environment, mistakes)
    if mistakes:
        listed = mistakes[0] if len(mistakes) == 1 else "".join(f"\n  {each}" for each in mistakes)
        raise InvalidSettings(
            f"{source}: {listed}",
            hint='for example {"mcpServers": {"name": {"command": "…", "args": ["…"]}}}',
        )
    return servers


def server_from(name: str, values: Mapping[str, Any], mistakes: list[str]) -> ServerConfig | None:
    """One server from its fields, in which nothing is replaced; None where there are mistakes.

    Args:
        mistakes: Gets what is wrong.
    """
    return _Reader(name, values, {}, mistakes, replaces=False).server()


class _RepeatedName(ValueError):
    """An object names something twice, of which JSON readers keep one or the other."""


def _without_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RepeatedName(f"{twice!r} stands there twice")
    return found


def _servers(
    document: Any, environment: Mapping[str, str], mistakes: list[str]
) -> tuple[ServerConfig, ...]:
    if not isinstance(document, Mapping):
        mistakes.append("it must be a JSON object")
        return ()
    if "mcpServers" not in document:
        other = next((each for each in ("servers", "mcp") if each in document), None)
        instead = f"; it has `{other}`, as other clients call it" if other else ""
        mistakes.append(f"`mcpServers` is missing{instead}")
        return ()
    listed = document["mcpServers"]
    if not isinstance(listed, Mapping):
        mistakes.append("mcpServers must be an object of servers by their names")
        return ()
    if len(listed) > MAX_SERVERS:
        mistakes.append(f"mcpServers has over {MAX_SERVERS} servers")
        return ()
    read = (_Reader(name, each, environment, mistakes).server() for name, each in listed.items())
    return tuple(server for server in read if server is not None)


class _Reader:
    """Reads one server's fields and notes every mistake."""

    def __init__(
        self,
        name: str,
        values: Any,
        environment: Mapping[str, str],
        mistakes: list[str],
        *,
        replaces: bool = True,
    ) -> None:
        self._name = name
        self._is_object = isinstance(values, Mapping)
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}
        self._environment = environment
        self._mistakes = mistakes
        self._place = f"mcpServers.{name}"
        self._n_before = len(mistakes)
        self._replaces = replaces
        self._disabled = False

    def server(self) -> ServerConfig | None:
        if not self._is_object:
            self._wrong("", "must be an object")
            return None
        if not _NAME.fullmatch(self._name):
            self._wrong("", "must be a name of 1 to 64 characters, none of them / or a control")
        self._disabled = self._flag("disabled") or self._switched_off()
        kind = self._kind()
        common = {
            "name": self._name,
            "disabled": self._disabled,
            "allowed": self._names("alwaysAllow") | self._names("autoApprove"),
            "hidden": self._names("disabledTools"),
            "timeout_s": self._timeout(),
        }
        if kind is None:
            return None
        made = self._stdio(common) if kind == "stdio" else self._http(kind, common)
        return made if len(self._mistakes) == self._n_before else None

    def _kind(self) -> Kind | None:
        given = self._values.get("type", self._values.get("transport"))
        has_command, has_url = "command" in self._values, "url" in self._values
        if given is not None and (not isinstance(given, str) or given not in _KINDS):
            self._wrong("type", f"is {given!r}; there are stdio, http, streamable-http and sse")
            return None
        if has_command == has_url:
            both = "both, where one is needed" if has_command else "neither"
            self._wrong("", f"needs a command or a url; there are {both}")
            return None
        if given is None:
            return "stdio" if has_command else self._kind_of_url()
        kind = _KINDS[given]
        if (kind == "stdio") != has_command:
            self._wrong("type", f"is {given!r}, which does not go with its other fields")
            return None
        return kind

    def _kind_of_url(self) -> Kind:
        url = self._values["url"]
        path = url.partition("?")[0].rstrip("/") if isinstance(url, str) else ""
        return "sse" if path.endswith("/sse") else "http"

    def _stdio(self, common: Mapping[str, Any]) -> StdioServer:
        return StdioServer(
            **common,
            command=self._text("command") or "",
            args=self._texts("args"),
            env=self._mapping("env"),
            cwd=self._text("cwd") if self._values.get("cwd") is not None else None,
        )

    def _http(self, kind: Kind, common: Mapping[str, Any]) -> HttpServer:
        url = self._text("url") or ""
        if url and not self._is_url(url):
            self._wrong("url", "must be a URL such as https://example.org/mcp")
        headers = self._mapping("headers")
        for name, value in headers.items():
            if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
                self._wrong(f"headers.{name}", "can't be sent as an HTTP header")
        return HttpServer(
            **common, url=url, headers=headers, kind="sse" if kind == "sse" else "http"
        )

    def _is_url(self, url: str) -> bool:
        if self._disabled and _VARIABLE.search(url):
            return True
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and port != 0
            and not any(character.isspace() or ord(character) < 32 for character in url)
        )

    def _flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            self._wrong(key, "must be true or false")
            return False
        return value

    def _switched_off(self) -> bool:
        return "enabled" in self._values and not self._flag("enabled")

    def _timeout(self) -> float:
        value = self._values.get("timeout", DEFAULT_TIMEOUT_S)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= MAX_TIMEOUT_S:
            self._wrong("timeout", f"must be seconds, over 0 and up to {MAX_TIMEOUT_S:g}")
            return DEFAULT_TIMEOUT_S
        return float(value)

    def _names(self, key: str) -> frozenset[str]:
        value = self._values.get(key, [])
        if value is True and key == "alwaysAllow":
            return frozenset({EVERY_TOOL})
        if not isinstance(value, list):
            self._wrong(key, "must be a list of tools' names")
            return frozenset()
        for index, each in enumerate(value):
            if not isinstance(each, str):
                self._wrong(f"{key}[{index}]", "must be a tool's name")
        return frozenset(each for each in value if isinstance(each, str))

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, [])
        if not isinstance(value, list):
            self._wrong(key, "must be a list of strings")
            return ()
        return tuple(self._one(each, f"{key}[{index}]") for index, each in enumerate(value))

    def _mapping(self, key: str) -> dict[str, str]:
        value = self._values.get(key) or {}
        if not isinstance(value, Mapping):
            self._wrong(key, "must be an object of strings")
            return {}
        return {name: self._one(each, f"{key}.{name}") for name, each in value.items()}

    def _text(self, key: str) -> str | None:
        text = self._one(self._values.get(key), key)
        if not text and not self._has_mistake(key):
            self._wrong(key, "is empty")
        return text

    def _one(self, value: Any, place: str) -> str:
        if not isinstance(value, str):
            self._wrong(place, "must be a string")
            return ""
        if "\0" in value:
            self._wrong(place, "has a NUL character in it")
        # What a server that is off lacks, a variable above all, need not be there.
        if not self._replaces or self._disabled:
            return value
        return _VARIABLE.sub(self._variable(place), value)

    def _variable(self, place: str) -> Callable[[re.Match[str]], str]:
        def value(found: re.Match[str]) -> str:
            name, default = found[1], found[2]
            given = self._environment.get(name)
            if default is not None:
                return given or default
            if given is None:
                self._wrong(place, f"names ${{{name}}}, which is not set")
            return given or ""

        return value

    def _has_mistake(self, key: str) -> bool:
        place = f"{self._place}.{key} "
        return any(each.startswith(place) for each in self._mistakes[self._n_before :])

    def _wrong(self, key: str, what: str) -> None:
        place = f"{self._place}.{key}" if key else self._place
        self._mistakes.append(f"{place} {what}")
