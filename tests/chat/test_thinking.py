from __future__ import annotations

import pytest

from qwenkit.backends.scripted import ScriptedTokenizer
from qwenkit.chat.messages import Message, Role
from qwenkit.chat.presets import DIRECT, THINKING, sampling
from qwenkit.chat.thinking import ENDING, soft_switch, thinking_tokens
from qwenkit.errors import InvalidRequest


def said(*contents: str, role: Role = Role.USER) -> list[Message]:
    return [Message(role, content) for content in contents]


@pytest.mark.parametrize(
    ("contents", "thinks"),
    [
        (["hi"], True),
        (["hi /no_think"], False),
        (["/no_think hi", "really?"], False),
        (["a /no_think", "b /think"], True),
        (["a /think", "b /no_think"], False),
        (["/think or /no_think"], False),
        (["see src/no_think and /no_thinking"], True),
    ],
)
def test_the_latest_soft_switch_wins(contents: list[str], thinks: bool) -> None:
    assert soft_switch(said(*contents)) is thinks


def test_the_system_may_switch_and_an_answer_may_not() -> None:
    assert not soft_switch(said("be brief /no_think", role=Role.SYSTEM))
    assert soft_switch(said("you said /no_think", role=Role.ASSISTANT))


def test_the_ending_sentence_closes_the_block() -> None:
    tokenizer = ScriptedTokenizer()
    tokens = thinking_tokens(tokenizer)
    assert tokens is not None
    assert tokens.close in tokens.ending
    assert b"".join(map(tokenizer.piece, tokens.ending)).decode() == ENDING


def test_a_vocabulary_without_the_tags_can_not_think() -> None:
    class Plain(ScriptedTokenizer):
        def token_id(self, text: str) -> int | None:
            return None

    assert thinking_tokens(Plain()) is None


def test_the_presets_are_the_model_cards() -> None:
    thinking = (THINKING.temperature, THINKING.top_p, THINKING.top_k, THINKING.min_p)
    direct = (DIRECT.temperature, DIRECT.top_p, DIRECT.top_k, DIRECT.min_p)
    assert thinking == (0.6, 0.95, 20, 0.0)
    assert direct == (0.7, 0.8, 20, 0.0)


def test_each_named_value_wins_over_the_preset_alone() -> None:
    chosen = sampling(True, temperature=1.5, seed=3)
    assert (chosen.temperature, chosen.seed, chosen.top_p) == (1.5, 3, 0.95)


def test_an_unknown_sampling_parameter_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampling(False, warmth=1.0)
    assert caught.value.param == "warmth"
