from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from qwenkit.backends.base import Aborted, Backend, ComputeFailed, NoRoom, Rows, Tokenizer
from qwenkit.backends.scripted import BrokenContract, ScriptedBackend, ScriptedTokenizer

PROMPT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def rows(
    tokens: Sequence[int], *, start: int = 0, slot: int = 0, wants: Sequence[int] | None = None
) -> Rows:
    n = len(tokens)
    return Rows(
        np.array(tokens, np.int32),
        np.arange(start, start + n, dtype=np.int32),
        np.full(n, slot, np.int32),
        np.array(wants or [0] * (n - 1) + [1], np.int8),
    )


def generate(backend: ScriptedBackend, prompt: str, *, limit: int = 200) -> str:
    tokens = backend.tokenizer.encode(prompt, special=True)
    start = 0
    said: list[int] = []
    while len(said) < limit:
        token = int(backend.decode(rows(tokens, start=start)).argmax())
        start += len(tokens)
        tokens = [token]
        said.append(token)
        if token in backend.tokenizer.eos_tokens:
            break
    return b"".join(map(backend.tokenizer.piece, said)).decode()


def test_it_is_a_backend_and_its_tokenizer_a_tokenizer() -> None:
    backend: Backend = ScriptedBackend({})
    tokenizer: Tokenizer = ScriptedTokenizer()
    assert backend.tokenizer.n_vocab == tokenizer.n_vocab


def test_control_tokens_are_recognised_only_when_asked_for() -> None:
    tokenizer = ScriptedTokenizer()
    assert len(tokenizer.encode("<|im_end|>")) == len("<|im_end|>")
    assert tokenizer.encode("<|im_end|>", special=True) == [tokenizer.control_tokens["<|im_end|>"]]


def test_user_defined_tokens_are_always_recognised() -> None:
    tokenizer = ScriptedTokenizer()
    assert tokenizer.encode("a<think>b") == [97, tokenizer.token_id("<think>"), 98]


@pytest.mark.parametrize("special", [True, False])
def test_pieces_spell_what_was_encoded(special: bool) -> None:
    tokenizer = ScriptedTokenizer()
    text = "é <think>\n🦙</think><|im_end|>"
    ids = tokenizer.encode(text, special=special)
    assert b"".join(map(tokenizer.piece, ids)).decode() == text


def test_a_control_token_has_no_piece_unless_special() -> None:
    tokenizer = ScriptedTokenizer()
    assert tokenizer.piece(tokenizer.control_tokens["<|im_end|>"], special=False) == b""


def test_an_answer_is_found_by_what_was_asked_and_ends() -> None:
    assert generate(ScriptedBackend({"hi": "Hello 🦙"}), PROMPT) == "Hello 🦙<|im_end|>"


def test_the_last_question_is_answered() -> None:
    backend = ScriptedBackend({"one": "1", "two": "2"})
    prompt = "<|im_start|>user\none<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n"
    assert generate(backend, prompt + "<|im_start|>assistant\n") == "2<|im_end|>"


def test_a_prompt_without_turns_is_continued() -> None:
    assert generate(ScriptedBackend({"def f(": "x): ..."}), "def f(") == "x): ...<|im_end|>"


def test_the_empty_key_answers_everything_else() -> None:
    assert generate(ScriptedBackend({"no": "1", "": "any"}), PROMPT) == "any<|im_end|>"


def test_an_unknown_question_is_answered_with_end_of_text() -> None:
    assert generate(ScriptedBackend({"other": "1"}), PROMPT) == "<|im_end|>"


def test_a_closed_thinking_block_skips_the_scripts_own() -> None:
    backend = ScriptedBackend({"hi": "<think>\nhm\n</think>\n\nHello"})
    assert generate(backend, PROMPT + "<think>\n\n</think>\n\n") == "Hello<|im_end|>"


def test_an_opened_thinking_block_is_continued() -> None:
    backend = ScriptedBackend({"hi": "<think>\nhm\n</think>\n\nHello"})
    assert generate(backend, PROMPT + "<think>\n") == "hm\n</think>\n\nHello<|im_end|>"


def test_a_thought_that_was_cut_short_is_followed_by_the_answer() -> None:
    backend = ScriptedBackend({"hi": "<think>\nlong\n</think>\n\nHello"})
    assert generate(backend, PROMPT + "<think>\nlo STOP\n</think>\n\n") == "Hello<|im_end|>"


