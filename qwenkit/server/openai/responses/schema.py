"""The body of `/v1/responses`, with the fields that other servers and ours add. Pure data.

What both kinds of completion take is taken here, too. Fields that only make sense at OpenAI are
ignored: `service_tier`, `prompt_cache_key`, `text.verbosity`, …
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qwenkit.server.openai.schema import MAX_NAME, GenerationBody, JsonObject, says

MAX_INCLUDES = 16
Input = Annotated[str | list[JsonObject], says("must be a string or a list of items")]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)


class TextFormat(_Body):
    """The form that an answer's text must have."""

    type: Literal["text", "json_object", "json_schema"]
    """What it is."""
    name: str | None = None
    """The schema's name, which nothing depends on."""
    schema_: JsonObject | bool | None = Field(default=None, alias="schema")
    """For `json_schema`: the schema."""
    strict: bool | None = None
    """Refuse a schema that can't be enforced in full."""
    description: str | None = None
    """What the form is for; not shown to the model."""


class TextOptions(_Body):
    """What is said of an answer's text."""

    format: TextFormat | None = None
    """The form that it must have."""


class ReasoningOptions(_Body):
    """What is said of the thinking."""

    effort: str | None = None
    """`none` switches thinking off; any other leaves it on."""
    summary: Literal["auto", "concise", "detailed"] | None = None
    """`auto` and `detailed` give the thinking once more where clients look for a summary."""
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """Older spelling of `summary`."""


class ResponseBody(GenerationBody):
    """The body of `/v1/responses`."""

    input: Input | None = None
    """A text, or the conversation's new items: messages, calls and what came of them, reasoning."""
    instructions: str | None = None
    """What the model is told before everything else; not carried over to the next response."""
    previous_response_id: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """The response that this one goes on from."""
    max_output_tokens: int | None = None
    """Most tokens to write, thinking included; wins over `max_tokens`."""
    tools: list[JsonObject] | None = None
    """Functions and custom tools that the model may call, and MCP servers of this server:
    `{"type": "mcp", "server_label": …, "allowed_tools": […]}`."""
    tool_choice: (
        Annotated[str | JsonObject, says("must be auto, none, required or a tool")] | None
    ) = None
    """`auto`, `none`, `required`, or a tool: `{"type": "function", "name": …}`."""
    max_tool_calls: Annotated[int, Field(ge=0)] | None = None
    """Calls to MCP servers after which the model must answer with what it has."""
    parallel_tool_calls: bool | None = None
    """Whether one answer may call several functions."""
    text: TextOptions | None = None
    """The form that the answer's text must have."""
    reasoning: ReasoningOptions | None = None
    """Whether to think, and how the thinking is shown."""
    include: Annotated[list[str], Field(max_length=MAX_INCLUDES)] | None = None
    """`message.output_text.logprobs` reports log-probabilities; OpenAI's others change nothing."""
    top_logprobs: int | None = None
    """How many alternatives to report with each token."""
    truncation: Literal["auto", "disabled"] | None = None
    """`auto` leaves out the oldest turns of a conversation that does not fit the context."""
    background: bool | None = None
    """Answer at once and go on writing; the response is asked for by its id."""
    safety_identifier: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """Who asks, for the log, where `user` says nothing."""
    chat_template_kwargs: JsonObject | None = None
    """Variables of the chat template, such as `enable_thinking`."""
    thinking_budget: int | None = None
    """Most thinking tokens before the answer must begin."""

    conversation: Any = None
    """Not supported."""
    prompt: Any = None
    """Not supported."""
    context_management: Any = None
    """Not supported."""
    moderation: Any = None
    """Not supported."""
