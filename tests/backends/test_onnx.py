"""ONNX Runtime behind the seam, on the demo model in float32: rows in a session, and generators."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.adapters.base import base_of_onnx
from qwenkit.backends.base import Aborted, AdapterUse, Backend, ComputeFailed, Rows
from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.backends.onnx.facts import OnnxOptions
from qwenkit.backends.onnx.generator import GeneratorBackend
from qwenkit.backends.onnx.layout import read_layout
from qwenkit.backends.onnx.session import SessionBackend
from qwenkit.errors import ModelCorrupt, ModelUnsupported

from .conftest import QUESTIONS, embed, one_by_one, prompt_of, rows, together

pytestmark = pytest.mark.parity

KINDS = {"session": SessionBackend, "genai": GeneratorBackend}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def load(folder: Path, kind: str, home: Path, **options: Any) -> Any:
    options = {"n_ctx": 256, "n_slots": 5, "n_batch": 128, "n_threads": 1} | options
    layout = read_layout(folder)
    return KINDS[kind](layout, content_id="demo", options=OnnxOptions(**options), home=home)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shared(demo_onnx: Path, kind: str, home: Path) -> Iterator[Backend]:
    backend = load(demo_onnx, kind, home)
    yield backend
    backend.close()


def emptied(backend: Backend) -> Backend:
    for slot in range(backend.capabilities.n_slots):
        backend.trim(slot, 0)
    return backend


@pytest.fixture
def backend(shared: Backend) -> Backend:
    return emptied(shared)


@pytest.fixture(scope="module")
def shared_session(demo_onnx: Path, home: Path) -> Iterator[SessionBackend]:
    backend = load(demo_onnx, "session", home)
    yield backend
    backend.close()


@pytest.fixture
def session(shared_session: SessionBackend) -> SessionBackend:
    emptied(shared_session)
    return shared_session


def test_rows_give_what_one_token_after_the_other_gives(backend: Backend) -> None:
    tokens = prompt_of(backend.tokenizer, QUESTIONS[3])[:40]
    alone = one_by_one(backend, tokens, slot=1)
    at_once = backend.decode(rows(tokens, slot=0, every=True))
    np.testing.assert_allclose(at_once, alone, atol=1e-4)


def test_sequences_in_one_decode_do_not_see_each_other(backend: Backend) -> None:
    prompts = [prompt_of(backend.tokenizer, question) for question in QUESTIONS[:5]]
    alone = [backend.decode(rows(t, slot=i))[0].copy() for i, t in enumerate(prompts)]
    emptied(backend)
    # Last tokens of two, one of them short before: chunks and single rows in one decode.
    for slot in (1, 3):
        backend.decode(rows(prompts[slot][:-1], slot=slot))
    parts = [rows(t, slot=i) for i, t in enumerate(prompts)]
    for slot in (1, 3):
        parts[slot] = rows(prompts[slot][-1:], start=len(prompts[slot]) - 1, slot=slot)
    order = [3, 0, 4, 1, 2]
    mixed = backend.decode(together(*(parts[slot] for slot in order)))
    np.testing.assert_allclose(mixed, [alone[slot] for slot in order], atol=1e-4)
    assert [backend.length(slot) for slot in range(5)] == [len(t) for t in prompts]


def test_logits_come_only_for_the_rows_that_want_them_and_in_their_order(
    backend: Backend,
) -> None:
    tokens = prompt_of(backend.tokenizer, QUESTIONS[3])[:24]
    every = backend.decode(rows(tokens, every=True)).copy()
    for places in ([1, 4], [20, 23], [12], [23], list(range(24)), []):
        emptied(backend)
        wanted = np.zeros(24, np.int8)
        wanted[places] = 1
        asked = rows(tokens)
        some = backend.decode(Rows(asked.tokens, asked.positions, asked.slots, wanted))
        assert some.shape == (len(places), backend.tokenizer.n_vocab)
        np.testing.assert_allclose(some, every[places], atol=1e-4)
        assert some.dtype == np.float32
        assert some.flags.writeable
        assert backend.length(0) == 24


def test_single_rows_that_want_nothing_are_computed_too(backend: Backend) -> None:
    expected = backend.decode(rows([5, 6], slot=2))[0].copy()
    first = rows([5], slot=0)
    quiet = Rows(first.tokens, first.positions, first.slots, np.zeros(1, np.int8))
    assert backend.decode(together(quiet, rows([6], slot=1))).shape[0] == 1
    assert (backend.length(0), backend.length(1)) == (1, 1)
    backend.trim(1, 0)
    np.testing.assert_allclose(backend.decode(rows([6], start=1))[0], expected, atol=1e-4)


def test_a_trimmed_slot_forgets_what_was_cut_off(backend: Backend) -> None:
    tokens = prompt_of(backend.tokenizer, QUESTIONS[1])
    expected = backend.decode(rows(tokens, slot=1))[0].copy()
    backend.decode(rows([*tokens[:6], 9, 9, 9], slot=0))
    backend.trim(0, 6)
    assert backend.length(0) == 6
    again = backend.decode(rows(tokens[6:], start=6, slot=0))[0]
    np.testing.assert_allclose(again, expected, atol=1e-4)


def test_a_row_can_be_filled_to_its_end(backend: Backend) -> None:
    n_ctx = backend.capabilities.n_ctx
    for start in range(0, n_ctx, 64):
        backend.decode(rows([5] * 64, start=start, slot=1))
    before = backend.decode(rows([5] * 20, slot=2, every=True)).copy()
    backend.decode(rows([5], slot=0))
    # The full row lies between two that go on.
    last = [backend.decode(rows([6], start=20, slot=2))[0].copy()]
    backend.trim(2, 20)
    both = backend.decode(together(rows([6], start=1, slot=0), rows([6], start=20, slot=2)))
    np.testing.assert_allclose(both[1], last[0], atol=1e-4)
    backend.trim(1, n_ctx - 1)
    filled = backend.decode(rows([5], start=n_ctx - 1, slot=1))
    assert np.isfinite(filled).all()
    assert np.isfinite(before).all()
    assert backend.length(1) == n_ctx


def test_a_decode_that_fails_says_so_and_the_slot_goes_on(backend: Backend) -> None:
    expected = backend.decode(rows([1, 2, 3, 4], slot=1))[0].copy()
    backend.decode(rows([1, 2, 3]))
    with pytest.raises(ComputeFailed):
        backend.decode(rows([10**6], start=3))
    kept = backend.length(0)
    assert kept in (0, 3)
    again = backend.decode(rows([1, 2, 3, 4][kept:], start=kept))[0]
    np.testing.assert_allclose(again, expected, atol=1e-4)


def test_an_abort_while_nothing_runs_does_nothing(backend: Backend) -> None:
    backend.abort()
    backend.decode(rows([1]))
    assert backend.length(0) == 1


def test_abort_ends_a_decode_and_the_slots_stay_sound(
    demo_onnx: Path, kind: str, home: Path
) -> None:
    backend = load(demo_onnx, kind, home, n_ctx=4096, n_batch=4096)
    expected = backend.decode(rows([1, 2, 3, 4], slot=1))[0].copy()
    backend.decode(rows([1, 2, 3]))
    outcome: list[str] = []

    def decode() -> None:
        try:
            backend.decode(rows([5] * 4000, start=3))
            outcome.append("computed")
        except Aborted:
            outcome.append("aborted")

    thread = threading.Thread(target=decode)
    thread.start()
    while thread.is_alive():  # one that comes before the decode has begun is not noticed
        backend.abort()
    thread.join()
    assert outcome == ["aborted"]
    kept = backend.length(0)
    assert kept in (0, 3)
    again = backend.decode(rows([1, 2, 3, 4][kept:], start=kept))[0]
    np.testing.assert_allclose(again, expected, atol=1e-4)
    backend.close()


def test_a_text_embedded_in_chunks_leaves_the_slots_alone(backend: Backend) -> None:
    tokens = prompt_of(backend.tokenizer, QUESTIONS[3] * 3)
    assert len(tokens) > 64
    backend.decode(rows(tokens[:5]))
    vector = embed(backend, tokens)
    assert vector.shape == (backend.capabilities.n_embd,)
    assert backend.length(0) == 5
    np.testing.assert_allclose(embed(backend, tokens), vector, atol=1e-5)


def test_a_copy_goes_on_where_its_source_is(session: SessionBackend) -> None:
    tokens = prompt_of(session.tokenizer, QUESTIONS[0])
    expected = session.decode(rows(tokens))[0].copy()
    session.copy(0, 3, len(tokens) - 2)
    session.trim(0, 0)
    assert (session.length(0), session.length(3)) == (0, len(tokens) - 2)
    again = session.decode(rows(tokens[-2:], start=len(tokens) - 2, slot=3))[0]
    np.testing.assert_allclose(again, expected, atol=1e-4)


def test_a_state_saved_and_loaded_goes_on_where_it_was(session: SessionBackend) -> None:
    tokens = prompt_of(session.tokenizer, QUESTIONS[0])
    head = len(tokens) - 3
    whole = session.decode(rows(tokens))[0].copy()
    session.trim(0, head)
    state = session.save_state(0)
    session.trim(0, 0)
    session.decode(rows([9] * 40, slot=2))
    session.trim(2, 0)
    assert session.load_state(2, state)
    assert session.length(2) == head
    again = session.decode(rows(tokens[head:], start=head, slot=2))[0]
    np.testing.assert_allclose(again, whole, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_change_places_keep_what_they_hold(session: SessionBackend, seed: int) -> None:
    draw = np.random.default_rng(seed)
    texts = draw.integers(0, 900, (5, 60))
    expected = []
    for text in texts:
        expected.append(session.decode(rows(text[:40].tolist(), every=True)).copy())
        session.trim(0, 0)
    at = [0] * 5
    for _ in range(60):
        active = [s for s in draw.permutation(5)[: draw.integers(1, 6)] if at[s] < 40]
        if not active:
            continue
        parts = [rows([int(texts[s][at[s]])], start=at[s], slot=int(s)) for s in active]
        logits = session.decode(together(*parts))
        np.testing.assert_allclose(logits, [expected[s][at[s]] for s in active], atol=1e-4)
        for slot in active:
            at[slot] += 1
        if draw.random() < 0.1:
            cut = int(draw.integers(5))
            at[cut] = min(at[cut], int(draw.integers(20)))
            session.trim(cut, at[cut])


Matrices = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def matrices_of(
    folder: Path, seed: int, targets: tuple[str, ...] = ("q_proj", "down_proj")
) -> Matrices:
    base = base_of_onnx(folder)
    draw = np.random.default_rng(seed)
    found = {}
    for module, slot in base.slots.items():
        if module.endswith(targets):
            n_out, n_in = base.layers[module]
            found[slot.a] = draw.normal(0, 0.05, (n_in, 4)).astype(np.float32)
            found[slot.b] = draw.normal(0, 0.05, (4, n_out)).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Matrices], Path]:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("adapters")
    n_written = 0

    def written(matrices: Matrices) -> Path:
        nonlocal n_written
        n_written += 1
        make = onnxruntime.OrtValue.ortvalue_from_numpy
        file = onnxruntime.AdapterFormat()
        file.set_parameters({name: make(matrix) for name, matrix in matrices.items()})
        path = folder / f"{n_written}.onnx_adapter"
        file.export_adapter(str(path))
        return path

    return written


def test_adapters_and_scales_take_turns_and_leave_no_trace(
    backend: Backend, demo_onnx: Path, write: Callable[[Matrices], Path]
) -> None:
    first, second = matrices_of(demo_onnx, 1), matrices_of(demo_onnx, 2, ("k_proj",))
    halved = {name: m * 0.5 if "lora_B" in name else m for name, m in first.items()}
    paths = [write(matrices) for matrices in (first, second, halved)]
    loaded = [backend.load_adapter(path) for path in paths]
    tokens = prompt_of(backend.tokenizer, QUESTIONS[0])

    def said(use: AdapterUse | None) -> Any:
        backend.trim(0, 0)
        return backend.decode(rows(tokens, adapter=use))[0].copy()

    plain = said(None)
    one, two = said(AdapterUse(loaded[0], 1.0)), said(AdapterUse(loaded[1], 1.0))
    assert np.abs(one - plain).max() > 0.1
    assert np.abs(two - one).max() > 0.1
    np.testing.assert_allclose(
        said(AdapterUse(loaded[0], 0.5)), said(AdapterUse(loaded[2], 1.0)), atol=1e-4
    )
    for scale in (0.1, 0.2, 0.3, 0.4, 0.6, 2.0):
        said(AdapterUse(loaded[0], scale))
    np.testing.assert_allclose(said(AdapterUse(loaded[0], 0.0)), plain, atol=1e-4)
    np.testing.assert_allclose(said(AdapterUse(loaded[0], 1.0)), one, atol=1e-5)
    for adapter in loaded:
        backend.trim(0, 0)
        backend.unload_adapter(adapter)
    np.testing.assert_allclose(said(None), plain, atol=1e-5)


def test_an_adapter_of_another_model_is_refused(
    backend: Backend, demo_onnx: Path, write: Callable[[Matrices], Path]
) -> None:
    good = matrices_of(demo_onnx, 1)
    name = next(name for name in good if "lora_A" in name)
    for bad in (
        {**good, "model.layers.99.self_attn.q_proj.lora_A.weight": good[name]},
        {**good, name: good[name][:-1]},
        {key: matrix for key, matrix in good.items() if key != name},
        {key: matrix.astype(np.float16) for key, matrix in good.items()},
    ):
        with pytest.raises(ModelCorrupt):
            backend.load_adapter(write(bad))


def test_text_has_the_same_tokens_on_both_runtimes(backend: Backend, demo_gguf: Path) -> None:
    options = LlamaOptions(n_ctx=256, n_slots=1, n_batch=32, n_threads=1)
    llama = LlamaBackend(demo_gguf, content_id="demo", options=options)
    ours, theirs = backend.tokenizer, llama.tokenizer
    assert ours.n_vocab == theirs.n_vocab
    assert ours.eos_tokens == theirs.eos_tokens
    assert ours.control_tokens == theirs.control_tokens
    assert ours.added_tokens == theirs.added_tokens
    for text in ("Hello, <|im_end|> wörld\n\n  x", "<think>\nhm</think>", *QUESTIONS):
        for special in (True, False):
            assert ours.encode(text, special=special) == theirs.encode(text, special=special)
    llama.close()


def test_the_model_says_what_it_is(backend: Backend, kind: str) -> None:
    facts = backend.facts
    assert facts.architecture == "qwen3"
    assert facts.description == "qwen3 2.9M fp32"
    assert facts.chat_template is not None
    assert facts.runtime.startswith("ONNX Runtime")
    assert ("GenAI" in facts.runtime) == (kind == "genai")


def test_states_of_the_two_ways_are_not_taken_for_each_other(demo_onnx: Path, home: Path) -> None:
    prints = []
    for kind in KINDS:
        backend = load(demo_onnx, kind, home)
        prints.append(backend.facts.fingerprint)
        backend.close()
    assert len(set(prints)) == 2


def changed(folder: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(folder, target)
    path = target / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")
    return target


def unshare(config: dict[str, Any]) -> None:
    config["search"]["past_present_share_buffer"] = False


def test_a_layout_that_is_not_known_is_left_to_genai(
    demo_onnx: Path, tmp_path: Path, home: Path
) -> None:
    odd = changed(demo_onnx, tmp_path / "odd", unshare)
    with pytest.raises(ModelUnsupported) as caught:
        load(odd, "session", home)
    assert "ONNX_DECODER=genai" in caught.value.hint


def test_a_model_without_a_cache_in_place_is_computed_in_chunks_all_the_same(
    demo_onnx: Path, tmp_path: Path, home: Path
) -> None:
    backend = load(changed(demo_onnx, tmp_path / "odd", unshare), "genai", home)
    tokens = prompt_of(backend.tokenizer, QUESTIONS[3])[:24]
    expected = backend.decode(rows(tokens, slot=1, every=True)).copy()
    backend.decode(rows(tokens[:10]))
    chunk = backend.decode(rows(tokens[10:20], start=10, every=True)).copy()
    np.testing.assert_allclose(chunk, expected[10:20], atol=1e-4)
    backend.trim(0, 12)
    last = backend.decode(rows(tokens[12:], start=12))
    np.testing.assert_allclose(last[0], expected[-1], atol=1e-4)
    backend.trim(0, 0)
    np.testing.assert_allclose(backend.decode(rows(tokens))[0], expected[-1], atol=1e-4)
    vector = embed(backend, tokens * 4)
    assert np.isfinite(vector).all()
    backend.close()


def test_a_folder_whose_graph_is_another_is_refused(
    demo_onnx: Path, tmp_path: Path, home: Path
) -> None:
    def add_layer(config: dict[str, Any]) -> None:
        config["model"]["decoder"]["num_hidden_layers"] += 1

    with pytest.raises(ModelUnsupported):
        load(changed(demo_onnx, tmp_path / "odd", add_layer), "session", home)


def test_a_broken_graph_is_corrupt(demo_onnx: Path, kind: str, tmp_path: Path, home: Path) -> None:
    broken = changed(demo_onnx, tmp_path / "broken", lambda _: None)
    (broken / "model.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ModelCorrupt):
        load(broken, kind, home)
