"""How the learning rate rises and falls over a run. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Shape: TypeAlias = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rise over the first steps, then a fall that ends just above zero.

    Args:
        peak: The highest learning rate.
        n_steps: Steps of the whole run.
        n_warmup: Steps of the rise.
        shape: How it falls; `constant` doesn't.
    """

    peak: float
    n_steps: int
    n_warmup: int
    shape: Shape

    def at(self, step: int) -> float:
        """Learning rate of a step, counted from 0; never zero, which the optimizer refuses."""
        if step < self.n_warmup:
            return self.peak * (step + 1) / (self.n_warmup + 1)
        progress = (step - self.n_warmup) / max(1, self.n_steps - self.n_warmup)
        match self.shape:
            case "cosine":
                return self.peak * (1 + math.cos(math.pi * progress)) / 2
            case "linear":
                return self.peak * (1 - progress)
            case "constant":
                return self.peak
