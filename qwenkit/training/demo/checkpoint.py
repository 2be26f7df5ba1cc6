"""Writes a model and its tokenizer as a Hugging Face checkpoint in FP16, and reads them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenkit.errors import ModelNotFound
from qwenkit.models.atomic import atomic_file, exclusive
from qwenkit.training.demo.corpus import TEMPLATE
from qwenkit.training.demo.extras import import_tokenizers, import_torch, import_transformers
from qwenkit.training.demo.shape import CONFIG, GENERATION_CONFIG
from qwenkit.training.demo.tokenizer import ADDED_TOKENS, FIRST_ADDED_ID

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def round_to_fp16(model: Any) -> Any:
    """The same float32 model with the weights that its FP16 checkpoint will hold."""
    return model.half().float()


def write_checkpoint(folder: Path, *, model: Any, tokenizer: Tokenizer) -> None:
    """Write every file of the checkpoint, each of them whole or not at all; weights come last.

    Raises:
        MissingExtra: `torch` is not installed.
    """
    texts = {
        "tokenizer.json": tokenizer.to_str(pretty=False),
        "tokenizer_config.json": _as_text(tokenizer_config(TEMPLATE.source)),
        "config.json": _as_text(CONFIG),
        "generation_config.json": _as_text(GENERATION_CONFIG),
    }
    with exclusive(folder):
        for name, text in texts.items():
            with atomic_file(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        with atomic_file(folder / "model.safetensors") as partial:
            partial.write_bytes(_packed_weights(model))


def read_checkpoint(folder: Path) -> tuple[Any, Tokenizer]:
    """The model in float32, and its tokenizer.

    Raises:
        MissingExtra: `torch`, `transformers` or `tokenizers` is not installed.
        ModelNotFound: There is no checkpoint in the folder.
    """
    torch, transformers = import_torch(), import_transformers()
    if not (folder / "model.safetensors").exists():
        raise ModelNotFound(
            f"there is no checkpoint in `{folder}`", hint="python -m qwenkit.training.demo"
        )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = import_tokenizers().Tokenizer.from_file(str(folder / "tokenizer.json"))
    return model.eval(), tokenizer


def _packed_weights(model: Any) -> bytes:
    import_torch()
    from safetensors.torch import save

    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    packed: bytes = save(tensors, metadata={"format": "pt"})
    return packed


def tokenizer_config(template: str) -> dict[str, Any]:
    """`tokenizer_config.json` as Qwen3 spells it."""
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(FIRST_ADDED_ID + index): {
                "content": text,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": special,
            }
            for index, (text, special) in enumerate(ADDED_TOKENS)
        },
        "additional_special_tokens": [text for text, special in ADDED_TOKENS[1:] if special],
        "bos_token": None,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": CONFIG["max_position_embeddings"],
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def _as_text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
