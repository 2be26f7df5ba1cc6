"""Answers behind the prompts that serving would have for them. Knows templates and ids, no rows.

    prompt      the conversation before the answer, rendered as a request for it is rendered
    completion  what the model would have to generate: reasoning, text, calls, and the end token

Qwen3's template shows an answer differently once more has been said: earlier reasoning is left out,
and the empty thinking block with it. So each answer is learned behind its own prompt, and not
where it stands in the whole conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwenkit.chat.messages import Message
from qwenkit.chat.template import Prompt
from qwenkit.chat.thinking import soft_switch
from qwenkit.errors import InvalidData
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.renderer import Renderer
from qwenkit.training.data.rows import Chat


@dataclass(frozen=True, slots=True)
class Turn:
    """Answers to one prompt.

    Args:
        prompt: Its ids.
        completions: Ids of each answer, its end token included.
    """

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]


def make_turn(
    renderer: Renderer, chat: Chat, answers: Sequence[Message], options: DataOptions
) -> Turn:
    """Render the answers to a conversation, all behind the same prompt.

    The prompt leaves the thinking to the model if an answer has reasoning, or if `options` say so;
    otherwise it holds the empty thinking block, as serving with thinking off writes it.

    Raises:
        InvalidData: An answer has reasoning and the row switches thinking off, or the template
            shows an answer otherwise than behind its prompt.
        InvalidMessages: The template refuses the conversation.
    """
    before = prepared(chat, options)
    wholes = [_whole(renderer, before, answer) for answer in _prepared(answers, options)]
    for enable_thinking in _switches(before, options):
        prompt = ask(renderer, before, enable_thinking=enable_thinking)
        starts = [_start(renderer, before, prompt, whole) for whole in wholes]
        if None not in starts:
            completions = (
                _completion(renderer, whole, start)
                for whole, start in zip(wholes, starts, strict=True)
                if start is not None
            )
            return Turn(renderer.encode(prompt), tuple(completions))
    if chat.enable_thinking is False:
        raise InvalidData("an answer has reasoning, and `enable_thinking` is false")
    raise InvalidData("the chat template shows an answer otherwise than behind its prompt")


def prepared(chat: Chat, options: DataOptions) -> Chat:
    """A conversation without its reasoning, if `options` say so."""
    return chat.with_messages(_prepared(chat.messages, options))


def ask(renderer: Renderer, chat: Chat, *, enable_thinking: bool) -> Prompt:
    """The prompt of a request for the next answer."""
    return renderer.render(
        chat.messages,
        tools=chat.tools,
        enable_thinking=enable_thinking,
        extra=chat.variables,
    )


def _prepared(messages: Sequence[Message], options: DataOptions) -> tuple[Message, ...]:
    if options.thinking == "keep":
        return tuple(messages)
    return tuple(replace(message, reasoning=None) for message in messages)


def _switches(chat: Chat, options: DataOptions) -> tuple[bool, ...]:
    """Positions of the hard switch in which an answer may stand, the preferred one first."""
    if chat.enable_thinking is not None:
        return (chat.enable_thinking,)
    if options.empty_thinking == "learned" or not soft_switch(chat.messages):
        return (True, False)
    return (False, True)


def _whole(renderer: Renderer, chat: Chat, answer: Message) -> Prompt:
    return renderer.render(
        (*chat.messages, answer),
        tools=chat.tools,
        add_generation_prompt=False,
        extra=chat.variables,
    )


def _start(renderer: Renderer, chat: Chat, prompt: Prompt, whole: Prompt) -> int | None:
    """Where the answer begins in a whole conversation; None where it isn't behind this prompt."""
    if whole.text.startswith(prompt.text):
        return len(prompt.text)
    # An answer right behind another: what the template shows of that one depends on its being last.
    history = renderer.render(
        chat.messages, tools=chat.tools, add_generation_prompt=False, extra=chat.variables
    )
    opening = prompt.text.removeprefix(history.text)
    if len(opening) == len(prompt.text):
        return None
    for start, end in reversed(whole.control_spans):
        if opening.startswith(whole.text[start:end]):  # the last turn begins here
            return start + len(opening) if whole.text.startswith(opening, start) else None
    return None


def _completion(renderer: Renderer, whole: Prompt, start: int) -> tuple[int, ...]:
    """Ids of a rendered conversation from a place in its text up to its next end token."""
    tokenizer = renderer.tokenizer
    spans = [(first - start, end - start) for first, end in whole.control_spans if first >= start]
    text = whole.text[start:]
    for n, (first, end) in enumerate(spans):
        if tokenizer.control_tokens[text[first:end]] in tokenizer.eos_tokens:
            rest = replace(whole, text=text[:end], control_spans=tuple(spans[: n + 1]))
            return renderer.encode(rest)
    raise InvalidData("the chat template puts no end token behind an answer")