def test_a_function_can_be_the_script() -> None:
    backend = ScriptedBackend(lambda tokens: tokens[-1] + 1)
    assert generate(backend, "a", limit=3) == "bcd"


def test_rows_with_logits_come_in_row_order() -> None:
    backend = ScriptedBackend(lambda tokens: tokens[-1] + 1)
    logits = backend.decode(rows([65, 70, 75], wants=[1, 0, 1]))
    assert logits.argmax(axis=1).tolist() == [66, 76]


@pytest.mark.parametrize(
    "broken",
    [
        rows([1], start=3),
        rows([1], slot=9),
        rows([1], slot=-1),
        rows([-1]),
        rows([100_000]),
        rows(list(range(9))),
        rows([1, 2, 3], wants=[1, 1, 1]),
        Rows(*(np.zeros(0, np.int32),) * 3, np.zeros(0, np.int8)),
    ],
)
def test_rows_no_backend_has_to_take_are_refused(broken: Rows) -> None:
    backend = ScriptedBackend({}, n_slots=2, n_batch=8, n_outputs=2)
    with pytest.raises(BrokenContract):
        backend.decode(broken)


def test_rows_of_a_slot_have_to_be_adjacent() -> None:
    apart = Rows(
        np.array([1, 2, 3], np.int32),
        np.array([0, 0, 1], np.int32),
        np.array([0, 1, 0], np.int32),
        np.zeros(3, np.int8),
    )
    with pytest.raises(BrokenContract):
        ScriptedBackend({}).decode(apart)


def test_a_full_pool_computes_nothing() -> None:
    backend = ScriptedBackend({}, n_cells=4)
    backend.decode(rows([1, 2, 3]))
    with pytest.raises(NoRoom):
        backend.decode(rows([4, 5], start=3))
    assert backend.length(0) == 3


@pytest.mark.parametrize(("shares", "used"), [(True, 3), (False, 5)])
def test_copies_share_cells_only_where_the_backend_says_so(shares: bool, used: int) -> None:
    backend = ScriptedBackend({}, shares_cells=shares)
    backend.decode(rows([1, 2, 3]))
    backend.copy(0, 1, 2)
    assert backend.tokens(1) == [1, 2]
    assert backend.n_cells_used == used
    backend.trim(0, 0)
    assert backend.n_cells_used == 2
    backend.trim(1, 0)
    assert backend.n_cells_used == 0


def test_a_copy_goes_its_own_way() -> None:
    backend = ScriptedBackend({})
    backend.decode(rows([1, 2, 3]))
    backend.copy(0, 5, 3)
    backend.trim(0, 1)
    assert backend.tokens(5) == [1, 2, 3]
    assert backend.tokens(0) == [1]


def test_a_copy_into_a_slot_in_use_is_refused() -> None:
    backend = ScriptedBackend({})
    backend.decode(rows([1]))
    with pytest.raises(BrokenContract):
        backend.copy(0, 0, 1)


def test_a_failing_token_fails_its_decode_alone() -> None:
    backend = ScriptedBackend({})
    backend.failing_tokens.add(66)
    with pytest.raises(ComputeFailed):
        backend.decode(rows([65, 66]))
    backend.decode(rows([65]))
    assert backend.length(0) == 1


def test_every_decode_is_recorded() -> None:
    backend = ScriptedBackend({})
    asked = rows([65, 66])
    backend.decode(asked)
    asked.tokens[:] = 0
    assert backend.decodes[0].tokens.tolist() == [65, 66]


def held_decode(backend: ScriptedBackend) -> tuple[threading.Thread, list[type[Exception] | None]]:
    outcome: list[type[Exception] | None] = []

    def decode() -> None:
        try:
            backend.decode(rows([65]))
            outcome.append(None)
        except Aborted:
            outcome.append(Aborted)

    backend.hold()
    thread = threading.Thread(target=decode)
    thread.start()
    assert backend.wait_until_held()
    return thread, outcome


def test_a_held_decode_goes_on_when_released() -> None:
    backend = ScriptedBackend({})
    thread, outcome = held_decode(backend)
    backend.release()
    thread.join(10)
    assert outcome == [None]


def test_a_held_decode_can_be_aborted() -> None:
    backend = ScriptedBackend({})
    thread, outcome = held_decode(backend)
    backend.abort()
    thread.join(10)
    assert outcome == [Aborted]


def test_aborting_while_nothing_runs_does_nothing() -> None:
    backend = ScriptedBackend({})
    backend.abort()
    backend.decode(rows([65]))
    assert backend.length(0) == 1
