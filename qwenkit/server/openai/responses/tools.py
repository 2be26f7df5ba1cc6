"""A response's tools become the chat API's, and its choice among them. Pure.

Here a function stands flat, may be part of a namespace, and may take a text instead of JSON. Tools
that only OpenAI runs, such as its web search, are left out, and the response says so: coding agents
send them with every request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from qwenkit.errors import InvalidRequest
from qwenkit.mcp.client import McpTool
from qwenkit.server.openai.mcp_tools import ChosenTools
from qwenkit.server.openai.responses.items import ToolName
from qwenkit.server.openai.responses.mcp_items import McpListItem

JsonObject: TypeAlias = dict[str, Any]

HOSTED = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use",
        "computer_use_preview",
        "file_search",
        "image_generation",
        "local_shell",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
"""Types of tools that nobody runs here."""
_CUSTOM_PARAMETERS = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(slots=True)
class GivenTools:
    """What a request's `tools` come to.

    Args:
        entries: In the chat API's form: functions, and MCP servers.
        places: Where each entry stands in the request.
        names: Tools that the client calls otherwise than the model does, by the model's names.
        offered: The request's own entries, but for those that were left out.
        left_out: Types of these.
    """

    entries: list[JsonObject] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    names: dict[str, ToolName] = field(default_factory=dict)
    offered: list[JsonObject] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @contextmanager
    def spelled(self) -> Iterator[None]:
        """Lets an error inside name a place among the entries as the request spells it."""
        try:
            yield
        except InvalidRequest as exc:
            exc.param = _respelled(exc.param, self.places) if exc.param else None
            raise

    def function_place_of(self, param: str) -> str:
        """The same for a place among the functions alone."""
        functions = zip(self.entries, self.places, strict=True)
        return _respelled(param, [place for each, place in functions if "function" in each])


def _respelled(param: str, places: Sequence[str]) -> str:
    if not param.startswith("tools["):
        return param
    index, _, rest = param.removeprefix("tools[").partition("]")
    # Tools of MCP servers stand behind the functions, and in no place of the request.
    place = places[int(index)] if int(index) < len(places) else "tools"
    return place + rest.replace(".function", "", 1)


def model_name(name: str, namespace: Any = None) -> str:
    """What the model calls a tool."""
    return f"{namespace}__{name}" if isinstance(namespace, str) and namespace else name


def read_tools(given: Sequence[JsonObject] | None) -> GivenTools:
    """The tools of a request.

    Raises:
        InvalidRequest: An entry is wrong; `param` names it.
    """
    tools = GivenTools()
    for index, entry in enumerate(given or ()):
        kind, place = entry.get("type"), f"tools[{index}]"
        if isinstance(kind, str) and kind in HOSTED:
            tools.left_out.append(kind)
            continue
        read = _KINDS.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise InvalidRequest(f"{kind!r} is no type of tool", param=f"{place}.type")
        read(tools, place, entry)
        tools.offered.append(entry)
    return tools


def _read_function(
    tools: GivenTools, place: str, entry: Mapping[str, Any], namespace: str | None = None
) -> None:
    name = _name(entry, place)
    function = {"name": model_name(name, namespace)}
    for key in ("description", "parameters", "strict"):
        if entry.get(key) is not None:
            function[key] = entry[key]
    _add(tools, place, function, ToolName(name, namespace))


def _read_custom(
    tools: GivenTools, place: str, entry: Mapping[str, Any], namespace: str | None = None
) -> None:
    name = _name(entry, place)
    described = entry.get("description")
    function = {"name": model_name(name, namespace), "parameters": _CUSTOM_PARAMETERS}
    form = entry.get("format")
    texts = [described if isinstance(described, str) else "", _grammar_text(form)]
    function["description"] = "\n\n".join(text for text in texts if text)
    _add(tools, place, function, ToolName(name, namespace, custom=True))


def _grammar_text(form: Any) -> str:
    """What the model is told of the form that a custom tool's text must have."""
    match form:
        case {"type": "grammar", "syntax": str(syntax), "definition": str(definition)}:
            return f"The input must follow this {syntax} grammar:\n{definition}"
    return ""


def _add(tools: GivenTools, place: str, function: JsonObject, tool: ToolName) -> None:
    tools.entries.append({"type": "function", "function": function})
    tools.places.append(place)
    if tool.custom or tool.namespace is not None:
        tools.names[function["name"]] = tool


