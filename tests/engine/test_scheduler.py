"""Who runs next, and how many rows of whom."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pytest

from qwenkit.backends.base import Rows
from qwenkit.backends.scripted import ScriptedAdapter, ScriptedBackend
from qwenkit.engine.cache import SlotCache
from qwenkit.engine.request import (
    ActiveAdapter,
    AdapterVersion,
    GenerationRequest,
    SamplingParams,
)
from qwenkit.engine.sampling import Sampler
from qwenkit.engine.scheduler import Pace, Scheduler, Work
from qwenkit.engine.sequence import Sequence


class World:
    """A scheduler whose plans are computed on a scripted backend that always wants an `x`."""

    def __init__(self, *, step_latency_s: float = 0.25, **options: Any) -> None:
        options = {"n_slots": 4, "n_ctx": 2000, "n_batch": 256} | options
        self.backend = ScriptedBackend(lambda _: ord("x"), **options)
        self.cache = SlotCache(self.backend)
        self.scheduler = Scheduler(
            self.cache, self.backend.capabilities, step_latency_s=step_latency_s
        )
        self.works: list[Work] = []
        self._adapters: dict[str, AdapterVersion] = {}
        # So fast that only the batch limits a chunk.
        self.scheduler.pace.observe(0, 100, 1e-6)

    def adapter(self, version: str) -> ActiveAdapter:
        if version not in self._adapters:
            loaded = ScriptedAdapter(lambda _: ord("x"))
            self.backend.adapters.add(loaded)
            self._adapters[version] = AdapterVersion(version, loaded, owner=self)
        return ActiveAdapter(self._adapters[version])

    def add(self, prompt: Seq[int], *, choice: int = 0, **fields: Any) -> Sequence:
        fields = {"max_tokens": 5, "sampling": SamplingParams(temperature=0)} | fields
        request = fields.pop("request", None)
        request = request or GenerationRequest(prompt=tuple(prompt), **fields)
        n_vocab = self.backend.tokenizer.n_vocab
        made = Sequence(
            request,
            choice=choice,
            n_ctx=self.backend.capabilities.n_ctx,
            tokenizer=self.backend.tokenizer,
            sampler=Sampler(request.sampling, n_vocab=n_vocab, n_ctx=2000),
        )
        self.scheduler.add(made)
        return made

    def step(self, seconds: float | None = None) -> dict[Sequence, int]:
        """Admit, plan and compute; what is planned, as rows of each sequence."""
        self.scheduler.admit()
        self.works = self.scheduler.plan()
        if self.works:
            self.compute()
        if seconds is not None:
            rows = [work.n_rows for work in self.works]
            n_decode = sum(n == 1 for n in rows)
            self.scheduler.observe(n_decode, sum(rows) - n_decode, seconds)
        return {work.sequence: work.n_rows for work in self.works}

    def compute(self) -> None:
        tokens, positions, slots, wanted = [], [], [], []
        n_wanted = []
        for work in self.works:
            s, n = work.sequence, work.n_rows
            assert n > 0
            tokens += s.tokens[s.n_computed : s.n_computed + n].tolist()
            positions += range(s.n_computed, s.n_computed + n)
            slots += [s.slot] * n
            last = n if s.needs_all_logits else int(n == s.n_pending)
            wanted += [0] * (n - last) + [1] * last
            n_wanted.append(last)
        arrays = (np.array(each, np.int32) for each in (tokens, positions, slots))
        adapter = self.works[0].sequence.request.adapter
        use = adapter.use if adapter is not None else None
        logits = self.backend.decode(Rows(*arrays, np.array(wanted, np.int8), use))
        row = 0
        for work, n in zip(self.works, n_wanted, strict=True):
            s = work.sequence
            assert s.slot is not None
            self.cache.extend(s.slot, work.n_rows)
            s.n_computed += work.n_rows
            row += n
            if s.n_pending == 0:
                s.advance(logits[row - 1])
                if s.finished:
                    self.scheduler.remove(s)
        assert self.cache.n_used == self.backend.n_cells_used

    def finish(self, *, limit: int = 2000) -> int:
        """Step until nothing is left; the steps it took."""
        for n in range(limit):
            if not (self.scheduler.running or self.scheduler.waiting):
                return n
            assert self.step(), "nothing planned though something waits"
        raise AssertionError("no end")


letters = itertools.count()


def prompt(n: int, *, head: int | None = None) -> list[int]:
    """A prompt of n tokens that begins like no other, unless `head` says how."""
    return [next(letters) % 250 if head is None else head] + [7] * (n - 1)


def decoding(world: World, n: int = 1, **fields: Any) -> list[Sequence]:
    """Sequences that stream already."""
    made = [world.add(prompt(3), **({"max_tokens": 1000} | fields)) for _ in range(n)]
    while not all(s.prompt_done and s.n_pending == 1 for s in made):
        world.step()
    return made


def test_every_running_answer_has_one_row_in_each_step() -> None:
    world = World()
    made = decoding(world, 3)
    assert world.step() == dict.fromkeys(made, 1)


def test_a_prompt_is_computed_in_chunks_that_cover_it_once() -> None:
    world = World(n_batch=32, n_slots=2)
    made = world.add(prompt(100))
    chunks = [world.step()[made] for _ in range(4)]
    assert chunks == [32, 32, 32, 4]
    assert made.n_generated == 1


def test_chunks_fit_the_latency_target_beside_answers_that_stream() -> None:
    world = World(step_latency_s=0.2, n_batch=256)
    streaming = decoding(world)
    world.scheduler.pace = Pace()
    world.scheduler.pace.observe(1, 0, 0.05)  # a step without prompts: 50 ms
    world.scheduler.pace.observe(0, 100, 0.1)  # 1 ms a prompt row
    made = world.add(prompt(1000))
    assert world.step() == {streaming[0]: 1, made: 150}


def test_chunks_are_larger_where_no_answer_waits_for_them() -> None:
    world = World(step_latency_s=0.1, n_batch=2000)
    world.scheduler.pace = Pace()
    world.scheduler.pace.observe(0, 100, 0.1)
    made = world.add(prompt(1500))
    assert world.step()[made] == 400


def test_the_first_chunk_of_all_is_small_as_nothing_is_known_of_the_pace() -> None:
    world = World()
    world.scheduler.pace = Pace()
    made = world.add(prompt(500))
    assert world.step()[made] == 64


def test_chunks_shrink_when_steps_take_longer_and_never_below_a_floor() -> None:
    world = World(step_latency_s=0.1)
    decoding(world)
    made = world.add(prompt(1500))
    sizes = [world.step(seconds=50.0)[made] for _ in range(5)]
    assert sizes[-1] == 64


def test_a_step_never_has_more_rows_than_a_batch() -> None:
    world = World(n_slots=8, n_batch=40)
    decoding(world, 7, max_tokens=30)
    world.add(prompt(300))
    while world.step():
        assert sum(work.n_rows for work in world.works) <= 40


def test_the_shortest_prompt_is_computed_first() -> None:
    world = World(n_batch=64)
    long, short = world.add(prompt(300)), world.add(prompt(40))
    assert world.step()[short] == 40
    assert long.n_computed == 24


def test_a_long_prompt_is_not_put_off_for_ever_by_short_ones() -> None:
    world = World(n_batch=64, n_slots=4)
    long = world.add(prompt(640))
    for _ in range(100):
        for _ in range(4 - len(world.scheduler.waiting)):
            world.add(prompt(60), max_tokens=1)
        world.step()
        if long.prompt_done:
            break
    assert long.prompt_done


def test_the_queue_is_first_in_first_out() -> None:
    world = World(n_slots=1)
    made = [world.add(prompt(5), max_tokens=2) for _ in range(5)]
    ended: list[Sequence] = []
    while len(ended) < 5:
        world.step()
        ended += [s for s in made if s.finished and s not in ended]
    assert ended == made


def test_a_prompt_that_begins_like_one_being_computed_waits_for_it() -> None:
    world = World(n_batch=64, n_slots=4)
    first = world.add([1, *[7] * 199, 2])
    second = world.add([1, *[7] * 199, 3])
    other = world.add([9, *[7] * 99])
    world.step()
    assert second in world.scheduler.waiting
    assert other in world.scheduler.running
    while second in world.scheduler.waiting:
        world.step()
    assert second.n_computed >= 200
    assert first.n_computed >= 200
    world.finish()


def test_a_short_common_head_is_not_waited_for() -> None:
    world = World(n_batch=16, n_slots=4)
    world.add([1, *[7] * 20, *[2] * 100])
    second = world.add([1, *[7] * 20, *[3] * 100])
    world.step()
    assert second in world.scheduler.running


def test_another_namespace_is_not_waited_for() -> None:
    world = World(n_batch=64, n_slots=4)
    world.add(prompt(200, head=1))
    second = world.add(prompt(200, head=1), adapter=world.adapter("a"))
    world.step()
    assert second in world.scheduler.running


def test_a_step_is_of_one_adapter_and_they_take_turns() -> None:
    world = World(n_slots=4)
    adapters = [None, world.adapter("a"), world.adapter("b"), world.adapter("a")]
    sequences = [
        world.add([1, 2, 3], adapter=adapter, max_tokens=100, ignore_eos=True)
        for adapter in adapters
    ]
    turns: list[tuple[int, ...]] = []
    for _ in range(12):
        planned = world.step(seconds=0.06)
        turns.append(tuple(i for i, s in enumerate(sequences) if s in planned))
    # Two steps of 60 ms are more than a turn's 100 ms.
    assert turns == [(0,)] * 2 + [(1, 3)] * 2 + [(2,)] * 2 + [(0,)] * 2 + [(1, 3)] * 2 + [(2,)] * 2


def test_an_adapter_alone_keeps_its_turn() -> None:
    world = World(n_slots=2)
    only = world.add([1, 2], adapter=world.adapter("a"), max_tokens=50, ignore_eos=True)
    for _ in range(5):
        assert world.step(seconds=1.0) == {only: 1} or only.n_generated == 1


def test_who_waits_for_a_leader_that_goes_away_starts_itself() -> None:
    world = World(n_batch=64, n_slots=4)
    first, second = (world.add([1, *[7] * 199, last]) for last in (2, 3))
    world.step()
    assert second in world.scheduler.waiting
    world.scheduler.remove(first)
    assert world.step()[second] == 64
    assert second.n_computed == 128  # the leader's 64 tokens were of use


def test_who_waits_for_a_leader_does_not_hold_up_the_queue_behind() -> None:
    world = World(n_batch=64, n_slots=2)
    world.add(prompt(600, head=1))
    world.add(prompt(600, head=1))
    other = world.add(prompt(10))
    world.step()
    assert other in world.scheduler.running


def test_a_full_pool_preempts_the_newest_and_all_come_to_their_end() -> None:
    world = World(n_slots=4, n_ctx=100, n_cells=150, n_batch=32)
    made = [world.add(prompt(10), max_tokens=60) for _ in range(4)]
    world.finish()
    assert world.scheduler.n_preempted > 0
    assert all(s.finished and s.n_generated == 60 for s in made)


def test_a_preempted_sequence_comes_first_in_the_queue() -> None:
    world = World(n_slots=3)
    first, second = decoding(world, 2)
    waiting = world.add(prompt(5))
    assert world.scheduler.preempt_youngest()
    assert list(world.scheduler.waiting) == [second, waiting]
    assert second.slot is None
    assert second.n_computed == 0
    assert not world.scheduler.preempt_youngest()  # the last one is never sent away
    assert world.scheduler.running == [first]


def test_two_that_fill_the_pool_with_much_to_compute_do_not_block_each_other() -> None:
    world = World(n_slots=2, n_ctx=350, n_cells=350, n_batch=4)
    (first,) = decoding(world, max_tokens=300)
    second = world.add(prompt(300))
    for _ in range(50):
        world.step()
    # Many tokens at once, as the end of a thinking budget brings them.
    first._tokens[first.n_tokens : first.n_tokens + 148] = 7
    first.n_tokens += 148
    assert world.cache.n_free < min(first.n_pending, second.n_pending)
    world.finish()


def test_a_request_starts_only_where_its_prompt_fits_beside_the_running_ones() -> None:
    world = World(n_slots=2, n_ctx=100, n_cells=110)
    (running,) = decoding(world, max_tokens=90)
    large = world.add(prompt(70))
    world.step()
    assert large in world.scheduler.waiting
    while not running.finished:
        world.step()
    world.step()
    assert large not in world.scheduler.waiting


def test_a_prefix_that_a_running_answer_holds_takes_no_room_again() -> None:
    world = World(n_slots=2, n_ctx=150, n_cells=170, n_batch=170)
    head = [1, *[7] * 99]
    world.add([*head, 2], max_tokens=10)
    world.step()
    follower = world.add([*head, 3], max_tokens=10)
    world.step()
    assert follower in world.scheduler.running


@pytest.mark.parametrize("n_outputs", [4, 5, 9, 20])
def test_rows_with_logits_are_never_more_than_the_backend_has(n_outputs: int) -> None:
    world = World(n_slots=4, n_outputs=n_outputs, n_batch=64)  # the backend refuses more
    for n in (30, 50, 7, 40, 22, 3):
        world.add(prompt(n), prompt_logprobs=True)
        world.add(prompt(n))
    world.finish()


def test_a_scored_prompt_is_computed_from_its_start() -> None:
    world = World()
    world.add(prompt(50, head=1))
    world.finish()
    again = world.add(prompt(50, head=1), prompt_logprobs=True)
    world.step()
    assert world.works[0].n_rows == 50
    assert again.n_computed == 50


def test_other_choices_wait_until_the_first_has_scored_the_prompt() -> None:
    world = World(n_outputs=6)
    world.add(prompt(50, head=1))
    world.finish()
    request = GenerationRequest(
        prompt=tuple(prompt(50, head=1)),
        prompt_logprobs=True,
        n=2,
        max_tokens=3,
        sampling=SamplingParams(temperature=0),
    )
    first, second = (world.add((), request=request, choice=i) for i in range(2))
    while second in world.scheduler.waiting:
        assert not first.prompt_done
        world.step()
        world.scheduler.admit()
    assert first.prompt_done
    world.finish()


def test_what_is_removed_while_it_waits_is_forgotten() -> None:
    world = World(n_slots=1)
    world.add(prompt(5))
    waiting = world.add(prompt(5))
    world.step()
    world.scheduler.remove(waiting)
    world.finish()
    assert not waiting.finished


def test_an_idle_scheduler_plans_nothing() -> None:
    world = World()
    assert world.scheduler.admit() == []
    assert world.scheduler.plan() == []
