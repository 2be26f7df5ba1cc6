"""The bodies of OpenAI's API, with the fields that llama-server and vLLM add. Pure data.

Types are strict (`"5"` is no number) and null means absent, as OpenAI has it. Ranges are checked
where the values are used. Fields that nobody here knows are ignored, as are those that only make
sense at OpenAI: `service_tier`, `prompt_cache_key`, …
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

MAX_STOPS = 16
MAX_NAME = 256
MAX_LORAS = 256
MAX_METADATA = 64
MAX_GRAMMAR = 100_000
JsonObject = dict[str, Any]


def says(message: str) -> WrapValidator:
    """Replaces the many complaints of a union by one sentence."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as exc:
            raise PydanticCustomError("union", "{message}", {"message": message}) from exc

    return WrapValidator(validate)


class _Body(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="ignore", use_attribute_docstrings=True, protected_namespaces=()
    )


class StreamOptions(_Body):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None
    """End the stream with a chunk that has the token counts."""


Stop = Annotated[
    str | Annotated[list[str], Field(max_length=MAX_STOPS)],
    says(f"must be a string or a list of at most {MAX_STOPS} strings"),
]


# Read on the event loop: a longer one would hold up the streams that run.
GrammarText = Annotated[str, Field(max_length=MAX_GRAMMAR)]


class LoraUse(_Body):
    """An adapter and how strongly it counts, as llama-server spells it."""

    id: int | None = None
    """Its number, as `/lora-adapters` lists it."""
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """Its name instead."""
    scale: float = 1.0
    """1 is the strength it was trained with; 0 leaves it out."""


class GenerationBody(_Body):
    """What both kinds of completion share."""

    model: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """The served model's name, or an adapter's; absent takes the model itself."""
    lora: Annotated[list[LoraUse], Field(max_length=MAX_LORAS)] | None = None
    """The adapter to use, by llama-server's spelling; a request can use one."""
    lora_scale: float | None = None
    """How strongly the adapter that `model` names counts; 1 is as it was trained."""
    stream: bool | None = None
    """Send the answer as server-sent events while it is written."""
    stream_options: StreamOptions | None = None
    """Only with `stream`."""
    n: int | None = None
    """Answers to write for a prompt."""
    max_tokens: int | None = None
    """Most tokens to write."""
    n_predict: int | None = None
    """The same, as llama-server spells it; -1 is no limit, and 0 only computes the prompt."""
    stop: Stop | None = None
    """Strings that end the answer and are not part of it."""
    seed: int | None = None
    """Fixes the random draws; -1 draws a fresh seed, as for llama-server."""
    ignore_eos: bool | None = None
    """Go on after the model's own end of text."""

    temperature: float | None = None
    """0 takes the likeliest token always."""
    top_p: float | None = None
    """Keep the likeliest tokens that hold this much probability."""
    presence_penalty: float | None = None
    """Taken off the logit of every token already seen."""
    frequency_penalty: float | None = None
    """Taken off for each time it was seen."""
    logit_bias: dict[str, float] | None = None
    """Added to the logits of tokens; the keys are token ids."""
    top_k: int | None = None
    """Keep the k likeliest tokens; 0 keeps all."""
    min_p: float | None = None
    """Drop tokens less likely than this share of the likeliest one."""
    typical_p: float | None = None
    """Locally typical sampling; 1 is off."""
    repeat_penalty: float | None = None
    """Divides the logits of tokens already seen; 1 is off."""
    repetition_penalty: float | None = None
    """The same, as vLLM spells it."""
    repeat_last_n: int | None = None
    """How many of the newest tokens count as seen; -1 is all."""
    dry_multiplier: float | None = None
    """Strength of the DRY penalty on repeated passages; 0 is off."""
    dry_base: float | None = None
    """Growth of that penalty with the passage's length."""
    dry_allowed_length: int | None = None
    """Length up to which a repetition is free."""
    xtc_probability: float | None = None
    """Chance of dropping the likeliest tokens; 0 is off."""
    xtc_threshold: float | None = None
    """Tokens at least this likely can be dropped."""
    top_n_sigma: float | None = None
    """Keep tokens within n standard deviations of the best logit; 0 is off."""

    store: bool | None = None
    """False keeps the answer out of the log."""
    metadata: Annotated[dict[str, Any], Field(max_length=MAX_METADATA)] | None = None
    """Of this the log keeps `thread_id`, the conversation that the answer belongs to, and
    `parent_id`, the answer that it regenerates."""
    user: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """Who asks, for the log."""

    grammar: GrammarText | None = None
    """A GBNF grammar that the answer must follow."""
    json_schema: JsonObject | bool | None = None
    """A JSON schema that the answer must follow, as llama-server spells it."""
    guided_json: JsonObject | bool | None = None
    """The same, as vLLM spells it."""
    guided_regex: GrammarText | None = None
    """A regular expression that the whole answer must match."""
    guided_choice: list[str] | None = None
    """The answers there may be."""
    guided_grammar: GrammarText | None = None
    """A GBNF grammar, as vLLM spells it."""


