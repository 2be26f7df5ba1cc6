"""What both ways of decoding an ONNX model share: how to load it, and what it says of itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from qwenkit.backends.base import ModelFacts
from qwenkit.backends.onnx.layout import Layout

# Rows with logits beyond one a slot, for guesses and for prompts that are scored.
_EXTRA_OUTPUTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOptions:
    """How to load a model.

    Args:
        n_ctx: Tokens that each sequence can hold.
        n_slots: Sequences that can be decoded together.
        n_batch: Most rows of one decode.
        n_threads: CPU threads.
        device: `cpu` or `cuda`.
    """

    n_ctx: int
    n_slots: int
    n_batch: int
    n_threads: int
    device: str = "cpu"


def n_outputs(options: OnnxOptions) -> int:
    """Most rows with logits in one decode."""
    return min(options.n_slots + _EXTRA_OUTPUTS, options.n_batch)


def onnx_facts(
    layout: Layout,
    options: OnnxOptions,
    *,
    content_id: str,
    chat_template: str | None,
    runtime: str,
    decoder: str,
) -> ModelFacts:
    """What a loaded model says of itself.

    Args:
        layout: The model.
        options: How it was loaded.
        content_id: Short hash of the weights.
        chat_template: Jinja source that came with it.
        runtime: Name and version of the runtime.
        decoder: Which of the two ways; their states are not alike.
    """
    depends_on = (content_id, options.device, decoder)
    return ModelFacts(
        architecture=layout.architecture,
        description=layout.description,
        n_params=layout.n_params,
        size_bytes=layout.size_bytes,
        n_ctx_train=layout.n_ctx,
        chat_template=chat_template,
        runtime=runtime,
        fingerprint=hashlib.sha256(repr(depends_on).encode()).hexdigest()[:12],
    )
