"""Keeps labels from growing without end. Pure.

Every value of a label is a series that Prometheus keeps; what people or strangers name must not
make as many of them as they like.
"""

from __future__ import annotations

OTHER = "other"
MAX_VALUES = 64


class BoundedLabel:
    """Lets the first values of a label pass; all later ones share one.

    Args:
        max_values: How many pass.
    """

    def __init__(self, max_values: int = MAX_VALUES) -> None:
        self._max_values = max_values
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or `other`."""
        if value not in self._known:
            if len(self._known) >= self._max_values:
                return OTHER
            self._known.add(value)
        return value
