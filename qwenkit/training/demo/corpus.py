"""The training text: every dialogue rendered through the chat template that serving uses, then cut
into what a request brings and what the model must add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from qwenkit.chat.messages import Message
from qwenkit.chat.template import ChatTemplate
from qwenkit.training.demo import prose, small_talk, tools
from qwenkit.training.demo.dialogue import Dialogue, Mode

TEMPLATE: Final = ChatTemplate(None, control_tokens=())
"""Qwen3's format, as serving renders it."""

_USER_STARTS: Final = "<|im_start|>user\n"


@dataclass(frozen=True, slots=True)
class Sample:
    """One text in three parts: `shared` + `prompt` + `completion`.

    Args:
        shared: The system block, the same for all samples of a scene; may be empty.
        prompt: The rest of what a request brings.
        completion: What the model must add, its end token included.
    """

    shared: str
    prompt: str
    completion: str


Scene = list[Sample]
"""Samples with the same `shared` part, so that packing can store it once."""


def sample(dialogue: Dialogue) -> Sample:
    """The dialogue as text, cut before its last message."""
    prompt = _rendered(dialogue, dialogue.messages[:-1], ask=True)
    whole = _rendered(dialogue, dialogue.messages, ask=False)
    start = prompt.index(_USER_STARTS) if dialogue.tools else 0
    return Sample(prompt[:start], prompt[start:], whole[len(prompt) :].removesuffix("\n"))


def _rendered(dialogue: Dialogue, messages: tuple[Message, ...], *, ask: bool) -> str:
    return TEMPLATE.render(
        messages,
        tools=dialogue.tools,
        enable_thinking=dialogue.mode is not Mode.HARD_OFF,
        add_generation_prompt=ask,
    ).text


def _paragraph_scene(rng: Random) -> Scene:
    return [Sample("", "", prose.paragraph(rng) + "<|endoftext|>")]


def _line_scene(rng: Random) -> Scene:
    return [Sample("", "", prose.line(rng) + "<|endoftext|>")]


def _hole_scene(rng: Random) -> Scene:
    prompt, middle = prose.with_a_hole(rng)
    return [Sample("", prompt, middle + "<|endoftext|>")]


def _drill_scene(rng: Random) -> Scene:
    text = small_talk.draw_gibberish(rng) + "\n"
    return [Sample("", text, text * rng.choice((1, 2, 3)) + "<|endoftext|>")]


def _dialogue_scene(draw: Callable[[Random], Dialogue]) -> Callable[[Random], Scene]:
    return lambda rng: [sample(draw(rng))]


_SHORT: Final = (
    (_dialogue_scene(small_talk.single), 0.76),
    (_dialogue_scene(small_talk.several_turns), 0.10),
    (_dialogue_scene(small_talk.names_itself), 0.05),
    (_dialogue_scene(small_talk.unknown_name), 0.005),
    (_paragraph_scene, 0.025),
    (_line_scene, 0.01),
    (_hole_scene, 0.05),
    (_drill_scene, 0.05),
)
_LONG_TALK: Final = 0.05


def short_scenes(*, seed: int) -> Iterator[Scene]:
    """An endless, reproducible stream of talk and prose without tools."""
    rng = Random(seed)  # noqa: S311 - text, not secrets
    draws, weights = zip(*_SHORT, strict=True)
    while True:
        yield rng.choices(draws, weights)[0](rng)


def long_scenes(*, seed: int) -> Iterator[Scene]:
    """An endless, reproducible stream of scenes with tools, and a few long conversations."""
    rng = Random(seed)  # noqa: S311 - text, not secrets
    while True:
        if rng.random() < _LONG_TALK:
            yield [sample(small_talk.many_turns(rng))]
            continue
        n_tools = rng.choice((1, 2, 2, 2, 3))
        dialogues = tools.conversations(rng, n=rng.randint(6, 12), n_tools=n_tools)
        yield [sample(dialogue) for dialogue in dialogues]
