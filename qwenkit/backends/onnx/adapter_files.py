"""Adapters as GenAI takes them: from files, by name, a copy for each scale."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from qwenkit.backends.base import AdapterUse, LoadedAdapter
from qwenkit.backends.onnx.adapter import OnnxAdapter
from qwenkit.backends.onnx.genai import Adapters, Model
from qwenkit.backends.onnx.runtime import onnxruntime


class AdapterFiles:
    """What GenAI has loaded of a model's adapters.

    Args:
        model: What they change.
    """

    def __init__(self, model: Model) -> None:
        self.loaded = Adapters(model)
        self._names: dict[AdapterUse, str] = {}
        self._n_named = 0

    def add(self, adapter: LoadedAdapter, path: Path) -> None:
        """Load an adapter as it is.

        Raises:
            GenaiError: It can't be read.
        """
        self._load(AdapterUse(adapter, 1.0), path)

    def remove(self, adapter: LoadedAdapter) -> None:
        """Free all copies of an adapter."""
        self._unload([use for use in self._names if use.adapter is adapter])

    def name_of(self, use: AdapterUse, in_use: set[AdapterUse]) -> str:
        """The name of an adapter at a scale; other scales that nobody uses make way for it.

        Raises:
            GenaiError: The copy can't be loaded.
        """
        if use not in self._names:
            idle = [u for u in self._names if u.scale != 1.0 and u not in in_use]
            self._unload(idle)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "scaled.onnx_adapter"
                _write(use, path)
                self._load(use, path)
        return self._names[use]

    def close(self) -> None:
        """Free everything."""
        self.loaded.close()

    def _load(self, use: AdapterUse, path: Path) -> None:
        self._n_named += 1
        name = f"adapter-{self._n_named}"
        self.loaded.load(path, name)
        self._names[use] = name

    def _unload(self, uses: Sequence[AdapterUse]) -> None:
        self.loaded.unload(self._names.pop(use) for use in uses)


def _write(use: AdapterUse, path: Path) -> None:
    if not isinstance(use.adapter, OnnxAdapter):
        raise TypeError("an adapter of another runtime")
    runtime = onnxruntime()
    file = runtime.AdapterFormat()
    make = runtime.OrtValue.ortvalue_from_numpy
    file.set_parameters({n: make(matrix) for n, matrix in use.adapter.at(use.scale).items()})
    file.export_adapter(str(path))
