"""Measuring: models side by side on the demo model's scale."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.errors import DecodeFailed, InvalidRequest, ModelCorrupt, ModelUnsupported
from qwenkit.models.gguf_header import read_header
from qwenkit.quality.measure import compare, perplexity
from qwenkit.quality.tokens import encode

from .conftest import TEXT

N_CTX = 256


def test_a_model_is_no_different_from_itself(demo_f32: Path) -> None:
    reference, same = compare(demo_f32, [demo_f32], TEXT, n_ctx=N_CTX, n_threads=1)
    assert same.ratio == 1
    assert same.ratio_error == 0
    assert same.divergence.maximum == 0
    assert same.agreement == 1
    assert same.perplexity == reference.perplexity


def test_a_quantised_model_is_smaller_and_a_little_different(demo_f32: Path, demo_q8: Path) -> None:
    reference, made = compare(demo_f32, [demo_q8], TEXT, n_ctx=N_CTX, n_threads=1)
    assert made.size_bytes < 0.3 * reference.size_bytes
    assert made.bits_per_weight == pytest.approx(8.52, abs=0.02)
    assert 0 < made.divergence.mean < 0.01
    assert 0.9 < made.agreement <= 1
    assert made.ratio == pytest.approx(made.perplexity.value / reference.perplexity.value)


def test_measuring_alone_or_beside_others_gives_the_same(demo_f32: Path, demo_q8: Path) -> None:
    alone = perplexity(demo_q8, TEXT, n_ctx=N_CTX, n_threads=1)
    beside = compare(demo_f32, [demo_q8, demo_f32], TEXT, n_ctx=N_CTX, n_threads=1)
    assert beside[1].perplexity == alone


def test_a_model_whose_numbers_are_not_finite_has_no_perplexity(
    demo_f32: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    shutil.copyfile(demo_f32, broken)
    header = read_header(broken)
    norm = next(tensor for tensor in header.tensors if tensor.name == "output_norm.weight")
    with broken.open("r+b") as file:
        file.seek(header.data_offset + norm.offset)
        file.write(np.full(4, np.nan, "<f4").tobytes())
    with pytest.raises(DecodeFailed, match="finite"):
        compare(demo_f32, [broken], TEXT, n_ctx=64, n_windows=1, n_threads=1)


def test_the_second_half_of_each_window_is_scored(demo_f32: Path) -> None:
    n_windows = len(encode(TEXT, demo_f32)) // N_CTX
    measured = perplexity(demo_f32, TEXT, n_ctx=N_CTX, n_threads=1)
    # What follows a window's last token is not in it.
    assert measured.n_tokens == n_windows * (N_CTX // 2 - 1)
    first = perplexity(demo_f32, TEXT, n_ctx=N_CTX, n_windows=1, n_threads=1)
    assert first.n_tokens == N_CTX // 2 - 1


@pytest.mark.parametrize("n_ctx", [16, 129, 200, 257])
def test_a_window_may_have_any_length(demo_f32: Path, n_ctx: int) -> None:
    measured = perplexity(demo_f32, TEXT, n_ctx=n_ctx, n_windows=2, n_threads=1)
    assert measured.n_tokens == 2 * (n_ctx - n_ctx // 2 - 1)


def test_text_documents_and_tokens_are_one(demo_f32: Path) -> None:
    tokens = encode(TEXT, demo_f32)
    options: dict[str, Any] = {"n_ctx": N_CTX, "n_windows": 1, "n_threads": 1}
    assert perplexity(demo_f32, tokens, **options) == perplexity(demo_f32, TEXT, **options)


def test_the_built_in_text_is_the_default(demo_f32: Path) -> None:
    assert perplexity(demo_f32, n_ctx=N_CTX, n_windows=1, n_threads=1).value > 1


def test_progress_counts_windows(demo_f32: Path) -> None:
    seen: list[tuple[str, int | None, int]] = []

    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Iterator[Any]:
        yield lambda n: seen.append((unit, total, n))

    perplexity(demo_f32, TEXT, n_ctx=N_CTX, n_windows=2, n_threads=1, progress=progress)
    assert seen == [("windows", 2, 1)] * 2


def test_a_short_text_is_refused(demo_f32: Path) -> None:
    with pytest.raises(InvalidRequest, match="512"):
        perplexity(demo_f32, "too short")


def test_tokens_outside_the_vocabulary_are_refused(demo_f32: Path) -> None:
    with pytest.raises(InvalidRequest, match="vocabulary"):
        perplexity(demo_f32, np.full(64, 1 << 20, np.int32), n_ctx=32)


def test_models_of_different_vocabularies_are_not_compared(demo_f32: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(demo_f32.read_bytes().replace(b"<tool_call>", b"<tool_kall>", 1))
    with pytest.raises(ModelUnsupported, match="vocabulary"):
        compare(demo_f32, [other], TEXT, n_ctx=N_CTX)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelCorrupt):
        perplexity(path, TEXT)
