"""Adapters of an engine: names, versions, and whose state is whose."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwenkit.adapters.prepare import PreparedAdapter
from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.engine.engine import Engine
from qwenkit.engine.request import ActiveAdapter
from qwenkit.errors import InvalidRequest, InvalidSettings, ModelCorrupt, UnknownAdapter

from .conftest import Answer, ask, request

pytestmark = pytest.mark.anyio
PROMPT = "a" * 50 + "?"


def prepare(source: Path) -> PreparedAdapter:
    content = source.read_text(encoding="utf-8")
    stamp = source.with_suffix(".stamp")
    return PreparedAdapter(
        path=source,
        source=source,
        version=content[-20:],
        rank=8,
        alpha=16.0,
        targets=("q_proj",),
        n_params=100,
        size_bytes=len(content),
        template_hash=stamp.read_text(encoding="utf-8") if stamp.exists() else None,
    )


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend({"?": "base"})


@pytest.fixture
def engine(backend: ScriptedBackend, start_engine: Callable[..., Engine]) -> Engine:
    return start_engine(backend, prepare_adapter=prepare)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def made(name: str, answer: str) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"?": answer}), encoding="utf-8")
        return path

    return made


async def say(engine: Engine, adapter: ActiveAdapter | None = None) -> Answer:
    return await ask(engine, PROMPT, adapter=adapter)


async def settled(engine: Engine) -> None:
    """What was posted to the engine's thread is done."""
    gc.collect()
    await ask(engine, "done?")


async def test_an_adapter_answers_under_its_name_and_the_model_as_before(engine, write) -> None:
    adapter = await engine.adapters.load("poet", write("poet", "rhyme"))
    assert (await say(engine, adapter.at())).text() == "rhyme"
    assert (await say(engine)).text() == "base"
    assert [each.name for each in engine.adapters.all()] == ["poet"]
    assert engine.adapters.named("poet") == adapter


async def test_several_adapters_answer_at_once_each_its_own(engine, write) -> None:
    made = [await engine.adapters.load(f"a{i}", write(f"a{i}", f"answer {i}")) for i in range(3)]
    uses = [None, *(adapter.at() for adapter in made)] * 3
    answers = await asyncio.gather(*(say(engine, use) for use in uses))
    assert [answer.text() for answer in answers] == ["base", "answer 0", "answer 1", "answer 2"] * 3


async def test_a_prefix_is_never_reused_across_adapters_versions_or_scales(engine, write) -> None:
    await say(engine)
    first = await engine.adapters.load("a", write("a", "one"))
    assert (await say(engine, first.at())).ready.n_cached == 0
    assert (await say(engine, first.at())).ready.n_cached > 0
    assert (await say(engine, first.at(0.5))).ready.n_cached == 0
    second = await engine.adapters.load("a", write("a", "two"))
    answer = await say(engine, second.at())
    assert (answer.text(), answer.ready.n_cached) == ("two", 0)


async def test_the_same_content_under_two_names_is_loaded_once(engine, backend, write) -> None:
    first = await engine.adapters.load("a", write("a", "one"))
    second = await engine.adapters.load("b", write("b", "one"))
    assert first.version == second.version
    assert len(backend.adapters) == 1
    assert (await say(engine, first.at())).ready.n_cached == 0
    assert (await say(engine, second.at())).ready.n_cached > 0


async def test_loading_the_same_content_again_changes_nothing(engine, backend, write) -> None:
    source = write("a", "one")
    first = await engine.adapters.load("a", source)
    assert await engine.adapters.load("a", source) == first
    assert len(backend.adapters) == 1


async def test_a_running_answer_ends_with_the_version_it_began_with(engine, backend, write) -> None:
    adapter = await engine.adapters.load("a", write("a", "old"))
    backend.hold()
    running = asyncio.create_task(say(engine, adapter.at()))
    assert await asyncio.to_thread(backend.wait_until_held)
    swapping = asyncio.create_task(engine.adapters.load("a", write("a", "new")))
    await asyncio.sleep(0)
    backend.release()
    new = await swapping
    assert (await running).text() == "old"
    assert (await say(engine, new.at())).text() == "new"


async def test_what_nobody_uses_any_more_is_freed(engine, backend, write) -> None:
    adapter = await engine.adapters.load("a", write("a", "old"))
    use = adapter.at()
    await engine.adapters.unload("a")
    del adapter
    await settled(engine)
    assert len(backend.adapters) == 1  # a request may still come with it
    assert (await say(engine, use)).text() == "old"
    del use
    await settled(engine)
    assert not backend.adapters


