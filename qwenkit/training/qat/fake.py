"""Layers that compute with weights on a grid and learn as if these were not rounded.

The mechanism is torchao's: a `FakeQuantizerBase` that a layer passes its weights through. Ours
takes any of our grids, computes in float32 whatever the model's number format, and hands gradients
straight through, also to weights that the grid clips. Knows modules, not whole models.

A LoRA layer's quantised weight is W + s·B·A, and the gradients of A and B follow from those of the
product without the gradient of that large matrix: they cost what LoRA's own do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from qwenkit.errors import InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.training.qat import grids
from qwenkit.training.qat.quiet import import_torchao
from qwenkit.training.qat.scheme import BLOCK, GridName

if TYPE_CHECKING:
    from torch import Tensor

IsOff = Callable[[], bool]
QUANTISER = "weight_fake_quantizer"
"""The attribute under which a layer has its quantiser, in torchao's layers and in ours."""


def make_quantiser(grid: GridName, is_off: IsOff) -> Any:
    """A module that rounds a weight `[..., n_in]` to a grid; gradients pass as if it did not.

    Args:
        grid: Which.
        is_off: Asked every time; while it is true weights pass unrounded.
    """
    return _classes().quantiser(grid, is_off)


def fake_quantised_linear(linear: Any, grid: GridName, is_off: IsOff) -> Any:
    """torchao's FakeQuantizedLinear in the place of a linear, with the same parameters."""
    # Its own `from_linear` first fills a second matrix with random numbers.
    made = import_torchao("qat").linear.FakeQuantizedLinear(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        device="meta",
        dtype=linear.weight.dtype,
    )
    made.weight, made.bias = linear.weight, linear.bias
    setattr(made, QUANTISER, make_quantiser(grid, is_off))
    return made.train(linear.training)


def fake_quantised_head(linear: Any, grid: GridName, is_off: IsOff) -> Any:
    """The same for the head, whose quantised `weight` is what others read.

    TRL multiplies hidden states by `lm_head.weight` itself, past the layer's forward.
    """
    made = fake_quantised_linear(linear, grid, is_off)
    made.__class__ = _classes().head
    return made


def quantise_lora(layer: Any, grid: GridName, is_off: IsOff) -> None:
    """Let a PEFT LoRA layer compute with its quantised effective weight; changed in place.

    With its adapters disabled it stays the base's unrounded linear.
    """
    setattr(layer, QUANTISER, make_quantiser(grid, is_off))
    layer.forward = partial(_lora_forward, layer, layer.forward)


def quantise_rows(embedding: Any, grid: GridName, is_off: IsOff) -> Any:
    """Round the rows that an embedding looks up; gives the handle that takes this back."""
    setattr(embedding, QUANTISER, make_quantiser(grid, is_off))
    return embedding.register_forward_hook(_quantise_output)


def effective_weight(layer: Any) -> Tensor:
    """W + s·B·A of a LoRA layer, or W of any other: float32 `[n_out, n_in]`, without gradient.

    The one computation that training and writing files share: what one rounds the other does.
    """
    torch = import_extra("torch", extra="train")
    base = getattr(layer, "base_layer", layer)
    weight = base._parameters["weight"]
    with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
        name = active_adapter(layer)
        if name is None or layer.merged:
            return weight.detach().float()
        a, b = layer.lora_A[name].weight.float(), layer.lora_B[name].weight.float()
        return torch.addmm(weight.float(), b, a, alpha=layer.scaling[name])


def active_adapter(layer: Any) -> str | None:
    """The adapter that a layer computes with; None for a layer without one.

    Raises:
        InvalidSettings: There are several.
    """
    names = [name for name in getattr(layer, "active_adapters", ()) if name in layer.lora_A]
    if len(names) > 1:
        raise InvalidSettings(
            f"{len(names)} adapters are active at once, and one weight is quantised",
            hint="activate one of them",
        )
    return names[0] if names else None


