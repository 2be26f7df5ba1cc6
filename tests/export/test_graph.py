"""Graphs read and written again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwenkit.export.graph import load_graph, save_graph
from qwenkit.models.progress import silent

pytestmark = pytest.mark.parity


def test_constants_that_lie_outside_the_graph_come_along_with_it(tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    weights, constant = (np.arange(n, n + 4, dtype=np.float32) for n in (0, 10))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(constant)),
        helper.make_node("Add", ["x", "w"], ["sum"]),
        helper.make_node("Add", ["sum", "c"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    onnx.save(
        model,
        old / "model.onnx",
        save_as_external_data=True,
        size_threshold=0,
        convert_attribute=True,
    )
    assert len(list(old.iterdir())) > 1
    save_graph(load_graph(old / "model.onnx"), new, progress=silent)
    for path in old.iterdir():
        path.unlink()
    session = onnxruntime.InferenceSession(new / "model.onnx")
    [found] = session.run(None, {"x": np.ones(4, np.float32)})
    np.testing.assert_array_equal(found, weights + constant + 1)
