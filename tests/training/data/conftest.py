"""The demo model's renderer, and rows in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.prepare import prepare_data
from qwenkit.training.data.renderer import Renderer, open_renderer
from qwenkit.training.data.samples import PreparedData, Sample

Prepare = Callable[..., PreparedData]


@pytest.fixture(scope="session")
def renderer() -> Iterator[Renderer]:
    """The demo model's template and tokens."""
    with open_renderer(Path(DEMO_DIR)) as renderer:
        yield renderer


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as JSON lines; strings go in as they are."""

    def write(*rows: Any, name: str = "rows.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def prepare(renderer: Renderer, write_rows: Callable[..., Path]) -> Prepare:
    """Prepares rows with the demo model, from a file of them."""

    def prepare(*rows: Any, method: str = "sft", **options: Any) -> PreparedData:
        return prepare_data(
            [str(write_rows(*rows))],
            method=method,  # type: ignore[arg-type]
            renderer=renderer,
            options=DataOptions(**options),
        )

    return prepare


@pytest.fixture(scope="session")
def learned_texts(renderer: Renderer) -> Callable[[Sample], list[str]]:
    """The texts of a sample's stretches that are learned."""

    def texts(sample: Sample) -> list[str]:
        found: list[list[int]] = []
        previous = False
        for token, learned in zip(sample.ids, sample.learned, strict=True):
            if learned:
                if not previous:
                    found.append([])
                found[-1].append(token)
            previous = learned
        return [renderer.decode(ids) for ids in found]

    return texts
