"""llama.cpp behind the seam, on the demo model in float32."""

from __future__ import annotations

import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.backends.base import Aborted, NoRoom, Rows
from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.backends.llamacpp.tokenizer import LlamaTokenizer
from qwenkit.errors import EngineStopped, ModelCorrupt, ModelError
from qwenkit.models.resolve import resolve

from .conftest import QUESTIONS, embed, one_by_one, prompt_of, rows, together


@pytest.fixture(scope="module")
def gguf(demo_gguf: Path) -> Path:
    return demo_gguf


def load(path: Path, **options: Any) -> LlamaBackend:
    options = {"n_ctx": 1024, "n_slots": 4, "n_batch": 128} | options
    made = LlamaOptions(n_threads=1, kv_type="f32", **options)
    return LlamaBackend(path, content_id="demo", options=made)


@pytest.fixture(scope="module")
def shared(gguf: Path) -> Iterator[LlamaBackend]:
    backend = load(gguf)
    yield backend
    backend.close()


@pytest.fixture
def backend(shared: LlamaBackend) -> LlamaBackend:
    for slot in range(shared.capabilities.n_resident):
        shared.trim(slot, 0)
    return shared


@pytest.fixture
def tokenizer(shared: LlamaBackend) -> LlamaTokenizer:
    return shared.tokenizer


def test_rows_give_what_one_token_after_the_other_gives(backend: LlamaBackend) -> None:
    tokens = prompt_of(backend.tokenizer, QUESTIONS[0])[:16]
    alone = one_by_one(backend, tokens, slot=1)
    at_once = backend.decode(rows(tokens, slot=0, every=True))
    np.testing.assert_allclose(at_once, alone, atol=1e-4)


def test_sequences_in_one_decode_do_not_see_each_other(backend: LlamaBackend) -> None:
    first, second = (prompt_of(backend.tokenizer, q) for q in QUESTIONS[:2])
    alone = [backend.decode(rows(t, slot=i))[0].copy() for i, t in enumerate((first, second))]
    for slot in (0, 1):
        backend.trim(slot, 0)
    mixed = backend.decode(together(rows(first, slot=0), rows(second, slot=1)))
    np.testing.assert_allclose(mixed, alone, atol=1e-4)


def test_logits_come_only_for_the_rows_that_want_them_and_in_their_order(
    backend: LlamaBackend,
) -> None:
    tokens = prompt_of(backend.tokenizer, "hi")[:8]
    wanted = np.array([0, 1, 0, 0, 1, 0, 0, 0], np.int8)
    asked = rows(tokens)
    some = backend.decode(Rows(asked.tokens, asked.positions, asked.slots, wanted)).copy()
    backend.trim(0, 0)
    every = backend.decode(rows(tokens, every=True))
    np.testing.assert_allclose(some, every[[1, 4]], atol=1e-4)
    nothing = Rows(asked.tokens, asked.positions, asked.slots + 1, np.zeros(8, np.int8))
    assert backend.decode(nothing).shape == (0, backend.tokenizer.n_vocab)


def test_a_slot_s_length_follows_decodes_trims_and_copies(backend: LlamaBackend) -> None:
    assert backend.length(0) == 0
    backend.decode(rows([1, 2, 3, 4, 5]))
    assert backend.length(0) == 5
    backend.trim(0, 2)
    assert backend.length(0) == 2
    backend.copy(0, 3, 2)
    backend.trim(0, 0)
    assert (backend.length(0), backend.length(3)) == (0, 2)


def test_a_state_saved_and_loaded_goes_on_where_it_was(backend: LlamaBackend) -> None:
    tokens = prompt_of(backend.tokenizer, "What is qwenkit?")
    head = len(tokens) - 3
    whole = backend.decode(rows(tokens))[0].copy()
    backend.trim(0, head)
    state = backend.save_state(0)
    backend.trim(0, 0)
    backend.decode(rows(tokens[:5], slot=1))  # takes the cells that were free
    assert backend.load_state(2, state)
    assert backend.length(2) == head
    again = backend.decode(rows(tokens[head:], start=head, slot=2))[0]
    np.testing.assert_allclose(again, whole, atol=1e-4)


