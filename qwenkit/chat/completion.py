"""A conversation goes in, a stream of chat events comes out. Knows no HTTP.

    prepare_chat: messages, tools, options ─▶ GenerationRequest
    stream_chat:  the same ─▶ ChatStarted, ChoiceDelta, …, ChatDone
    collect:      those events ─▶ ChatResult

`prepare_chat` is pure and raises whatever is wrong with a request but the grammar and the size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from qwenkit.chat.answer import Answer
from qwenkit.chat.constraint import (
    JsonObject,
    JsonSchema,
    NamedTool,
    ResponseFormat,
    ToolChoice,
    answer_grammar,
    blame,
    callable_tools,
)
from qwenkit.chat.events import ChatEvent
from qwenkit.chat.hermes import CLOSE, OPEN
from qwenkit.chat.messages import JsonValue, Message, Tool, parse_messages, parse_tools
from qwenkit.chat.next_turn import NextTurn
from qwenkit.chat.parser import StreamParser
from qwenkit.chat.presets import sampling
from qwenkit.chat.result import CallResult, ChatResult, ChoiceResult, collect
from qwenkit.chat.template import ChatTemplate, Prompt, encode_prompt
from qwenkit.chat.thinking import ThinkingTokens, soft_switch, thinking_tokens
from qwenkit.chat.watching import watch_of, watched
from qwenkit.engine.adapters import Adapter
from qwenkit.engine.engine import Engine
from qwenkit.engine.request import ActiveAdapter, GenerationRequest, SamplingParams, Thinking
from qwenkit.errors import InvalidGrammar, InvalidRequest

__all__ = [
    "CallResult",
    "ChatModel",
    "ChatOptions",
    "ChatResult",
    "ChoiceResult",
    "JsonObject",
    "JsonSchema",
    "NamedTool",
    "OnPrepared",
    "PreparedChat",
    "collect",
    "prepare_chat",
    "stream_chat",
]

_BAN = -1000.0


@dataclass(frozen=True, slots=True)
class ChatModel:
    """What a conversation needs of a loaded model.

    Args:
        name: What clients call it.
        engine: Generates.
        template: Renders.
        adapter: What it generates with; None is the model as it is.
    """

    name: str
    engine: Engine
    template: ChatTemplate
    adapter: ActiveAdapter | None = None
    thinking: ThinkingTokens | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thinking", thinking_tokens(self.engine.tokenizer))

    def with_adapter(self, adapter: Adapter, *, scale: float = 1.0) -> ChatModel:
        """The model with an adapter of its engine, under the adapter's name.

        Raises:
            InvalidRequest: The scale is out of its range.
        """
        return replace(self, name=adapter.name, adapter=adapter.at(scale))

    @property
    def fingerprint(self) -> str:
        """What tells answers of this model, its settings and its adapter from others."""
        base = self.engine.facts.fingerprint
        return f"{base}-{self.adapter.namespace}" if self.adapter is not None else base


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """What a request may say beside its messages and tools.

    Args:
        enable_thinking: The hard switch; None leaves it to `template_kwargs`, and then on.
        thinking_budget: Most thinking tokens; None is no limit.
        sampling: Fields of `SamplingParams`; each wins over Qwen3's preset.
        max_tokens: Most tokens of a choice, thinking included; None is up to the context's end.
        n: Choices.
        stop: Strings that end the answer; the thinking is not searched for them.
        stop_tokens: Token ids that do.
        ignore_eos: Go on after the model's own end.
        logprobs: Alternatives reported with each token of the answer's text; None is no report.
        response_format: What the text must be.
        tool_choice: Which tools may or must be called.
        parallel_tool_calls: Whether an answer may hold several calls.
        template_kwargs: More variables for the template.
        continue_final_message: Go on with the last message, an assistant's, instead of a new one.
    """

    enable_thinking: bool | None = None
    thinking_budget: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None
    response_format: ResponseFormat = None
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    template_kwargs: Mapping[str, JsonValue] = field(default_factory=dict)
    continue_final_message: bool = False


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A conversation as the engine takes it.

    Args:
        request: For the engine.
        prompt: As rendered; says where the parser starts.
        tools: What may be called; empty when tool calls are just text.
        messages: The conversation.
        offered: The tools that the prompt names.
        options: What was asked for beside them.
    """

    request: GenerationRequest
    prompt: Prompt
    tools: Sequence[Tool]
    messages: Sequence[Message]
    offered: Sequence[Tool]
    options: ChatOptions

    def new_parser(self) -> StreamParser:
        """A parser for one choice."""
        return StreamParser(
            inside_reasoning=self.prompt.inside_reasoning,
            continues_text=self.prompt.continues_text,
            parse_tools=bool(self.tools),
        )


OnPrepared: TypeAlias = Callable[[PreparedChat], None]


