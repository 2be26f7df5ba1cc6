"""Compares an exported graph with `transformers` in float32, prompt by prompt.

The graph runs as it is served: prompts of different lengths as one batch, and a prompt in two parts
with the first part's keys and values given back. Both must say what transformers says of each
prompt alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qwenkit.errors import ModelCorrupt
from qwenkit.export.extras import import_extra
from qwenkit.export.job import GRAPH_NAME
from qwenkit.export.quiet import quiet
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.models.qwen3 import Qwen3Config

Float32: TypeAlias = NDArray[np.float32]
Tokens: TypeAlias = NDArray[np.int64]

MAX_FP32_ERROR = 1e-3
PROMPTS = (
    "Hello!",
    "<|im_start|>user\nWhat can you do?<|im_end|>\n<|im_start|>assistant\n",
    "The quick brown fox jumps over the lazy dog. 0123456789 * 2 = ?",
    (
        "<|im_start|>system\nYou answer in one sentence.<|im_end|>\n<|im_start|>user\nHow do I "
        "serve a model on my own machine, and how do I teach it something new?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
    (
        "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
        "    return total / len(values)\n"
    ),
)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """How far the graph is from transformers on one prompt.

    Args:
        n_tokens: Tokens, every one of them compared.
        max_error: Largest difference of two logits.
        divergence: Mean Kullback-Leibler divergence from transformers' distribution, in nats.
        agreement: Share of tokens after which both find the same next token likeliest.
    """

    n_tokens: int
    max_error: float
    divergence: float
    agreement: float


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """How far an exported graph is from transformers."""

    prompts: tuple[PromptCheck, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens compared."""
        return sum(prompt.n_tokens for prompt in self.prompts)

    @property
    def max_error(self) -> float:
        """Largest difference of two logits."""
        return float(np.max([prompt.max_error for prompt in self.prompts]))

    @property
    def divergence(self) -> float:
        """Mean divergence of a token."""
        return sum(p.divergence * p.n_tokens for p in self.prompts) / self.n_tokens

    @property
    def agreement(self) -> float:
        """Share of all tokens after which both find the same next token likeliest."""
        return sum(p.agreement * p.n_tokens for p in self.prompts) / self.n_tokens


def check_export(
    folder: Path,
    reference: Path,
    config: Qwen3Config,
    *,
    prompts: Sequence[Sequence[int]] = (),
    progress: ProgressFactory = silent,
) -> ExportCheck:
    """Compare an exported folder with the checkpoint that it was made from.

    Args:
        folder: Holds `model.onnx`.
        reference: Checkpoint whose `config.json` says what the graph computes.
        config: That configuration; texts are cut to its context.
        prompts: Tokens to compare; without any, a few texts.
        progress: Told the prompts done.

    Raises:
        MissingExtra: `torch`, `transformers` or `onnxruntime` is not installed.
    """
    texts = [np.array(prompt, np.int64) for prompt in prompts] or _tokens(reference, config)
    graph = Graph(folder, config)
    found = [*graph.batch(texts), graph.in_parts(max(texts, key=len))]
    texts.append(max(texts, key=len))
    model = _reference(reference)
    with progress("Checking", total=len(texts), unit="prompts") as advance:
        checks = []
        for text, logits in zip(texts, found, strict=True):
            checks.append(_compare(logits, model(text)))
            advance(1)
    return ExportCheck(tuple(checks))


def require_close(check: ExportCheck, *, is_fp32: bool) -> None:
    """Refuse a graph that doesn't compute the model.

    Raises:
        ModelCorrupt: Logits that are no numbers, or further off in fp32 than rounding explains.
    """
    if not np.isfinite(check.max_error):
        raise ModelCorrupt("the exported model's logits are no finite numbers")
    if is_fp32 and check.max_error > MAX_FP32_ERROR:
        raise ModelCorrupt(
            f"the exported model's logits are up to {check.max_error:.2g} off those of "
            f"transformers, more than the {MAX_FP32_ERROR:g} that rounding explains in fp32",
            hint="please report this with the versions that `qwenkit doctor` shows",
        )


