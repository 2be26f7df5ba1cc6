"""The engine over every runtime: whatever runs beside an answer, in whatever pieces, its tokens are
the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qwenkit.backends.base import Backend
from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.backends.onnx.facts import OnnxOptions
from qwenkit.backends.onnx.generator import GeneratorBackend
from qwenkit.backends.onnx.layout import read_layout
from qwenkit.backends.onnx.session import SessionBackend
from qwenkit.engine.engine import Engine
from qwenkit.engine.request import (
    Finished,
    GenerationRequest,
    PromptReady,
    RequestDone,
    SamplingParams,
    Token,
)

from .conftest import QUESTIONS, prompt_of

GREEDY = SamplingParams(temperature=0)
RUNTIMES = [
    "llama.cpp",
    pytest.param("session", marks=pytest.mark.parity),
    pytest.param("genai", marks=pytest.mark.parity),
]

Load = Callable[..., Backend]
Said = dict[int, list[int]]


@pytest.fixture(scope="module", params=RUNTIMES)
def load(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Backend]:
    """Loads the demo model into a runtime; the options are those that all of them have."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "llama.cpp":
        return llama_loader(request.getfixturevalue("demo_gguf"))
    return onnx_loader(request.getfixturevalue("demo_onnx"), request.param, home)


def llama_loader(gguf: Path) -> Load:
    def load(*, n_ctx: int = 1024, n_slots: int = 4, n_batch: int = 128) -> Backend:
        options = LlamaOptions(
            n_ctx=n_ctx, n_slots=n_slots, n_batch=n_batch, n_threads=1, kv_type="f32"
        )
        return LlamaBackend(gguf, content_id="demo", options=options)

    return load


def onnx_loader(folder: Path, decoder: str, home: Path) -> Load:
    layout = read_layout(folder)
    kind = SessionBackend if decoder == "session" else GeneratorBackend

    def load(*, n_ctx: int = 1024, n_slots: int = 4, n_batch: int = 128) -> Backend:
        options = OnnxOptions(n_ctx=n_ctx, n_slots=n_slots, n_batch=n_batch, n_threads=1)
        return kind(layout, content_id="demo", options=options, home=home)

    return load


@pytest.fixture
def start(load: Load) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def made(**options: Any) -> Engine:
        engines.append(Engine(load(**options)).start())
        return engines[-1]

    yield made
    for engine in engines:
        engine.close()


async def ask(engine: Engine, prompt: Sequence[int], **fields: Any) -> Said:
    """The tokens of each choice."""
    fields = {"max_tokens": 40, "sampling": GREEDY, "ignore_eos": True} | fields
    said: Said = {}
    async for event in engine.stream(GenerationRequest(prompt=tuple(prompt), **fields)):
        if isinstance(event, Token):
            said.setdefault(event.choice, []).append(event.id)
        if isinstance(event, Finished):
            assert event.n_tokens == len(said[event.choice])
    return said


@pytest.fixture(scope="module")
def prompts(load: Load) -> list[list[int]]:
    backend = load(n_slots=1)
    found = [prompt_of(backend.tokenizer, question) for question in QUESTIONS]
    backend.close()
    return found


@pytest.fixture(scope="module")
def alone(load: Load, prompts: list[list[int]]) -> list[list[int]]:
    """What is said to each prompt by an engine that computes nothing else."""

    async def each() -> list[list[int]]:
        said = []
        for prompt in prompts:
            engine = Engine(load(n_slots=1)).start()
            said.append((await ask(engine, prompt))[0])
            engine.close()
        return said

    return asyncio.run(each())


@pytest.mark.anyio
async def test_greedy_answers_are_the_same_together_as_alone(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=6)
    together = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    assert [said[0] for said in together] == alone


@pytest.mark.anyio
@pytest.mark.parametrize("n_batch", [8, 33, 512])
async def test_greedy_answers_are_the_same_in_chunks_of_any_size(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]], n_batch: int
) -> None:
    engine = start(n_slots=3, n_batch=n_batch)
    together = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    assert [said[0] for said in together] == alone


@pytest.mark.anyio
async def test_greedy_answers_are_the_same_from_a_cached_prefix(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=2)
    for _ in range(2):
        for prompt, expected in zip(prompts, alone, strict=True):
            assert (await ask(engine, prompt))[0] == expected
    longer = [*prompts[0], *alone[0][:20]]
    assert (await ask(engine, longer, max_tokens=20))[0] == alone[0][20:]


@pytest.mark.anyio
async def test_a_conversation_that_goes_on_computes_only_what_is_new(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=2)
    await ask(engine, prompts[0])
    longer = [*prompts[0], *alone[0][:20], *prompts[1]]
    request = GenerationRequest(prompt=tuple(longer), sampling=GREEDY, max_tokens=1)
    events = [event async for event in engine.stream(request)]
    [ready] = [event for event in events if isinstance(event, PromptReady)]
    assert ready.n_cached == len(prompts[0]) + 20


