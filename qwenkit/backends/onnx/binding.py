"""Memory bound to a session's inputs and outputs: made once for the same rows and adapter."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy.typing as npt

from qwenkit.backends.base import AdapterUse, LoadedAdapter
from qwenkit.backends.onnx.adapter import OnnxAdapter
from qwenkit.backends.onnx.graph import Graph
from qwenkit.backends.onnx.kv import Kv
from qwenkit.backends.onnx.packing import Span
from qwenkit.backends.onnx.runtime import onnxruntime

_MAX_BINDINGS = 64


class Bindings:
    """Binds rows of a cache and adapters; the least recently used are forgotten.

    Args:
        session: Whose inputs and outputs.
        graph: Their names.
        kv: The cache.
    """

    def __init__(self, session: Any, graph: Graph, kv: Kv) -> None:
        self._session = session
        self._graph = graph
        self._kv = kv
        self._made: OrderedDict[tuple[Span, AdapterUse | None, bool], Any] = OrderedDict()

    def get(self, span: Span, use: AdapterUse | None, *, logits: bool) -> Any:
        """The cache's rows, and an adapter; with `logits` an output for them is to be bound."""
        key = (span, use, logits)
        if key not in self._made:
            binding = self.over(self._kv, span)
            self._bind_adapter(binding, use)
            self._made[key] = binding
            if len(self._made) > _MAX_BINDINGS:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]

    def over(self, kv: Kv, span: Span) -> Any:
        """Rows of any cache."""
        binding = self._session.io_binding()
        graph = self._graph
        shape = graph.kv.of(span.n, kv.n_cells)
        for index, (past, present) in enumerate(zip(graph.past, graph.present, strict=True)):
            memory = (kv.device, 0, graph.kv.dtype, shape, kv.pointer(index, span.first))
            binding.bind_input(past, *memory)
            binding.bind_output(present, *memory)
        return binding

    def forget(self, adapter: LoadedAdapter) -> None:
        """Drop what is bound to an adapter."""
        for key in [k for k in self._made if k[1] is not None and k[1].adapter is adapter]:
            del self._made[key]

    def _bind_adapter(self, binding: Any, use: AdapterUse | None) -> None:
        if use is None:
            return
        if not isinstance(use.adapter, OnnxAdapter):
            raise TypeError("an adapter of another runtime")
        value_type = onnxruntime().OrtValue
        for name, matrix in use.adapter.at(use.scale).items():
            value = value_type.ortvalue_from_numpy(matrix, self._kv.device, 0)
            binding.bind_ortvalue_input(name, value)


def bind_output(binding: Any, name: str, array: npt.NDArray[Any]) -> None:
    """Let an output be written into an array, which the caller keeps alive."""
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
