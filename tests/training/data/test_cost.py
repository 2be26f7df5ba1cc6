"""Estimates of memory and time: against autograd, and by what they must depend on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.qwen3 import Qwen3Config
from qwenkit.training.data.cost import (
    LINEARS,
    Plan,
    Speed,
    duration_of,
    flops_of,
    measure_matmul,
    memory_of,
)

DEMO = qwen3.parse_config(read_json(Path(DEMO_DIR) / "config.json"))
QWEN3_8B = Qwen3Config(
    n_layers=36,
    n_embd=4096,
    n_ff=12288,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    n_vocab=151936,
    n_ctx=40960,
    rms_eps=1e-6,
    rope_theta=1e6,
    tied=False,
)
BF16 = Plan(precision="bf16")


def test_a_lora_of_qwen3_8b_has_its_43_6_million_numbers() -> None:
    memory = memory_of(QWEN3_8B, BF16, n_tokens=1)
    n_params = memory.trained_bytes / 4
    assert n_params == pytest.approx(43.6e6, rel=0.01)
    assert memory.gradients_bytes == 4 * n_params
    assert memory.optimizer_bytes == 8 * n_params
    assert memory.weights_bytes == pytest.approx(2 * 8.19e9, rel=0.01)


def test_four_bits_a_weight_hold_8b_in_about_six_gigabytes() -> None:
    weights = memory_of(QWEN3_8B, replace(BF16, qlora=True), n_tokens=1).weights_bytes
    assert 5.5e9 < weights < 6.5e9


def test_checkpointing_saves_most_of_the_activations() -> None:
    plan = replace(BF16, gradient_checkpointing=True)
    with_it, without = (memory_of(QWEN3_8B, each, n_tokens=2048) for each in (plan, BF16))
    assert with_it.activations_bytes < 0.1 * without.activations_bytes
    assert with_it.total_bytes < without.total_bytes


def test_training_everything_takes_six_operations_a_weight_and_token_and_lora_four() -> None:
    n_weights = 7.57e9  # without the embeddings, which are looked up
    whole = flops_of(QWEN3_8B, replace(BF16, rank=None), n_tokens=1000, n_pairs=0)
    lora = flops_of(QWEN3_8B, BF16, n_tokens=1000, n_pairs=0)
    again = flops_of(QWEN3_8B, replace(BF16, gradient_checkpointing=True), n_tokens=1000, n_pairs=0)
    assert whole == pytest.approx(6 * n_weights * 1000, rel=0.01)
    assert lora == pytest.approx(4 * n_weights * 1000, rel=0.02)
    assert again == pytest.approx(6 * n_weights * 1000, rel=0.02)


def test_a_measured_run_wins_over_a_measured_product() -> None:
    both = Speed(tokens_per_s=100.0, flops_per_s=1e12)
    found = duration_of(DEMO, Plan(), both, n_tokens=1000, n_pairs=0)
    assert found is not None
    assert (found.seconds, found.measured_by) == (10.0, "probe")
    by_product = duration_of(DEMO, Plan(), Speed(flops_per_s=1e12), n_tokens=1000, n_pairs=0)
    assert by_product is not None
    assert by_product.factor > found.factor
    assert duration_of(DEMO, Plan(), Speed(), n_tokens=1000, n_pairs=0) is None


def test_the_rate_of_a_product_is_that_of_its_fastest_run() -> None:
    calls: list[int] = []
    speed = measure_matmul(lambda: calls.append(1), n_flops=10.0, n_times=3)
    assert len(calls) == 4
    assert speed.flops_per_s is not None
    assert speed.flops_per_s > 0


def kept_bytes(model: Any, ids: Any) -> int:
    """What autograd keeps for the way back, weights and logits left out."""
    import torch

    owned = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: Any) -> Any:
        alive.append(tensor)  # or its address is given to another
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned and tensor.shape[-1:] != (model.config.vocab_size,):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, labels=ids)
    return sum(kept.values())


@pytest.mark.parity
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("rank", "targets", "dropout"),
    [
        (16, LINEARS, False),
        (16, LINEARS, True),
        (4, ("q_proj", "v_proj"), False),
        (None, (), False),
    ],
)
def test_activations_are_close_to_what_autograd_keeps(
    precision: Any, rank: int | None, targets: tuple[str, ...], dropout: bool
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        model = AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=dtype).train()
        if rank is not None:
            config = LoraConfig(
                r=rank, lora_dropout=0.1 if dropout else 0.0, target_modules=list(targets)
            )
            model = get_peft_model(model, config)
        ids = torch.arange(256).reshape(2, 128)
        found = kept_bytes(model, ids)
    plan = Plan(precision=precision, rank=rank, targets=targets, dropout=dropout)
    estimate = memory_of(DEMO, plan, n_tokens=256).activations_bytes
    assert estimate == pytest.approx(found, rel=0.15)
