"""What OpenAI's routes answer, as `/openapi.json` describes it. Pure data; nothing is made of it.

The answers themselves are put together as plain dictionaries, where they come to be; a test holds
the two together.
"""

from __future__ import annotations

from typing import Any, Literal

from qwenkit.server.answers import Described

JsonObject = dict[str, Any]


class CachedTokens(Described):
    """What the prompt's tokens were."""

    cached_tokens: int
    """Tokens whose state was reused."""


class ThoughtTokens(Described):
    """What the answer's tokens were for."""

    reasoning_tokens: int
    """Tokens of thinking."""


class TokenUsage(Described):
    """Token counts."""

    prompt_tokens: int
    """Tokens of the prompt, those reused included."""
    completion_tokens: int
    """Tokens written, thinking included."""
    total_tokens: int
    """Both together."""
    prompt_tokens_details: CachedTokens
    """What the prompt's were."""
    completion_tokens_details: ThoughtTokens
    """What the others were for."""


class Timings(Described):
    """Durations and speeds, as llama-server spells them."""

    cache_n: int
    """Prompt tokens whose state was reused."""
    prompt_n: int
    """Prompt tokens that were computed."""
    prompt_ms: float
    """How long they took."""
    prompt_per_token_ms: float
    """How long each of them took."""
    prompt_per_second: float
    """How many a second."""
    predicted_n: int
    """Tokens written."""
    predicted_ms: float
    """How long they took."""
    predicted_per_token_ms: float
    """How long each of them took."""
    predicted_per_second: float
    """How many a second."""
    queue_ms: float
    """How long the request waited for a slot; this server's."""


class TokenChance(Described):
    """A token and how likely it was."""

    token: str
    """Its text; a piece of a character shows as U+FFFD."""
    logprob: float
    """The logarithm of its probability."""
    bytes: list[int]
    """Its bytes."""


class ChosenToken(TokenChance):
    """A token that was written."""

    top_logprobs: list[TokenChance]
    """The likeliest in its place."""


class ChatLogprobs(Described):
    """How likely an answer's tokens were."""

    content: list[ChosenToken]
    """The tokens."""
    refusal: None
    """Always null."""


class CalledFunction(Described):
    """What is called, and with what."""

    name: str
    """The function."""
    arguments: str
    """JSON text of its arguments."""


class ToolCall(Described):
    """A call that the client has to make."""

    id: str
    """What its result is sent with."""
    type: Literal["function"]
    """Always a function."""
    function: CalledFunction
    """What is called."""


class McpCall(Described):
    """A call to an MCP server that has been made here."""

    index: int
    """Its place among these calls."""
    id: str
    """Its id."""
    type: Literal["mcp_call"]
    """Always this."""
    server_label: str
    """The server."""
    name: str
    """Its tool."""
    arguments: str
    """JSON text of the arguments."""
    status: Literal["completed", "failed"]
    """What came of it."""
    output: str | None
    """What the tool said."""
    error: str | None
    """Why it failed."""


class McpMissing(Described):
    """An MCP server that was named and could not be used."""

    server_label: str
    """The server."""
    error: str
    """Why."""


class ChatMessage(Described):
    """What the model said."""

    role: Literal["assistant"]
    """Always the assistant."""
    content: str | None
    """The text; null where there are calls and no text."""
    refusal: None
    """Always null."""
    reasoning_content: str | None = None
    """The thinking; absent where there is none."""
    reasoning: str | None = None
    """The same, for clients that look here."""
    tool_calls: list[ToolCall] | None = None
    """Calls that the client has to make; absent where there are none."""
    mcp_calls: list[McpCall] | None = None
    """Calls that were made here; where MCP servers were offered."""
    mcp_unavailable: list[McpMissing] | None = None
    """Servers that could not be used; absent where all could."""


class ChatChoice(Described):
    """One of the answers."""

    index: int
    """Its number."""
    message: ChatMessage
    """What was said."""
    logprobs: ChatLogprobs | None
    """How likely its tokens were, where that was asked for."""
    finish_reason: Literal["stop", "length", "tool_calls"]
    """Why it ended."""


class _Completion(Described):
    id: str
    """What it can be rated by."""
    created: int
    """When it began, in seconds since 1970."""
    model: str
    """The model or adapter that answered."""
    system_fingerprint: str
    """Changes when the weights do, or what they depend on."""
    usage: TokenUsage
    """Token counts of all choices together."""


class ChatCompletion(_Completion):
    """An answer that was not streamed."""

    object: Literal["chat.completion"]
    """What this is."""
    choices: list[ChatChoice]
    """As many as `n` asked for."""
    timings: Timings
    """How long it took."""


class TextLogprobs(Described):
    """How likely tokens were, in columns."""

    tokens: list[str]
    """Their texts."""
    token_logprobs: list[float | None]
    """The logarithm of each one's probability; null for a prompt's first token."""
    top_logprobs: list[dict[str, float] | None]
    """The likeliest in each one's place."""
    text_offset: list[int]
    """Where each begins in the text, in characters."""