def test_a_saved_state_is_not_loaded_where_there_is_no_room(backend: LlamaBackend) -> None:
    n_batch, n_cells = backend.capabilities.n_batch, backend.capabilities.n_cells
    backend.decode(rows([5] * n_batch))
    state = backend.save_state(0)
    for start in range(n_batch, n_cells, n_batch):
        backend.decode(rows([5] * n_batch, start=start))
    assert not backend.load_state(1, state)
    assert backend.length(1) == 0


def test_a_trimmed_slot_forgets_what_was_cut_off(backend: LlamaBackend) -> None:
    tokens = prompt_of(backend.tokenizer, QUESTIONS[1])
    expected = backend.decode(rows(tokens, slot=1))[0].copy()
    backend.decode(rows([*tokens[:6], 9, 9, 9], slot=0))
    backend.trim(0, 6)
    again = backend.decode(rows(tokens[6:], start=6, slot=0))[0]
    np.testing.assert_allclose(again, expected, atol=1e-4)


def test_a_full_pool_computes_nothing(backend: LlamaBackend) -> None:
    n_batch, n_cells = backend.capabilities.n_batch, backend.capabilities.n_cells
    for start in range(0, n_cells, n_batch):
        backend.decode(rows([5] * n_batch, start=start))
    with pytest.raises(NoRoom):
        backend.decode(rows([5], slot=1))
    assert backend.length(0) == n_cells
    assert backend.length(1) == 0


def test_shared_cells_take_no_room(backend: LlamaBackend) -> None:
    n_batch, n_cells = backend.capabilities.n_batch, backend.capabilities.n_cells
    for start in range(0, n_cells - n_batch, n_batch):
        backend.decode(rows([5] * n_batch, start=start))
    for slot in (1, 2, 3):
        backend.copy(0, slot, n_cells - n_batch)
    backend.decode(rows([5] * n_batch, start=n_cells - n_batch, slot=1))


def test_abort_ends_a_decode_and_what_was_known_stays(gguf: Path) -> None:
    backend = load(gguf, n_ctx=8192, n_batch=4096)
    backend.decode(rows([1, 2, 3]))
    outcome: list[str] = []

    def decode() -> None:
        try:
            backend.decode(rows([5] * 4096, start=3))
            outcome.append("computed")
        except Aborted:
            outcome.append("aborted")

    thread = threading.Thread(target=decode)
    thread.start()
    while thread.is_alive():  # one that comes before the decode has begun is not noticed
        backend.abort()
    thread.join()
    assert outcome == ["aborted"]
    assert 3 <= backend.length(0) < 4099
    backend.trim(0, 3)
    backend.decode(rows([4], start=3))
    backend.close()


def test_an_abort_while_nothing_runs_does_nothing(backend: LlamaBackend) -> None:
    backend.abort()
    backend.decode(rows([1]))
    assert backend.length(0) == 1


def test_the_fingerprint_tells_what_cached_states_depend_on(
    gguf: Path, shared: LlamaBackend
) -> None:
    other = load(gguf, yarn_factor=2.0, yarn_original_ctx=512)
    same = load(gguf, n_batch=64)
    assert other.facts.fingerprint != shared.facts.fingerprint == same.facts.fingerprint
    other.close()
    same.close()


def test_loading_says_how_far_it_is(gguf: Path) -> None:
    shares: list[float] = []
    options = LlamaOptions(n_ctx=256, n_slots=1, n_batch=32, n_threads=1)
    LlamaBackend(gguf, content_id="x", options=options, on_progress=shares.append).close()
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_path_that_is_no_utf8_can_be_loaded(gguf: Path, tmp_path: Path) -> None:
    odd = tmp_path / "mod\udce9le.gguf"
    shutil.copyfile(gguf, odd)
    load(odd).close()


def test_a_file_cut_short_is_corrupt(gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf.read_bytes()[:-5000])
    with pytest.raises(ModelCorrupt):
        load(cut)


@pytest.mark.parametrize("data", [b"", b"no model at all" * 100, b"GGUF\xff\xff\xff\xff" * 50])
def test_what_is_no_model_is_corrupt(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelCorrupt):
        load(path)


def test_an_unknown_architecture_is_named(gguf: Path, tmp_path: Path) -> None:
    key, name = b"general.architecture", b"qwen3"
    data = gguf.read_bytes()
    at = data.index(key) + len(key) + 4
    assert data[at : at + 8 + len(name)] == struct.pack("<Q", len(name)) + name
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(data[: at + 8] + b"qwenx" + data[at + 8 + len(name) :])
    with pytest.raises(ModelError, match="qwenx"):
        load(odd)


