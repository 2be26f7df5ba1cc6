"""Exports a torch model as an ONNX folder, and checks that every block is the one it trained on.

The exporter quantises by itself, from float32 weights, so the merged checkpoint is written in
float32; the check compares its bits with the grid's.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from qwenkit.errors import InvalidSettings, ModelCorrupt
from qwenkit.export.graph import load_graph
from qwenkit.export.job import GRAPH_NAME
from qwenkit.export.onnx_folder import export_onnx
from qwenkit.export.options import ExportOptions
from qwenkit.models import qwen3
from qwenkit.models.atomic import atomic_folder, require_space
from qwenkit.models.checkpoint import SINGLE_NAME, read_json
from qwenkit.models.info import GENAI_CONFIG
from qwenkit.models.progress import ProgressFactory
from qwenkit.models.safetensors_file import TensorToWrite, write_safetensors
from qwenkit.training.qat import grids, prepare
from qwenkit.training.qat.blocks import pack_nbits
from qwenkit.training.qat.scheme import BLOCK, Scheme

if TYPE_CHECKING:
    from torch import Tensor

_WORK: Final = ".work"
_TEXT_SUFFIXES: Final = (".json", ".jinja", ".txt", ".model")
_PRODUCT: Final = "MatMulNBits"
_LINEAR: Final = re.compile(r"model\.layers\.(\d+)\.(attn|mlp)\.(\w+_proj)\.MatMul\.weight")
_STACKED: Final = ("q_proj", "k_proj", "v_proj")
_HEAD: Final = "lm_head.MatMul.weight"

Weights = Mapping[str, Callable[[], "Tensor"]]


def write_model(
    model: Any,
    scheme: Scheme | None,
    *,
    checkpoint: Path,
    target: Path,
    progress: ProgressFactory,
) -> int:
    """Export the folder, whole or not at all; gives the number of matrices on a grid.

    Args:
        model: Whose weights, adapters merged in.
        scheme: Which grid; None exports float32.
        checkpoint: Folder with `config.json` and tokenizer.
        target: The folder. An export that is there is replaced.
        progress: Told what the export is at.

    Raises:
        ModelCorrupt: The exporter made other blocks than training saw.
        InvalidSettings: Too little space on the disk, or `target` is no export.
        MissingExtra: A package that exporting takes is not installed.
    """
    _check_target(target)
    weights = prepare.weights(model)
    options = ExportOptions(
        precision="fp32" if scheme is None else "int4", block_size=BLOCK, symmetric=True
    )
    with atomic_folder(target.absolute()) as folder:
        merged, made = folder / _WORK / "merged", folder / _WORK / "exported"
        _write_merged(weights, checkpoint, merged, progress)
        export_onnx(merged, made, options, progress=progress)
        n_matrices = 0 if scheme is None else _check(made, scheme, weights)
        for path in made.iterdir():
            path.rename(folder / path.name)
        shutil.rmtree(folder / _WORK)
    return n_matrices


def blocks_of(
    folder: Path,
) -> Iterator[tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.float32]]]:
    """The quantised matrices of an export, as MatMulNBits has them.

    Yields the names of the checkpoint's tensors whose rows are stacked in one (queries, keys and
    values are), packed levels `[n_out, n_blocks, 16]` and scales `[n_out, n_blocks]`.

    Raises:
        ModelCorrupt: A product whose matrix has no place in a Qwen3.
    """
    for node in load_graph(folder / GRAPH_NAME).graph:
        if node.op_type == _PRODUCT:
            _, packed, scales = node.inputs[:3]
            levels = packed.const_value.numpy()
            names = _checkpoint_names(packed.name.removesuffix("_Q4"))
            yield names, levels, scales.const_value.numpy().reshape(levels.shape[:2])


def _check_target(target: Path) -> None:
    if target.exists() and not (target / GENAI_CONFIG).exists():
        raise InvalidSettings(
            f"`{target}` is there and is no exported model, so it is not replaced",
            hint="name a folder that doesn't exist",
        )


def _write_merged(
    weights: Weights, checkpoint: Path, folder: Path, progress: ProgressFactory
) -> None:
    config = read_json(checkpoint / "config.json")
    expected = qwen3.expected_tensors(qwen3.parse_config(config))
    tensors = [
        TensorToWrite(each.hf_name, "F32", each.shape, partial(_rows, weights[each.hf_name]))
        for each in expected
    ]
    n_bytes = sum(tensor.n_bytes for tensor in tensors)
    require_space(folder.parent, n_bytes, purpose="the merged weights")
    folder.mkdir(parents=True)
    for path in checkpoint.iterdir():
        if path.suffix in _TEXT_SUFFIXES and not path.name.startswith("model.safetensors"):
            shutil.copyfile(path, folder / path.name)
    named = {key: "float32" for key in ("dtype", "torch_dtype") if key in config}
    text = json.dumps(config | named, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    with progress("Merging", total=n_bytes) as advance:
        write_safetensors(folder / SINGLE_NAME, tensors, advance)


def _rows(weight: Callable[[], Tensor]) -> Iterator[NDArray[Any]]:
    yield weight().cpu().numpy()


def _check(folder: Path, scheme: Scheme, weights: Weights) -> int:
    n_matrices = 0
    for names, packed, scales in blocks_of(folder):
        first = 0
        for name in names:
            levels, wanted = _expected(name, scheme, weights)
            rows = slice(first, first + len(levels))
            if not np.array_equal(packed[rows], levels) or not np.array_equal(scales[rows], wanted):
                raise ModelCorrupt(
                    f"the exported blocks of `{name}` are not those that training saw",
                    hint="please report this with the versions that `qwenkit doctor` shows",
                )
            first += len(levels)
        n_matrices += len(names)
    return n_matrices


def _expected(
    name: str, scheme: Scheme, weights: Weights
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    # A tied head is the embedding.
    weight = weights.get(name) or weights[qwen3.EMBEDDING]
    grid = scheme.head if name == qwen3.OUTPUT else scheme.linears
    blocks = grids.quantise(weight(), grid)
    levels = blocks.levels.cpu().numpy().astype(np.int8)
    return pack_nbits(levels), blocks.scales[..., 0].cpu().numpy()


def _checkpoint_names(weight: str) -> tuple[str, ...]:
    if weight == _HEAD:
        return (qwen3.OUTPUT,)
    match = _LINEAR.fullmatch(weight)
    if match is None:
        raise ModelCorrupt(f"the export multiplies by `{weight}`, which no Qwen3 has")
    layer, part, linear = match.groups()
    block = "self_attn" if part == "attn" else part
    linears = _STACKED if linear == "qkv_proj" else (linear,)
    return tuple(f"model.layers.{layer}.{block}.{each}.weight" for each in linears)
