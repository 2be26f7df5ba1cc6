"""A Hugging Face tokenizer as llama.cpp's vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import ModelCorrupt, ModelError, ModelUnsupported
from qwenkit.models.vocabulary import Vocabulary, read_vocabulary

Change = Callable[[dict[str, Any]], Any]


def change(path: Path, edit: Change) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def read(folder: Path) -> Vocabulary:
    return read_vocabulary(folder, n_vocab=320, default_ids={"eos": 1, "bos": 2})


def test_the_tokenizers_own_special_tokens_win_over_the_models(checkpoint: Path) -> None:
    change(checkpoint / "tokenizer_config.json", lambda c: c.pop("pad_token"))
    vocabulary = read(checkpoint)
    im_end = vocabulary.tokens.index("<|im_end|>")
    assert vocabulary.special_ids == {"eos": im_end, "bos": 2}


def test_a_special_token_may_be_spelled_as_an_object(checkpoint: Path) -> None:
    eos = {"content": "<|endoftext|>", "special": True}
    change(checkpoint / "tokenizer_config.json", lambda c: c.update(eos_token=eos))
    vocabulary = read(checkpoint)
    assert vocabulary.tokens[vocabulary.special_ids["eos"]] == "<|endoftext|>"


def test_without_a_tokenizer_config_the_vocabulary_still_stands(checkpoint: Path) -> None:
    (checkpoint / "tokenizer_config.json").unlink()
    vocabulary = read(checkpoint)
    assert vocabulary.special_ids == {"eos": 1, "bos": 2}
    assert vocabulary.chat_template == ""


def test_of_several_templates_the_default_one_is_taken(checkpoint: Path) -> None:
    templates = [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}]
    change(checkpoint / "tokenizer_config.json", lambda c: c.update(chat_template=templates))
    assert read(checkpoint).chat_template == "yes"


def test_tokens_that_only_the_config_adds_are_there_too(checkpoint: Path) -> None:
    decoder = {"300": {"content": "<new>", "special": False}}
    change(checkpoint / "tokenizer_config.json", lambda c: c.update(added_tokens_decoder=decoder))
    vocabulary = read(checkpoint)
    assert (vocabulary.tokens[300], vocabulary.kinds[300]) == ("<new>", 4)


def test_merges_may_be_pairs_or_text(checkpoint: Path) -> None:
    pairs = read(checkpoint).merges
    assert pairs
    change(checkpoint / "tokenizer.json", lambda t: t["model"].update(merges=pairs))
    assert read(checkpoint).merges == pairs


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (lambda t: t["model"].update(type="Unigram"), ModelUnsupported, "BPE"),
        (lambda t: t.pop("model"), ModelUnsupported, "BPE"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), ModelUnsupported, "splits"),
        (lambda t: t["model"].update(merges=[["a"]]), ModelCorrupt, "merges"),
        (lambda t: t["model"].update(merges=None), ModelCorrupt, "merges"),
        (lambda t: t["model"].update(merges=["a b c"]), ModelCorrupt, "merge"),
        (lambda t: t["model"]["vocab"].update(a=0, b=0), ModelCorrupt, "same id"),
        (lambda t: t["added_tokens"].append({"id": "x"}), ModelCorrupt, "added tokens"),
        (lambda t: t["added_tokens"].append({"id": -1, "content": "x"}), ModelCorrupt, "-1"),
        (lambda t: t["model"]["vocab"].update(a="0"), ModelCorrupt, "no valid id"),
        (lambda t: t["added_tokens"][0].update(content="Ġh"), ModelCorrupt, "two ids"),
        (lambda t: t.update(added_tokens=7), ModelCorrupt, "added tokens"),
    ],
)
def test_what_llama_cpp_would_misread_is_refused(
    checkpoint: Path, edit: Change, error: type[ModelError], words: str
) -> None:
    change(checkpoint / "tokenizer.json", edit)
    with pytest.raises(error, match=words):
        read(checkpoint)