def _lora_forward(layer: Any, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    torch = import_extra("torch", extra="train")
    if layer.disable_adapters:
        return plain(x)
    base, name = layer.base_layer, active_adapter(layer)
    device = x.device.type
    mixed = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if mixed else base.weight.dtype
    weight = getattr(layer, QUANTISER)(effective_weight(layer)).to(dtype)
    if name is None or layer.merged:
        return _product(torch, x.to(dtype), weight, base.bias)
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    result: Tensor = _classes().product.apply(x.to(dtype), weight, a, b, layer.scaling[name])
    return result if base.bias is None else result + base.bias.to(dtype)


def _product(torch: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.nn.functional.linear(x, weight)
    return result if bias is None else result + bias.to(result.dtype)


def _quantise_output(embedding: Any, _: Any, rows: Tensor) -> Tensor:
    quantised: Tensor = getattr(embedding, QUANTISER)(rows)
    return quantised


class _Classes:
    """The classes that have torch's and torchao's as bases, made when those are needed."""

    def __init__(self, torch: Any, qat: Any) -> None:
        linear = torch.nn.functional.linear

        class StraightThrough(torch.autograd.Function):  # type: ignore[misc]
            """Rounds to a grid; its derivative is taken to be 1."""

            @staticmethod
            def forward(_: Any, weight: Tensor, grid: GridName) -> Tensor:
                rows = weight.reshape(-1, weight.shape[-1]).float()
                return grids.quantise(rows, grid).weights().reshape(weight.shape).to(weight.dtype)

            @staticmethod
            def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:
                return gradient, None

        class LoraProduct(torch.autograd.Function):  # type: ignore[misc]
            """x · weightᵀ, where weight came of W + s·B·A; hands gradients to x, A and B."""

            @staticmethod
            def forward(
                ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float
            ) -> Tensor:
                ctx.save_for_backward(x, weight, a, b)
                ctx.scale = scale
                product: Tensor = linear(x, weight)
                return product

            @staticmethod
            def backward(
                ctx: Any, gradient: Tensor
            ) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
                x, weight, a, b = ctx.saved_tensors
                for_x = gradient @ weight if ctx.needs_input_grad[0] else None
                rows, wanted = x.flatten(0, -2), gradient.flatten(0, -2) * ctx.scale
                for_a = (wanted @ b.to(x.dtype)).T @ rows
                for_b = wanted.T @ (rows @ a.to(x.dtype).T)
                return for_x, None, for_a.to(a.dtype), for_b.to(b.dtype), None

        class Quantiser(qat.fake_quantizer.FakeQuantizerBase):  # type: ignore[misc]
            """torchao's quantiser of a weight, for any of our grids."""

            def __init__(self, grid: GridName, is_off: IsOff) -> None:
                super().__init__()
                self.config = qat.IntxFakeQuantizeConfig(
                    torch.int8 if grid in ("int8", "q8_0") else torch.int4, group_size=BLOCK
                )
                self.enabled = True
                self.grid = grid
                self.is_off = is_off

            def forward(self, weight: Tensor) -> Tensor:
                if not self.enabled or self.is_off():
                    return weight
                quantised: Tensor = StraightThrough.apply(weight, self.grid)
                return quantised

        class Head(qat.linear.FakeQuantizedLinear):  # type: ignore[misc]
            """Shows its weight quantised to all who read it; the parameter is what is saved."""

            _shown: tuple[object, Tensor] | None = None

            @property
            def weight(self) -> Tensor:
                parameter, quantiser = self._parameters["weight"], self.weight_fake_quantizer
                if parameter.requires_grad:
                    quantised: Tensor = quantiser(parameter)
                    return quantised
                # TRL reads a head that learns nothing several times a step.
                state = (parameter.data_ptr(), parameter._version, quantiser.is_off())
                if self._shown is None or self._shown[0] != state:
                    with torch.inference_mode(False), torch.no_grad():
                        self._shown = state, quantiser(parameter)
                return self._shown[1]

            def forward(self, x: Tensor) -> Tensor:
                product: Tensor = linear(x, self.weight, self.bias)
                return product

        self.product: Any = LoraProduct
        self.quantiser: Any = Quantiser
        self.head: Any = Head


@cache
def _classes() -> _Classes:
    return _Classes(import_extra("torch", extra="train"), import_torchao("qat"))
