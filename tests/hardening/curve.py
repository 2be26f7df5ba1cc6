"""A line through points, and its picture. Knows numbers and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT, MARGIN = 720, 300, 50


def floor(points: Points, window_s: float) -> list[tuple[float, float]]:
    """The lowest point of every window of so many seconds."""
    lowest: dict[int, tuple[float, float]] = {}
    for point in points:
        window = int(point[0] // window_s)
        lowest[window] = min(point, lowest.get(window, point), key=lambda each: each[1])
    return [*lowest.values()]


def slope_per_min(points: Points) -> float:
    """The slope of values at seconds, per minute: the median of those of all pairs of points.

    A few points far off do not move it, as they would the line of least squares (Sen 1968,
    doi:10.1080/01621459.1968.10480934).
    """
    slopes = [
        60 * (y - before_y) / (x - before_x)
        for (before_x, before_y), (x, y) in combinations(points, 2)
        if x > before_x
    ]
    return median(slopes) if slopes else 0.0


def draw(points: Points, label: str) -> str:
    """The curve of values at seconds as an SVG, from zero up."""
    last = max(x for x, _ in points) or 1.0
    top = 1.1 * max(y for _, y in points) or 1.0

    def place(x: float, y: float) -> str:
        right, up = x / last * (WIDTH - 2 * MARGIN), y / top * (HEIGHT - 2 * MARGIN)
        return f"{MARGIN + right:.1f},{HEIGHT - MARGIN - up:.1f}"

    line = " ".join(place(x, y) for x, y in points)
    axes = f"{place(0, top)} {place(0, 0)} {place(last, 0)}"
    marks = [
        (MARGIN, MARGIN - 10, f"{escape(label)} (up to {top / 1.1:.0f})"),
        (WIDTH - MARGIN - 40, HEIGHT - MARGIN + 20, f"{last / 60:.1f} min"),
    ]
    texts = "".join(f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<polyline points="{axes}" fill="none" stroke="#888"/>'
        f'<polyline points="{line}" fill="none" stroke="#4051b5"/>{texts}</svg>\n'
    )
