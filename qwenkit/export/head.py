"""Lets a graph leave rows out of its head: `first_logit` says from which token on logits are made.

The head is the largest product of a small model, and of a prompt only the last row is asked for.
The input has a default, 0: whoever does not know it gets every row. Works on the graph only.
"""

from __future__ import annotations

from typing import Any

from qwenkit.errors import ModelUnsupported
from qwenkit.export.extras import import_extra

FIRST_LOGIT = "first_logit"
"""The graph's input: the first token, counted among those of this run, that gets logits."""

_LOGITS = "logits"
_PRODUCTS = ("MatMul", "MatMulNBits", "Gemm")
_TO_THE_END = 2**63 - 1


def add_first_logit(model: Any) -> None:
    """Cut off the tokens before `first_logit` in front of the head.

    Args:
        model: An onnx.ModelProto with an output `logits` [rows, tokens, vocabulary]; changed in
            place.

    Raises:
        ModelUnsupported: No product makes the logits.
    """
    helper, elem_type = import_extra("onnx").helper, import_extra("onnx").TensorProto.INT64
    graph = model.graph
    index, passed = _way_to_logits(graph)
    head = graph.node[index]
    states, kept = head.input[0], f"{head.name}/kept"
    for name, values in (
        (FIRST_LOGIT, [0]),
        (f"{FIRST_LOGIT}/end", [_TO_THE_END]),
        (f"{FIRST_LOGIT}/axis", [1]),
    ):
        graph.initializer.append(helper.make_tensor(name, elem_type, [1], values))
    graph.input.append(helper.make_tensor_value_info(FIRST_LOGIT, elem_type, [1]))
    cut = [states, FIRST_LOGIT, f"{FIRST_LOGIT}/end", f"{FIRST_LOGIT}/axis"]
    graph.node.insert(index, helper.make_node("Slice", cut, [kept], name=f"{head.name}/cut"))
    head.input[0] = kept
    _forget_lengths(graph, passed)


def _way_to_logits(graph: Any) -> tuple[int, set[str]]:
    """The index of the product behind the logits, and the values from there on."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    name, passed = _LOGITS, {_LOGITS}
    while name in makers:
        node = graph.node[makers[name]]
        if node.op_type in _PRODUCTS:
            return makers[name], passed
        name = node.input[0]
        passed.add(name)
    raise ModelUnsupported("the exporter built a graph without a product that makes the logits")


def _forget_lengths(graph: Any, names: set[str]) -> None:
    # onnxruntime plans memory as if equal names were equal numbers: these are no longer as many as
    # the prompt's tokens.
    for value in [each for each in graph.value_info if each.name in names]:
        graph.value_info.remove(value)
    for output in graph.output:
        if output.name == _LOGITS:
            output.type.tensor_type.shape.dim[1].dim_param = "n_logits"
