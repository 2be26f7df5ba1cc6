"""Hours of mixed work on one server, and whether its memory, slots and files stay flat.

    python -m tests.hardening.soak                 an hour
    python -m tests.hardening.soak --minutes 10    the same, shorter
    python -m tests.hardening.soak --json --picture memory.svg

The first part of the time is warm-up: what is kept within bounds fills (states of prompts, of which
the stage lets the server keep little, loaded modules, threads, pages of databases). Then the lowest
resident memory of every period between two trims of the heap counts, since what lies above it is
work that comes and goes, a second model beside the first one not the least of it. Memory is flat
where the median of the slopes between all pairs of these points is below a megabyte a minute.

Ends with 1 where something is not flat or a client was surprised. Needs the package, httpx, psutil,
numpy and safetensors.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from qwenkit.server.heap import TRIM_EVERY_S

from .curve import draw, floor, slope_per_min
from .stage import USER_KEY, Memory, Stage, bearer, stage
from .traffic import MIX, Act, Actor, reload, swap

N_ACTORS = 10
NOW_AND_THEN: dict[Act, float] = {swap: 4.0, reload: 25.0}
"""Acts of one actor each, with the seconds between two."""
SAMPLE_EVERY_S = 1.0
WARM_UP = 0.4
"""Share of the time that is not judged."""
MAX_SLOPE_MB_PER_MIN = 1.0
MAX_MORE_FDS = 8
MAX_MORE_THREADS = 4


@dataclass(slots=True)
class Report:
    """What a soak has seen.

    Args:
        n_acts: How often each act was done.
        samples: Seconds and what the process held then.
        surprises: What no honest server does.
        n_slots_used: Slots still taken once nobody asked any more.
        n_waiting: Requests still waiting then.
        idle_fds: Open files before, and after all clients had gone.
        errors: Lines of the server's log that tell of an error.
    """

    n_acts: collections.Counter[str] = field(default_factory=collections.Counter)
    samples: list[tuple[float, Memory]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    n_slots_used: float = 0.0
    n_waiting: float = 0.0
    idle_fds: tuple[int, int] = (0, 0)
    errors: list[str] = field(default_factory=list)

    @property
    def judged(self) -> list[tuple[float, Memory]]:
        """The samples after the warm-up."""
        last = self.samples[-1][0]
        return [each for each in self.samples if each[0] >= WARM_UP * last]

    @property
    def slope_mb_per_min(self) -> float:
        """How fast the memory grows after the warm-up."""
        return slope_per_min(self.floor)

    @property
    def floor(self) -> list[tuple[float, float]]:
        """The lowest memory of each period between two trims, after the warm-up."""
        return floor([(at, memory.rss_mb) for at, memory in self.judged], TRIM_EVERY_S)

    @property
    def most_threads(self) -> tuple[int, int]:
        """The most threads during the warm-up, and after it."""
        warm = len(self.samples) - len(self.judged)
        n_threads = [memory.n_threads for _, memory in self.samples]
        return max(n_threads[:warm], default=n_threads[0]), max(n_threads[warm:])

    def faults(self) -> list[str]:
        """What is not as it should be."""
        before, after = self.idle_fds
        few, many = self.most_threads
        checks = {
            f"memory grows by {self.slope_mb_per_min:.2f} MB a minute": (
                self.slope_mb_per_min >= MAX_SLOPE_MB_PER_MIN
            ),
            f"{self.n_slots_used:g} slots are still taken": self.n_slots_used > 0,
            f"{self.n_waiting:g} requests still wait": self.n_waiting > 0,
            f"open files grew from {before} to {after}": after > before + MAX_MORE_FDS,
            f"threads grew from {few} to {many}": many > few + MAX_MORE_THREADS,
            f"{len(self.surprises)} surprises": bool(self.surprises),
            f"{len(self.errors)} errors in the log": bool(self.errors),
        }
        return [text for text, is_fault in checks.items() if is_fault]


async def soak(
    stage: Stage, *, minutes: float, say: Callable[[str], None], only: Sequence[str] = ()
) -> Report:
    """Work on a server and watch it.

    Args:
        minutes: How long.
        say: Told every half minute how it is going.
        only: Acts by their names, to find out which of them leaks; all when empty.
    """
    report = Report()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=N_ACTORS)
    async with httpx.AsyncClient(
        base_url=stage.url, headers=bearer(USER_KEY), timeout=120, limits=limits
    ) as client:
        actors = [Actor(stage, client, seed) for seed in range(N_ACTORS + 2)]
        await _rehearse(actors[0], report)
        end = time.monotonic() + 60 * minutes
        mix = {act: n for act, n in MIX.items() if not only or act.__name__ in only}
        working = [_act(actor, mix, end, report) for actor in actors[2:] if mix]
        for actor, (act, every_s) in zip(actors, NOW_AND_THEN.items(), strict=False):
            if not only or act.__name__ in only:
                working.append(_repeat(act, actor, every_s, end, report))
        await asyncio.gather(*working, _sample(stage, end, report, say))
    await asyncio.to_thread(_conclude, stage, report)
    return report


async def _rehearse(actor: Actor, report: Report) -> None:
    """Everything once, so that what is opened at first use counts as open from the start."""
    for act in (*MIX, *NOW_AND_THEN):
        await _try(act, actor, report)
    await asyncio.to_thread(actor.stage.wait_idle)
    report.idle_fds = (actor.stage.memory().n_fds, 0)


async def _act(actor: Actor, mix: Mapping[Act, int], end: float, report: Report) -> None:
    acts, weights = [*mix], [*mix.values()]
    while time.monotonic() < end:
        await _try(actor.dice.choices(acts, weights)[0], actor, report)


async def _repeat(act: Act, actor: Actor, every_s: float, end: float, report: Report) -> None:
    while time.monotonic() < end:
        await _try(act, actor, report)
        await asyncio.sleep(every_s)


async def _try(act: Act, actor: Actor, report: Report) -> None:
    report.n_acts[act.__name__] += 1
    try:
        await act(actor)
    except (AssertionError, httpx.HTTPError, KeyError, OSError, ValueError) as exc:
        report.surprises.append(f"{act.__name__}: {type(exc).__name__}: {exc}")


async def _sample(stage: Stage, end: float, report: Report, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    while time.monotonic() < end:
        at, memory = time.monotonic() - began, stage.memory()
        report.samples.append((at, memory))
        if len(report.samples) % 30 == 0:
            n_acts = report.n_acts.total()
            say(f"{at:6.0f} s  {memory.rss_mb:7.1f} MB  {memory.n_fds} files  {n_acts} acts")
        await asyncio.sleep(SAMPLE_EVERY_S)


def _conclude(stage: Stage, report: Report) -> None:
    now = stage.wait_idle()
    report.n_slots_used = now["qwenkit_slots_used"]
    report.n_waiting = now["qwenkit_queue_length"]
    report.idle_fds = (report.idle_fds[0], stage.memory().n_fds)
    marks = ("Traceback", "unexpected error", " ERROR ", "never retrieved")
    lines = stage.log.splitlines()
    report.errors = [line for line in lines if any(mark in line for mark in marks)]


def _as_json(report: Report) -> str:
    first, last = report.judged[0][1], report.judged[-1][1]
    return json.dumps(
        {
            "slope_mb_per_min": round(report.slope_mb_per_min, 3),
            "first": asdict(first),
            "last": asdict(last),
            "n_acts": report.n_acts,
            "n_slots_used": report.n_slots_used,
            "idle_fds": report.idle_fds,
            "most_threads": report.most_threads,
            "floor_mb": [(round(at), round(value, 1)) for at, value in report.floor],
            "surprises": report.surprises[:20],
            "errors": report.errors[:20],
            "faults": report.faults(),
        },
        indent=2,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--picture", type=Path, help="draw the memory curve into this SVG")
    parser.add_argument("--folder", type=Path, help="keep the server's files and log in here")
    parser.add_argument("--only", nargs="*", default=(), metavar="ACT", help="only these acts")
    given = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as temporary,
        stage(given.folder or Path(temporary)) as server,
    ):
        report = asyncio.run(soak(server, minutes=given.minutes, say=_say, only=given.only))
    if given.picture is not None:
        curve = [(at, memory.rss_mb) for at, memory in report.samples]
        given.picture.write_text(draw(curve, "resident memory, MB"), encoding="utf-8")
    faults = report.faults()
    if given.json:
        print(_as_json(report))
    else:
        print(f"{report.n_acts.total()} acts, {report.slope_mb_per_min:+.2f} MB a minute")
        print("\n".join(faults) or "flat")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
