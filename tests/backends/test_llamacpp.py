"""llama.cpp behind the seam, on the demo model in float32."""

from __future__ import annotations

import asyncio
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.backends.base import Aborted, FloatArray, NoRoom, Rows
from qwenkit.backends.llamacpp.backend import LlamaBackend, LlamaOptions
from qwenkit.backends.llamacpp.tokenizer import LlamaTokenizer
from qwenkit.engine.engine import Engine
from qwenkit.engine.request import Finished, GenerationRequest, SamplingParams, Token
from qwenkit.errors import ModelCorrupt, ModelError
from qwenkit.models.resolve import resolve

GREEDY = SamplingParams(temperature=0)
QUESTIONS = [
    "What is qwenkit?",
    "How do I serve a model?",
    "hello",
    "Tell me a long story about a small model that wanted to be large, and what became of it.",
    "2 + 2",
    "What is qwenkit for?",
]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resolve(None, home=tmp_path_factory.mktemp("home"), dtype="f32").path


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


def rows(tokens: Sequence[int], *, start: int = 0, slot: int = 0, every: bool = False) -> Rows:
    n = len(tokens)
    return Rows(
        np.array(tokens, np.int32),
        np.arange(start, start + n, dtype=np.int32),
        np.full(n, slot, np.int32),
        np.array([int(every)] * (n - 1) + [1], np.int8),
    )


def together(*parts: Rows) -> Rows:
    return Rows(*(np.concatenate([getattr(p, name) for p in parts]) for name in Rows.__slots__))


def one_by_one(backend: LlamaBackend, tokens: Sequence[int], slot: int) -> FloatArray:
    each = [
        backend.decode(rows([token], start=i, slot=slot))[0].copy()
        for i, token in enumerate(tokens)
    ]
    return np.array(each)


def prompt_of(tokenizer: LlamaTokenizer, question: str) -> list[int]:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer.encode(text, special=True)


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


# The engine over it: whatever runs beside an answer, in whatever pieces, its tokens are the same.

Said = dict[int, list[int]]


@pytest.fixture
def start(gguf: Path) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def made(**options: Any) -> Engine:
        engines.append(Engine(load(gguf, **options)).start())
        return engines[-1]

    yield made
    for engine in engines:
        engine.close()


async def ask(engine: Engine, prompt: Sequence[int], **fields: Any) -> Said:
    """The tokens of each choice."""
    fields = {"max_tokens": 40, "sampling": GREEDY, "ignore_eos": True} | fields
    said: Said = {}
    async for event in engine.stream(GenerationRequest(prompt=tuple(prompt), **fields)):
        if isinstance(event, Token):
            said.setdefault(event.choice, []).append(event.id)
        if isinstance(event, Finished):
            assert event.n_tokens == len(said[event.choice])
    return said


@pytest.fixture(scope="module")
def prompts(shared: LlamaBackend) -> list[list[int]]:
    return [prompt_of(shared.tokenizer, question) for question in QUESTIONS]


@pytest.fixture(scope="module")
def alone(gguf: Path, prompts: list[list[int]]) -> list[list[int]]:
    """What is said to each prompt by an engine that computes nothing else."""

    async def each() -> list[list[int]]:
        said = []
        for prompt in prompts:
            engine = Engine(load(gguf, n_slots=1)).start()
            said.append((await ask(engine, prompt))[0])
            engine.close()
        return said

    return asyncio.run(each())


@pytest.mark.anyio
async def test_greedy_answers_are_the_same_together_as_alone(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=6)
    together = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    assert [said[0] for said in together] == alone


@pytest.mark.anyio
@pytest.mark.parametrize("n_batch", [8, 33, 512])
async def test_greedy_answers_are_the_same_in_chunks_of_any_size(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]], n_batch: int
) -> None:
    engine = start(n_slots=3, n_batch=n_batch)
    together = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    assert [said[0] for said in together] == alone


@pytest.mark.anyio
async def test_greedy_answers_are_the_same_from_a_cached_prefix(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=2)
    for _ in range(2):
        for prompt, expected in zip(prompts, alone, strict=True):
            assert (await ask(engine, prompt))[0] == expected
    longer = [*prompts[0], *alone[0][:20]]
    assert (await ask(engine, longer, max_tokens=20))[0] == alone[0][20:]


@pytest.mark.anyio
async def test_greedy_choices_of_one_prompt_are_the_same(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=3)
    said = await ask(engine, prompts[3], n=5)
    assert said == dict.fromkeys(range(5), alone[3])


@pytest.mark.anyio
async def test_greedy_answers_are_the_same_when_they_have_to_give_way(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=6, n_ctx=256)
    wants = [ask(engine, prompt) for prompt in prompts * 2]
    together = await asyncio.gather(*wants)
    assert engine.snapshot().n_preempted > 0
    assert [said[0] for said in together] == alone * 2


@pytest.mark.anyio
async def test_a_seed_gives_the_same_answer_whatever_runs_beside_it(
    start: Callable[..., Engine], prompts: list[list[int]]
) -> None:
    def seeded(seed: int) -> SamplingParams:
        return SamplingParams(temperature=3.0, top_k=50, seed=seed)

    quiet = await ask(start(n_slots=1), prompts[0], sampling=seeded(7))
    engine = start(n_slots=5)
    others = [ask(engine, prompt, sampling=SamplingParams()) for prompt in prompts]
    beside, *_ = await asyncio.gather(ask(engine, prompts[0], sampling=seeded(7)), *others)
    assert beside == quiet
    assert await ask(engine, prompts[0], sampling=seeded(8)) != quiet


@pytest.mark.anyio
async def test_a_dry_penalty_breaks_up_what_repeats_itself(
    start: Callable[..., Engine], prompts: list[list[int]]
) -> None:
    engine = start()
    prompt = [*prompts[2], *([40, 41, 42, 43] * 6)]
    dry = SamplingParams(temperature=0, dry_multiplier=50.0)
    plain = SamplingParams(temperature=0, logit_bias=((40, 30.0),))
    biased = SamplingParams(temperature=0, logit_bias=((40, 30.0),), dry_multiplier=50.0)
    assert (await ask(engine, prompt, sampling=plain, max_tokens=1))[0] == [40]
    assert (await ask(engine, prompt, sampling=biased, max_tokens=1))[0] != [40]
    assert len((await ask(engine, prompt, sampling=dry))[0]) == 40
