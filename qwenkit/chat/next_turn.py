"""Gets a conversation ready for its next turn while the engine is idle.

In the next turn's prompt Qwen3's template leaves out the reasoning of this one, so what the engine
has computed of the answer can't be reused: it differs from where the reasoning began. What the next
prompt will begin with is known as soon as the answer is, up to the user's next words.
"""

from __future__ import annotations

import asyncio
import os.path
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from qwenkit.chat.events import ChatEvent, ChatFinish, ChoiceDelta, ChoiceDone, TextDelta
from qwenkit.chat.messages import Message, Role, Tool
from qwenkit.chat.template import ChatTemplate, Prompt, encode_prompt
from qwenkit.engine.engine import Engine
from qwenkit.engine.request import ActiveAdapter
from qwenkit.errors import EngineStopped, InvalidMessages


class NextTurn:
    """Follows an answer's events and, once it is whole, has the next prompt's head computed.

    Args:
        engine: Computes it.
        template: Renders it.
        adapter: What it is computed with.
        messages: The conversation that is being answered.
        tools: On offer in it.
    """

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate,
        adapter: ActiveAdapter | None,
        messages: Sequence[Message],
        tools: Sequence[Tool],
    ) -> None:
        self._engine = engine
        self._template = template
        self._adapter = adapter
        self._messages = messages
        self._tools = tools
        self._text: list[str] = []
        self._ended = False

    def follow(self, event: ChatEvent) -> None:
        """Take note of an event."""
        match event:
            case ChoiceDelta(_, deltas):
                self._text += [delta.text for delta in deltas if isinstance(delta, TextDelta)]
            case ChoiceDone(_, finish):
                self._ended = finish is ChatFinish.STOP
            case _:
                pass

    def prepare(self) -> None:
        """Start on it, if the answer ended by itself; returns at once."""
        if self._ended:
            asyncio.get_running_loop().run_in_executor(None, self._warm)

    def _warm(self) -> None:
        answer = Message(Role.ASSISTANT, "".join(self._text))
        # A template may refuse what this one answered, and the engine may be about to stop.
        with suppress(InvalidMessages, EngineStopped):
            head = next_prompt_head(self._template, [*self._messages, answer], self._tools)
            prompt = encode_prompt(head, self._engine.tokenizer)
            self._engine.warm(prompt, adapter=self._adapter)


def next_prompt_head(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Tool]
) -> Prompt:
    """What a prompt begins with that goes on with a user's message after these, whatever it says.

    Raises:
        InvalidMessages: The template refuses the conversation.
    """
    with_a, with_b = (
        template.render([*messages, Message(Role.USER, words)], tools=tools) for words in "ab"
    )
    text = os.path.commonprefix((with_a.text, with_b.text))  # noqa: RUF071  of characters indeed
    spans = tuple(span for span in with_a.control_spans if span[1] <= len(text))
    return replace(with_a, text=text, control_spans=spans)
