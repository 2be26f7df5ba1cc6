"""The demo model's tokenizer: byte-level BPE with Qwen's pre-tokenizer and Qwen3's added tokens.

Imports `tokenizers` inside functions; the numbers and names need nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from qwenkit.training.demo.extras import import_tokenizers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE: Final = 1024
"""All ids, the added tokens included."""

PRE_TOKENIZER: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

ADDED_TOKENS: Final = (
    ("<|endoftext|>", True),
    ("<|im_start|>", True),
    ("<|im_end|>", True),
    ("<|object_ref_start|>", True),
    ("<|object_ref_end|>", True),
    ("<|box_start|>", True),
    ("<|box_end|>", True),
    ("<|quad_start|>", True),
    ("<|quad_end|>", True),
    ("<|vision_start|>", True),
    ("<|vision_end|>", True),
    ("<|vision_pad|>", True),
    ("<|image_pad|>", True),
    ("<|video_pad|>", True),
    ("<tool_call>", False),
    ("</tool_call>", False),
    ("<|fim_prefix|>", False),
    ("<|fim_middle|>", False),
    ("<|fim_suffix|>", False),
    ("<|fim_pad|>", False),
    ("<|repo_name|>", False),
    ("<|file_sep|>", False),
    ("<tool_response>", False),
    ("</tool_response>", False),
    ("<think>", False),
    ("</think>", False),
)
"""Qwen3's added tokens in Qwen3's order; True marks those that are "special"."""

FIRST_ADDED_ID: Final = VOCAB_SIZE - len(ADDED_TOKENS)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of exactly `VOCAB_SIZE` ids whose merges come from `texts`.

    Raises:
        MissingExtra: `tokenizers` is not installed.
    """
    hf = import_tokenizers()
    tokenizer: Tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.normalizer = hf.normalizers.NFC()
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Sequence(
        [
            hf.pre_tokenizers.Split(hf.Regex(PRE_TOKENIZER), behavior="isolated"),
            hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = hf.decoders.ByteLevel()
    tokenizer.post_processor = hf.processors.ByteLevel(trim_offsets=False)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=FIRST_ADDED_ID,
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(
        [hf.AddedToken(text, normalized=False, special=special) for text, special in ADDED_TOKENS]
    )
    return tokenizer


def strip_added(text: str) -> str:
    """The text with line ends for its added tokens, so that no merge learns their letters."""
    for token, _special in ADDED_TOKENS:
        text = text.replace(token, "\n")
    return text
