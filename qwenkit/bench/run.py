"""Plays rounds on one target, or on two by turns, and sums them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwenkit.bench.prompts import PromptMaker
from qwenkit.bench.record import Figures, median_figures, median_ratios
from qwenkit.bench.scenarios import Load, Scenario, play
from qwenkit.bench.targets import Target

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    Args:
        scenario: Which requests make a round.
        loads: What each concurrency asks for.
        rounds: How often; the median counts.
        seed: Different seeds send different prompts.
    """

    scenario: Scenario
    loads: tuple[Load, ...]
    rounds: int
    seed: int

    @property
    def n_plays(self) -> int:
        """Rounds on one target, over all concurrencies."""
        return self.rounds * len(self.loads)


DEFAULTS = {
    Scenario.DECODE: Load(concurrency=1, n_prompt=32, max_tokens=64),
    Scenario.PREFILL: Load(concurrency=1, n_prompt=512, max_tokens=1),
    Scenario.SHARED_PREFIX: Load(concurrency=8, n_prompt=272, max_tokens=1, n_shared=256),
    Scenario.STALL: Load(concurrency=4, n_prompt=2000, max_tokens=1024),
}
"""What each scenario asks for when nothing else is said."""


def make_plan(
    scenario: Scenario,
    *,
    concurrency: Sequence[int] = (),
    n_prompt: int | None = None,
    max_tokens: int | None = None,
    n_shared: int | None = None,
    rounds: int,
    seed: int,
) -> Plan:
    """A plan that departs from the scenario's defaults where something is given."""
    wanted = {"n_prompt": n_prompt, "max_tokens": max_tokens, "n_shared": n_shared}
    given = {name: value for name, value in wanted.items() if value is not None}
    load = replace(DEFAULTS[scenario], **given)
    loads = tuple(replace(load, concurrency=n) for n in concurrency or (load.concurrency,))
    return Plan(scenario=scenario, loads=loads, rounds=rounds, seed=seed)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one concurrency gave.

    Args:
        load: What was asked for.
        rounds: For each target, the figures of its rounds.
    """

    load: Load
    rounds: tuple[list[Figures], ...]

    @property
    def medians(self) -> list[Figures]:
        """For each target, the median figures."""
        return [median_figures(each) for each in self.rounds]

    @property
    def ratios(self) -> Figures | None:
        """Median paired ratios, first target to second; None when there is one target."""
        return median_ratios(*self.rounds) if len(self.rounds) == 2 else None

    def as_json(self, names: Sequence[str]) -> dict[str, Any]:
        """As plain values."""
        targets = [
            {"target": name, "median": median, "rounds": rounds}
            for name, median, rounds in zip(names, self.medians, self.rounds, strict=True)
        ]
        return {
            "concurrency": self.load.concurrency,
            "prompt_tokens": self.load.n_prompt,
            "max_tokens": self.load.max_tokens,
            "shared_prefix": self.load.n_shared,
            "targets": targets,
            "ratios": self.ratios,
        }


async def measure(targets: Sequence[Target], plan: Plan, *, advance: Advance) -> list[Measured]:
    """Carry out a plan on one target or two.

    Two are measured by turns, A B B A, with the same prompts, so that whatever else the machine
    does meets both alike.

    Args:
        targets: What to measure.
        plan: What to measure on it.
        advance: Told of each finished round.
    """
    makers = [await PromptMaker.calibrated(each.count_tokens, seed=plan.seed) for each in targets]
    pairs = list(zip(targets, makers, strict=True))
    results = []
    for load in plan.loads:
        rounds: tuple[list[Figures], ...] = tuple([] for _ in targets)
        for number, index in _turns(plan.rounds, len(targets)):
            salt = f"{load.concurrency} {number}"
            figures = await play(plan.scenario, *pairs[index], load, salt=salt)
            rounds[index].append(figures)
            advance(1)
        results.append(Measured(load, rounds))
    return results


def _turns(n_rounds: int, n_targets: int) -> Iterator[tuple[int, int]]:
    for number in range(n_rounds):
        forwards = range(n_targets)
        for index in forwards if number % 2 == 0 else reversed(forwards):
            yield number, index