async def test_a_name_that_is_not_there_is_named_with_those_that_are(engine, write) -> None:
    await engine.adapters.load("poet", write("poet", "rhyme"))
    with pytest.raises(UnknownAdapter, match=r"singer.*poet"):
        engine.adapters.named("singer")
    with pytest.raises(UnknownAdapter):
        await engine.adapters.unload("singer")


async def test_what_the_runtime_can_t_read_leaves_the_old_version(engine, tmp_path, write) -> None:
    adapter = await engine.adapters.load("a", write("a", "one"))
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(ModelCorrupt):
        await engine.adapters.load("a", broken)
    assert engine.adapters.named("a") == adapter
    assert (await say(engine, adapter.at())).text() == "one"


async def test_an_adapter_of_another_engine_is_refused(engine, start_engine, write) -> None:
    other = start_engine(ScriptedBackend({"?": "x"}), prepare_adapter=prepare)
    adapter = await other.adapters.load("a", write("a", "one"))
    with pytest.raises(InvalidRequest):
        await say(engine, adapter.at())


async def test_a_model_without_room_for_adapters_says_so(start_engine, write) -> None:
    engine = start_engine(ScriptedBackend({"?": "x"}))
    with pytest.raises(InvalidSettings):
        await engine.adapters.load("a", write("a", "one"))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 101.0, -1000.0])
async def test_a_scale_out_of_range_is_refused(engine, write, scale: float) -> None:
    adapter = await engine.adapters.load("a", write("a", "one"))
    with pytest.raises(InvalidRequest) as info:
        request(engine, PROMPT, adapter=adapter.at(scale))
    assert info.value.param == "lora_scale"


async def test_the_same_content_loaded_twice_at_once_stays_in_memory_once(
    engine, backend, write
) -> None:
    sources = [write("a", "one"), write("b", "one")]
    both = await asyncio.gather(*(engine.adapters.load(s.stem, s) for s in sources))
    assert both[0].loaded is both[1].loaded
    await settled(engine)
    assert len(backend.adapters) == 1


class Forgets(ScriptedBackend):
    """Loses what it computed with an adapter when that is unloaded, as ONNX GenAI does."""

    def unload_adapter(self, adapter) -> None:
        super().unload_adapter(adapter)
        for slot in range(self.capabilities.n_slots):
            use = self._pool.computed_with[slot]
            if use is not None and use.adapter is adapter:
                self.trim(slot, 0)


async def test_states_that_left_with_their_adapter_are_computed_again(start_engine, write) -> None:
    backend = Forgets({"?": "base"})
    engine = start_engine(backend, prepare_adapter=prepare)
    source = write("a", "one")
    for _ in range(2):
        adapter = await engine.adapters.load("a", source)
        answer = await say(engine, adapter.at())
        assert (answer.text(), answer.ready.n_cached) == ("one", 0)
        await engine.adapters.unload("a")
        del adapter
        await settled(engine)
        assert not backend.adapters


class AlwaysGuesses:
    """Guesses the same token again and again."""

    is_free = True
    token_s = 0.0

    def propose(self, sequences, n_most):
        return {sequence: np.full(min(n_most, 4), ord("y"), np.int32) for sequence in sequences}

    def close(self) -> None:
        """Nothing is held."""


async def test_an_answer_left_in_the_middle_of_a_guess_lets_its_adapter_go(
    start_engine, write
) -> None:
    backend = ScriptedBackend({"?": "base"})
    engine = start_engine(backend, prepare_adapter=prepare, drafters=(AlwaysGuesses(),))
    adapter = await engine.adapters.load("a", write("a", "y" * 2000))
    stream = engine.stream(request(engine, PROMPT, adapter=adapter.at()))
    while len(backend.decodes[-1].tokens if backend.decodes else ()) not in (2, 3, 4, 5):
        await anext(stream)
    backend.hold()
    assert await asyncio.to_thread(backend.wait_until_held)
    await stream.aclose()
    backend.release()
    await engine.adapters.unload("a")
    del adapter, stream
    await settled(engine)
    await settled(engine)
    assert not backend.adapters


async def test_the_same_numbers_with_another_templates_hash_keep_their_version(
    engine, write
) -> None:
    source = write("poet", "rhyme")
    plain = await engine.adapters.load("poet", source)
    assert plain.template_hash is None
    source.with_suffix(".stamp").write_text("d059f6771ac6", encoding="utf-8")
    stamped = await engine.adapters.load("poet", source)
    assert (stamped.version, stamped.template_hash) == (plain.version, "d059f6771ac6")
    assert engine.adapters.named("poet").template_hash == "d059f6771ac6"
