"""The model of random weights that speed is measured with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from qwenkit.bench.random_model import N_VOCAB, synthetic_vocabulary, write_random_gguf
from qwenkit.models.gguf_check import check_gguf
from qwenkit.models.info import inspect_model


def test_the_made_up_vocabulary_is_a_byte_level_bpe_of_qwens_size() -> None:
    pieces, merges = synthetic_vocabulary()
    assert len(pieces) == len(set(pieces)) == 151_643
    assert len(merges) == len(set(merges)) == 151_387
    known = set(pieces)
    for merge in merges[::997]:
        left, right = merge.split(" ")
        assert {left, right, left + right} <= known


def test_it_loads_speaks_and_never_ends_by_itself(tmp_path: Path, tiny: SimpleNamespace) -> None:
    path = tmp_path / "m.gguf"
    write_random_gguf(path, shape="tiny", chat_template="{{ messages }}")
    header = check_gguf(path)
    assert header.strings("tokenizer.ggml.tokens")[151_667] == "<think>"
    assert inspect_model(path).n_vocab == N_VOCAB
    with tiny.load_llama(path) as model:
        tokens = model.tokenize("Hello <|im_end|>", special=True)
        assert tokens[-1] == 151_645
        logits = model.logits(tokens)
    assert np.isfinite(logits).all()
    assert 1 < logits.std() < 4
    assert np.argsort(logits)[:, -20:].max() < 151_643


def test_the_same_seed_writes_the_same_file_and_a_vocabulary_can_be_taken_over(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    write_random_gguf(first, shape="tiny", seed=1)
    write_random_gguf(second, shape="tiny", seed=1, vocab_from=first)
    assert first.read_bytes() == second.read_bytes()
