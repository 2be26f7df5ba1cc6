"""`.onnx_adapter` files as onnxruntime writes and reads them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.check import check_adapter
from qwenkit.adapters.onnx_adapter import read_parameters, write_onnx_adapter
from qwenkit.adapters.prepare import prepare_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported

pytestmark = pytest.mark.parity


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rank=st.integers(1, 9),
    alpha=st.sampled_from([1, 7, -3]),
    rslora=st.booleans(),
    io_dtype=st.sampled_from(["float32", "float16"]),
    seed=st.integers(0, 99),
)
def test_what_is_written_does_what_its_source_does(
    tmp_path: Path,
    lora: SimpleNamespace,
    demo: BaseShapes,
    rank: int,
    alpha: float,
    rslora: bool,
    io_dtype: str,
    seed: int,
) -> None:
    config = {"r": rank, "lora_alpha": alpha, "use_rslora": rslora}
    targets = ("q_proj", "o_proj", "down_proj", "lm_head")
    folder = lora.write(tmp_path / "a", seed=seed, config=config, targets=targets)
    source, base = read_adapter(folder), lora.with_slots(demo, io_dtype)
    target = tmp_path / "x.onnx_adapter"
    write_onnx_adapter(source, target, base)
    back = read_adapter(target, base)
    assert [(p.module, p.scale) for p in back.pairs] == [(p.module, 1.0) for p in source.pairs]
    tolerance = 1e-6 if io_dtype == "float32" else 5e-3
    for module, delta in lora.deltas(source).items():
        ours = lora.deltas(back)[module]
        np.testing.assert_allclose(ours, delta, atol=tolerance * np.abs(delta).max())
    assert check_adapter(target, source, base).max_rel < tolerance


def test_our_reader_and_onnxruntimes_see_the_same(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    import onnxruntime

    target = tmp_path / "x.onnx_adapter"
    write_onnx_adapter(read_adapter(adapter), target, lora.with_slots(demo))
    theirs = onnxruntime.AdapterFormat.read_adapter(str(target)).get_parameters()
    ours = {parameter.name: parameter.data for parameter in read_parameters(target)}
    assert ours.keys() == theirs.keys()
    for name, data in ours.items():
        np.testing.assert_array_equal(data, theirs[name].numpy())
    a, b = (f"model.layers.0.self_attn.v_proj.lora_{half}.weight" for half in "AB")
    assert (ours[a].shape, ours[b].shape) == ((256, 4), (4, 128))


def test_a_number_too_large_for_half_precision_is_refused(
    tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    folder = lora.write(tmp_path / "a", config={"lora_alpha": 1_000_000})
    with pytest.raises(AdapterUnsupported, match="too large for float16"):
        write_onnx_adapter(
            read_adapter(folder), tmp_path / "x.onnx_adapter", lora.with_slots(demo, "float16")
        )
    assert not list(tmp_path.glob("*.onnx_adapter"))


def test_a_matrix_without_a_slot_is_refused(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    some = BaseShapes("m", {k: v for k, v in demo.layers.items() if "q_proj" in k})
    with pytest.raises(AdapterUnsupported, match="v_proj"):
        write_onnx_adapter(
            read_adapter(adapter), tmp_path / "x.onnx_adapter", lora.with_slots(some)
        )


def test_preparing_converts_between_all_formats_and_uses_what_fits(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    home, slots = tmp_path / "home", lora.with_slots(demo)
    onnx = prepare_adapter(adapter, format="onnx", base=slots, home=home)
    gguf = prepare_adapter(adapter, format="gguf", base=demo, home=home)
    assert (onnx.path.suffix, gguf.path.suffix) == (".onnx_adapter", ".gguf")
    assert onnx.version == gguf.version
    assert onnx.size_bytes == onnx.path.stat().st_size

    crossed = prepare_adapter(onnx.path, format="gguf", base=demo, home=home)
    assert check_adapter(crossed.path, read_adapter(adapter)).max_rel < 1e-6
    back = prepare_adapter(gguf.path, format="onnx", base=slots, home=home)
    assert back.path.suffix == ".onnx_adapter"

    again = prepare_adapter(onnx.path, format="onnx", base=slots, home=home)
    assert again.path == onnx.path
    halves = prepare_adapter(
        onnx.path, format="onnx", base=lora.with_slots(demo, "float16"), home=home
    )
    assert halves.path not in (onnx.path, back.path)
    assert {p.dtype for p in read_parameters(halves.path)} == {"float16"}
    assert math.isclose(halves.size_bytes, onnx.size_bytes / 2, rel_tol=0.1)
