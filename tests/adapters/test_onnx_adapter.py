"""`.onnx_adapter` files, read without onnxruntime."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenkit.adapters.base import BaseShapes, LoraSlot
from qwenkit.adapters.onnx_adapter import is_written_for, read_parameters, write_onnx_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported, MissingExtra, ModelCorrupt, ModelError

# What onnxruntime 1.32 wrote: A is float32 [4, 2] of 0 to 7, B float16 [2, 3] of 0 to 5.
WRITTEN = base64.b64decode(
    "GAAAAFRPUlQAAAAADAAMAAQAAAAAAAgADAAAAAEAAAAEAAAAAgAAAIQAAAAEAAAAkP///zgAAAAcAAAACgAAAAQA"
    "AAAMAAAAAAAAPABAAEIARABFAgAAAAIAAAAAAAAAAwAAAAAAAAAAAAAALwAAAG1vZGVsLmxheWVycy4wLmF0dG4u"
    "cV9wcm9qLmxvcmFfQi5NYXRNdWwud2VpZ2h0AAwAFAAEAAgADAAQAAwAAABMAAAAMAAAAAEAAAAEAAAAIAAAAAAA"
    "AAAAAIA/AAAAQAAAQEAAAIBAAACgQAAAwEAAAOBAAgAAAAQAAAAAAAAAAgAAAAAAAAAAAAAALwAAAG1vZGVsLmxh"
    "eWVycy4wLmF0dG4ucV9wcm9qLmxvcmFfQS5NYXRNdWwud2VpZ2h0AA=="
)
MODULE = "model.layers.0.self_attn.q_proj"
INPUT_A, INPUT_B = (f"model.layers.0.attn.q_proj.lora_{half}.MatMul.weight" for half in "AB")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.onnx_adapter"
    path.write_bytes(WRITTEN)
    return path


def test_a_file_of_onnxruntime_is_read(file: Path) -> None:
    read = read_adapter(file)
    (pair,) = read.pairs
    assert (pair.module, pair.scale, read.alpha) == (MODULE, 1.0, 0.0)
    np.testing.assert_array_equal(pair.a, np.arange(8, dtype=np.float32).reshape(4, 2).T)
    np.testing.assert_array_equal(pair.b, np.arange(6, dtype=np.float32).reshape(2, 3).T)


def test_inputs_named_after_their_matrices_need_no_model(file: Path) -> None:
    content = WRITTEN
    for half in "AB":
        # As long as the builder's name, so that the file stays sound.
        name = f"model.layers.100000.mlp.down_proj.lora_{half}.weight"
        content = content.replace(
            f"model.layers.0.attn.q_proj.lora_{half}.MatMul.weight".encode(), name.encode()
        )
    file.write_bytes(content)
    (pair,) = read_adapter(file).pairs
    assert pair.module == "model.layers.100000.mlp.down_proj"


def test_a_models_own_names_for_its_slots_come_first(file: Path) -> None:
    other = "model.layers.7.mlp.up_proj"
    base = BaseShapes("m", {other: (3, 4)}, {other: LoraSlot(INPUT_A, INPUT_B)})
    assert [pair.module for pair in read_adapter(file, base).pairs] == [other]


def test_an_input_that_is_no_slot_is_refused(file: Path) -> None:
    file.write_bytes(WRITTEN.replace(b"attn.q_proj", b"attn.q_norm"))
    with pytest.raises(AdapterUnsupported, match=r"attn\.q_norm"):
        read_adapter(file)


def test_a_half_without_the_other_is_corrupt(file: Path) -> None:
    file.write_bytes(WRITTEN.replace(INPUT_B.encode(), INPUT_B.replace("q_", "k_").encode()))
    with pytest.raises(ModelCorrupt, match=r"has no [AB] beside it"):
        read_adapter(file)


def test_two_number_formats_in_one_file_suit_no_model(file: Path) -> None:
    for io_dtype in ("float32", "float16"):
        slots = {MODULE: LoraSlot(INPUT_A, INPUT_B)}
        assert not is_written_for(file, BaseShapes("m", {}, slots, io_dtype))


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        (lambda data: b"", ModelCorrupt, "mark"),
        (lambda data: b"PK\3\4" * 40, ModelCorrupt, "mark"),
        (lambda data: data[:200], ModelCorrupt, "truncated"),
        (lambda data: data[:28] + b"\2" + data[29:], AdapterUnsupported, "version"),
        (lambda data: data.replace(b"lora_A", b"lora_B"), ModelCorrupt, "twice"),
        (lambda data: data.replace(b"\0\0\x80\x3f", b"\0\0\x80\x7f"), ModelCorrupt, "infinity"),
        (lambda data: data.replace(b"model.l", b"\xff\xfeodel."), ModelCorrupt, "damaged"),
    ],
)
def test_a_damaged_file_is_refused_by_its_fault(
    file: Path, change: object, error: type[ModelError], named: str
) -> None:
    assert callable(change)
    file.write_bytes(change(WRITTEN))
    with pytest.raises(error, match=re.escape(named)):
        read_adapter(file)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_damage_ends_in_another_error(file: Path, data: st.DataObject) -> None:
    content = bytearray(WRITTEN)
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        at = data.draw(st.integers(0, len(content) - 1), "at")
        content[at] = data.draw(st.sampled_from([0, 1, 255]) | st.integers(0, 255), "byte")
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)), "end")
    file.write_bytes(content[:end])
    try:
        read = read_adapter(file)
    except ModelError:
        return
    assert all(np.isfinite(array).all() for pair in read.pairs for _, array in pair.arrays())


def test_many_entries_for_one_value_are_refused(file: Path) -> None:
    # Both entries of the list lead to the same parameter.
    second = int.from_bytes(WRITTEN[44:48], "little") + 4
    file.write_bytes(WRITTEN[:40] + second.to_bytes(4, "little") + WRITTEN[44:])
    with pytest.raises(ModelError):
        read_parameters(file)


def test_writing_without_onnxruntime_names_the_extra(
    adapter: Path,
    tmp_path: Path,
    lora: SimpleNamespace,
    demo: BaseShapes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra) as caught:
        write_onnx_adapter(
            read_adapter(adapter), tmp_path / "x.onnx_adapter", lora.with_slots(demo)
        )
    assert (caught.value.package, caught.value.extra) == ("onnxruntime", "onnx")
