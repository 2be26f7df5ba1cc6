"""Puts the MCP server together: who may see what, and how failures are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias, TypeVar

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)

import qwenkit
from qwenkit.errors import QwenkitError
from qwenkit.mcp.server.docs import guides
from qwenkit.mcp.server.feedback import Feedback, LogOffers
from qwenkit.mcp.server.logs import ClientLogs
from qwenkit.mcp.server.offer import Host, OnTokens
from qwenkit.mcp.server.prompts import PROMPTS, written
from qwenkit.mcp.server.tools import TOOLS, OfferedTool

INSTRUCTIONS = (
    "A Qwen3 model that runs on this machine. `ask` puts a question to it, with thinking or "
    "without; `list_models` names the LoRA adapters that it can answer with. The resources are "
    "qwenkit's guides and, for admins, its log."
)
MAX_COMPLETIONS = 100

Context: TypeAlias = ServerRequestContext[Any, Any]
T = TypeVar("T")
IsAdmin: TypeAlias = Callable[[Context], bool]


OnTool: TypeAlias = Callable[[str, Literal["success", "error"]], None]
"""Told of one of our tools that was called, and what came of it."""


def build_server(
    host: Host,
    *,
    is_admin: IsAdmin,
    feedback: Feedback | None = None,
    on_tool: OnTool = lambda _name, _outcome: None,
) -> Server[Any]:
    """An MCP server that offers a host's model, and tells admins of its log.

    Args:
        host: Has the model.
        is_admin: Whether a request's caller may change what is served, and read what others said.
        feedback: Has the log; None offers nothing of it.
        on_tool: Told of every call of a tool that is over.
    """
    offers = _Offers(host, is_admin, None if feedback is None else LogOffers(feedback), on_tool)
    server: Server[Any] = Server(
        "qwenkit",
        title="qwenkit",
        version=qwenkit.__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=offers.list_tools,
        on_call_tool=offers.call_tool,
        on_list_resources=offers.list_resources,
        on_list_resource_templates=offers.list_templates,
        on_read_resource=offers.read_resource,
        on_list_prompts=offers.list_prompts,
        on_get_prompt=offers.get_prompt,
        on_completion=offers.complete,
    )
    # As an argument it would warn that later protocols do without.
    server.add_request_handler("logging/setLevel", SetLevelRequestParams, offers.logs.set_level)
    return server


class _Offers:
    """Answers every kind of request."""

    def __init__(
        self, host: Host, is_admin: IsAdmin, log: LogOffers | None, on_tool: OnTool
    ) -> None:
        self._on_tool = on_tool
        self.logs = ClientLogs()
        self._log = log
        self._host = host
        self._is_admin = is_admin

    async def list_tools(self, ctx: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[each.tool for each in self._tools(ctx)])

    async def call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        tool = next((each for each in self._tools(ctx) if each.tool.name == params.name), None)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}")
        try:
            result = await tool.call(self._host, params.arguments or {}, _progress(ctx))
        except QwenkitError as exc:
            self._on_tool(params.name, "error")
            await self.logs.send(ctx, "error", f"{params.name}: {exc.message}")
            content = TextContent(type="text", text=_told(exc))
            return CallToolResult(content=[content], is_error=True)
        self._on_tool(params.name, "success")
        await self.logs.send(ctx, "info", f"{params.name} is done")
        return result

    async def list_resources(
        self, ctx: Context, _: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        resources = [
            Resource(uri=each.uri, name=each.name, title=each.title, mime_type="text/markdown")
            for each in guides()
        ]
        log = self._log_for(ctx)
        of_log = [] if log is None else await _asked(log.resources())
        return ListResourcesResult(resources=[*resources, *of_log])

    async def list_templates(
        self, ctx: Context, _: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        log = self._log_for(ctx)
        return ListResourceTemplatesResult(
            resource_templates=[] if log is None else log.templates()
        )

    async def read_resource(
        self, ctx: Context, params: ReadResourceRequestParams
    ) -> ReadResourceResult:
        uri = str(params.uri)
        guide = next((each for each in guides() if each.uri == uri), None)
        log = self._log_for(ctx)
        found: tuple[str, str] | None = None
        if guide is not None:
            found = guide.text(), "text/markdown"
        elif log is not None:
            found = await _asked(log.document(uri))
        if found is None:
            raise MCPError(INVALID_PARAMS, f"there is no resource {uri!r}")
        text, mime_type = found
        content = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
        return ReadResourceResult(contents=[content])

    async def list_prompts(
        self, _: Context, __: PaginatedRequestParams | None
    ) -> ListPromptsResult:
        return ListPromptsResult(prompts=[each.prompt for each in PROMPTS])

    async def get_prompt(self, _: Context, params: GetPromptRequestParams) -> GetPromptResult:
        try:
            return written(params.name, params.arguments or {})
        except QwenkitError as exc:
            raise MCPError(INVALID_PARAMS, _told(exc)) from exc

    async def complete(self, _: Context, params: CompleteRequestParams) -> CompleteResult:
        """What an argument may be; only adapters' names can be told."""
        if params.argument.name != "adapter":
            return CompleteResult(completion=Completion(values=[], total=0, has_more=False))
        models = await _asked(self._host.models())
        begun = params.argument.value
        names = [each.name for each in models if each.kind == "adapter"]
        found = [name for name in names if name.startswith(begun)]
        completion = Completion(
            values=found[:MAX_COMPLETIONS],
            total=len(found),
            has_more=len(found) > MAX_COMPLETIONS,
        )
        return CompleteResult(completion=completion)

    def _tools(self, ctx: Context) -> list[OfferedTool]:
        is_admin = self._is_admin(ctx)
        tools = TOOLS if self._log is None else (*TOOLS, *self._log.tools())
        return [each for each in tools if is_admin or not each.for_admins]

    def _log_for(self, ctx: Context) -> LogOffers | None:
        return self._log if self._is_admin(ctx) else None


async def _asked(asking: Awaitable[T]) -> T:
    """What is awaited; our own failures become the protocol's."""
    try:
        return await asking
    except QwenkitError as exc:
        raise MCPError(INTERNAL_ERROR, _told(exc)) from exc


def _progress(ctx: Context) -> OnTokens:
    async def on_tokens(n_pieces: int, thinking: bool) -> None:
        doing = "thinking" if thinking else "answering"
        await ctx.session.report_progress(n_pieces, None, f"{doing}, {n_pieces} tokens")

    return on_tokens


def _told(error: QwenkitError) -> str:
    return f"{error.message}; hint: {error.hint}" if error.hint else error.message
