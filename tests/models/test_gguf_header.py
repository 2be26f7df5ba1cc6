"""The GGUF header walk: as the gguf package reads it, and as strict as llama.cpp."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from gguf import GGUFReader

from qwenkit.errors import ModelCorrupt, ModelError, ModelNotFound, ModelUnsupported
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.gguf_header import read_header


@pytest.fixture
def gguf(checkpoint: Path, tmp_path: Path) -> Path:
    convert_checkpoint(checkpoint, tmp_path / "m.gguf", dtype="q8_0")
    return tmp_path / "m.gguf"


def test_it_reads_what_the_gguf_package_reads(gguf: Path) -> None:
    header, reference = read_header(gguf), GGUFReader(gguf)
    fields = {k: f for k, f in reference.fields.items() if not k.startswith("GGUF.")}
    assert header.metadata.keys() == fields.keys()
    for key, field in fields.items():
        assert header.metadata[key] == field.contents()
    assert [
        (t.name, t.shape, t.type, header.data_offset + t.offset, t.n_bytes, t.n_elements)
        for t in header.tensors
    ] == [
        (
            t.name,
            tuple(t.shape.tolist()[::-1]),
            t.tensor_type,
            t.data_offset,
            t.n_bytes,
            t.n_elements,
        )
        for t in reference.tensors
    ]


def test_a_file_cut_anywhere_is_an_error_that_names_it(gguf: Path) -> None:
    whole = gguf.read_bytes()
    start = read_header(gguf).data_offset
    cuts = {*range(64), *range(64, start, 61), *range(start, len(whole), 4093), len(whole) - 33}
    for size in sorted(cuts):
        gguf.write_bytes(whole[:size])
        with pytest.raises(ModelCorrupt, match=r"m\.gguf"):
            read_header(gguf)


@pytest.mark.parametrize(
    ("size", "section"), [(2, "header"), (20, "header"), (100, "metadata"), (-3000, "data of")]
)
def test_a_truncated_file_says_in_which_section(gguf: Path, size: int, section: str) -> None:
    gguf.write_bytes(gguf.read_bytes()[:size])
    with pytest.raises(ModelCorrupt, match=section):
        read_header(gguf)


def test_a_file_cut_in_its_tensor_table_says_so(gguf: Path) -> None:
    whole = gguf.read_bytes()
    gguf.write_bytes(whole[: whole.index(b"blk.1.ffn_up.weight") + 25])
    with pytest.raises(ModelCorrupt, match="tensor table"):
        read_header(gguf)


@pytest.mark.parametrize(
    ("offset", "data", "error", "fact"),
    [
        (0, b"GGML", ModelCorrupt, "GGML"),
        (0, b"PK\3\4", ModelCorrupt, "PK"),
        (4, struct.pack("<I", 1), ModelUnsupported, "version 1"),
        (4, struct.pack("<I", 99), ModelUnsupported, "version 99"),
        (4, struct.pack(">I", 3), ModelUnsupported, "big-endian"),
        (8, struct.pack("<Q", 2**60), ModelCorrupt, "m.gguf"),
        (16, struct.pack("<Q", 2**60), ModelCorrupt, "m.gguf"),
        (24, struct.pack("<Q", 2**63), ModelCorrupt, "cut off"),
    ],
)
def test_a_damaged_header_is_an_error_with_its_fact(
    gguf: Path, offset: int, data: bytes, error: type[ModelError], fact: str
) -> None:
    whole = bytearray(gguf.read_bytes())
    whole[offset : offset + len(data)] = data
    gguf.write_bytes(whole)
    with pytest.raises(error, match=fact):
        read_header(gguf)


def patch_tensor(gguf: Path, name: bytes, field: int, value: bytes) -> None:
    """Overwrite bytes of a two-dimensional tensor's row, `field` bytes after its name."""
    whole = bytearray(gguf.read_bytes())
    at = whole.rindex(struct.pack("<Q", len(name)) + name) + 8 + len(name) + field
    whole[at : at + len(value)] = value
    gguf.write_bytes(whole)


@pytest.mark.parametrize(
    ("field", "value", "error", "fact"),
    [
        (0, struct.pack("<I", 9), ModelCorrupt, "9 dimensions"),
        (4, struct.pack("<Q", 33), ModelCorrupt, "rows of 33"),
        (12, struct.pack("<Q", 2**40), ModelCorrupt, "ends at byte"),
        (20, struct.pack("<I", 77), ModelUnsupported, "unknown type 77"),
        (24, struct.pack("<Q", 32), ModelCorrupt, "stands at 32"),
    ],
)
def test_a_damaged_tensor_is_named(
    gguf: Path, field: int, value: bytes, error: type[ModelError], fact: str
) -> None:
    patch_tensor(gguf, b"blk.0.ffn_gate.weight", field, value)
    with pytest.raises(error, match=rf"blk\.0\.ffn_gate\.weight.*{fact}|{fact}"):
        read_header(gguf)


def test_a_tensor_that_is_there_twice_is_named(gguf: Path) -> None:
    whole = gguf.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight")
    gguf.write_bytes(whole)
    with pytest.raises(ModelCorrupt, match=r"blk\.0\.ffn_up\.weight"):
        read_header(gguf)


def test_no_file_and_no_gguf_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no\.gguf"):
        read_header(tmp_path / "no.gguf")
    with pytest.raises(ModelCorrupt, match="directory"):
        read_header(tmp_path)
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(ModelCorrupt, match="byte 0"):
        read_header(tmp_path / "empty.gguf")
