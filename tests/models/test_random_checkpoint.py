"""The random model as safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFReader

from qwenkit.bench.random_checkpoint import write_random_checkpoint
from qwenkit.bench.random_model import N_VOCAB, write_random_gguf
from qwenkit.models.checkpoint import open_checkpoint
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.info import inspect_model
from qwenkit.models.vocabulary import read_vocabulary


def test_it_holds_the_numbers_of_the_gguf_file_of_the_same_seed(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path / "model", shape="tiny", seed=7)
    convert_checkpoint(tmp_path / "model", tmp_path / "converted.gguf")
    write_random_gguf(tmp_path / "direct.gguf", shape="tiny", seed=7)
    ours, theirs = (
        {tensor.name: tensor for tensor in GGUFReader(tmp_path / name).tensors}
        for name in ("converted.gguf", "direct.gguf")
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name].data, tensor.data, err_msg=name)


def test_it_is_a_whole_checkpoint_with_qwens_tokens(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, shape="tiny", chat_template="{{ messages }}")
    info = inspect_model(tmp_path)
    assert (info.architecture, info.n_vocab, info.n_ctx) == ("qwen3", N_VOCAB, 40960)
    assert info.has_chat_template
    words = read_vocabulary(tmp_path, n_vocab=N_VOCAB, default_ids={})
    assert words.tokens[151_645] == "<|im_end|>"
    assert words.special_ids == {"eos": 151_645, "pad": 151_643}


def test_the_same_seed_writes_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random_checkpoint(tmp_path / name, shape="tiny", seed=seed)
    a, b, c = ((tmp_path / n / "model.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c
    assert len(open_checkpoint(tmp_path / "a").tensors) == 24