def _read_mcp(tools: GivenTools, place: str, entry: Mapping[str, Any]) -> None:
    tools.entries.append(dict(entry))
    tools.places.append(place)


def _read_namespace(tools: GivenTools, place: str, entry: Mapping[str, Any]) -> None:
    namespace, members = _name(entry, place), entry.get("tools")
    if not isinstance(members, list):
        raise InvalidRequest(f"{place}.tools must be a list", param=f"{place}.tools")
    for index, member in enumerate(members):
        own_place = f"{place}.tools[{index}]"
        kind = member.get("type") if isinstance(member, Mapping) else None
        if kind == "function":
            _read_function(tools, own_place, member, namespace)
        elif kind == "custom":
            _read_custom(tools, own_place, member, namespace)
        else:
            raise InvalidRequest(
                "a namespace holds functions and custom tools", param=f"{own_place}.type"
            )


_KINDS: dict[str, Callable[[GivenTools, str, Mapping[str, Any]], None]] = {
    "function": _read_function,
    "custom": _read_custom,
    "mcp": _read_mcp,
    "namespace": _read_namespace,
}


def _name(entry: Mapping[str, Any], place: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("a tool needs a name", param=f"{place}.name")
    return name


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tools may or must be called.

    Args:
        among: In the chat API's form.
        allowed: Tells the tools that are offered at all, by what the model calls them; None is all.
    """

    among: Any
    allowed: Callable[[str, str | None], bool] | None = None


def read_choice(given: str | JsonObject | None, tools: GivenTools) -> Choice:
    """A request's `tool_choice`.

    Raises:
        InvalidRequest: It names what can't be called.
    """
    match given:
        case None | str():
            return Choice(given)
        case {"type": "function" | "custom", "name": str(name)}:
            name = model_name(name, given.get("namespace"))
            return Choice({"type": "function", "function": {"name": name}})
        case {"type": "mcp", "server_label": str(), "name": str()}:
            return Choice(given)
        case {"type": "mcp", "server_label": str(label)}:
            return Choice("required", _one_of([("", label)]))
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(allowed)}:
            return Choice(mode, _one_of([_allowed(each, tools) for each in allowed]))
        case {"type": str(kind)} if kind in HOSTED:
            raise InvalidRequest(
                f"nobody runs tools of type {kind!r} here", param="tool_choice.type"
            )
    raise InvalidRequest("tool_choice is neither a mode nor a tool", param="tool_choice")


def _one_of(named: Sequence[tuple[str, str]]) -> Callable[[str, str | None], bool]:
    names = {name for name, _ in named if name}
    servers = {server for name, server in named if not name}
    return lambda name, server: name in names or server in servers


def _allowed(entry: Any, tools: GivenTools) -> tuple[str, str]:
    match entry:
        case {"type": "mcp", "server_label": str(label), **rest}:
            name = rest.get("name")
            return (name, label) if isinstance(name, str) else ("", label)
        case {"type": "function" | "custom", "name": str(name), **rest}:
            return model_name(name, rest.get("namespace")), ""
        case {"type": str(kind)} if kind in tools.left_out:
            return kind, ""
    raise InvalidRequest("an entry of allowed_tools is no tool", param="tool_choice.tools")


def only(chosen: ChosenTools, choice: Choice) -> ChosenTools:
    """The chosen tools, but for those that a choice does not allow."""
    allowed = choice.allowed
    if allowed is None:
        return chosen
    ours = {tool.name: tool for tool in chosen.ours}

    def is_allowed(function: Mapping[str, Any]) -> bool:
        name = str(function["function"].get("name"))
        server = ours[name].server if name in ours else None
        return allowed(name, server) or (name in ours and allowed(ours[name].own_name, server))

    functions = [each for each in chosen.functions if is_allowed(each)]
    names = {each["function"]["name"] for each in functions}
    return replace(
        chosen, functions=functions, ours=tuple(each for each in chosen.ours if each.name in names)
    )


def server_lists(chosen: ChosenTools) -> list[McpListItem]:
    """What the client is told of the servers that a request names."""
    by_server: dict[str, list[JsonObject]] = {}
    for tool in chosen.ours:
        by_server.setdefault(tool.server, []).append(_listed(tool))
    lists = [McpListItem(server, tools) for server, tools in by_server.items()]
    return lists + [McpListItem(name, (), reason) for name, reason in chosen.unavailable]


def _listed(tool: McpTool) -> JsonObject:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": dict(tool.parameters),
        "annotations": {"read_only": tool.annotations.read_only},
    }
