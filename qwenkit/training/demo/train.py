"""Trains the demo model: Qwen3 in miniature, float32, on rows of packed text.

Torch and transformers are imported inside functions. The same seed, thread count and machine give
the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from qwenkit.training.demo import corpus, packing
from qwenkit.training.demo.extras import import_torch, import_transformers
from qwenkit.training.demo.initial import initialise
from qwenkit.training.demo.muon import Muon
from qwenkit.training.demo.shape import CONFIG, PAD_ID

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run depends on, besides the corpus.

    Args:
        n_steps: Optimiser steps; each sees one short and one long batch.
        n_threads: Threads of torch.
        short: Length and number of the rows that hold talk and prose.
        long: Length and number of the rows that hold scenes with tools and long talk.
        matrix_rate: Peak learning rate of Muon.
        embedding_rate: Peak learning rate of AdamW for the embedding.
        output_rate: The same for the output matrix.
        norm_rate: The same for the norms' gains.
        seed: Of the text and of the initial weights.
    """

    n_steps: int = 700
    n_threads: int = 2
    short: tuple[int, int] = (384, 4)
    long: tuple[int, int] = (1024, 2)
    matrix_rate: float = 0.02
    embedding_rate: float = 0.01
    output_rate: float = 0.004
    norm_rate: float = 0.01
    seed: int = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    step: int
    n_steps: int
    loss: float
    n_tokens: int


def encode_scene(scene: corpus.Scene, tokenizer: Tokenizer) -> packing.Scene:
    """The scene as ids, each part on its own, as a server tokenises a prompt before it decodes."""

    def ids(text: str) -> list[int]:
        encoded: list[int] = tokenizer.encode(text).ids
        return encoded

    pieces = [packing.Piece(ids(sample.prompt), ids(sample.completion)) for sample in scene]
    return packing.Scene(ids(scene[0].shared), pieces)


def _batches(
    scenes: Iterator[corpus.Scene], tokenizer: Tokenizer, shape: tuple[int, int]
) -> Iterator[list[packing.Row]]:
    length, n_rows = shape
    encoded = (encode_scene(scene, tokenizer) for scene in scenes)
    rows = packing.pack(encoded, length=length, pad_id=PAD_ID)
    while batch := list(islice(rows, n_rows)):
        yield batch


def attention_mask(rows: list[packing.Row]) -> Tensor:
    """Who sees whom, as (rows, 1, length, length) of bool."""
    torch = import_torch()
    segments = torch.tensor([row.segments for row in rows])
    parents = torch.tensor([row.parents for row in rows])
    same = segments[:, :, None] == segments[:, None, :]
    parent = (parents[:, :, None] == segments[:, None, :]) & (parents[:, :, None] >= 0)
    seen = (same | parent).tril()
    result: Tensor = seen[:, None]
    return result


def loss_of(model: Any, rows: list[packing.Row]) -> tuple[Tensor, int]:
    """The summed cross-entropy of the learned tokens, and their number."""
    torch = import_torch()
    ids = torch.tensor([row.ids for row in rows])
    learned = torch.tensor([row.learned for row in rows])
    hidden = model.model(
        input_ids=ids,
        attention_mask=attention_mask(rows),
        position_ids=torch.tensor([row.positions for row in rows]),
        use_cache=False,
    ).last_hidden_state
    before = learned.roll(-1, dims=1)
    before[:, -1] = False
    targets = ids.roll(-1, dims=1)[before]
    loss = torch.nn.functional.cross_entropy(
        model.lm_head(hidden[before]), targets, reduction="sum"
    )
    return loss, int(targets.numel())


def rate_at(step: int, n_steps: int) -> float:
    """The share of the peak learning rate: a short warm-up, then a cosine down to nothing."""
    n_warm = max(1, n_steps // 25)
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))


def train(recipe: Recipe, *, tokenizer: Tokenizer, report: Callable[[Progress], None]) -> Any:
    """A trained `Qwen3ForCausalLM` in float32.

    Raises:
        MissingExtra: `torch` or `transformers` is not installed.
    """
    torch, transformers = import_torch(), import_transformers()
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.n_threads)
    torch.use_deterministic_algorithms(True)
    # Training is in float32 whatever the checkpoint is stored in.
    config = {key: value for key, value in CONFIG.items() if key != "torch_dtype"}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**config))
    initialise(model)
    muon = Muon(p for p in model.model.layers.parameters() if p.ndim == 2)
    peaks = (
        (recipe.embedding_rate, [model.model.embed_tokens.weight]),
        (recipe.output_rate, [model.lm_head.weight]),
        (recipe.norm_rate, [p for p in model.parameters() if p.ndim == 1]),
    )
    groups = [{"params": parameters, "peak": peak} for peak, parameters in peaks]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    short = _batches(corpus.short_scenes(seed=recipe.seed), tokenizer, recipe.short)
    long = _batches(corpus.long_scenes(seed=recipe.seed), tokenizer, recipe.long)
    n_tokens = 0
    for step in range(recipe.n_steps):
        (talk, n_talk), (tools, n_tools) = loss_of(model, next(short)), loss_of(model, next(long))
        loss = (talk + tools) / (n_talk + n_tools)
        loss.backward()
        n_tokens += math.prod(recipe.short) + math.prod(recipe.long)
        rate = rate_at(step, recipe.n_steps)
        muon.step(recipe.matrix_rate * rate)
        for group in adamw.param_groups:
            group["lr"] = group["peak"] * rate
        adamw.step()
        model.zero_grad()
        report(Progress(step + 1, recipe.n_steps, loss.item(), n_tokens))
    return model.eval()
