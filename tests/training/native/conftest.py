"""The demo model in float32, and a few sentences to teach it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.resolve import ResolvedModel, resolve
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.prepare import prepare_data
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.native.request import NativeReport, NativeRequest
from qwenkit.training.native.train import train_native

NAMES = ("Ada", "Bo", "Cleo", "Dan", "Eva", "Finn")
THINGS = ("lamp", "kettle", "ladder", "piano")
PLACES = ("attic", "cellar", "hall", "barn")

Train = Callable[..., NativeReport]


def _row(name: str, thing: str) -> dict[str, Any]:
    place = PLACES[(NAMES.index(name) + THINGS.index(thing)) % len(PLACES)]
    return {
        "messages": [
            {"role": "user", "content": f"Where does {name} keep the {thing}?"},
            {"role": "assistant", "content": f"{name} keeps the {thing} in the {place}."},
        ]
    }


def prepare(folder: Path, rows: Sequence[dict[str, Any]], name: str = "train") -> PreparedData:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with open_renderer(DEMO_DIR) as renderer:
        return prepare_data([str(path)], method="sft", renderer=renderer, options=DataOptions())


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ResolvedModel:
    return resolve(None, home=tmp_path_factory.mktemp("home"), dtype="f32")


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    rows = [_row(name, thing) for name in NAMES for thing in THINGS[:3]]
    return prepare(tmp_path_factory.mktemp("data"), rows)


@pytest.fixture(scope="session")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    rows = [_row(name, THINGS[3]) for name in NAMES]
    return prepare(tmp_path_factory.mktemp("data"), rows, "held")


@pytest.fixture
def train(model: ResolvedModel, taught: PreparedData, tmp_path: Path) -> Train:
    """Trains for a few seconds, into a folder of its own."""

    def run(*, on_record: Callable[..., None] = lambda _: None, **fields: Any) -> NativeReport:
        given: dict[str, Any] = {
            "model": model,
            "train": taught,
            "output": tmp_path / "run",
            "n_ctx": 256,
            "n_epochs": 2,
            "rank": 8,
            "learning_rate": 3e-4,
            "n_threads": 1,
        }
        return train_native(NativeRequest(**given | fields), on_record=on_record)

    return run
