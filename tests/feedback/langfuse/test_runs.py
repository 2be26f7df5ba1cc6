from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from qwenkit.chat.events import (
    ChatDone,
    ChatEvent,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    ReasoningDelta,
    TextDelta,
    Timings,
    Usage,
)
from qwenkit.errors import ContextOverflow, RemoteError, RemoteUnreachable
from qwenkit.feedback.langfuse.client import LangfuseClient
from qwenkit.feedback.langfuse.observations import Labels, labels_of
from qwenkit.feedback.langfuse.run_record import Run, similarity, text_of
from qwenkit.feedback.langfuse.runs import RunReport, conversation_of, run_dataset
from qwenkit.settings import LangfuseSpec

pytestmark = pytest.mark.anyio

RUN = Run(dataset="capitals", name="first", model="qwen3-8b", description="the first try")


class Model:
    """Answers every question with a text, and remembers the questions."""

    def __init__(self, *texts: str, failure: Exception | None = None) -> None:
        self.asked: list[tuple[Sequence[Any], Sequence[Any]]] = []
        self._texts = list(texts)
        self._failure = failure

    async def __call__(
        self, messages: Sequence[Any], tools: Sequence[Any]
    ) -> AsyncGenerator[ChatEvent, None]:
        self.asked.append((messages, tools))
        if self._failure is not None:
            raise self._failure
        yield ChatStarted(9, 4)
        yield ChoiceDelta(0, (ReasoningDelta("A map helps."),))
        yield ChoiceDelta(0, (TextDelta(self._texts.pop(0)),))
        yield ChoiceDone(0, ChatFinish.STOP, 7, 3)
        yield ChatDone(Usage(9, 4, 7, 3), Timings(0.0, 0.1, 0.2))


@pytest.fixture
def labels(spec: LangfuseSpec) -> Labels:
    return labels_of(spec)


@pytest.fixture
def fill(client: LangfuseClient) -> Any:
    def fill(*items: dict[str, Any]) -> None:
        client.create_dataset("capitals", description="", metadata={})
        for number, item in enumerate(items):
            client.put_item({"id": f"item-{number}", "datasetName": "capitals", **item})

    return fill


async def run(client: LangfuseClient, model: Model, labels: Labels, **options: Any) -> RunReport:
    return await run_dataset(client, model, RUN, labels=labels, n_together=1, **options)


async def test_every_item_is_answered_and_is_part_of_the_run(
    client: LangfuseClient, langfuse: Any, labels: Labels, fill: Any
) -> None:
    fill({"input": "Norway?", "expectedOutput": "Oslo"}, {"input": "Chad?"})
    report = await run(client, Model("Oslo", "N'Djamena"), labels)
    assert report.n_answers == 2
    assert {each["datasetItemId"] for each in langfuse.run_items} == {"item-0", "item-1"}
    roots, generations = langfuse.observations("span"), langfuse.observations("generation")
    assert len(roots) == len(generations) == 2
    for generation in generations:
        (root,) = [each for each in roots if each.trace_id == generation.trace_id]
        assert generation.parent_id == root.id
        assert root.attributes["langfuse.experiment.id"] == "run-first"
        assert root.attributes["langfuse.experiment.item.root_observation_id"] == root.id
        assert generation.attributes["langfuse.experiment.name"] == "first"
        assert generation.attributes["langfuse.environment"] == "sdk-experiment"
        assert generation.json("usage_details")["total"] == 16
        assert generation.json("output")["reasoning_content"] == "A map helps."


async def test_an_answer_is_compared_with_the_expected_one(
    client: LangfuseClient, langfuse: Any, labels: Labels, fill: Any
) -> None:
    fill(
        {"input": "Norway?", "expectedOutput": "Oslo"},
        {"input": "Chad?", "expectedOutput": {"role": "assistant", "content": "It is N'Djamena"}},
    )
    report = await run(client, Model("Oslo", "I think it is N'Djamena"), labels)
    assert (report.n_exact, len(report.similarities)) == (1, 2)
    assert report.mean_similarity is not None
    assert 0.5 < report.mean_similarity < 1
    values = sorted((s["name"], s["value"]) for s in langfuse.scores.values())
    assert values[:2] == [("exact_match", 0), ("exact_match", 1)]
    assert {s["dataType"] for s in langfuse.scores.values()} == {"BOOLEAN", "NUMERIC"}


