"""Opens a figure and writes it as a PNG. Knows matplotlib; nothing of what is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qwenkit.extras import import_extra
from qwenkit.models.atomic import atomic_file

_DPI = 150


@contextmanager
def picture(target: Path, *, size_inches: tuple[float, float]) -> Iterator[Any]:
    """A figure of matplotlib's, which is written when the context ends well.

    Args:
        target: PNG to write; it appears whole or not at all.
        size_inches: Width and height, at 150 dots an inch.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    import_extra("matplotlib", extra="plots")
    # Not pyplot: it keeps a window system and every figure alive.
    module = import_extra("matplotlib.figure", extra="plots")
    figure = module.Figure(figsize=size_inches, layout="constrained")
    yield figure
    with atomic_file(target) as partial:
        figure.savefig(partial, format="png", dpi=_DPI)
