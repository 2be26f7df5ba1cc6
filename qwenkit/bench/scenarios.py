"""What can be measured: which requests make a round, and which figures it gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from qwenkit.bench.prompts import PromptMaker
from qwenkit.bench.record import (
    Figures,
    Record,
    decode_figures,
    prefill_figures,
    stall_figures,
)
from qwenkit.bench.targets import Target

PIECES_BEFORE_ARRIVAL = 12
"""How many pieces every running stream must have shown before the long prompt arrives."""
N_PROMPT_RUNNING = 16
POLL_S = 0.005


class Scenario(StrEnum):
    """The things that can be measured."""

    DECODE = "decode"
    PREFILL = "prefill"
    SHARED_PREFIX = "shared-prefix"
    STALL = "stall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a round asks of a target.

    Args:
        concurrency: Requests at once.
        n_prompt: Tokens of each prompt (of the arriving one, for `stall`).
        max_tokens: Tokens of each answer (at most, for `stall`).
        n_shared: Tokens that all prompts of the round begin with.
    """

    concurrency: int
    n_prompt: int
    max_tokens: int
    n_shared: int = 0


async def play(
    scenario: Scenario, target: Target, maker: PromptMaker, load: Load, *, salt: str
) -> Figures:
    """Play one round.

    Args:
        scenario: What to measure.
        target: What to measure it on.
        maker: Makes the prompts.
        load: How much of it.
        salt: Rounds with the same salt send the same prompts, others different ones.
    """
    if scenario is Scenario.STALL:
        return await _stall(target, maker, load, salt)
    records = await _all_at_once(target, _prompts(maker, load, salt), load.max_tokens)
    return decode_figures(records) if scenario is Scenario.DECODE else prefill_figures(records)


async def _stall(target: Target, maker: PromptMaker, load: Load, salt: str) -> Figures:
    arriving = Record()
    short = replace(load, n_prompt=N_PROMPT_RUNNING)
    async with _tasks() as group:
        running = [
            _Running(target, prompt, load.max_tokens, group)
            for prompt in _prompts(maker, short, salt)
        ]
        await _until(lambda: all(each.has(PIECES_BEFORE_ARRIVAL) for each in running))
        prompt = maker.prompt(load.n_prompt, salt=f"{salt} arriving")
        await target.generate(prompt, max_tokens=1, record=arriving)
        n_pieces = [len(each.record.pieces) for each in running]
        await _until(lambda: all(map(_Running.has, running, (n + 1 for n in n_pieces))))
        for each in running:
            each.task.cancel()
    return stall_figures([each.record for each in running], arriving)


class _Running:
    """A request that streams while something else happens."""

    def __init__(
        self, target: Target, prompt: str, max_tokens: int, group: asyncio.TaskGroup
    ) -> None:
        self.record = Record()
        self.task = group.create_task(
            target.generate(prompt, max_tokens=max_tokens, record=self.record)
        )

    def has(self, n_pieces: int) -> bool:
        """Whether so many pieces have come, or no more will."""
        return len(self.record.pieces) >= n_pieces or self.task.done()


async def _until(condition: Callable[[], bool]) -> None:
    # An event for every piece would cost the measured machine more than a look now and then.
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)


async def _all_at_once(target: Target, prompts: list[str], max_tokens: int) -> list[Record]:
    records = [Record() for _ in prompts]
    async with _tasks() as group:
        for prompt, record in zip(prompts, records, strict=True):
            group.create_task(target.generate(prompt, max_tokens=max_tokens, record=record))
    return records


@asynccontextmanager
async def _tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Tasks that end together; the first failure is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _prompts(maker: PromptMaker, load: Load, salt: str) -> list[str]:
    prefix = maker.prompt(load.n_shared, salt=f"{salt} shared") if load.n_shared else ""
    own = load.n_prompt - load.n_shared if load.n_prompt > load.n_shared else load.n_prompt
    return [maker.prompt(own, salt=f"{salt} {i}", prefix=prefix) for i in range(load.concurrency)]