async def test_answers_of_the_same_run_once_more_are_traces_of_their_own(
    client: LangfuseClient, langfuse: Any, labels: Labels, fill: Any
) -> None:
    fill({"input": "Norway?", "expectedOutput": "Oslo"})
    await run(client, Model("Bergen"), labels)
    await run(client, Model("Oslo"), labels)
    assert len({each.trace_id for each in langfuse.spans.values()}) == 2
    assert len(langfuse.scores) == 4


async def test_items_that_are_answered_at_once_are_all_counted(
    client: LangfuseClient, langfuse: Any, labels: Labels, fill: Any
) -> None:
    fill(*({"input": f"{number}?", "expectedOutput": "Oslo"} for number in range(12)))
    report = await run_dataset(client, Model(*["Oslo"] * 12), RUN, labels=labels, n_together=4)
    assert (report.n_answers, report.n_exact, report.n_completion) == (12, 12, 84)
    assert len(langfuse.spans) == 24


async def test_an_item_with_tools_is_asked_with_them(
    client: LangfuseClient, labels: Labels, langfuse: Any, fill: Any
) -> None:
    tools = [{"type": "function", "function": {"name": "map"}}]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Norway?"}]
    fill({"input": {"messages": messages, "tools": tools}})
    model = Model("Oslo")
    await run(client, model, labels)
    assert model.asked == [(messages, tools)]


async def test_an_item_that_is_no_conversation_is_counted(
    client: LangfuseClient, langfuse: Any, labels: Labels, fill: Any
) -> None:
    fill({"input": {"a": 1}}, {"input": "Norway?"})
    report = await run(client, Model("Oslo"), labels)
    assert (report.n_answers, sum(report.left_out.values())) == (1, 1)


async def test_an_answer_that_fails_is_an_error_of_the_run_and_the_others_go_on(
    client: LangfuseClient, langfuse: Any, labels: Labels, fill: Any
) -> None:
    fill({"input": "Norway?"})
    report = await run(client, Model(failure=ContextOverflow(n_prompt=9, n_ctx=8)), labels)
    assert (report.n_answers, dict(report.left_out)) == (0, {"ContextOverflow": 1})
    (root,) = langfuse.spans.values()
    assert root.attributes["langfuse.observation.level"] == "ERROR"
    assert len(langfuse.run_items) == 1


async def test_a_model_that_is_gone_ends_the_run(
    client: LangfuseClient, labels: Labels, langfuse: Any, fill: Any
) -> None:
    fill({"input": "Norway?"})
    with pytest.raises(RemoteUnreachable):
        await run(client, Model(failure=RemoteUnreachable("gone")), labels)


async def test_a_dataset_that_is_not_there_is_told(
    client: LangfuseClient, langfuse: Any, labels: Labels
) -> None:
    with pytest.raises(RemoteError) as missing:
        await run(client, Model(), labels)
    assert missing.value.status == 404


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Norway?", ([{"role": "user", "content": "Norway?"}], [])),
        ([{"role": "user", "content": "a"}], ([{"role": "user", "content": "a"}], [])),
        ({"messages": "a", "tools": None}, ([{"role": "user", "content": "a"}], [])),
        ("", None),
        ([], None),
        ([{"content": "a"}], None),
        ({"question": "a"}, None),
        (None, None),
    ],
)
def test_inputs_are_conversations_or_are_not(given: Any, expected: Any) -> None:
    assert conversation_of(given) == expected


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (" Oslo ", "Oslo"),
        ({"role": "assistant", "content": "Oslo"}, "Oslo"),
        ([{"role": "user", "content": "?"}, {"role": "assistant", "content": "Oslo"}], "Oslo"),
        ({"city": "Oslo"}, None),
        ("", None),
        ([], None),
        (None, None),
    ],
)
def test_expected_answers_are_texts_or_are_not(expected: Any, text: str | None) -> None:
    assert text_of(expected) == text


def test_similarity_is_of_words_and_from_nothing_to_all() -> None:
    assert similarity("in the north", "in the north") == 1
    assert similarity("in the north", "down south") == 0
    assert similarity("one two three four", "one two") == pytest.approx(2 / 3)
    json.dumps(similarity("", ""), allow_nan=False)
