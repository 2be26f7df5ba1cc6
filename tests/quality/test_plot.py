"""The picture: a PNG of some size, whatever the numbers are."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.quality.measure import Quality
from qwenkit.quality.metrics import Divergence, Perplexity
from qwenkit.quality.plot import plot_quality

pytestmark = pytest.mark.parity


def quality(bits: float, divergence: float) -> Quality:
    return Quality(
        path=Path("model.gguf"),
        size_bytes=1000,
        bits_per_weight=bits,
        perplexity=Perplexity(10.0, 0.5, 255),
        ratio=1.0,
        ratio_error=0.0,
        divergence=Divergence(divergence, 0.0, divergence, 3 * divergence, 5 * divergence),
        agreement=1.0 - divergence,
    )


@pytest.mark.parametrize(
    "divergences", [[0.1, 0.01], [0.0], [0.0, 0.1], []], ids=["two", "none", "both", "no models"]
)
def test_a_comparison_becomes_a_png(divergences: list[float], tmp_path: Path) -> None:
    qualities = [quality(16, 0), *(quality(4 + i, each) for i, each in enumerate(divergences))]
    labels = [f"model {i}" for i in range(len(qualities))]
    target = tmp_path / "quality.png"
    plot_quality(qualities, target, labels=labels)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["quality.png"]
