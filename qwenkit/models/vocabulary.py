"""A Hugging Face tokenizer as llama.cpp's vocabulary: tokens, their kinds, merges, template.

Reads `tokenizer.json` itself, so neither transformers nor tokenizers is needed. Only Qwen's
byte-level BPE passes: llama.cpp knows its splitting rule by the name `qwen2`, and another rule
under that name would tokenise wrongly without a word. Source: llama.cpp's conversion/base.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from qwenkit.errors import ModelCorrupt, ModelUnsupported
from qwenkit.models.checkpoint import read_json
from qwenkit.models.gguf_file import Metadata

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Everything that turns text into tokens, and the chat template.

    Args:
        tokens: By id; ids without a token are filled with `[PAD…]`.
        kinds: One `TokenType` for each token.
        merges: Pairs joined by a space, best first.
        special_ids: Ids of `bos`, `eos` and `pad`, as far as the checkpoint names them.
        chat_template: Jinja source; empty when there is none.
    """

    tokens: list[str] = field(repr=False)
    kinds: list[int] = field(repr=False)
    merges: list[str] = field(repr=False)
    special_ids: dict[str, int]
    chat_template: str = field(repr=False)


def read_vocabulary(folder: Path, *, n_vocab: int, default_ids: dict[str, int]) -> Vocabulary:
    """Read a checkpoint folder's tokenizer.

    Args:
        folder: Holds `tokenizer.json`, and may hold `tokenizer_config.json`.
        n_vocab: Rows of the embedding; every row gets a token.
        default_ids: Special ids from config.json, used where the tokenizer names none.

    Raises:
        ModelNotFound: There is no `tokenizer.json`.
        ModelUnsupported: Not Qwen's kind of tokenizer.
        ModelCorrupt: An id beyond `n_vocab`, two tokens with one id, or broken JSON.
    """
    tokenizer = read_json(folder / "tokenizer.json")
    config_path = folder / "tokenizer_config.json"
    config = read_json(config_path) if config_path.exists() else {}
    pieces = _check_kind(tokenizer)
    added = _added_tokens(tokenizer, config)
    tokens, kinds = _number_tokens(pieces, added, n_vocab)
    ids = {entry["content"]: token_id for token_id, entry in added.items()}
    return Vocabulary(
        tokens=tokens,
        kinds=kinds,
        merges=_merges(tokenizer["model"].get("merges")),
        special_ids=default_ids | _special_ids(config, pieces | ids),
        chat_template=_chat_template(folder, config),
    )


def add_metadata(data: Metadata, vocabulary: Vocabulary) -> None:
    """Add the tokenizer's keys."""
    data.string("tokenizer.ggml.model", "gpt2")
    data.string("tokenizer.ggml.pre", "qwen2")
    data.array("tokenizer.ggml.tokens", vocabulary.tokens)
    data.array("tokenizer.ggml.token_type", vocabulary.kinds)
    data.array("tokenizer.ggml.merges", vocabulary.merges)
    names = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "padding_token_id"}
    for kind, name in names.items():
        if kind in vocabulary.special_ids:
            data.uint(f"tokenizer.ggml.{name}", vocabulary.special_ids[kind])
    # Qwen3 has no BOS, whatever config.json says.
    data.bool("tokenizer.ggml.add_bos_token", False)
    data.bool("tokenizer.ggml.add_eos_token", False)
    data.string("tokenizer.chat_template", vocabulary.chat_template)


def _check_kind(tokenizer: dict[str, Any]) -> dict[str, int]:
    match tokenizer.get("model"):
        case {"type": "BPE", "vocab": dict(pieces)}:
            pass
        case _:
            raise ModelUnsupported("the tokenizer is not a BPE")
    if _split_rule(tokenizer.get("pre_tokenizer")) != QWEN2_SPLIT:
        raise ModelUnsupported("the tokenizer splits text by another rule than Qwen's")
    return pieces


def _split_rule(pre_tokenizer: Any) -> str | None:
    match pre_tokenizer:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(rule)}, "behavior": "Isolated"},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return rule
    return None


def _added_tokens(tokenizer: dict[str, Any], config: dict[str, Any]) -> dict[int, dict[str, Any]]:
    try:
        decoder = config.get("added_tokens_decoder", {})
        entries = [{**entry, "id": int(token_id)} for token_id, entry in decoder.items()]
        entries += tokenizer.get("added_tokens", [])
        return {int(entry["id"]): {**entry, "content": str(entry["content"])} for entry in entries}
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ModelCorrupt(f"the tokenizer's added tokens are malformed: {exc!r}") from exc


def _number_tokens(
    pieces: dict[str, int], added: dict[int, dict[str, Any]], n_vocab: int
) -> tuple[list[str], list[int]]:
    _check_ids(list(pieces.values()), n_vocab)
    _check_ids(list(added), n_vocab)
    tokens = [f"[PAD{i}]" for i in range(n_vocab)]
    kinds = [int(TokenType.UNUSED)] * n_vocab
    for piece, token_id in pieces.items():
        tokens[token_id], kinds[token_id] = piece, int(TokenType.NORMAL)
    for token_id, entry in added.items():
        tokens[token_id], kinds[token_id] = entry["content"], _added_kind(entry)
    if len(set(tokens)) < n_vocab:
        raise ModelCorrupt("the tokenizer has one token under two ids")
    return tokens, kinds


def _check_ids(ids: list[Any], n_vocab: int) -> None:
    for token_id in ids:
        if not isinstance(token_id, int) or token_id < 0:
            raise ModelCorrupt(f"the tokenizer has a token with no valid id: {token_id!r}")
    if len(set(ids)) < len(ids):
        raise ModelCorrupt("two pieces of the tokenizer have the same id")
    if (beyond := max(ids, default=0)) >= n_vocab:
        raise ModelCorrupt(
            f"the tokenizer has the id {beyond}, the embedding has {n_vocab} rows",
            hint="the tokenizer belongs to another model, or the embedding was not resized",
        )


def _added_kind(entry: dict[str, Any]) -> int:
    # As upstream: what looks like `<|…|>` is control even where the tokenizer says it is not
    # special, or a user could type it. `<think>` and `<tool_call>` stay visible text.
    text = entry["content"]
    control = entry.get("special", False) or (text.startswith("<|") and text.endswith("|>"))
    return int(TokenType.CONTROL if control else TokenType.USER_DEFINED)


def _merges(merges: Any) -> list[str]:
    try:
        joined = [pair if isinstance(pair, str) else f"{pair[0]} {pair[1]}" for pair in merges]
    except (TypeError, IndexError, KeyError) as exc:
        raise ModelCorrupt("the tokenizer's merges are malformed") from exc
    if any(pair.count(" ") != 1 for pair in joined):
        raise ModelCorrupt("a merge of the tokenizer is not a pair")
    return joined


def _special_ids(config: dict[str, Any], ids: dict[str, int]) -> dict[str, int]:
    found = {}
    for kind in ("bos", "eos", "pad"):
        token = config.get(f"{kind}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if text in ids:
            found[kind] = ids[text]
    return found


def _chat_template(folder: Path, config: dict[str, Any]) -> str:
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    if isinstance(template, str):
        return template
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