@pytest.mark.parametrize("n_rows", [1, 2, 33])
def test_quantised_weights_are_computed_in_batches_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, n_rows: int
) -> None:
    backend = load(resolve(None, home=tmp_path_factory.mktemp("home"), dtype="q8_0").path)
    tokens = prompt_of(backend.tokenizer, QUESTIONS[3])[:33]
    for start in range(0, 33, n_rows):
        chunk = tokens[start : start + n_rows]
        logits = backend.decode(rows(chunk, start=start))[0].copy()
    backend.trim(0, 0)
    expected = one_by_one(backend, tokens, slot=0)[-1]
    np.testing.assert_allclose(logits, expected, atol=0.5)
    assert np.isfinite(logits).all()
    backend.close()


TEXTS = [
    "Hello, world!",
    "naïve café, 你好 🦙 — “quotes”",
    "tabs\tand\r\nnew lines\n\n\n  and spaces   ",
    "a\0b",
    "<|im_end|> and <|im_start|>system",
    "x" * 20_000,
    "",
    "1234567890 3.14",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
@pytest.mark.parametrize("special", [True, False])
def test_text_comes_back_from_its_tokens(
    tokenizer: LlamaTokenizer, text: str, special: bool
) -> None:
    pieces = [tokenizer.piece(token) for token in tokenizer.encode(text, special=special)]
    assert b"".join(pieces).decode() == text


def test_characters_are_composed_as_qwen_s_tokenizer_does(tokenizer: LlamaTokenizer) -> None:
    assert tokenizer.encode("cafe\u0301") == tokenizer.encode("caf\u00e9")


def test_control_tokens_in_a_user_s_text_stay_text(tokenizer: LlamaTokenizer) -> None:
    for text, token in tokenizer.control_tokens.items():
        plain = tokenizer.encode(text)
        assert token not in plain
        assert b"".join(map(tokenizer.piece, plain)).decode() == text
        assert tokenizer.encode(text, special=True) == [token]


def test_a_control_token_has_bytes_only_where_asked(tokenizer: LlamaTokenizer) -> None:
    end = tokenizer.control_tokens["<|im_end|>"]
    assert tokenizer.piece(end) == b"<|im_end|>"
    assert tokenizer.piece(end, special=False) == b""


def test_the_ends_of_a_text_are_qwen_s_and_no_others(tokenizer: LlamaTokenizer) -> None:
    assert tokenizer.control_tokens["<|im_end|>"] in tokenizer.eos_tokens
    assert tokenizer.control_tokens["<|endoftext|>"] in tokenizer.eos_tokens
    assert tokenizer.eos_tokens <= set(tokenizer.control_tokens.values())
    assert tokenizer.token_id("<think>") not in tokenizer.eos_tokens
    assert tokenizer.token_id("no such token") is None


def test_text_is_encoded_alike_from_many_threads(tokenizer: LlamaTokenizer) -> None:
    text = "A sentence with several words, 数字 and 12345. " * 50
    results: list[list[int]] = []

    def encode() -> None:
        results.extend(tokenizer.encode(text) for _ in range(10))

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    assert all(result == results[0] for result in results)


def test_whoever_uses_the_vocabulary_holds_up_its_end_and_later_ones_are_refused(
    gguf: Path,
) -> None:
    backend = load(gguf)
    closing = threading.Thread(target=backend.close)
    with backend.tokenizer.native_vocab() as vocab:
        assert vocab
        closing.start()
        while True:  # until `close` has begun
            try:
                backend.tokenizer.encode("hello")
            except EngineStopped:
                break
        assert closing.is_alive()
    closing.join()
    with pytest.raises(EngineStopped):
        backend.tokenizer.piece(1)


def test_a_text_embedded_in_chunks_leaves_the_slots_alone(backend: LlamaBackend) -> None:
    tokens = prompt_of(backend.tokenizer, QUESTIONS[3] * 3)
    assert len(tokens) > 64
    backend.decode(rows(tokens[:5]))
    vector = embed(backend, tokens)
    assert vector.shape == (backend.capabilities.n_embd,)
    assert np.isfinite(vector).all()
    assert backend.length(0) == 5
    # The context grows for a longer text, and a shorter one after it is computed as before.
    embed(backend, tokens * 8)
    np.testing.assert_allclose(embed(backend, tokens), vector, atol=1e-5)
