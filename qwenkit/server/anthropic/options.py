"""Reads a body of Anthropic's: which options it means, and where its mistakes are. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qwenkit.chat.completion import ChatOptions, JsonSchema
from qwenkit.errors import ContextOverflow, InvalidRequest
from qwenkit.server.anthropic.conversation import ends_with_a_result
from qwenkit.server.anthropic.schema import CountBody, MessagesBody, OutputFormat
from qwenkit.server.anthropic.tools import places, tool_choice
from qwenkit.server.serving import Limits

_SAMPLING = ("temperature", "top_p", "top_k")
_SCHEMA_OF_A_TOOL = re.compile(r"tools\[(\d+)\]\.function\.(\w+)")
_SPELLINGS = {
    "response_format.json_schema.schema": "output_config.format.schema",
    "stop": "stop_sequences",
    "thinking_budget": "thinking.budget_tokens",
}
_FIELDS = {"parameters": "input_schema"}


class PromptTooLong(ContextOverflow):
    """The prompt does not fit the context, in the words that Anthropic's clients look for."""

    def __init__(self, *, n_prompt: int, n_ctx: int) -> None:
        super().__init__(n_prompt=n_prompt, n_ctx=n_ctx, param=None)
        self.message = f"prompt is too long: {n_prompt} tokens > {n_ctx} maximum"


def prompt_options(body: CountBody, *, continues: bool, limits: Limits) -> ChatOptions:
    """What shapes the prompt.

    Args:
        continues: Whether the conversation ends with a message of the assistant's.

    Raises:
        InvalidRequest: Something is wrong or not supported; `param` names it.
    """
    if body.mcp_servers:
        raise InvalidRequest(
            "only this server's own MCP servers can be used",
            param="mcp_servers",
            hint="name one of them in tools: {type: mcp_toolset, mcp_server_name: …}",
        )
    choice = body.tool_choice
    form = _format(body)
    return ChatOptions(
        enable_thinking=_thinks(body),
        thinking_budget=_budget(body, limits),
        tool_choice=tool_choice(choice),
        parallel_tool_calls=not (choice is not None and choice.disable_parallel_tool_use),
        response_format=None if form is None else JsonSchema(form.schema_),
        continue_final_message=continues,
    )


def sampling(body: MessagesBody) -> dict[str, Any]:
    """The fields of `SamplingParams` that a body names."""
    named = {name: getattr(body, name) for name in _SAMPLING}
    return {name: value for name, value in named.items() if value is not None}


@contextmanager
def spelled_as(body: CountBody) -> Iterator[None]:
    """Lets an error inside name a field as the body spells it.

    Raises:
        PromptTooLong: In place of `ContextOverflow`.
    """
    try:
        yield
    except ContextOverflow as exc:
        raise PromptTooLong(n_prompt=exc.n_prompt, n_ctx=exc.n_ctx) from exc
    except InvalidRequest as exc:
        exc.param = _spelling(body, exc.param) if exc.param else None
        raise


def _spelling(body: CountBody, param: str) -> str:
    if found := _SCHEMA_OF_A_TOOL.fullmatch(param):
        # Behind those of the body's stand the tools of MCP servers.
        own = places(body.tools)
        index = int(found[1])
        return (
            f"tools[{own[index]}].{_FIELDS.get(found[2], found[2])}"
            if index < len(own)
            else "tools"
        )
    if param.endswith(".server_label"):
        return param.removesuffix("server_label") + "mcp_server_name"
    if param.endswith(".allowed_tools"):
        return param.removesuffix("allowed_tools") + "configs"
    return _SPELLINGS.get(param, param)


def _thinks(body: CountBody) -> bool:
    """Unlike OpenAI's API this one has to be asked: clients that don't ask know no such blocks."""
    if body.thinking is None:
        return False
    if body.thinking.type == "between_tools":
        return ends_with_a_result(body.messages)
    return body.thinking.type != "disabled"


def _budget(body: CountBody, limits: Limits) -> int | None:
    budget = None if body.thinking is None else body.thinking.budget_tokens
    if budget is None:
        return limits.thinking_budget
    if isinstance(body, MessagesBody) and 0 < body.max_tokens <= budget:
        raise InvalidRequest(
            f"budget_tokens is {budget}; it must be less than max_tokens, {body.max_tokens}",
            param="thinking.budget_tokens",
        )
    return budget


def _format(body: CountBody) -> OutputFormat | None:
    config = body.output_config
    if config is not None and config.format is not None:
        return config.format
    return body.output_format
