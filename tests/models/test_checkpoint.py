"""The safetensors reader: what is sound is read exactly, what is not is refused with a reason."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from qwenkit.errors import ModelCorrupt, ModelError, ModelNotFound, ModelUnsupported
from qwenkit.models.checkpoint import open_checkpoint, read_tensors, to_float32

INDEX = "model.safetensors.index.json"


def write_raw(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(
        st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple), min_size=1, max_size=5
    ),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    chunk_bytes=st.integers(1, 100),
)
def test_tensors_come_back_as_the_safetensors_library_wrote_them(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[int, ...]],
    dtype: str,
    chunk_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("st") / "model.safetensors"
    rng = np.random.default_rng(0)
    tensors = {f"t{i}": rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
    save_file(tensors, path)
    stored = read_tensors(path)
    assert stored.keys() == tensors.keys()
    for name, data in tensors.items():
        chunks = list(stored[name].chunks(chunk_bytes))
        rows = np.concatenate(chunks) if chunks else np.empty(data.shape, data.dtype)
        np.testing.assert_array_equal(rows, data)


def test_every_dtype_of_the_format_is_measured(tmp_path: Path) -> None:
    sizes = {"F4": 4, "F6_E2M3": 6, "F8_E4M3": 8, "BOOL": 8, "BF16": 16, "U32": 32, "C64": 64}
    header, offset = {}, 0
    for name, bits in sizes.items():
        header[name] = entry(name, [2, 8], offset, offset + 2 * bits)
        offset += 2 * bits
    stored = read_tensors(write_raw(tmp_path / "m.safetensors", header, bytes(offset)))
    assert [tensor.n_bytes for tensor in stored.values()] == [2 * b for b in sizes.values()]


def test_bf16_is_the_upper_half_of_float32(tmp_path: Path, tiny: SimpleNamespace) -> None:
    data = np.array([[1.5, -2.0], [3e38, np.inf]], dtype=np.float32)
    tiny.write_safetensors(tmp_path / "m.safetensors", {"t": data}, "BF16")
    [rows] = read_tensors(tmp_path / "m.safetensors")["t"].chunks()
    assert rows.dtype == np.uint16
    np.testing.assert_array_equal(to_float32(rows, "BF16"), tiny.as_stored(data, "BF16"))


def test_a_tensor_that_is_no_float_has_no_rows(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "m.safetensors", {"t": entry("F8_E4M3", [2], 0, 2)}, b"ab")
    with pytest.raises(ModelUnsupported, match="F8_E4M3"):
        list(read_tensors(path)["t"].chunks())


def test_reading_holds_a_chunk_and_not_the_tensor(tmp_path: Path, tiny: SimpleNamespace) -> None:
    data = np.ones((4096, 256), dtype=np.float32)
    tiny.write_safetensors(tmp_path / "m.safetensors", {"t": data})
    stored = read_tensors(tmp_path / "m.safetensors")["t"]
    tracemalloc.start()
    try:
        deque(stored.chunks(65_536), maxlen=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < data.nbytes / 10


def test_a_file_cut_anywhere_is_an_error_that_names_it(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    whole = path.read_bytes()
    for size in [*range(12), *range(12, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelCorrupt, match=r"model\.safetensors") as caught:
            read_tensors(path)
        assert str(size) in caught.value.message or "JSON" in caught.value.message


def test_a_truncated_file_says_how_long_it_should_be(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ModelCorrupt, match=rf"{len(whole)} bytes.*{len(whole) - 100}"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("header", "n_data", "fact"),
    [
        (b"", 0, "JSON"),
        (b"[]", 0, "object"),
        (b'{"t": 1}', 0, "malformed"),
        (b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}', 4, "twice"),
        ({"t": {"dtype": "F32", "shape": [1]}}, 4, "malformed"),
        ({"t": entry("F31", [1], 0, 4)}, 4, "malformed"),
        ({"t": entry("F32", [-1], 0, 4)}, 4, "malformed"),
        ({"t": entry("F32", [True], 0, 4)}, 4, "malformed"),
        ({"t": entry("F32", [1], 4, 0)}, 4, "malformed"),
        ({"t": entry("F32", [2], 0, 4)}, 4, "takes 8 bytes, 4"),
        ({"t": entry("F32", [1], 0, 4)}, 8, "bytes are expected"),
        ({"t": entry("F32", [1], 4, 8)}, 8, "starts at"),
        ({"t": entry("F32", [1], 0, 4), "u": entry("F32", [1], 2, 6)}, 6, "starts at"),
        ({"t": entry("F32", [1], 0, 4), "u": entry("F32", [1], 0, 4)}, 4, "starts at"),
        ({"t": entry("F32", [2**70], 0, 4)}, 4, "takes"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    tmp_path: Path, header: Any, n_data: int, fact: str
) -> None:
    path = write_raw(tmp_path / "m.safetensors", header, bytes(n_data))
    with pytest.raises(ModelCorrupt, match=fact):
        read_tensors(path)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(data)
    try:
        read_tensors(path)
    except ModelError:
        return
    with safe_open(path, framework="numpy") as file:
        assert file.keys() is not None


def test_shards_add_up_to_one_checkpoint(tmp_path: Path, tiny: SimpleNamespace) -> None:
    tensors = tiny.write(tmp_path / "m", n_shards=3)
    checkpoint = open_checkpoint(tmp_path / "m")
    assert checkpoint.tensors.keys() == tensors.keys()
    assert len(checkpoint.files) == 3
    assert checkpoint.n_bytes == sum(data.nbytes for data in tensors.values())


def test_missing_shards_are_listed(tmp_path: Path, tiny: SimpleNamespace) -> None:
    tiny.write(tmp_path / "m", n_shards=3)
    lost = "model-00002-of-00003.safetensors"
    (tmp_path / "m" / lost).unlink()
    with pytest.raises(ModelCorrupt, match=f"1 of 3 shards: {lost}"):
        open_checkpoint(tmp_path / "m")


def change_index(folder: Path, **changes: str) -> None:
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    index["weight_map"] |= changes
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def test_an_index_that_names_a_tensor_its_shard_lacks_is_refused(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    tiny.write(tmp_path / "m", n_shards=2)
    change_index(tmp_path / "m", ghost="model-00001-of-00002.safetensors")
    with pytest.raises(ModelCorrupt, match="ghost"):
        open_checkpoint(tmp_path / "m")


def test_a_tensor_in_another_shard_than_the_index_says_is_refused(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    tiny.write(tmp_path / "m", n_shards=2)
    change_index(tmp_path / "m", **{"model.norm.weight": "model-00001-of-00002.safetensors"})
    with pytest.raises(ModelCorrupt, match=r"model\.norm\.weight"):
        open_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "x.bin"])
def test_an_index_can_not_point_out_of_its_folder(
    tmp_path: Path, tiny: SimpleNamespace, place: str
) -> None:
    tiny.write(tmp_path / "m", n_shards=2)
    change_index(tmp_path / "m", **{"model.norm.weight": place})
    with pytest.raises(ModelCorrupt, match="weight_map"):
        open_checkpoint(tmp_path / "m")


def test_a_folder_without_safetensors_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no safetensors"):
        open_checkpoint(tmp_path)


def test_shards_without_an_index_are_refused(tmp_path: Path, tiny: SimpleNamespace) -> None:
    tiny.write(tmp_path / "m", n_shards=2)
    (tmp_path / "m" / INDEX).unlink()
    with pytest.raises(ModelCorrupt, match=INDEX):
        open_checkpoint(tmp_path / "m")
