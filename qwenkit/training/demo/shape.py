"""The demo model's shape: Qwen3 in miniature. Values only, spelled as the checkpoint spells them.

Hidden size, query width and FFN width are multiples of 256, so that every K-quant fits.
"""

from __future__ import annotations

from typing import Any, Final

from qwenkit.training.demo.tokenizer import ADDED_TOKENS, FIRST_ADDED_ID, VOCAB_SIZE

_ADDED_IDS: Final = {text: FIRST_ADDED_ID + i for i, (text, _special) in enumerate(ADDED_TOKENS)}
PAD_ID: Final = _ADDED_IDS["<|endoftext|>"]
EOS_ID: Final = _ADDED_IDS["<|im_end|>"]

CONFIG: Final[dict[str, Any]] = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": EOS_ID,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 4096,
    "max_window_layers": 4,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": PAD_ID,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1_000_000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCAB_SIZE,
}

GENERATION_CONFIG: Final[dict[str, Any]] = {
    "do_sample": True,
    "eos_token_id": [EOS_ID, PAD_ID],
    "pad_token_id": PAD_ID,
    "temperature": 0.6,
    "top_k": 20,
    "top_p": 0.95,
}
"""Qwen3's own sampling for thinking, and both tokens that end an answer."""
