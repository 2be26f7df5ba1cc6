"""Computes importance matrices: reads a text and sums up what every matrix is multiplied with.

llama.cpp asks about each node of its graph before it computes it, and shows those that were asked
for afterwards. Taken are the products with the matrices of the layers, as `llama-imatrix` does: not
the head, which is quantised finely anyway.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np
from numpy.typing import NDArray

from qwenkit.backends.llamacpp.sizing import usable_cores
from qwenkit.backends.llamacpp.tensors import (
    copy_tensor,
    operation_name,
    read_tensor,
    tensor_bytes,
    tensor_name,
)
from qwenkit.errors import DecodeFailed, ModelUnsupported
from qwenkit.models.gguf_header import GgufHeader, read_header
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.quality.reader import Reader
from qwenkit.quality.texts import read_builtin
from qwenkit.quality.tokens import Source, cut, encode
from qwenkit.quantize.imatrix import ImportanceMatrix, Usage, write_imatrix

N_CTX = 512
BUILTIN = "qwenkit's calibration text"

_LAYERS = b"blk."
_F32 = 0


def compute_imatrix(
    model: Path,
    target: Path | None = None,
    *,
    source: Source | None = None,
    dataset: str = "",
    n_ctx: int = N_CTX,
    n_windows: int | None = None,
    n_threads: int = 0,
    n_gpu_layers: int = -1,
    progress: ProgressFactory = silent,
) -> ImportanceMatrix:
    """Compute how strongly a model uses the columns of its matrices on a text.

    Args:
        model: A GGUF of a dense model, best in the precision it was published in.
        target: Where to write it, in `llama-imatrix`'s format; None only returns it.
        source: Plain text, documents or token ids; None is the built-in calibration text.
        dataset: What the text is called in the file.
        n_ctx: Tokens of a window.
        n_windows: Most windows to read; None reads the whole text.
        n_threads: CPU threads; 0 is one a core.
        n_gpu_layers: Layers on the GPU; -1 is all.
        progress: Told the windows read.

    Raises:
        ModelUnsupported: A mixture of experts.
        ModelError: The model can't be loaded.
        InvalidRequest: The text is shorter than a window.
        EngineError: The runtime failed, or computed numbers that are not finite.
    """
    header = read_header(model)
    _refuse_experts(header)
    text = read_builtin("calibration") if source is None else source
    windows = cut(encode(text, model), n_ctx=n_ctx, n_windows=n_windows)
    collector = _Collector()
    reader = Reader(
        model,
        n_ctx=n_ctx,
        n_threads=n_threads or usable_cores(),
        n_gpu_layers=n_gpu_layers,
        on_node=collector.callback,
    )
    with reader, progress("Importance", total=len(windows), unit="windows") as advance:
        for window in windows:
            for _ in reader.read(window):
                collector.raise_failure()
            advance(1)
    matrix = ImportanceMatrix(
        usage=collector.usage(),
        datasets=(dataset or (BUILTIN if source is None else "text"),),
        n_chunks=len(windows),
        chunk_size=n_ctx,
    )
    if target is not None:
        write_imatrix(matrix, target, architecture=header.text("general.architecture"))
    return matrix


def _refuse_experts(header: GgufHeader) -> None:
    architecture = header.text("general.architecture")
    if header.number(f"{architecture}.expert_count"):
        raise ModelUnsupported(
            f"`{header.path}` is a mixture of experts, and importance is computed for dense models",
            hint="give `--imatrix` a file that `llama-imatrix` wrote",
        )


class _Collector:
    """Sums up squares of what the layers' matrices are multiplied with.

    An exception can't pass through C: it is kept, the computation ended, and raised afterwards.
    """

    def __init__(self) -> None:
        self.callback = native.ggml_backend_sched_eval_callback(self._on_node)
        self._product = _product_op()
        self._failure: BaseException | None = None
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, int] = {}

    def raise_failure(self) -> None:
        """Raise what went wrong in the callback."""
        if self._failure is not None:
            raise self._failure

    def usage(self) -> dict[str, Usage]:
        """What was summed up, by the matrix's name."""
        return {
            name: Usage(sums.astype(np.float32)[None], np.array([self._counts[name]], np.float32))
            for name, sums in self._sums.items()
        }

    def _on_node(self, address: int, asks: bool, _user_data: Any) -> bool:
        try:
            node = read_tensor(address)
            if asks:
                return self._is_wanted(node)
            self._add(node)
        # Whatever it is, Ctrl-C too, has to wait until C has returned.
        except BaseException as exc:
            self._failure = exc
            return False
        return True

    def _is_wanted(self, node: Any) -> bool:
        if node.op != self._product:
            return False
        matrix, rows = (read_tensor(node.src[i]) for i in (0, 1))
        return _LAYERS in matrix.name and rows.type == _F32

    def _add(self, node: Any) -> None:
        name = _plain_name(tensor_name(node.src[0]))
        squares = np.square(_read(node.src[1]), dtype=np.float64)
        total = squares.sum(axis=0)
        if not np.isfinite(total).all():
            raise DecodeFailed(f"what `{name}` is multiplied with is not finite")
        self._sums[name] = self._sums.get(name, 0) + total
        self._counts[name] = self._counts.get(name, 0) + len(squares)


def _product_op() -> int:
    """The number of a matrix product among ggml's operations."""
    return next(number for number in range(256) if operation_name(number) == b"MUL_MAT")


def _plain_name(name: bytes) -> str:
    """Without what the scheduler puts around it: `CUDA0#blk.0.attn_k.weight#0`."""
    parts = name.decode("utf-8", "replace").split("#")
    return parts[1] if len(parts) > 1 else parts[0]


def _read(pointer: int) -> NDArray[np.float32]:
    """A float32 tensor's rows `[n, columns]`, from wherever they are."""
    n_bytes = tensor_bytes(pointer)
    buffer = np.empty(n_bytes, np.uint8)
    copy_tensor(pointer, buffer.ctypes.data, 0, n_bytes)
    tensor = read_tensor(pointer)
    array = np.ndarray(
        tuple(reversed(tensor.ne[:])),
        np.float32,
        buffer.data,
        strides=tuple(reversed(tensor.nb[:])),
    )
    return array.reshape(-1, array.shape[-1])
