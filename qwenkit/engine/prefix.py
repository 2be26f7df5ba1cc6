"""What two token sequences have in common. Pure."""

from __future__ import annotations

from qwenkit.backends.base import IntArray


def common_prefix(a: IntArray, b: IntArray) -> int:
    """How many tokens two arrays have in common at their head."""
    n = min(len(a), len(b))
    if n == 0 or a[0] != b[0]:
        return 0
    differ = a[:n] != b[:n]
    first = int(differ.argmax())
    return first if differ[first] else n
