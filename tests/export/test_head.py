"""Which rows of a prompt the head makes logits of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.errors import ModelUnsupported
from qwenkit.export.check import Graph
from qwenkit.export.extras import import_extra
from qwenkit.export.head import FIRST_LOGIT, add_first_logit
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR

from .conftest import Exported

pytestmark = pytest.mark.parity

TOKENS = np.arange(40, 52)[None]


def logits(folder: Path, bound: dict[str, Any] | None = None) -> Any:
    graph = Graph(folder, qwen3.parse_config(read_json(DEMO_DIR / "config.json")))
    return graph.run(TOKENS, np.ones_like(TOKENS), graph.empty(1), bound)[0][0]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("first", [0, 5, 11])
def test_rows_before_the_first_logit_are_left_out_and_the_others_stay(
    exported: Exported, precision: str, first: int
) -> None:
    folder = exported(precision=precision)
    kept = logits(folder, {FIRST_LOGIT: np.array([first])})
    assert kept.shape[0] == TOKENS.size - first
    np.testing.assert_allclose(kept, logits(folder)[first:], atol=2e-4)


def test_a_graph_whose_logits_no_product_makes_is_refused() -> None:
    onnx = import_extra("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    value = helper.make_tensor_value_info
    states = value("states", floats, ["rows", "tokens", 8])
    made = value("logits", floats, ["rows", "tokens", 8])
    node = helper.make_node("Relu", ["states"], ["logits"])
    model = helper.make_model(helper.make_graph([node], "none", [states], [made]))
    onnx.checker.check_model(model)
    with pytest.raises(ModelUnsupported, match="logits"):
        add_first_logit(model)