class TextChoice(Described):
    """One of the continuations."""

    text: str
    """What was written; behind the prompt, where `echo` asked for it."""
    index: int
    """Its number, counted through all prompts."""
    logprobs: TextLogprobs | None
    """How likely its tokens were, where that was asked for."""
    finish_reason: Literal["stop", "length"]
    """Why it ended."""


class TextCompletion(_Completion):
    """A continuation that was not streamed."""

    object: Literal["text_completion"]
    """What this is."""
    choices: list[TextChoice]
    """As many as `n` asked for, of each prompt."""
    timings: Timings | None = None
    """How long it took; absent where there were several prompts."""


class EmbeddingUsage(Described):
    """Token counts."""

    prompt_tokens: int
    """Tokens of all texts."""
    total_tokens: int
    """The same."""


class Embedding(Described):
    """A text's vector."""

    object: Literal["embedding"]
    """What this is."""
    index: int
    """Which of the texts it belongs to."""
    embedding: list[float] | str
    """Its numbers; of little-endian float32 in base64, where that was asked for."""


class EmbeddingList(Described):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    """What this is."""
    data: list[Embedding]
    """One for each text."""
    model: str
    """The model that made them."""
    usage: EmbeddingUsage
    """Token counts."""


class Model(Described):
    """A model, or an adapter of it."""

    id: str
    """What requests call it."""
    object: Literal["model"]
    """What this is."""
    created: int
    """Since when it is served, in seconds since 1970."""
    owned_by: str
    """Always `qwenkit`."""
    root: str
    """The model itself."""
    parent: str | None
    """The model that an adapter belongs to; null for the model."""
    aliases: list[str]
    """Other names that requests may use."""
    meta: JsonObject
    """Of the model its sizes, runtime and context; of an adapter its rank and what it changes."""


class ModelList(Described):
    """Everything that can be asked."""

    object: Literal["list"]
    """What this is."""
    data: list[Model]
    """The model first, then its adapters."""


class ResponseUsage(Described):
    """Token counts, as the Responses API spells them."""

    input_tokens: int
    """Tokens of the prompt, those reused included."""
    input_tokens_details: dict[str, int]
    """`cached_tokens` is how many were reused."""
    output_tokens: int
    """Tokens written, thinking included."""
    output_tokens_details: dict[str, int]
    """`reasoning_tokens` is how many were thinking."""
    total_tokens: int
    """Both together."""


class ResponseError(Described):
    """Why a response failed."""

    code: str
    """For programs."""
    message: str
    """For people."""


class ResponseCut(Described):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]
    """The limit that it met."""


class ResponseAnswer(Described):
    """A response: what it came to, and what of its request it repeats."""

    id: str
    """What the next request can go on from, and what it can be rated by."""
    object: Literal["response"]
    """What this is."""
    created_at: int
    """When it was asked for, in seconds since 1970."""
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    """How far it is."""
    error: ResponseError | None
    """Why it failed."""
    incomplete_details: ResponseCut | None
    """Why it is incomplete."""
    model: str
    """The model or adapter that answered."""
    system_fingerprint: str
    """Changes when the weights do, or what they depend on."""
    output: list[JsonObject]
    """Items: `reasoning`, `message`, `function_call`, `custom_tool_call`, `mcp_list_tools`,
    `mcp_call`."""
    usage: ResponseUsage | None
    """Token counts, once it is over."""
    timings: Timings | None = None
    """How long it took, once it is over."""
    background: bool
    """Whether it was written while nobody waited."""
    instructions: str | None
    """What the model was told first."""
    max_output_tokens: int | None
    """Most tokens that it might have."""
    max_tool_calls: int | None
    """Most calls to MCP servers that it might make."""
    metadata: JsonObject
    """As given."""
    parallel_tool_calls: bool
    """Whether it might call several functions."""
    previous_response_id: str | None
    """The response that it goes on from."""
    reasoning: JsonObject
    """How it was to think."""
    store: bool
    """Whether it is kept."""
    temperature: float | None
    """As given."""
    text: JsonObject
    """The form that it was to have."""
    tool_choice: str | JsonObject
    """Which tools might or had to be called."""
    tools: list[JsonObject]
    """What it might call."""
    tools_left_out: list[str] | None = None
    """Kinds of tools that only OpenAI has; absent where none was named."""
    top_logprobs: int
    """As given."""
    top_p: float | None
    """As given."""
    truncation: Literal["auto", "disabled"]
    """Whether the oldest turns might be left out."""
    user: str | None
    """Who asked."""


class InputTokens(Described):
    """How long a response's prompt is."""

    object: Literal["response.input_tokens"]
    """What this is."""
    input_tokens: int
    """Its tokens."""


class DeletedResponse(Described):
    """A response that is not kept any more."""

    id: str
    """Which."""
    object: Literal["response"]
    """What it was."""
    deleted: Literal[True]
    """Always true."""


class ItemList(Described):
    """A page of what a response answered."""

    object: Literal["list"]
    """What this is."""
    data: list[JsonObject]
    """The items."""
    first_id: str | None
    """The first one's id."""
    last_id: str | None
    """The last one's, to ask for what comes `after` it."""
    has_more: bool
    """Whether there are more behind it."""
