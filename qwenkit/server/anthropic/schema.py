"""The bodies of Anthropic's Messages API, and what is answered. Pure data.

As for OpenAI's, types are strict, null means absent, and fields that only make sense at Anthropic
are ignored: `service_tier`, `cache_control`, `inference_geo`, … What can't be ignored without
changing the answer is refused where it is read. Content blocks are read by `conversation.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qwenkit.server.openai.schema import MAX_NAME, MAX_STOPS, says

JsonObject = dict[str, Any]
Content = Annotated[str | list[JsonObject], says("must be a string or a list of content blocks")]


class _Body(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="ignore", use_attribute_docstrings=True, protected_namespaces=()
    )


class MessageIn(_Body):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system"]
    """Who speaks."""
    content: Content
    """A string, or blocks: `text`, `tool_use`, `tool_result`, `thinking`, `document` of text, …"""


class Metadata(_Body):
    """Whose request it is, for the log."""

    user_id: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """Who asks."""
    thread_id: Annotated[str, Field(min_length=1, max_length=MAX_NAME)] | None = None
    """The conversation that the answer belongs to; a field of this server's."""
    parent_id: Annotated[str, Field(min_length=1, max_length=MAX_NAME)] | None = None
    """The answer that it regenerates; a field of this server's."""


class Thinking(_Body):
    """Whether the model thinks before it answers; without it, it does not."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    """`adaptive` thinks without a budget; `between_tools` only after a tool's result."""
    budget_tokens: Annotated[int, Field(ge=0)] | None = None
    """Most thinking tokens; less than `max_tokens`."""
    display: Literal["summarized", "omitted"] | None = None
    """`omitted` leaves the thinking's text out of the answer; it is never summarised here."""


class ToolChoice(_Body):
    """Which tools may or must be called."""

    type: Literal["auto", "any", "tool", "none"]
    """`any` calls at least one; `tool` the one that is named."""
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """Only with `tool`."""
    disable_parallel_tool_use: bool | None = None
    """At most one call in an answer."""


class OutputFormat(_Body):
    """The form that an answer must have."""

    type: Literal["json_schema"]
    """What it is."""
    schema_: Annotated[JsonObject | bool, Field(alias="schema")]
    """The JSON schema that the answer's text follows."""


class OutputConfig(_Body):
    """What an answer is like."""

    format: OutputFormat | None = None
    """The form that it must have."""


class CountBody(_Body):
    """The body of `/v1/messages/count_tokens`."""

    model: Annotated[str, Field(max_length=MAX_NAME)]
    """The served model's name, or an adapter's."""
    messages: list[MessageIn]
    """The conversation; a last message of the assistant's is continued."""
    system: Content | None = None
    """What the model is told first: a string, or text blocks."""
    tools: list[JsonObject] | None = None
    """Tools with an `input_schema`, and `{"type": "mcp_toolset", "mcp_server_name": …}` for those
    of a MCP server of this server's, which are called here."""
    tool_choice: ToolChoice | None = None
    """Which tools may or must be called."""
    thinking: Thinking | None = None
    """Whether the model thinks before it answers; without it, it does not."""
    output_config: OutputConfig | None = None
    """What the answer is like."""
    output_format: OutputFormat | None = None
    """Older spelling of `output_config.format`."""
    mcp_servers: list[JsonObject] | None = None
    """Not supported: only this server's own MCP servers can be used."""


class MessagesBody(CountBody):
    """The body of `/v1/messages`."""

    max_tokens: Annotated[int, Field(ge=0)]
    """Most tokens to write, thinking included; 0 only computes the prompt, for later requests."""
    stream: bool | None = None
    """Send the answer as server-sent events while it is written."""
    stop_sequences: Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    """Strings that end the answer and are not part of it."""
    temperature: float | None = None
    """0 takes the likeliest token always."""
    top_p: float | None = None
    """Keep the likeliest tokens that hold this much probability."""
    top_k: int | None = None
    """Keep the k likeliest tokens; 0 keeps all."""
    metadata: Metadata | None = None
    """Whose request it is."""
    store: bool | None = None
    """False keeps the answer out of the log; a field of this server's."""


class TokenDetails(BaseModel):
    """What the answer's tokens were for."""

    thinking_tokens: int
    """Tokens of thinking."""


class UsageOut(BaseModel):
    """Token counts of an answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    input_tokens: int
    """Prompt tokens that were computed."""
    cache_creation_input_tokens: int
    """Always 0: keeping what was computed costs nothing here."""
    cache_read_input_tokens: int
    """Prompt tokens whose state was reused."""
    output_tokens: int
    """Tokens written, thinking included."""
    output_tokens_details: TokenDetails | None = None
    """Where some were thinking, how many."""


class MessageOut(BaseModel):
    """An answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """What it can be rated by."""
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    """Who answered."""
    content: list[JsonObject]
    """`thinking`, `text` and `tool_use` blocks; `mcp_tool_use` and `mcp_tool_result` of tools that
    ran here."""
    stop_reason: Literal[
        "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
    ]
    """Why it ended."""
    stop_sequence: str | None
    """The stop string that ended it."""
    usage: UsageOut
    """Token counts."""


class CountOut(BaseModel):
    """How long a prompt is."""

    input_tokens: int


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str
    message: str


class ErrorOut(BaseModel):
    """A failure, as Anthropic's clients know it."""

    type: Literal["error"]
    error: ErrorDetail
    request_id: str | None
