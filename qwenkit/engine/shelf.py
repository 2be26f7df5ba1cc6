"""States put aside in ordinary memory, so that they take no room in the KV cache. Knows no backend.

On a CPU every cell of the cache costs attention time in every step, whoever it belongs to. A state
that nobody runs is cheaper here: bringing it back costs a copy, computing it again a prefill.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from qwenkit.backends.base import IntArray
from qwenkit.engine.prefix import common_prefix


@dataclass(frozen=True, slots=True)
class Shelved:
    """A state as the backend saved it, and the tokens it stands for."""

    namespace: str
    tokens: IntArray
    state: bytes


class Shelf:
    """Keeps states up to a number of bytes; the least recently used go first.

    Args:
        max_bytes: Most bytes of states.

    Attributes:
        used_bytes: Bytes of the states that are here.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._items: OrderedDict[int, Shelved] = OrderedDict()
        self._keys = count()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Shelved) -> None:
        """Keep a state; those that it goes on from are not needed beside it."""
        self.forget_covered(item.namespace, item.tokens)
        if len(item.state) > self.max_bytes:
            return
        self._items[next(self._keys)] = item
        self.used_bytes += len(item.state)
        while self.used_bytes > self.max_bytes:
            self._remove(next(iter(self._items)))

    def match(self, namespace: str, tokens: IntArray) -> tuple[Shelved | None, int]:
        """The state with the longest prefix of `tokens`, and that prefix's length."""
        best, best_length = None, 0
        for key, item in self._in(namespace):
            length = common_prefix(item.tokens, tokens)
            if length > best_length:
                best, best_length = key, length
        if best is None:
            return None, 0
        self._items.move_to_end(best)
        return self._items[best], best_length

    def covers(self, namespace: str, tokens: IntArray) -> bool:
        """Whether a state here begins with all of `tokens`."""
        return any(
            common_prefix(item.tokens, tokens) == len(tokens) for _, item in self._in(namespace)
        )

    def forget_covered(self, namespace: str, tokens: IntArray) -> None:
        """Drop the states that are a prefix of `tokens`."""
        for key, item in list(self._in(namespace)):
            if common_prefix(item.tokens, tokens) == len(item.tokens):
                self._remove(key)

    def clear(self) -> None:
        """Drop everything."""
        self._items.clear()
        self.used_bytes = 0

    def _in(self, namespace: str) -> Iterator[tuple[int, Shelved]]:
        return ((key, item) for key, item in self._items.items() if item.namespace == namespace)

    def _remove(self, key: int) -> None:
        self.used_bytes -= len(self._items.pop(key).state)
