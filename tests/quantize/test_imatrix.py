"""Importance matrices: the file, and that what is in it makes quantising better."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType

from qwenkit.errors import DecodeFailed, InvalidRequest, ModelCorrupt, ModelError, ModelUnsupported
from qwenkit.models.gguf_file import Metadata, PlannedTensor, write_gguf
from qwenkit.models.gguf_header import read_header
from qwenkit.quality.measure import compare
from qwenkit.quality.tokens import encode
from qwenkit.quantize.activations import compute_imatrix
from qwenkit.quantize.gguf import quantize_gguf
from qwenkit.quantize.imatrix import (
    ImportanceMatrix,
    Usage,
    is_imatrix,
    read_imatrix,
    write_imatrix,
)

from .conftest import TEXT

N_CTX = 256


def usage(n_matrices: int = 1, n_columns: int = 8) -> Usage:
    sums = np.arange(n_matrices * n_columns, dtype=np.float32).reshape(n_matrices, n_columns)
    return Usage(sums, np.full(n_matrices, 4, np.float32))


def test_a_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    matrix = ImportanceMatrix({"blk.0.a.weight": usage(), "b": usage(3)}, ("x", "y"), 7, 512)
    path = tmp_path / "imatrix.gguf"
    write_imatrix(matrix, path, architecture="qwen3")
    assert is_imatrix(path)
    read = read_imatrix(path)
    assert (read.datasets, read.n_chunks, read.chunk_size) == (("x", "y"), 7, 512)
    for name, each in matrix.usage.items():
        assert np.array_equal(read.usage[name].sums, each.sums)
        assert np.array_equal(read.usage[name].counts, each.counts)


def test_the_file_has_what_llama_imatrix_writes(imatrix: Path) -> None:
    header = read_header(imatrix)
    assert header.text("general.type") == "imatrix"
    assert header.strings("imatrix.datasets") == ["text"]
    assert header.number("imatrix.chunk_size") == N_CTX
    names = {tensor.name for tensor in header.tensors}
    kinds = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert names == {
        f"blk.{i}.{kind}.weight.{part}"
        for i in range(4)
        for kind in kinds
        for part in ("in_sum2", "counts")
    }


def test_importance_is_the_mean_and_one_where_nothing_was_counted() -> None:
    counts = np.array([4, 0], np.float32)
    sums = np.array([[4.0, 8.0], [0.0, 0.0]], np.float32)
    assert Usage(sums, counts).importance.tolist() == [1.0, 2.0, 1.0, 1.0]


def test_every_token_counts_once(demo_f16: Path) -> None:
    matrix = compute_imatrix(demo_f16, source=TEXT, n_ctx=200, n_windows=2, n_threads=1)
    assert matrix.n_chunks == 2
    assert {float(each.counts[0]) for each in matrix.usage.values()} == {400.0}


def test_matrices_that_read_the_same_rows_have_the_same_importance(imatrix: Path) -> None:
    used = read_imatrix(imatrix).usage
    for others in (("attn_k", "attn_v", "attn_q"), ("ffn_up", "ffn_gate")):
        first, *rest = (used[f"blk.1.{name}.weight"].sums for name in others)
        assert all(np.array_equal(first, each) for each in rest)
    assert not np.array_equal(used["blk.0.attn_q.weight"].sums, used["blk.1.attn_q.weight"].sums)


def test_it_makes_few_bits_lose_less(demo_f16: Path, imatrix: Path, tmp_path: Path) -> None:
    plain, weighed = tmp_path / "plain.gguf", tmp_path / "weighed.gguf"
    quantize_gguf(demo_f16, plain, type="Q2_K", n_threads=1)
    quantize_gguf(demo_f16, weighed, type="Q2_K", imatrix=imatrix, n_threads=1)
    _, without, with_it = compare(demo_f16, [plain, weighed], TEXT, n_ctx=N_CTX, n_threads=1)
    assert with_it.size_bytes == pytest.approx(without.size_bytes, rel=0.01)
    assert with_it.divergence.mean < 0.8 * without.divergence.mean


def test_a_model_is_no_importance_matrix(demo_f16: Path) -> None:
    with pytest.raises(ModelUnsupported, match="importance"):
        read_imatrix(demo_f16)


@pytest.mark.parametrize(
    "tensors",
    [
        {"a.in_sum2": np.ones(4, np.float32)},
        {"a.in_sum2": np.ones(4, np.float32), "a.counts": np.ones(3, np.float32)},
        {"a.in_sum2": np.array([np.nan], np.float32), "a.counts": np.ones(1, np.float32)},
        {"a.in_sum2": np.ones(4, np.float16), "a.counts": np.ones(1, np.float32)},
    ],
    ids=["no counts", "odd counts", "no number", "no floats"],
)
def test_a_damaged_file_is_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    kinds = {np.dtype(np.float32): GGMLQuantizationType.F32}
    planned = [
        PlannedTensor(
            name,
            values.shape,
            kinds.get(values.dtype, GGMLQuantizationType.F16),
            lambda values=values: iter([values]),  # type: ignore[misc]
        )
        for name, values in tensors.items()
    ]
    write_gguf(
        path, architecture="qwen3", metadata=Metadata(), tensors=planned, advance=lambda _: None
    )
    with pytest.raises(ModelCorrupt):
        read_imatrix(path)


def test_a_cut_off_file_is_refused(imatrix: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(imatrix.read_bytes()[:-100])
    with pytest.raises(ModelError):
        read_imatrix(path)


def test_a_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moe.gguf"
    data = Metadata()
    data.uint("qwen3moe.expert_count", 8)
    write_gguf(path, architecture="qwen3moe", metadata=data, tensors=(), advance=lambda _: None)
    with pytest.raises(ModelUnsupported, match="experts"):
        compute_imatrix(path, source=TEXT)


def test_numbers_that_are_not_finite_end_the_work(demo_f16: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(demo_f16.read_bytes())
    header = read_header(path)
    norm = next(each for each in header.tensors if each.name == "blk.2.ffn_norm.weight")
    with path.open("r+b") as file:
        file.seek(header.data_offset + norm.offset)
        file.write(np.full(norm.n_elements, np.inf, np.float32).tobytes())
    with pytest.raises(DecodeFailed, match=r"blk\.2\.ffn"):
        compute_imatrix(path, source=TEXT, n_ctx=N_CTX, n_threads=1)


def test_an_interruption_ends_the_work_and_leaves_no_file(demo_f16: Path, tmp_path: Path) -> None:
    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Iterator[Any]:
        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        yield interrupt

    with pytest.raises(KeyboardInterrupt):
        compute_imatrix(
            demo_f16,
            tmp_path / "imatrix.gguf",
            source=TEXT,
            n_ctx=N_CTX,
            n_threads=1,
            progress=progress,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_text_shorter_than_a_window_is_refused(demo_f16: Path) -> None:
    assert len(encode("short", demo_f16)) < 16
    with pytest.raises(InvalidRequest):
        compute_imatrix(demo_f16, source="short")
