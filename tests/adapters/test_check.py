"""The numeric check: it finds what differs, and passes what rounding explains."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.check import Comparison, check_adapter
from qwenkit.adapters.convert import convert_adapter
from qwenkit.adapters.merge import merge_adapter
from qwenkit.adapters.merge_check import check_merged
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported, InvalidSettings, ModelCorrupt, ModelError
from qwenkit.models.checkpoint import open_checkpoint
from qwenkit.models.demo import DEMO_DIR


def test_a_converted_adapter_is_compared_matrix_by_matrix(
    adapter: Path, tmp_path: Path, demo: BaseShapes
) -> None:
    made = convert_adapter(adapter, tmp_path / "a.gguf", base=demo, check=True)
    assert made.check is not None
    assert (made.check.n_matrices, made.check.max_abs, made.check.worst) == (8, 0.0, "")
    assert (made.format, made.rank, made.alpha) == ("gguf", 4, 8.0)
    assert made.version == read_adapter(adapter).version()
    assert convert_adapter(adapter, tmp_path / "b.gguf").check is None


def test_one_wrong_number_is_found_and_named(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace
) -> None:
    module = "model.layers.2.self_attn.v_proj"

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"base_model.model.{module}.lora_B.weight"][5, 1] += 0.01

    other = lora.write(tmp_path / "other", change=change)
    with pytest.raises(AdapterUnsupported, match=re.escape(module)):
        check_adapter(other, read_adapter(adapter))


def test_nan_is_infinitely_far_off() -> None:
    comparison = Comparison(1.0)
    comparison.add("m", iter([np.array([[np.nan, 1.0]])]), iter([np.ones((1, 2))]))
    with pytest.raises(AdapterUnsupported, match="`m`"):
        comparison.result(Path("x"))


def test_other_matrices_are_found(adapter: Path, tmp_path: Path, lora: SimpleNamespace) -> None:
    other = lora.write(tmp_path / "other", targets=("q_proj",))
    with pytest.raises(ModelCorrupt, match="other matrices"):
        check_adapter(other, read_adapter(adapter))


@pytest.mark.parametrize("name", ["m", "m.gguf"])
def test_a_merge_with_another_adapter_is_found(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, name: str
) -> None:
    merge_adapter(DEMO_DIR, lora.write(tmp_path / "b", seed=1), tmp_path / name, dtype="f32")
    pairs = {f"{pair.module}.weight": pair for pair in read_adapter(adapter).pairs}
    with pytest.raises(AdapterUnsupported, match="_proj"):
        check_merged(tmp_path / name, open_checkpoint(DEMO_DIR), pairs)


def test_the_target_says_what_to_write_or_the_caller_does(
    adapter: Path, tmp_path: Path, demo: BaseShapes
) -> None:
    with pytest.raises(InvalidSettings, match="which format"):
        convert_adapter(adapter, tmp_path / "a.bin")
    assert convert_adapter(adapter, tmp_path / "a.bin", format="gguf").path.exists()
    with pytest.raises(InvalidSettings, match="exported model"):
        convert_adapter(adapter, tmp_path / "a.onnx_adapter", base=demo)
    with pytest.raises(InvalidSettings, match="is a folder"):
        convert_adapter(adapter, tmp_path, format="gguf")


def test_an_adapter_that_does_not_fit_the_base_is_not_converted(
    tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    wide = BaseShapes("wide", {"model.layers.0.self_attn.q_proj": (512, 512)})
    folder = lora.write(tmp_path / "a", base=wide)
    with pytest.raises(ModelError):
        convert_adapter(folder, tmp_path / "a.gguf", base=demo)
    assert not (tmp_path / "a.gguf").exists()
    assert convert_adapter(folder, tmp_path / "a.gguf").path.exists()
    shutil.rmtree(folder)