class ResponseFormat(_Body):
    """The form that an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    """What it is."""
    json_schema: JsonObject | None = None
    """For `json_schema`: `{"name": …, "schema": {…}}`."""
    schema_: JsonObject | None = Field(default=None, alias="schema")
    """For `json_object`: a schema, as llama-server spells it."""


class ThinkingSwitch(_Body):
    """The thinking switch as Anthropic and DeepSeek spell it."""

    type: Literal["enabled", "disabled", "auto"]
    """Whether to think."""
    budget_tokens: Annotated[int, Field(ge=0)] | None = None
    """Most thinking tokens."""


class ChatBody(GenerationBody):
    """The body of `/v1/chat/completions`."""

    messages: list[JsonObject]
    """The conversation, in OpenAI's format; earlier reasoning may come as `reasoning_content`."""
    max_completion_tokens: int | None = None
    """Most tokens to write; wins over `max_tokens`."""
    tools: list[JsonObject] | None = None
    """Functions that the model may call, and MCP servers whose tools are called here:
    `{"type": "mcp", "server_label": …, "allowed_tools": […]}`."""
    tool_choice: (
        Annotated[str | JsonObject, says("must be auto, none, required or a function's name")]
        | None
    ) = None
    """`auto`, `none`, `required`, or `{"type": "function", "function": {"name": …}}`."""
    max_tool_calls: Annotated[int, Field(ge=0)] | None = None
    """Calls to MCP servers after which the model must answer with what it has."""
    parallel_tool_calls: bool | None = None
    """Whether one answer may call several functions."""
    functions: list[JsonObject] | None = None
    """Older spelling of `tools`."""
    function_call: Annotated[str | JsonObject, says("must be auto, none or a name")] | None = None
    """Older spelling of `tool_choice`."""
    response_format: ResponseFormat | None = None
    """The form that the answer must have."""
    logprobs: bool | None = None
    """Report the log-probability of each token."""
    top_logprobs: int | None = None
    """How many alternatives to report with each token."""
    chat_template_kwargs: JsonObject | None = None
    """Variables of the chat template, such as `enable_thinking`."""
    reasoning_effort: str | None = None
    """`none` switches thinking off; any other leaves it on."""
    thinking: ThinkingSwitch | None = None
    """Switches thinking on or off."""
    thinking_budget: int | None = None
    """Most thinking tokens before the answer must begin."""
    continue_final_message: bool | None = None
    """Go on with the last message, an assistant's, instead of a new one; vLLM's field."""
    modalities: list[str] | None = None
    """Only `["text"]`."""
    audio: JsonObject | None = None
    """Not supported."""


Prompt = Annotated[
    str | list[str] | list[int] | list[list[int]],
    says("must be a string, a list of strings, a list of token ids, or a list of such lists"),
]


class CompletionBody(GenerationBody):
    """The body of `/v1/completions`.

    The prompt is raw: control tokens such as `<|im_start|>` are recognised in it, because its
    caller writes the whole of it.
    """

    prompt: Prompt
    """What to continue; each prompt of a list gets its own choices."""
    suffix: str | None = None
    """What comes after the hole: the prompt and this are given as fill-in-the-middle."""
    echo: bool | None = None
    """Begin the answer with the prompt."""
    logprobs: int | None = None
    """Report the log-probability of each token and of this many alternatives."""
    best_of: int | None = None
    """Only equal to `n`."""
