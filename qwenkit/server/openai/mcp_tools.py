"""Tools of MCP servers in a chat request: `{"type": "mcp", "server_label": "files"}` among `tools`.

As OpenAI's Responses API spells it, with this server's rules: only servers of the operator's can be
named, by their names; and nobody is there to approve a call, so only tools run that need no
approval (`alwaysAllow` in `mcp.json`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.errors import InvalidRequest, UnknownMcpServer
from qwenkit.mcp.client import McpConnections, McpTool, ServerStatus
from qwenkit.mcp.client.config import MAX_SERVERS
from qwenkit.mcp.client.results import ToolResult
from qwenkit.mcp.rounds import ToolEnded, ToolStarted, turn_messages

JsonObject = dict[str, Any]
WAKE_S = 2.0
"""How long a request waits for an MCP server that is down."""
_FOREIGN = ("server_url", "connector_id", "authorization", "headers", "tunnel_id")


@dataclass(frozen=True, slots=True)
class ChosenTools:
    """What a request's `tools` come to.

    Args:
        functions: Everything that the model may call, in OpenAI's form.
        ours: Of these, what is called here.
        unavailable: Servers that were named and are down, and why.
    """

    functions: list[JsonObject]
    ours: tuple[McpTool, ...] = ()
    unavailable: tuple[tuple[str, str], ...] = ()


def named_servers(given: Sequence[JsonObject] | None) -> set[str]:
    """The servers that a request names, whether they are there or not."""
    labels = (entry.get("server_label") for entry in given or () if entry.get("type") == "mcp")
    return {label for label in labels if isinstance(label, str)}


def choose_tools(given: Sequence[JsonObject] | None, connections: McpConnections) -> ChosenTools:
    """The tools of a request.

    Raises:
        UnknownMcpServer: There is no server of a name.
        InvalidRequest: An entry is wrong, or names a tool that may not run; `param` names it.
    """
    functions: list[JsonObject] = []
    ours: dict[str, McpTool] = {}
    unavailable: list[tuple[str, str]] = []
    n_entries = 0
    for index, entry in enumerate(given or ()):
        if entry.get("type") != "mcp":
            functions.append(entry)
            continue
        place = f"tools[{index}]"
        n_entries += 1
        if n_entries > MAX_SERVERS:
            raise InvalidRequest(f"tools has over {MAX_SERVERS} MCP servers", param=place)
        server = _server(entry, place, connections)
        if server.state != "connected":
            unavailable.append((server.name, server.reason or server.state))
            continue
        ours |= {tool.name: tool for tool in _tools(entry, place, server)}
    _refuse_shared_names(functions, ours)
    offered = [*functions, *(tool.as_function() for tool in ours.values())]
    return ChosenTools(offered, tuple(ours.values()), tuple(unavailable))


def _server(entry: JsonObject, place: str, connections: McpConnections) -> ServerStatus:
    for field in _FOREIGN:
        if entry.get(field) is not None:
            raise InvalidRequest(
                f"{field} can't be sent: only this server's own MCP servers can be used",
                param=f"{place}.{field}",
                hint="name one of them as server_label",
            )
    if entry.get("require_approval") not in (None, "never"):
        raise InvalidRequest(
            "nobody is here to approve a call",
            param=f"{place}.require_approval",
            hint="send never; the agent (`/agent`) and `qwenkit chat` ask before they call",
        )
    label = entry.get("server_label")
    if not isinstance(label, str):
        raise InvalidRequest("server_label must be a string", param=f"{place}.server_label")
    try:
        server = connections.server(label)
    except UnknownMcpServer as exc:
        exc.param = f"{place}.server_label"
        raise
    if server.state == "disabled":
        raise InvalidRequest(f"the server {label!r} is disabled", param=f"{place}.server_label")
    return server


def _tools(entry: JsonObject, place: str, server: ServerStatus) -> list[McpTool]:
    names, read_only = _wanted(entry, place)
    runnable = [tool for tool in server.tools if tool.allowed]
    if read_only:
        runnable = [tool for tool in runnable if tool.annotations.read_only]
    if names is None:
        if not runnable:
            raise InvalidRequest(
                f"no tool of {server.name!r} runs without approval",
                param=place,
                hint="an operator lists those that may under alwaysAllow in the file of MCP_CONFIG",
            )
        return runnable
    wanted = set(names)
    _check_run(names, server, f"{place}.allowed_tools")
    return [tool for tool in runnable if {tool.own_name, tool.name} & wanted]


def _check_run(names: Sequence[str], server: ServerStatus, place: str) -> None:
    tools = {tool.name: tool for tool in server.tools}
    tools |= {tool.own_name: tool for tool in server.tools}
    for name in names:
        _check_runs(name, tools.get(name), server, place)


def _check_runs(name: str, tool: McpTool | None, server: ServerStatus, place: str) -> None:
    if tool is None:
        known = ", ".join(each.own_name for each in server.tools) or "none"
        raise InvalidRequest(f"{server.name!r} has no tool {name!r}; it has: {known}", param=place)
    if not tool.allowed:
        raise InvalidRequest(
            f"the tool {name!r} needs an approval, which nobody is here to give",
            param=place,
            hint="an operator can list it under alwaysAllow in the file of MCP_CONFIG",
        )


def _wanted(entry: JsonObject, place: str) -> tuple[list[str] | None, bool]:
    match entry.get("allowed_tools"):
        case None:
            return None, False
        case list() as names if all(isinstance(each, str) for each in names):
            return names, False
        case {"tool_names": list() as names, **rest} if all(isinstance(n, str) for n in names):
            return names, rest.get("read_only") is True
        case {"read_only": bool() as read_only}:
            return None, read_only
    raise InvalidRequest(
        "allowed_tools must be a list of names, or an object with tool_names or read_only",
        param=f"{place}.allowed_tools",
    )


def _refuse_shared_names(functions: Sequence[JsonObject], ours: Mapping[str, McpTool]) -> None:
    for index, each in enumerate(functions):
        function = each.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str) and name in ours:
            raise InvalidRequest(
                f"a tool of the MCP server {ours[name].server!r} is called {name!r}, too",
                param=f"tools[{index}].function.name",
            )


def named_choice(choice: Any, chosen: ChosenTools) -> Any:
    """A `tool_choice` in which a tool of ours stands as any other function.

    Raises:
        InvalidRequest: It names a tool of ours that the request does not offer.
    """
    match choice:
        case {"type": "mcp", "server_label": label, "name": name}:
            for tool in chosen.ours:
                if tool.server == label and name in (tool.own_name, tool.name):
                    return {"type": "function", "function": {"name": tool.name}}
            raise InvalidRequest(f"tools has no {name!r} of {label!r}", param="tool_choice")
    return choice


def with_earlier_calls(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """A conversation in which an assistant's `mcp_calls` are calls and results again.

    So that whoever sends an answer back as it came keeps what its tools said.
    """
    return [each for message in messages for each in _unfolded(message)]


def _unfolded(message: JsonObject) -> list[JsonObject]:
    calls = message.get("mcp_calls")
    if message.get("role") != "assistant" or not isinstance(calls, list):
        return [message]
    done = [_done(index, each) for index, each in enumerate(calls) if isinstance(each, Mapping)]
    rest = {key: value for key, value in message.items() if key != "mcp_calls"}
    return [*turn_messages("", "", done), rest] if done else [rest]


def _done(index: int, call: Mapping[str, Any]) -> tuple[ToolStarted, ToolResult]:
    tool = McpTool(
        server=str(call.get("server_label", "")),
        name=str(call.get("name", "")),
        own_name=str(call.get("name", "")),
        description="",
        parameters={},
    )
    error = call.get("error")
    text = call.get("output") if error is None else error
    started = ToolStarted(index, str(call.get("id", "")), tool, str(call.get("arguments", "{}")))
    return started, ToolResult(str(text or ""), is_error=error is not None)


def call_json(started: ToolStarted) -> JsonObject:
    """A call of ours that runs, as OpenAI's Responses API shows one."""
    return {
        "index": started.index,
        "id": started.id,
        "type": "mcp_call",
        "server_label": started.tool.server,
        "name": started.tool.name,
        "arguments": started.arguments,
        "status": "in_progress",
    }


def done_json(ended: ToolEnded) -> JsonObject:
    """A call of ours that has run."""
    result = ended.result
    return call_json(ended.started) | {
        "status": "failed" if result.is_error else "completed",
        "output": None if result.is_error else result.text,
        "error": result.text if result.is_error else None,
    }


def unavailable_json(chosen: ChosenTools) -> list[JsonObject]:
    """Servers that were named and could not be used."""
    return [{"server_label": name, "error": reason} for name, reason in chosen.unavailable]
