"""Turns a model into one that trains on a grid, and back. Knows transformers' and PEFT's modules.

Every matrix is on its grid while training: those that learn, and those that are frozen and will be
quantised all the same. Saving is not touched: the parameters keep their names and full precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from qwenkit.errors import InvalidSettings, ModelUnsupported
from qwenkit.extras import import_extra
from qwenkit.models import qwen3
from qwenkit.training.qat import fake, grids
from qwenkit.training.qat.scheme import BLOCK, GridName, Role, Scheme, find_scheme

if TYPE_CHECKING:
    from torch import Tensor

_PEFT_PREFIX = "base_model.model."
_HEAD, _EMBEDDING = "lm_head", "model.embed_tokens"
_MARK = "_qwenkit_qat"


@dataclass(slots=True)
class Prepared:
    """A model that trains on a grid.

    Args:
        scheme: Which.
        n_matrices: Matrices on a grid.
    """

    scheme: Scheme
    n_matrices: int
    undo: list[Callable[[], None]] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A layer with one weight matrix.

    Args:
        name: As the checkpoint spells it, without `.weight`.
        path: As the model spells it.
        layer: The module: PEFT's where it has LoRA.
    """

    name: str
    path: str
    layer: Any

    @property
    def role(self) -> Role:
        """What kind of matrix it is."""
        if self.name == _HEAD:
            return "head"
        return "embedding" if self.name == _EMBEDDING else "linear"

    @property
    def has_lora(self) -> bool:
        """Whether PEFT changes it."""
        return hasattr(self.layer, "lora_A")


def prepare_qat(model: Any, scheme: str) -> Prepared:
    """Let a model compute with quantised weights, and learn through them; changed in place.

    Call it after LoRA is attached (or without LoRA, to train all weights), before the optimizer is
    made. Gradient checkpointing, autocast and bf16 weights go on as before. While PEFT's adapters
    are disabled the model is the base in full precision.

    Args:
        model: A transformers Qwen3, or PEFT's model around one.
        scheme: A name in `SCHEMES`.

    Raises:
        InvalidSettings: No such scheme, the model is prepared already, or LoRA of a kind that has
            no effective weight to quantise: dropout, DoRA, trained biases, quantised bases.
        ModelUnsupported: Rows that no block fits, or weights too large for the grid's scales.
        MissingExtra: torch or torchao is not installed.
    """
    chosen = find_scheme(scheme)
    if prepared(model) is not None:
        raise InvalidSettings("the model is prepared for quantisation-aware training already")
    found = list(matrices(model))
    tied = is_tied(model)
    on_grid = [
        (matrix, grid)
        for matrix in found
        if (grid := chosen.grid(matrix.role, tied=tied)) is not None
    ]
    for matrix, grid in on_grid:
        _check(matrix, grid)
    result = Prepared(chosen, len(on_grid))
    witness = next((matrix.layer for matrix in found if matrix.has_lora), None)
    for matrix, grid in on_grid:
        result.undo.append(_attach(model, matrix, grid, _off_with(witness)))
    setattr(model, _MARK, result)
    return result


def remove_qat(model: Any) -> None:
    """Take back what `prepare_qat` did; weights and adapters stay as they are."""
    result = prepared(model)
    if result is None:
        return
    for undo in reversed(result.undo):
        undo()
    delattr(model, _MARK)


def prepared(model: Any) -> Prepared | None:
    """How a model was prepared; None for one that was not."""
    result: Prepared | None = getattr(model, _MARK, None)
    return result


def matrices(model: Any) -> Iterator[Matrix]:
    """Every linear and the embedding, by the checkpoint's names.

    Raises:
        InvalidSettings: A layer of PEFT's that has no effective weight.
    """
    torch, peft = import_extra("torch", extra="train"), import_extra("peft", extra="train")
    wrappers = peft.tuners.tuners_utils.BaseTunerLayer, peft.utils.other.AuxiliaryTrainingWrapper
    inside: str | None = None
    for path, layer in model.named_modules():
        if inside is not None and path.startswith(inside):
            continue
        name = path.removeprefix(_PEFT_PREFIX)
        if isinstance(layer, wrappers):
            inside = f"{path}."
            _check_lora(name, layer)
        elif not isinstance(layer, torch.nn.Linear | torch.nn.Embedding):
            continue
        yield Matrix(name, path, layer)