def prepare_chat(
    model: ChatModel,
    messages: Sequence[Message | Mapping[str, Any]],
    tools: Sequence[Tool | Mapping[str, Any]] = (),
    options: ChatOptions | None = None,
) -> PreparedChat:
    """Check a conversation and turn it into a request for the engine.

    Raises:
        InvalidRequest: Something is wrong; `param` names it. Whether a grammar compiles and the
            prompt fits is for the engine to say.
    """
    options = options or ChatOptions()
    conversation = parse_messages(messages)
    offered = parse_tools(tools)
    _check_budget(options.thinking_budget)
    prompt = _render(model, conversation, offered, options)
    tokenizer = model.engine.tokenizer
    request = GenerationRequest(
        prompt=encode_prompt(prompt, tokenizer),
        max_tokens=options.max_tokens,
        sampling=_sampling(model, conversation, offered, prompt, options),
        n=options.n,
        stop=options.stop,
        stop_tokens=options.stop_tokens | _ends_of_the_only_call(model, offered, options),
        ignore_eos=options.ignore_eos,
        logprobs=options.logprobs,
        grammar=answer_grammar(
            tools=offered,
            choice=options.tool_choice,
            parallel=options.parallel_tool_calls,
            response_format=options.response_format,
            call_token=tokenizer.token_id(OPEN),
        ),
        thinking=_thinking(model.thinking, prompt, options.thinking_budget),
        adapter=model.adapter,
    )
    callable_ = callable_tools(offered, options.tool_choice)
    return PreparedChat(request, prompt, callable_, conversation, offered, options)


def stream_chat(
    model: ChatModel,
    messages: Sequence[Message | Mapping[str, Any]],
    tools: Sequence[Tool | Mapping[str, Any]] = (),
    options: ChatOptions | None = None,
    *,
    on_prepared: OnPrepared | None = None,
) -> AsyncGenerator[ChatEvent, None]:
    """Answer a conversation; closing the generator cancels the answer.

    Args:
        on_prepared: Told once what the engine gets, before any event.

    Raises:
        InvalidRequest: Something is wrong; `param` names it. This and the next come before any
            event.
        EngineBusy: The queue is full.
        EngineStopped: The engine is shutting down; before any event or after some.
        DecodeFailed: The runtime failed on this request.
    """
    watch = watch_of(model)
    if watch is None:
        return _answer(model, messages, tools, options or ChatOptions(), on_prepared)

    def tell(chat: PreparedChat) -> None:
        watch.on_prepared(chat)
        if on_prepared is not None:
            on_prepared(chat)

    return watched(_answer(model, messages, tools, options or ChatOptions(), tell), watch)


async def _answer(
    model: ChatModel,
    messages: Sequence[Message | Mapping[str, Any]],
    tools: Sequence[Tool | Mapping[str, Any]],
    options: ChatOptions,
    on_prepared: OnPrepared | None,
) -> AsyncGenerator[ChatEvent, None]:
    # Tokenising a long conversation takes a while: it must not hold up the loop's other streams.
    chat = await asyncio.to_thread(prepare_chat, model, messages, tools, options)
    if on_prepared is not None:
        on_prepared(chat)
    parsers = [chat.new_parser() for _ in range(chat.request.n)]
    answer = Answer(parsers, model.engine.tokenizer.eos_tokens)
    next_turn = NextTurn(model.engine, model.template, model.adapter, chat.messages, chat.offered)
    try:
        async with aclosing(model.engine.stream(chat.request)) as events:
            async for event in events:
                for chat_event in answer.follow(event):
                    next_turn.follow(chat_event)
                    yield chat_event
    except InvalidGrammar as exc:
        validate = model.engine.grammars.validate
        raise blame(
            exc, validate, tools=chat.offered, response_format=options.response_format
        ) from exc
    if model.thinking is not None and options.n == 1:
        next_turn.prepare()


def _check_budget(budget: int | None) -> None:
    if budget is not None and budget < 0:
        raise InvalidRequest(
            f"thinking_budget is {budget}; it must not be negative", param="thinking_budget"
        )


def _render(
    model: ChatModel, messages: Sequence[Message], tools: Sequence[Tool], options: ChatOptions
) -> Prompt:
    variables = dict(options.template_kwargs)
    by_template = variables.pop("enable_thinking", True)
    if not isinstance(by_template, bool):
        raise InvalidRequest(
            "enable_thinking must be true or false", param="chat_template_kwargs.enable_thinking"
        )
    enabled = by_template if options.enable_thinking is None else options.enable_thinking
    return model.template.render(
        messages,
        tools=tools,
        # A model that can't think must not see an empty block that tells it not to.
        enable_thinking=enabled or model.thinking is None,
        continue_final_message=options.continue_final_message,
        extra=variables,
    )


def _sampling(
    model: ChatModel,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    prompt: Prompt,
    options: ChatOptions,
) -> SamplingParams:
    may_think = model.thinking is not None and prompt.may_reason and soft_switch(messages)
    overrides = dict(options.sampling)
    call_token = model.engine.tokenizer.token_id(OPEN)
    if tools and options.tool_choice == "none" and call_token is not None:
        # The tools stay in the prompt, where earlier turns' cached tokens have them.
        overrides["logit_bias"] = (*overrides.get("logit_bias", ()), (call_token, _BAN))
    return sampling(prompt.inside_reasoning or may_think, **overrides)


def _ends_of_the_only_call(
    model: ChatModel, tools: Sequence[Tool], options: ChatOptions
) -> frozenset[int]:
    # A grammar that waits for its trigger can't end the answer; the closing tag then does.
    only_one = tools and options.tool_choice == "auto" and not options.parallel_tool_calls
    close = model.engine.tokenizer.token_id(CLOSE)
    return frozenset({close} if only_one and close is not None else ())


def _thinking(tokens: ThinkingTokens | None, prompt: Prompt, budget: int | None) -> Thinking | None:
    if tokens is None:
        return None
    return Thinking(
        open=tokens.open,
        close=tokens.close,
        inside=prompt.inside_reasoning,
        expected=prompt.may_reason,
        budget=budget,
        ending=tokens.ending,
    )
