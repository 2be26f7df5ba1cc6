"""Watches a training graph being computed, and changes what the C library offers no option for.

Every node is announced before it is computed and shown after, where that is asked for. That is
enough to give each sample its own attention, to take the loss of learned tokens only, to clip
gradients, to stop before the optimizer so that gradients add up, and to reach its state. Knows the
nodes by the names that the library gives them; knows no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from qwenkit.adapters.lora import Float32
from qwenkit.backends.llamacpp.tensors import read_tensor, tensor_name
from qwenkit.errors import EngineError
from qwenkit.training.native.library import NodeCallback, numbers
from qwenkit.training.native.windows import Window

_ATTENTION = b"kq_soft_max-"
_LOGITS = b"result_output"
_LOGITS_GRADIENT = b"grad for result_output"
_GRADIENT = b"grad for "
_ROWS_AT_ONCE = 64
_BETA1, _BETA2 = 0.9, 0.999


@dataclass(frozen=True, slots=True)
class ParameterState:
    """What the optimizer keeps of one matrix; every array is the library's own memory.

    Args:
        gradient: The sum of the gradients since it was last cleared.
        moments: Running means of the gradient and of its square; AdamW only.
    """

    gradient: Float32 = field(repr=False)
    moments: tuple[Float32, ...] = field(repr=False)


@dataclass(slots=True)
class Pass:
    """One window on its way through the graph.

    Args:
        window: The tokens.
        weight: What each learned token's loss counts in the gradient; None computes none.
        n_steps: How many steps the optimizer will have taken; None stops before it.
        max_norm: The longest gradient, over all matrices; 0 is without bound.
    """

    window: Window
    weight: float | None = None
    n_steps: int | None = None
    max_norm: float = 0.0
    loss: float | None = None
    n_masked: int = 0
    n_gradients: int = 0
    n_updates: int = 0
    norm: float | None = None
    is_over: bool = False


class GraphWatcher:
    """The callback of a context that trains.

    Args:
        names: The matrices that are trained, as the library calls them.
        is_adamw: Whether the optimizer is AdamW, which has a state.
    """

    def __init__(self, names: frozenset[str], *, is_adamw: bool) -> None:
        self.callback = NodeCallback(self._on_node)
        self.states: dict[str, ParameterState] = {}
        self._gradients = {_GRADIENT + name.encode(): name for name in names}
        self._prefix = b"adamw step for " if is_adamw else b"sgd step for "
        self._is_adamw = is_adamw
        self._restored: dict[str, tuple[Float32, ...]] = {}
        self._now: Pass | None = None
        self._failure: BaseException | None = None
        self._arrays: dict[str, Float32] = {}

    def begin(self, current: Pass) -> None:
        """Look at nodes for this pass from now on."""
        self._now, self._failure = current, None
        self._arrays.clear()

    def end(self) -> None:
        """Stop looking.

        Raises:
            EngineError: The graph was not the one that is known here.
        """
        current, self._now = self._now, None
        if self._failure is not None:
            raise self._failure
        if current is not None:
            self._check(current)

    def restore(self, moments: dict[str, tuple[Float32, ...]]) -> None:
        """Give the optimizer a state right before its next step."""
        self._restored = moments

    def clear_gradients(self) -> None:
        """Begin a new sum; the library itself never does."""
        for state in self.states.values():
            state.gradient[:] = 0

    def _on_node(self, pointer: int, asks: bool, _user_data: int | None) -> bool:
        if self._now is None:
            return False
        try:
            name = tensor_name(pointer)
            return (
                self._announced(self._now, name, pointer) if asks else self._computed(name, pointer)
            )
        except BaseException as exc:
            # Nothing can be raised through C: the pass ends here, and `end` raises it.
            self._failure = self._failure or exc
            return False

    def _announced(self, now: Pass, name: bytes, pointer: int) -> bool:
        if now.is_over:
            raise EngineError("this build of llama.cpp goes on where it was told to stop")
        if name.startswith(_ATTENTION):
            if not now.n_masked:
                _mask(numbers(read_tensor(pointer).src[1]), now.window)
            now.n_masked += 1
        elif name == _LOGITS or (name == _LOGITS_GRADIENT and now.weight is not None):
            return True
        elif name in self._gradients:
            now.n_gradients += 1
            self._arrays[self._gradients[name]] = numbers(read_tensor(pointer).src[0])
            return now.n_gradients == len(self._gradients)
        elif name.startswith(self._prefix):
            self._before_update(now, name.removeprefix(self._prefix).decode(), pointer)
        return False

    def _computed(self, name: bytes, pointer: int) -> bool:
        now = self._now
        if now is None:
            return False
        if name == _LOGITS:
            now.loss = _loss(numbers(pointer), now.window)
            now.is_over = now.weight is None
        elif name == _LOGITS_GRADIENT:
            _weigh(numbers(pointer), now.window, now.weight or 0.0)
        else:
            now.is_over = now.n_steps is None
            if not now.is_over:
                now.norm = _clip(list(self._arrays.values()), now.max_norm)
        return not now.is_over

    def _before_update(self, now: Pass, name: str, pointer: int) -> None:
        sources = read_tensor(pointer).src
        moments = tuple(numbers(sources[i]) for i in (2, 3)) if self._is_adamw else ()
        self.states[name] = ParameterState(numbers(sources[1]), moments)
        for array, saved in zip(moments, self._restored.pop(name, ()), strict=False):
            array[:] = saved
        if self._is_adamw and not now.n_updates and now.n_steps is not None:
            # The library counts stopped passes too, and begins anew after a resume.
            parameters = numbers(sources[4])[0]
            parameters[5] = 1 / (1 - _BETA1**now.n_steps)
            parameters[6] = 1 / (1 - _BETA2**now.n_steps)
        now.n_updates += 1

    def _check(self, now: Pass) -> None:
        n = len(self._gradients)
        complete = now.loss is not None and now.n_masked > 0
        complete &= now.weight is None or now.n_gradients == n
        complete &= now.n_steps is None or (now.n_updates == n and now.norm is not None)
        if not complete:
            raise EngineError(
                "this build of llama.cpp trains by another graph than the one known here",
                hint="pip install llama-cpp-python==0.3.36",
            )


def _mask(mask: Float32, window: Window) -> None:
    """Let each token see itself and the earlier ones of its own sample."""
    blocks = window.blocks
    n = len(blocks)
    if mask.shape[-1] != n or mask.shape[-2] < n:
        raise EngineError(f"the attention's mask is {list(mask.shape)} for a window of {n} tokens")
    sees = np.tri(n, dtype=np.bool_)
    sees &= blocks[:, None] == blocks[None, :]
    mask.reshape(-1, n)[:n] = np.where(sees, np.float32(0), np.float32(-np.inf))


def _loss(logits: Float32, window: Window) -> float:
    """The learned tokens' negative log-likelihood, summed."""
    rows = np.flatnonzero(window.learned)
    total = 0.0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        scores = logits[some]
        top = scores.max(axis=1)
        with np.errstate(invalid="ignore"):
            sums = np.exp(scores - top[:, None]).sum(axis=1, dtype=np.float64)
        right = scores[np.arange(len(some)), window.labels[some]]
        total += float((np.log(sums) + top - right).sum())
    return total


def _weigh(gradient: Float32, window: Window, weight: float) -> None:
    """Make the gradient of a mean over the window one of `weight` times the learned tokens' sum."""
    gradient[~window.learned] = 0
    gradient *= np.float32(weight * len(window.learned))


def _clip(gradients: list[Float32], max_norm: float) -> float:
    norm = math.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in gradients))
    if max_norm and norm > max_norm:
        for gradient in gradients:
            np.multiply(gradient, np.float32(max_norm / norm), out=gradient)
    return norm