def weights(model: Any) -> dict[str, Callable[[], Tensor]]:
    """Every tensor that the model computes with, by the checkpoint's names, adapters merged in.

    Each is computed when it is asked for: float32, on the model's device, unrounded.
    """
    found = {f"{matrix.name}.weight": _weight_of(matrix.layer) for matrix in matrices(model)}
    for path, parameter in model.named_parameters():
        name = path.removeprefix(_PEFT_PREFIX)
        if ".lora_" not in name and ".base_layer." not in name:
            found.setdefault(name, _float32(parameter))
    if is_tied(model):
        found.pop(qwen3.OUTPUT, None)
    return found


def is_tied(model: Any) -> bool:
    """Whether embedding and head are one matrix."""
    return bool(model.config.tie_word_embeddings)


def _weight_of(layer: Any) -> Callable[[], Tensor]:
    return lambda: fake.effective_weight(layer)


def _float32(parameter: Tensor) -> Callable[[], Tensor]:
    return lambda: parameter.detach().float()


def _off_with(witness: Any) -> fake.IsOff:
    # PEFT tells its own layers when adapters are disabled; the others do as one of these does.
    if witness is None:
        return lambda: False
    return lambda: bool(witness.disable_adapters)


def _attach(model: Any, matrix: Matrix, grid: GridName, is_off: fake.IsOff) -> Callable[[], None]:
    """Put one matrix on its grid; gives what takes it back."""
    layer = matrix.layer
    if matrix.has_lora:
        fake.quantise_lora(layer, grid, is_off)
        return lambda: _detach(layer, "forward")
    if matrix.role == "embedding":
        return partial(_detach_rows, layer, fake.quantise_rows(layer, grid, is_off))
    make = fake.fake_quantised_head if matrix.role == "head" else fake.fake_quantised_linear
    model.set_submodule(matrix.path, make(layer, grid, is_off))
    return lambda: model.set_submodule(matrix.path, layer)


def _detach_rows(embedding: Any, handle: Any) -> None:
    handle.remove()
    _detach(embedding)


def _detach(layer: Any, *attributes: str) -> None:
    for name in (fake.QUANTISER, *attributes):
        delattr(layer, name)


def _check(matrix: Matrix, grid: GridName) -> None:
    weight = fake.effective_weight(matrix.layer)
    if weight.shape[-1] % BLOCK:
        raise ModelUnsupported(
            f"the rows of `{matrix.name}` have {weight.shape[-1]} weights, which blocks of {BLOCK} "
            "don't fill"
        )
    if weight.device.type != "meta" and not grids.fits(grids.quantise(weight, grid)):
        raise ModelUnsupported(
            f"`{matrix.name}` holds weights that are too large for the 16-bit scales of its grid"
        )


def _check_lora(name: str, layer: Any) -> None:
    """Refuse layers of PEFT's whose effective weight is not W + s·B·A."""
    for reason, hint, found in _reasons(layer):
        if found:
            raise InvalidSettings(f"`{name}` can't be trained on a grid: {reason}", hint=hint)


def _reasons(layer: Any) -> Iterator[tuple[str, str, bool]]:
    torch = import_extra("torch", extra="train")
    lora = import_extra("peft", extra="train").tuners.lora
    plain = isinstance(layer, lora.Linear) and type(layer.base_layer) is torch.nn.Linear
    yield (
        "only LoRA of linear layers in full precision has a weight to quantise",
        "leave out QLoRA, `modules_to_save` and LoRA of the embedding",
        not plain,
    )
    if plain:
        yield "DoRA rescales the rows while it runs", "leave out DoRA", bool(layer.lora_variant)
        yield "it also trains biases", "leave out `lora_bias`", any(layer.lora_bias.values())
        yield (
            "with dropout there is no single weight to quantise",
            "a LoRA dropout of 0",
            any(getattr(each, "p", 0.0) > 0 for each in layer.lora_dropout.values()),
        )
