"""A model that llama.cpp trains: its matrices in memory, and passes of windows through it.

Owns the C library's model and context, and one thread that computes, so that an interruption is
seen between two passes and never inside one. Knows no epochs, no ranks and no files but the model.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import llama_cpp.llama_cpp as native

from qwenkit.adapters.lora import Float32
from qwenkit.backends.llamacpp import capi
from qwenkit.backends.llamacpp.tensors import tensor_name
from qwenkit.errors import DecodeFailed, EngineError, ModelCorrupt, OutOfMemory
from qwenkit.models.atomic import atomic_file
from qwenkit.models.gguf_check import check_gguf
from qwenkit.training.native import library
from qwenkit.training.native.graph import GraphWatcher, ParameterState, Pass
from qwenkit.training.native.windows import Window

Optimizer: TypeAlias = Literal["adamw", "sgd"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step of the optimizer saw.

    Args:
        loss: Mean negative log-likelihood of the learned tokens, before the step.
        n_learned: Learned tokens.
        gradient_norm: Length of the gradient over all matrices, before it was clipped.
    """

    loss: float
    n_learned: int
    gradient_norm: float


class TrainingContext:
    """A model whose matrices can be trained; a context manager that frees it.

    Args:
        path: A GGUF file of float32.
        targets: The matrices to train, as the file calls them.
        n_ctx: Tokens of a window; a multiple of 256.
        n_threads: CPU threads.
        optimizer: What changes the matrices.

    Raises:
        ModelCorrupt: It can't be loaded.
        OutOfMemory: There is no room for a context.
    """

    def __init__(
        self,
        path: Path,
        *,
        targets: frozenset[str],
        n_ctx: int,
        n_threads: int,
        optimizer: Optimizer,
    ) -> None:
        capi.initialise()
        self.weights: dict[str, Float32] = {}
        self._targets = targets
        self._n_ctx = n_ctx
        self._watcher = GraphWatcher(targets, is_adamw=optimizer == "adamw")
        self._params = library.OptimizerParams()
        self._filter = library.ParameterFilter(self._keep)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="train")
        self._model = _load(path)
        self._context = self._new_context(n_threads)
        self._init_optimizer(library.OPTIMIZERS[optimizer])
        self._dataset = library.dataset_init(library.I32, library.I32, n_ctx, n_ctx, 1, 1)
        self._ids = library.dataset_numbers(library.dataset_data(self._dataset), n_ctx)
        self._labels = library.dataset_numbers(library.dataset_labels(self._dataset), n_ctx)
        try:
            self._install_watcher()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def states(self) -> dict[str, ParameterState]:
        """What the optimizer keeps of each matrix, in place; empty before its first step."""
        return self._watcher.states

    def restore(self, moments: dict[str, tuple[Float32, ...]]) -> None:
        """Give the optimizer a state right before its next step."""
        self._watcher.restore(moments)

    def loss(self, window: Window) -> float:
        """Sum of the learned tokens' negative log-likelihood."""
        return self._run(Pass(window))

    def step(
        self, windows: Sequence[Window], *, learning_rate: float, n_steps: int, max_norm: float
    ) -> StepResult:
        """Take one step of the optimizer down the mean loss of all learned tokens.

        Args:
            windows: The batch; they pass one after the other, and their gradients add up.
            learning_rate: More than 0.
            n_steps: Steps with this one, which AdamW's means depend on.
            max_norm: The longest gradient; 0 is without bound.
        """
        n_learned = sum(window.n_learned for window in windows)
        self._set_params(learning_rate)
        total = 0.0
        for window in windows[:-1]:
            total += self._run(Pass(window, weight=1 / n_learned))
        last = Pass(windows[-1], weight=1 / n_learned, n_steps=n_steps, max_norm=max_norm)
        total += self._run(last)
        self._watcher.clear_gradients()
        return StepResult(total / n_learned, n_learned, last.norm or 0.0)

    def save(self, target: Path) -> None:
        """Write the model as it is now, whole or not at all.

        Raises:
            EngineError: It could not be written.
        """
        capi.log.clear()
        with atomic_file(target) as partial:
            native.llama_model_save_to_file(self._model, os.fsencode(partial))
            _check_written(partial, target)

    def close(self) -> None:
        """Free the context and the model; the arrays of `weights` are gone with them."""
        self._thread.shutdown()
        self.weights.clear()
        self.states.clear()
        library.dataset_free(self._dataset)
        native.llama_free(self._context)
        native.llama_model_free(self._model)

    def _run(self, current: Pass) -> float:
        self._ids[:] = current.window.ids
        self._labels[:] = current.window.labels
        n_trained = int(current.weight is not None)
        self._watcher.begin(current)
        self._compute(
            library.opt_epoch, self._context, self._dataset, None, None, n_trained, None, None
        )
        self._watcher.end()
        return current.loss or 0.0

    def _compute(self, function: Any, *arguments: Any) -> Any:
        future = self._thread.submit(function, *arguments)
        try:
            return future.result()
        except KeyboardInterrupt:
            wait([future])
            raise

    def _keep(self, tensor: int, _user_data: int | None) -> bool:
        name = tensor_name(tensor).decode()
        if name not in self._targets:
            return False
        self.weights[name] = library.numbers(tensor)
        return True

    def _set_params(self, learning_rate: float) -> None:
        adamw = self._params.adamw
        adamw.alpha = self._params.sgd.alpha = learning_rate
        adamw.beta1, adamw.beta2, adamw.eps = _BETA1, _BETA2, _EPSILON

    def _new_context(self, n_threads: int) -> Any:
        params = native.llama_context_default_params()
        # Keys and values get gradients only when a window is one batch and fills the context.
        params.n_ctx = params.n_batch = params.n_ubatch = self._n_ctx
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = n_threads
        params.type_k = params.type_v = 0
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.op_offload = params.offload_kqv = False
        params.no_perf = True
        params.cb_eval = ctypes.cast(
            self._watcher.callback, native.ggml_backend_sched_eval_callback
        )
        capi.log.clear()
        context = native.llama_init_from_model(self._model, params)
        if not context:
            native.llama_model_free(self._model)
            raise OutOfMemory(
                f"no context of {self._n_ctx} tokens could be made for training: "
                f"{capi.log.errors() or 'no reason given'}",
                hint="train with a shorter context",
            )
        return context

    def _init_optimizer(self, optimizer: int) -> None:
        params = library.OptParams(
            0,
            self._filter,
            None,
            library.constant_params,
            ctypes.cast(ctypes.pointer(self._params), ctypes.c_void_p),
            optimizer,
        )
        library.opt_init(self._context, self._model, params)

    def _install_watcher(self) -> None:
        # Only a decode hands the callback over to the scheduler that then trains.
        tokens = (ctypes.c_int32 * self._n_ctx)()
        batch = native.llama_batch_get_one(tokens, self._n_ctx)
        if self._compute(native.llama_decode, self._context, batch):
            raise DecodeFailed(
                f"llama.cpp could not compute a window of {self._n_ctx} tokens: "
                f"{capi.log.errors() or 'no reason given'}"
            )


def _check_written(partial: Path, target: Path) -> None:
    """See that a file is whole: the library only logs where it is not."""
    try:
        check_gguf(partial)
    except ModelCorrupt as exc:
        raise EngineError(
            f"llama.cpp could not write `{target}`: {capi.log.errors() or 'no reason given'}",
            hint="free some space on the disk",
        ) from exc


def _load(path: Path) -> Any:
    params = native.llama_model_default_params()
    params.load_mode = native.LLAMA_LOAD_MODE_NONE  # weights that can be written to
    params.use_extra_bufts = False
    params.n_gpu_layers = 0
    no_devices = (ctypes.c_void_p * 1)()
    params.devices = ctypes.cast(no_devices, ctypes.c_void_p)
    capi.log.clear()
    model = native.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelCorrupt(
            f"llama.cpp could not load {path}: {capi.log.errors() or 'no reason given'}",
            hint=f"qwenkit model info {path}",
        )
    return model
