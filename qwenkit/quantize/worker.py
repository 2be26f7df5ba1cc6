"""Calls llama.cpp's quantiser, in a process of its own: one C call that nothing can interrupt.

Reads a job from stdin as JSON, and writes on stdout one line of JSON for each message that the
library logs and one, at the end, for what the call returned. Ends by itself when nobody reads.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as native

from qwenkit.quantize.imatrix import ImportanceMatrix, read_imatrix

_TEXT_BYTES = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call of `llama_model_quantize`; types are numbers as ggml has them.

    Args:
        source: GGUF to read; for a split one its first part.
        target: GGUF to write.
        file_type: Its `llama_ftype`.
        imatrix: An importance matrix in GGUF form; empty without one.
        imatrix_name: What the file written calls it.
        overrides: Patterns of tensor names with the type that they get.
        output_type: Type of the head; None leaves it to llama.cpp.
        embedding_type: Type of the token embeddings; None leaves it to llama.cpp.
        pure: Give every matrix the main type.
        allow_requantize: Take a source that is quantised.
        dry_run: Only log what would be done.
        n_threads: CPU threads.
    """

    source: str
    target: str
    file_type: int
    imatrix: str = ""
    imatrix_name: str = ""
    overrides: tuple[tuple[str, int], ...] = ()
    output_type: int | None = None
    embedding_type: int | None = None
    pure: bool = False
    allow_requantize: bool = False
    dry_run: bool = False
    n_threads: int = 1

    def as_json(self) -> str:
        """What the worker reads."""
        return json.dumps(asdict(self))


def main() -> None:
    """Do the job that stands on stdin."""
    _keep_stdout_clean()
    values = json.load(sys.stdin)
    overrides = tuple((pattern, kind) for pattern, kind in values.pop("overrides"))
    _write(result=quantize(Job(**values, overrides=overrides)))


def quantize(job: Job) -> int:
    """What `llama_model_quantize` returns: 0 where all went well; messages go to stdout."""
    on_message = native.llama_log_callback(_log)
    native.llama_log_set(on_message, ctypes.c_void_p(0))
    native.llama_backend_init()
    params, kept = _params(job)
    code: int = native.llama_model_quantize(
        os.fsencode(job.source), os.fsencode(job.target), ctypes.byref(params)
    )
    del kept
    return code


def _keep_stdout_clean() -> None:
    """Let what the library itself prints go to stderr: stdout is for messages."""
    sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)


def _log(level: int, text: bytes, _user_data: Any) -> None:
    _write(level=level, text=text.decode("utf-8", "replace"))


def _write(**values: Any) -> None:
    try:
        print(json.dumps(values), flush=True)
    except BrokenPipeError:
        # Raised through a callback it would be lost, and the work go on for nobody.
        os._exit(1)


def _params(job: Job) -> tuple[Any, list[Any]]:
    """The parameters, and what must live as long as they do."""
    params = native.llama_model_quantize_default_params()
    params.nthread = job.n_threads
    params.ftype = job.file_type
    params.pure = job.pure
    params.allow_requantize = job.allow_requantize
    params.dry_run = job.dry_run
    if job.output_type is not None:
        params.output_tensor_type = job.output_type
    if job.embedding_type is not None:
        params.token_embedding_type = job.embedding_type
    kept: list[Any] = []
    if job.overrides:
        params.tt_overrides = _overrides(job.overrides)
    if job.imatrix:
        matrix = read_imatrix(Path(job.imatrix))
        params.imatrix = _imatrix(matrix, kept)
        params.kv_overrides = _described(matrix, job.imatrix_name)
    return params, kept


def _overrides(overrides: tuple[tuple[str, int], ...]) -> Any:
    array = (native.llama_model_tensor_override * (len(overrides) + 1))()
    for slot, (pattern, kind) in zip(array, overrides, strict=False):
        slot.pattern, slot.type = pattern.encode(), kind
    return array


def _imatrix(matrix: ImportanceMatrix, kept: list[Any]) -> Any:
    array = (native.llama_model_imatrix_data * (len(matrix.usage) + 1))()
    for slot, (name, usage) in zip(array, matrix.usage.items(), strict=False):
        importance = usage.importance
        kept.append(importance)
        slot.name = name.encode()
        slot.data = importance.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        slot.size = len(importance)
    return array


def _described(matrix: ImportanceMatrix, name: str) -> Any:
    """Where the importance came from, under the keys that `llama-quantize` writes."""
    facts: Mapping[str, str | int] = {
        "quantize.imatrix.file": name,
        "quantize.imatrix.dataset": ", ".join(matrix.datasets),
        "quantize.imatrix.entries_count": len(matrix.usage),
        "quantize.imatrix.chunks_count": matrix.n_chunks,
    }
    array = (native.llama_model_kv_override * (len(facts) + 1))()
    for slot, (key, value) in zip(array, facts.items(), strict=False):
        slot.key = key.encode()
        if isinstance(value, str):
            slot.tag = native.LLAMA_KV_OVERRIDE_TYPE_STR
            slot.value.val_str = value.encode()[:_TEXT_BYTES].decode("utf-8", "ignore").encode()
        else:
            slot.tag = native.LLAMA_KV_OVERRIDE_TYPE_INT
            slot.value.val_i64 = value
    return array


if __name__ == "__main__":
    main()
