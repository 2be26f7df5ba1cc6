"""Writes a torch model as one GGUF file, its matrices on the grid that it was trained for.

Levels and scales are written as they are, never quantised again: torchao's grids would not survive
that, since requantising takes the largest weight for more than it is. What no grid is for stays
F32. Vocabulary and configuration come from the checkpoint that training started from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf.constants import GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

from qwenkit.errors import ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.atomic import require_space
from qwenkit.models.checkpoint import CHUNK_BYTES, read_json
from qwenkit.models.convert import Conversion, plan_conversion
from qwenkit.models.gguf_file import PlannedTensor, write_gguf
from qwenkit.models.progress import ProgressFactory
from qwenkit.training.qat import grids, prepare
from qwenkit.training.qat.blocks import pack_q4_0, pack_q8_0
from qwenkit.training.qat.scheme import GridName, Scheme

if TYPE_CHECKING:
    from torch import Tensor

_TYPES: dict[GridName, GGMLQuantizationType] = {
    "int4": GGMLQuantizationType.Q4_0,
    "q4_0": GGMLQuantizationType.Q4_0,
    "int8": GGMLQuantizationType.Q8_0,
    "q8_0": GGMLQuantizationType.Q8_0,
}
_FILE_TYPES = {
    GGMLQuantizationType.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    GGMLQuantizationType.Q8_0: LlamaFileType.MOSTLY_Q8_0,
}
SCHEME_KEY = "qwenkit.qat.scheme"
"""Metadata: the scheme whose grid the matrices lie on."""


def write_model(
    model: Any,
    scheme: Scheme | None,
    *,
    checkpoint: Path,
    target: Path,
    progress: ProgressFactory,
) -> int:
    """Write the file, whole or not at all; gives the number of matrices on a grid.

    Args:
        model: Whose weights, adapters merged in.
        scheme: Which grid; None writes everything as F32.
        checkpoint: Folder with `config.json` and tokenizer.
        target: The file.
        progress: Told the bytes written.

    Raises:
        ModelUnsupported: Weights too large for the grid's scales.
        InvalidSettings: Too little space on the disk.
    """
    conversion = _plan(model, scheme, checkpoint, target.stem)
    require_space(target.parent, conversion.n_bytes, purpose=f"writing `{target.name}`")
    with progress(f"Writing {target.name}", total=conversion.n_bytes) as advance:
        write_gguf(
            target,
            architecture=qwen3.ARCHITECTURE,
            metadata=conversion.metadata,
            tensors=conversion.tensors,
            advance=advance,
        )
    return sum(tensor.type is not GGMLQuantizationType.F32 for tensor in conversion.tensors)


def _plan(model: Any, scheme: Scheme | None, checkpoint: Path, name: str) -> Conversion:
    conversion = plan_conversion(checkpoint, dtype="f32", name=name)
    config = qwen3.parse_config(read_json(checkpoint / "config.json"))
    wanted = _grids(model, scheme)
    weights = prepare.weights(model)
    names = {each.gguf_name: each.hf_name for each in qwen3.expected_tensors(config)}
    tensors = tuple(
        _planned(planned, names[planned.name], weights[names[planned.name]], wanted)
        for planned in conversion.tensors
    )
    if scheme is not None:
        conversion.metadata.uint("general.file_type", int(_FILE_TYPES[_TYPES[scheme.linears]]))
        conversion.metadata.string(SCHEME_KEY, scheme.name)
    return replace(conversion, tensors=tensors)


def _grids(model: Any, scheme: Scheme | None) -> dict[str, GridName]:
    """The grid of each matrix that has one, by its tensor's name."""
    if scheme is None:
        return {}
    tied = prepare.is_tied(model)
    found = {
        f"{matrix.name}.weight": scheme.grid(matrix.role, tied=tied)
        for matrix in prepare.matrices(model)
    }
    return {name: grid for name, grid in found.items() if grid is not None}


def _planned(
    planned: PlannedTensor, name: str, weight: Callable[[], Tensor], wanted: dict[str, GridName]
) -> PlannedTensor:
    grid = wanted.get(name)
    if grid is None:
        return replace(planned, chunks=lambda: iter([weight().cpu().numpy()]))
    return replace(planned, type=_TYPES[grid], chunks=lambda: _packed(name, weight(), grid))


def _packed(name: str, weight: Tensor, grid: GridName) -> Iterator[NDArray[Any]]:
    n_rows = max(1, CHUNK_BYTES // (4 * weight.shape[1]))
    for rows in weight.split(n_rows):
        blocks = grids.quantise(rows, grid)
        if not grids.fits(blocks):
            raise ModelUnsupported(
                f"`{name}` holds weights that are too large for the 16-bit scales of its grid",
                hint="train with a lower learning rate",
            )
        levels = blocks.levels.cpu().numpy().astype(np.int8)
        pack = pack_q4_0 if _TYPES[grid] is GGMLQuantizationType.Q4_0 else pack_q8_0
        yield pack(levels, blocks.scales.cpu().numpy())