@pytest.mark.anyio
async def test_greedy_choices_of_one_prompt_are_the_same(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=3)
    said = await ask(engine, prompts[3], n=5)
    assert said == dict.fromkeys(range(5), alone[3])


@pytest.mark.anyio
async def test_greedy_answers_are_the_same_when_they_have_to_give_way(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=6, n_ctx=256)
    if not engine.capabilities.shares_cells:
        pytest.skip("every slot has room of its own, so none has to give way")
    wants = [ask(engine, prompt) for prompt in prompts * 2]
    together = await asyncio.gather(*wants)
    assert engine.snapshot().n_preempted > 0
    assert [said[0] for said in together] == alone * 2


@pytest.mark.anyio
async def test_greedy_answers_are_the_same_in_fewer_slots_than_requests(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=3, n_ctx=256)
    together = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts * 3))
    assert [said[0] for said in together] == alone * 3


@pytest.mark.anyio
async def test_a_late_request_is_answered_while_the_others_go_on(
    start: Callable[..., Engine], prompts: list[list[int]]
) -> None:
    engine = start(n_slots=3)
    order: list[str] = []

    async def follow(name: str, prompt: list[int], started: asyncio.Event) -> None:
        request = GenerationRequest(
            prompt=tuple(prompt), sampling=GREEDY, max_tokens=300, ignore_eos=True
        )
        async for event in engine.stream(request):
            if isinstance(event, Token) and not started.is_set():
                started.set()
                order.append(f"{name} begins")
            if isinstance(event, RequestDone):
                order.append(f"{name} ends")

    first, second, late = (asyncio.Event() for _ in range(3))
    running = [
        asyncio.create_task(follow("first", prompts[0], first)),
        asyncio.create_task(follow("second", prompts[1], second)),
    ]
    await asyncio.gather(first.wait(), second.wait())
    running.append(asyncio.create_task(follow("late", prompts[3], late)))
    await asyncio.gather(*running)
    assert order.index("late begins") < min(order.index("first ends"), order.index("second ends"))


@pytest.mark.anyio
async def test_a_request_that_is_taken_back_leaves_the_others_alone(
    start: Callable[..., Engine], prompts: list[list[int]], alone: list[list[int]]
) -> None:
    engine = start(n_slots=4)
    leaving = [asyncio.create_task(ask(engine, p, max_tokens=400)) for p in prompts[3:]]
    staying = [asyncio.create_task(ask(engine, p)) for p in prompts[:3]]
    await staying[0]
    for task in leaving:
        task.cancel()
    assert [(await task)[0] for task in staying] == alone[:3]
    await asyncio.gather(*leaving, return_exceptions=True)
    assert (await ask(engine, prompts[4]))[0] == alone[4]


@pytest.mark.anyio
async def test_a_seed_gives_the_same_answer_whatever_runs_beside_it(
    start: Callable[..., Engine], prompts: list[list[int]]
) -> None:
    def seeded(seed: int) -> SamplingParams:
        return SamplingParams(temperature=3.0, top_k=50, seed=seed)

    quiet = await ask(start(n_slots=1), prompts[0], sampling=seeded(7))
    engine = start(n_slots=5)
    others = [ask(engine, prompt, sampling=SamplingParams()) for prompt in prompts]
    beside, *_ = await asyncio.gather(ask(engine, prompts[0], sampling=seeded(7)), *others)
    assert beside == quiet
    assert await ask(engine, prompts[0], sampling=seeded(8)) != quiet


@pytest.mark.anyio
async def test_a_dry_penalty_breaks_up_what_repeats_itself(
    start: Callable[..., Engine], prompts: list[list[int]]
) -> None:
    engine = start()
    prompt = [*prompts[2], *([40, 41, 42, 43] * 6)]
    dry = SamplingParams(temperature=0, dry_multiplier=50.0)
    plain = SamplingParams(temperature=0, logit_bias=((40, 30.0),))
    biased = SamplingParams(temperature=0, logit_bias=((40, 30.0),), dry_multiplier=50.0)
    assert (await ask(engine, prompt, sampling=plain, max_tokens=1))[0] == [40]
    assert (await ask(engine, prompt, sampling=biased, max_tokens=1))[0] != [40]
    assert len((await ask(engine, prompt, sampling=dry))[0]) == 40


@pytest.mark.anyio
async def test_a_scored_prompt_has_a_probability_for_every_token_but_the_first(
    start: Callable[..., Engine], prompts: list[list[int]]
) -> None:
    engine = start(n_slots=2, n_batch=24)
    scores = []
    for n in (1, 2):  # alone, and beside another choice
        request = GenerationRequest(
            prompt=tuple(prompts[3]),
            sampling=GREEDY,
            max_tokens=2,
            n=n,
            logprobs=2,
            prompt_logprobs=True,
        )
        events = [event async for event in engine.stream(request)]
        [ready] = [event for event in events if isinstance(event, PromptReady)]
        scores.append([entry.chosen.logprob for entry in ready.logprobs if entry is not None])
    assert len(scores[0]) == len(prompts[3]) - 1
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
