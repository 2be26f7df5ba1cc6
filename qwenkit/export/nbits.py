"""Quantises the matrices of a graph to 8 or 4 bits in blocks, one at a time.

The kernels are onnxruntime's own. Its pass over a whole graph, which the builder would take, holds
every matrix as floats at once: twice the memory for the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwenkit.export.extras import import_extra
from qwenkit.export.options import ExportOptions
from qwenkit.models.progress import ProgressFactory


@dataclass(frozen=True, slots=True)
class Blocks:
    """How matrices are quantised.

    Args:
        bits: Of a weight: 8 or 4.
        size: Weights that share a scale.
        symmetric: Whether blocks have no zero point.
        level: MatMulNBits' accuracy level.
    """

    bits: int
    size: int
    symmetric: bool
    level: int


def quantise(
    weights: NDArray[Any], blocks: Blocks
) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.uint8]]:
    """Quantise a matrix [n_in, n_out].

    Returns:
        Weights [n_out, n_blocks, bytes], scales [n_out, n_blocks] in the matrix's own type, and
        zero points [n_out, bytes], which mean nothing for symmetric blocks.
    """
    kernels = import_extra("onnxruntime.capi._pybind_state")
    kernel = kernels.quantize_matmul_8bits if blocks.bits == 8 else kernels.quantize_matmul_4bits
    n_in, n_out = weights.shape
    n_blocks, per_byte = -(-n_in // blocks.size), 8 // blocks.bits
    padded = np.zeros((n_blocks * blocks.size, n_out), weights.dtype)
    padded[:n_in] = weights
    packed = np.zeros((n_out, n_blocks, blocks.size // per_byte), np.uint8)
    scales = np.zeros((n_out, n_blocks), weights.dtype)
    zeros = np.zeros((n_out, -(-n_blocks // per_byte)), np.uint8)
    kernel(packed, padded, scales, zeros, blocks.size, n_out, n_in, blocks.symmetric)
    return packed, scales, zeros


def quantise_graph(graph: Any, options: ExportOptions, *, progress: ProgressFactory) -> None:
    """Quantise the weights of every product in a graph (of onnx_ir); nothing for float precisions.

    The graph is changed in place: a MatMulNBits stands where a MatMul stood, its inputs are named
    after the weights.
    """
    if options.bits is None:
        return
    blocks = Blocks(options.bits, options.block_size, options.symmetric, options.level)
    nodes = [node for node in graph if _has_weights(node)]
    with progress("Quantising", total=len(nodes), unit="matrices") as advance:
        for node in nodes:
            _replace(graph, node, blocks)
            advance(1)


def _has_weights(node: Any) -> bool:
    return node.op_type == "MatMul" and node.inputs[1].const_value is not None


def _replace(graph: Any, node: Any, blocks: Blocks) -> None:
    ir = import_extra("onnx_ir")
    weight = node.inputs[1]
    packed, scales, zeros = quantise(weight.const_value.numpy(), blocks)
    inputs = [
        node.inputs[0],
        _initialiser(graph, f"{weight.name}_Q{blocks.bits}", packed),
        _initialiser(graph, f"{weight.name}_scales", scales),
    ]
    if not blocks.symmetric:
        inputs.append(_initialiser(graph, f"{weight.name}_zero_points", zeros))
    n_in, n_out = weight.shape.numpy()
    attributes = {"K": n_in, "N": n_out, "bits": blocks.bits, "block_size": blocks.size}
    if blocks.level:
        attributes["accuracy_level"] = blocks.level
    quantised = ir.node(
        "MatMulNBits",
        inputs=inputs,
        attributes=attributes,
        domain="com.microsoft",
        name=f"{node.name}_Q{blocks.bits}",
    )
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [quantised], node.outputs, quantised.outputs
    )
    if not weight.uses():
        del graph.initializers[weight.name]


def _initialiser(graph: Any, name: str, data: NDArray[Any]) -> Any:
    """A value that holds `data`; one that something refers to already is filled in."""
    ir = import_extra("onnx_ir")
    tensor = ir.tensor(data, name=name)
    known = (value for node in graph for value in node.inputs if value is not None)
    value = next((each for each in known if each.name == name), None) or ir.Value(name=name)
    value.const_value, value.type, value.shape = tensor, ir.TensorType(tensor.dtype), tensor.shape
    graph.register_initializer(value)
    return value