class Graph:
    """An exported graph in an onnxruntime session, with the cache passed in and out.

    Args:
        folder: Holds `model.onnx`.
        config: What the graph computes.
        n_threads: Threads of a run; 0 leaves it to onnxruntime.
    """

    def __init__(self, folder: Path, config: Qwen3Config, *, n_threads: int = 0) -> None:
        ort = import_extra("onnxruntime")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = n_threads
        self._session = ort.InferenceSession(
            folder / GRAPH_NAME, options, providers=["CPUExecutionProvider"]
        )
        self._config = config
        self._inputs = {each.name: _TYPES.get(each.type) for each in self._session.get_inputs()}
        self._caches = [name for name in self._inputs if name.startswith("past_key_values.")]

    def batch(self, texts: Sequence[Tokens]) -> list[Float32]:
        """The logits of each text [n_tokens, n_vocab], all texts computed together."""
        shape = (len(texts), max(map(len, texts)))
        tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, text in enumerate(texts):
            tokens[row, : len(text)], mask[row, : len(text)] = text, 1
        logits, _ = self.run(tokens, mask, self.empty(len(texts)))
        return [logits[row, : len(text)] for row, text in enumerate(texts)]

    def in_parts(self, text: Tokens) -> Float32:
        """A text's logits, computed in two parts."""
        half, whole = len(text) // 2, np.ones((1, len(text)), np.int64)
        if half == 0:
            return self.batch([text])[0]
        first, caches = self.run(text[None, :half], whole[:, :half], self.empty(1))
        second, _ = self.run(text[None, half:], whole, caches)
        return np.concatenate([first[0], second[0]])

    def run(
        self,
        tokens: Tokens,
        mask: Tokens,
        caches: dict[str, NDArray[Any]],
        bound: dict[str, NDArray[Any]] | None = None,
    ) -> tuple[Float32, dict[str, NDArray[Any]]]:
        """Logits and the new caches; `bound` holds an adapter's matrices by their slots' names."""
        wanted = ["logits", *(name.replace("past_key_values", "present") for name in self._caches)]
        logits, *presents = self._session.run(
            wanted, self._feed(tokens, mask, caches) | (bound or {})
        )
        return logits.astype(np.float32), dict(zip(self._caches, presents, strict=True))

    def hidden_states(self, tokens: Tokens) -> Float32:
        """The hidden states of one text, [n_tokens, n_embd]."""
        mask = np.ones((1, len(tokens)), np.int64)
        feed = self._feed(tokens[None], mask, self.empty(1))
        [states] = self._session.run(["hidden_states"], feed)
        return np.asarray(states[0], np.float32)

    def empty(self, n_rows: int) -> dict[str, NDArray[Any]]:
        """Caches that hold nothing yet."""
        shape = (n_rows, self._config.n_kv_heads, 0, self._config.head_dim)
        return {name: np.zeros(shape, self._inputs[name]) for name in self._caches}

    def _feed(
        self, tokens: Tokens, mask: Tokens, caches: dict[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        feed = {"input_ids": tokens, "attention_mask": mask, **caches}
        if "position_ids" in self._inputs:
            positions = np.arange(mask.shape[1] - tokens.shape[1], mask.shape[1])
            feed["position_ids"] = np.broadcast_to(positions, tokens.shape).astype(np.int64)
        return feed


def _tokens(reference: Path, config: Qwen3Config) -> list[Tokens]:
    tokenizers = import_extra("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(reference / "tokenizer.json"))
    encoded = [tokenizer.encode(text).ids[: config.n_ctx] for text in PROMPTS]
    return [np.array(ids, np.int64) for ids in encoded]


def _reference(folder: Path) -> Any:
    torch, transformers = import_extra("torch"), import_extra("transformers")
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        ).eval()

    def logits(text: Tokens) -> Float32:
        with torch.no_grad():
            output: Float32 = model(torch.from_numpy(text[None])).logits[0].numpy()
        return output

    return logits


def _compare(found: Float32, right: Float32) -> PromptCheck:
    likely = _log_softmax(right)
    divergence = np.sum(np.exp(likely) * (likely - _log_softmax(found)), axis=-1)
    return PromptCheck(
        n_tokens=len(right),
        max_error=float(np.abs(found - right).max()),
        # Rounding can take it a hair below 0.
        divergence=max(0.0, float(divergence.mean())),
        agreement=float(np.mean(found.argmax(-1) == right.argmax(-1))),
    )


def _log_softmax(logits: Float32) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
