"""Measuring a server whose token counts are known exactly."""

from __future__ import annotations

import pytest

from qwenkit.bench.prompts import PromptMaker
from qwenkit.bench.record import Record
from qwenkit.bench.run import make_plan, measure
from qwenkit.bench.scenarios import Load, Scenario, play
from qwenkit.bench.targets import ServerTarget
from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import RemoteError

pytestmark = pytest.mark.anyio

SEED = 7


def tokens_of(prompt: str) -> int:
    return 3 + 2 * len(prompt.split())  # as the server counts


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
async def test_a_record_has_the_servers_counts_and_one_time_a_piece(words, endpoint) -> None:
    record = Record()
    async with RemoteServer(words.url) as server:
        target = ServerTarget(server, "words", endpoint)
        await target.generate("one two three", max_tokens=5, record=record)
    assert (record.n_prompt, record.n_completion, len(record.pieces)) == (9, 5, 5)
    assert record.sent <= record.pieces[0]
    assert record.pieces == sorted(record.pieces)


async def test_the_request_says_nothing_that_other_servers_do_not_know(words) -> None:
    async with RemoteServer(words.url) as server:
        await ServerTarget(server, "words").generate("hi", max_tokens=2, record=Record())
    path, body = words.bodies[0]
    assert path == "/v1/completions"
    assert body["ignore_eos"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert set(body) == {
        "model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "ignore_eos", "stream",
        "stream_options",
    }  # fmt: skip


async def test_a_token_without_text_is_still_a_first_token(words) -> None:
    words.silent = True
    record = Record()
    async with RemoteServer(words.url) as server:
        await ServerTarget(server, "words").generate("hi", max_tokens=1, record=record)
    assert len(record.pieces) == 1


async def test_a_server_without_token_counts_can_not_be_measured(words) -> None:
    words.tells_usage = False
    async with RemoteServer(words.url) as server:
        with pytest.raises(RemoteError):
            await ServerTarget(server, "words").generate("hi", max_tokens=1, record=Record())


async def test_prompts_have_the_wanted_length_and_share_no_beginning(words) -> None:
    async with RemoteServer(words.url) as server:
        maker = await PromptMaker.calibrated(ServerTarget(server, "words").count_tokens, seed=SEED)
    prompts = [maker.prompt(201, salt=str(i)) for i in range(20)]
    assert {tokens_of(prompt) for prompt in prompts} == {201}
    assert len({prompt.split()[0] for prompt in prompts}) == 20
    assert maker.prompt(201, salt="3") == prompts[3]


async def played(words, scenario: Scenario, load: Load) -> tuple[list[str], dict]:
    maker = PromptMaker(tokens_per_word=2, n_fixed=3, seed=SEED)
    async with RemoteServer(words.url) as server:
        figures = await play(scenario, ServerTarget(server, "words"), maker, load, salt="x")
    return words.prompts(), figures


async def test_decode_sends_as_many_requests_at_once_as_asked(words) -> None:
    load = Load(concurrency=4, n_prompt=33, max_tokens=6)
    prompts, figures = await played(words, Scenario.DECODE, load)
    assert [tokens_of(prompt) for prompt in prompts] == [33] * 4
    assert len(set(prompts)) == 4
    assert all(body["max_tokens"] == 6 for _, body in words.bodies)
    assert figures["output_tokens_per_s"] > 0


async def test_prompts_of_shared_prefix_differ_only_after_it(words) -> None:
    load = Load(concurrency=5, n_prompt=103, max_tokens=1, n_shared=63)
    prompts, figures = await played(words, Scenario.SHARED_PREFIX, load)
    beginnings = [prompt.split()[:30] for prompt in prompts]
    assert all(each == beginnings[0] for each in beginnings)
    assert len({prompt.split()[30] for prompt in prompts}) == 5
    assert len(set(prompts)) == 5
    assert figures["all_started_s"] >= figures["first_token_p50_s"]


async def test_stall_sends_a_long_prompt_into_running_streams(words) -> None:
    load = Load(concurrency=2, n_prompt=203, max_tokens=400)
    prompts, figures = await played(words, Scenario.STALL, load)
    assert sorted(tokens_of(prompt) for prompt in prompts) == [15, 15, 203]  # about 16
    assert figures["arriving_tokens"] == 203


async def test_a_failing_request_ends_the_measurement_with_its_own_error(words) -> None:
    words.status = 500
    load = Load(concurrency=3, n_prompt=33, max_tokens=6)
    with pytest.raises(RemoteError):
        await played(words, Scenario.DECODE, load)


async def test_two_servers_take_turns_with_the_same_prompts(words, other_words) -> None:
    plan = make_plan(Scenario.DECODE, concurrency=[1, 2], max_tokens=4, rounds=3, seed=SEED)
    advanced: list[int] = []
    order: list[str] = []
    async with RemoteServer(words.url) as a, RemoteServer(other_words.url) as b:
        targets = [_Noted(ServerTarget(each, "words"), order) for each in (a, b)]
        results = await measure(targets, plan, advance=advanced.append)
    n_calibrating = 2
    assert order[2 * n_calibrating :][:6] == [a.url, b.url, b.url, a.url, a.url, b.url]
    assert sorted(words.prompts()) == sorted(other_words.prompts())
    assert len(set(words.prompts())) == n_calibrating + 3 * (1 + 2)
    assert sum(advanced) == 12
    assert [result.load.concurrency for result in results] == [1, 2]
    assert [len(rounds) for rounds in results[0].rounds] == [3, 3]
    assert results[0].ratios is not None


class _Noted:
    def __init__(self, target: ServerTarget, order: list[str]) -> None:
        self._target, self._order = target, order
        self.name = target.name

    async def count_tokens(self, text: str) -> int:
        self._order.append(self.name)
        return await self._target.count_tokens(text)

    async def generate(self, prompt: str, *, max_tokens: int, record: Record) -> None:
        self._order.append(self.name)
        await self._target.generate(prompt, max_tokens=max_tokens, record=record)


async def test_a_plan_departs_from_the_defaults_only_where_told() -> None:
    plan = make_plan(Scenario.SHARED_PREFIX, concurrency=[3], max_tokens=9, rounds=1, seed=0)
    assert plan.loads == (Load(concurrency=3, n_prompt=272, max_tokens=9, n_shared=256),)
