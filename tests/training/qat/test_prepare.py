"""Training on a grid: what a prepared model computes and learns, and what can't be prepared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from qwenkit.errors import InvalidSettings, ModelUnsupported
from qwenkit.training.qat import grids
from qwenkit.training.qat.prepare import (
    matrices,
    prepare_qat,
    prepared,
    remove_qat,
    weights,
)
from qwenkit.training.qat.scheme import NAMES, find_scheme

# peft and transformers warn about each other.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

IDS = np.random.default_rng(1).integers(0, 900, (2, 24))


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(IDS)).logits


def loss(model: Any) -> Any:
    import torch

    ids = torch.from_numpy(IDS)
    return model(ids, labels=ids).loss


def gradients(model: Any) -> dict[str, Any]:
    model.zero_grad()
    loss(model).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def on_the_grid(model: Any, make: Any, scheme: str) -> Any:
    """A plain model that holds the rounded weights of another."""
    import torch

    chosen, wanted = find_scheme(scheme), weights(model)
    kinds = {f"{matrix.name}.weight": matrix.role for matrix in matrices(model)}
    plain = make()
    for name, parameter in plain.named_parameters():
        weight = wanted[name]()
        grid = chosen.grid(kinds[name], tied=False) if name in kinds else None
        with torch.no_grad():
            parameter.copy_(grids.quantise(weight, grid).weights() if grid else weight)
    return plain


@contextmanager
def straight_through(model: Any, scheme: str) -> Iterator[None]:
    """The textbook way: each weight a parametrisation `w + (round(w) - w).detach()`."""
    import torch
    from torch.nn.utils import parametrize

    class Rounded(torch.nn.Module):
        def __init__(self, grid: Any) -> None:
            super().__init__()
            self.grid = grid

        def forward(self, weight: Any) -> Any:
            return weight + (grids.quantise(weight, self.grid).weights() - weight).detach()

    on_it = []
    for matrix in list(matrices(model)):
        grid = find_scheme(scheme).grid(matrix.role, tied=False)
        if grid:
            parametrize.register_parametrization(matrix.layer, "weight", Rounded(grid))
            on_it.append(matrix.layer)
    yield
    for layer in on_it:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


@pytest.mark.parametrize("scheme", NAMES)
def test_a_prepared_model_computes_with_its_rounded_weights(lora, full, scheme: str) -> None:
    model = lora()
    unrounded = logits(model)
    assert prepare_qat(model, scheme).n_matrices == (29 if scheme == "onnx-int4" else 30)
    found, wanted = logits(model), logits(on_the_grid(model, full, scheme))
    assert (found - wanted).abs().max() < 1e-4
    assert (found - unrounded).abs().max() > 1e-2


@pytest.mark.parametrize("scheme", ["q4_0", "onnx-int4"])
def test_weights_learn_as_if_they_were_not_rounded(full, scheme: str) -> None:
    model = full()
    with straight_through(model, scheme):
        wanted = {
            name.replace(".parametrizations.weight.original", ".weight"): gradient
            for name, gradient in gradients(model).items()
        }
    prepare_qat(model, scheme)
    found = gradients(model)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_lora_learns_through_its_effective_weight(lora, full, rslora: bool) -> None:
    """The chain rule by hand: the gradient of W is that of a plain model with these weights."""
    model = lora(use_rslora=rslora, r=4, lora_alpha=12)
    prepare_qat(model, "int4")
    plain = on_the_grid(model, full, "int4")
    of_weights = gradients(plain)
    found = gradients(model)
    scale = 12 / 4**0.5 if rslora else 3.0
    for matrix in matrices(model):
        if not matrix.has_lora:
            continue
        layer = matrix.layer
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        gradient = of_weights[f"{matrix.name}.weight"]
        stem = f"{matrix.path}.lora_"
        for name, wanted in (
            (f"{stem}A.default.weight", scale * b.T @ gradient),
            (f"{stem}B.default.weight", scale * gradient @ a.T),
        ):
            np.testing.assert_allclose(
                found[name], wanted.detach(), rtol=2e-3, atol=2e-5, err_msg=name
            )


def test_a_lora_of_some_linears_computes_with_the_others_rounded_too(lora, full) -> None:
    model = lora(target_modules=["q_proj", "down_proj"], layers_to_transform=[1, 3])
    prepare_qat(model, "q4_0")
    wanted = logits(on_the_grid(model, full, "q4_0"))
    assert (logits(model) - wanted).abs().max() < 1e-4


def test_without_its_adapter_the_model_is_the_base_in_full_precision(lora, full) -> None:
    model = lora(target_modules=["q_proj"])
    prepare_qat(model, "q4_0")
    with model.disable_adapter():
        assert (logits(model) - logits(full())).abs().max() == 0


def test_a_merged_adapter_computes_the_same(lora) -> None:
    model = lora()
    prepare_qat(model, "q8_0")
    before = logits(model)
    model.merge_adapter()
    # PEFT adds in another order, so a few weights may fall on the neighbouring level.
    assert (logits(model) - before).abs().max() < 0.1
    model.unmerge_adapter()


def test_gradient_checkpointing_changes_no_gradient(lora) -> None:
    model = lora()
    prepare_qat(model, "q4_0")
    model.train()
    wanted = gradients(model)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients(model)
    assert found.keys() == wanted.keys()
    assert all((found[name] == wanted[name]).all() for name in wanted)


def test_bf16_weights_are_rounded_in_float32_and_then_shown_in_bf16(lora) -> None:
    import torch

    model = lora(dtype=torch.bfloat16)
    prepare_qat(model, "q4_0")
    [layer] = [
        matrix.layer for matrix in matrices(model) if matrix.name == "model.layers.2.mlp.up_proj"
    ]
    seen = []
    layer.weight_fake_quantizer.register_forward_hook(lambda *call: seen.append(call[2]))
    gradient = gradients(model)
    assert all(values.isfinite().all() for values in gradient.values())
    effective = weights(model)["model.layers.2.mlp.up_proj.weight"]()
    assert effective.dtype == torch.float32
    assert torch.equal(seen[0], grids.quantise(effective, "q4_0").weights())


def test_under_autocast_the_grid_is_that_of_float32(lora) -> None:
    import torch

    model = lora()
    prepare_qat(model, "q4_0")
    layer = next(matrix.layer for matrix in matrices(model) if matrix.has_lora)
    seen = []
    layer.weight_fake_quantizer.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.autocast("cpu", torch.bfloat16):
        loss(model).backward()
    loss(model)
    assert torch.equal(seen[0], seen[1])
    assert next(iter(layer.lora_A.parameters())).grad.dtype == torch.float32


def test_heads_that_trl_reads_are_rounded(full, lora) -> None:
    import torch
    from trl.trainer.utils import add_fused_lm_head

    ids = torch.from_numpy(IDS)
    for model in (full(), lora()):
        prepare_qat(model, "onnx-int4")
        wanted = -loss(model).item()
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        add_fused_lm_head(inner)
        found = model(ids, labels=ids, fused_lm_head=True)
        assert found.loss.item() == pytest.approx(-wanted, abs=1e-4)
        found.loss.backward()


def test_a_frozen_head_follows_weights_that_are_loaded_later(lora) -> None:
    import torch

    model = lora()
    prepare_qat(model, "q4_0")
    head = model.get_base_model().lm_head
    before = head.weight.clone()
    state = {name: values * 2 for name, values in head.state_dict().items()}
    head.load_state_dict(state)
    assert torch.equal(head.weight, before * 2)


def test_names_and_numbers_that_are_saved_stay_the_same(lora, full) -> None:
    import torch

    for model in (full(), lora()):
        before = {name: values.clone() for name, values in model.state_dict().items()}
        prepare_qat(model, "int4")
        after = model.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_preparing_draws_no_random_number(full) -> None:
    import torch

    model, state = full(), torch.get_rng_state()
    prepare_qat(model, "q4_0")
    assert torch.equal(torch.get_rng_state(), state)


def test_removing_takes_everything_back(lora, full) -> None:
    for model in (full(), lora(target_modules=["o_proj"])):
        before, kinds = logits(model), [type(module) for module in model.modules()]
        prepare_qat(model, "int8")
        remove_qat(model)
        assert prepared(model) is None
        assert (logits(model) - before).abs().max() == 0
        assert [type(module) for module in model.modules()] == kinds
        prepare_qat(model, "q4_0")
        remove_qat(model)
        remove_qat(model)


def test_a_model_is_prepared_once(full) -> None:
    model = full()
    prepare_qat(model, "int4")
    with pytest.raises(InvalidSettings, match="already"):
        prepare_qat(model, "int4")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lora_dropout": 0.1}, "dropout"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens"),
    ],
)
def test_what_has_no_effective_weight_is_refused(lora, options: Any, named: str) -> None:
    model = lora(**options)
    with pytest.raises(InvalidSettings, match=named):
        prepare_qat(model, "q4_0")
    assert prepared(model) is None


def test_two_active_adapters_are_refused(lora) -> None:
    from peft import LoraConfig

    model = lora()
    model.add_adapter("other", LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    model.base_model.set_adapter(["default", "other"])
    with pytest.raises(InvalidSettings, match="2 adapters"):
        prepare_qat(model, "q4_0")


def test_weights_that_no_scale_can_hold_are_refused_before_training(full) -> None:
    import torch

    model = full()
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight[0, 0] = 1e8
    with pytest.raises(ModelUnsupported, match=r"layers\.1\.self_attn\.q_proj"):
        prepare_qat(model, "q4_0")
    prepare_qat(model, "onnx-int4")


def test_an_unknown_scheme_is_refused(full) -> None:
    with pytest.raises(InvalidSettings, match="int3"):
        prepare_qat(full(), "int3")
