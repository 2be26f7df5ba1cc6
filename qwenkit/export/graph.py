"""Reads and writes graphs of onnx_ir: the nodes in one file, all weights in one beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwenkit.export.extras import import_extra
from qwenkit.export.job import GRAPH_NAME
from qwenkit.models.progress import ProgressFactory


def load_graph(path: Path) -> Any:
    """Read a graph; its weights stay in their file until they are used, constants come along."""
    ir = import_extra("onnx_ir")
    model = ir.load(path)
    for node in model.graph.all_nodes():
        for name, attribute in node.attributes.items():
            # Saving moves weights to the new file, but leaves a node's own tensors in the old one.
            if isinstance(attribute.value, ir.ExternalTensor):
                tensor = ir.tensor(attribute.value.numpy().copy())
                node.attributes[name] = ir.AttrTensor(name, tensor)
    return model


def save_graph(model: Any, folder: Path, *, progress: ProgressFactory) -> None:
    """Write `model.onnx` and `model.onnx.data` into a folder; progress is told the bytes."""
    ir = import_extra("onnx_ir")
    model.graph.sort()
    n_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    with progress("Writing the graph", total=n_bytes) as advance:
        ir.save(
            model,
            folder / GRAPH_NAME,
            external_data=f"{GRAPH_NAME}.data",
            size_threshold_bytes=0,
            callback=lambda tensor, _: advance(tensor.nbytes),
        )
