"""Muon (Jordan et al., 2024): momentum whose matrices are orthogonalised before each step.

In float32, since bfloat16 is slow on the CPUs this recipe is for; embeddings and norms are AdamW's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_N_ITERATIONS: Final = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values around 1, by the quintic Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_N_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon:
    """Updates matrices in place from their gradients."""

    def __init__(self, matrices: Iterable[Parameter], *, momentum: float = 0.95) -> None:
        self._matrices = list(matrices)
        self._momentum = momentum
        self._velocities: list[Any] = [None] * len(self._matrices)

    def step(self, learning_rate: float) -> None:
        """One update; a matrix of shape (out, in) moves by `learning_rate · √max(1, out / in)`."""
        for index, matrix in enumerate(self._matrices):
            gradient = matrix.grad
            if gradient is None:
                continue
            velocity = self._velocities[index]
            velocity = (
                gradient.clone()
                if velocity is None
                else velocity.lerp_(gradient, 1 - self._momentum)
            )
            self._velocities[index] = velocity
            update = orthogonalise(gradient.lerp(velocity, self._momentum))
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            matrix.data.add_(update, alpha=-learning_rate * scale)
