"""The real SDK against the stand-in: what the tests take for Langfuse, the SDK takes for it too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.client import LangfuseClient
from qwenkit.feedback.langfuse.observations import labels_of, observe_answer
from qwenkit.feedback.langfuse.scores import judgement
from qwenkit.feedback.records import Edit, Interaction, Rating
from qwenkit.settings import LangfuseSpec


@pytest.fixture
def sdk(spec: LangfuseSpec) -> Iterator[Any]:
    package = pytest.importorskip("langfuse")
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    client = package.Langfuse(
        public_key=spec.public_key,
        secret_key=spec.secret_key,
        base_url=spec.base_url,
        environment=spec.environment,
        tracer_provider=provider,
    )
    yield client
    client.shutdown()
    provider.shutdown()


def test_the_stand_in_takes_what_the_sdk_sends(sdk: Any, langfuse: Any) -> None:
    with sdk.start_as_current_observation(
        as_type="generation",
        name="chat",
        model="qwen3-8b",
        input=[{"role": "user", "content": "hi"}],
        model_parameters={"temperature": 0.6},
        usage_details={"input": 1, "output": 2},
    ) as generation:
        generation.update(output="hello")
        generation.score(name="thumb", value=1, data_type="BOOLEAN", score_id="rating-1-thumb")
    sdk.flush()
    (span,) = langfuse.spans.values()
    assert span.attributes["langfuse.observation.type"] == "generation"
    assert span.scope == "langfuse-sdk"
    assert langfuse.scores["rating-1-thumb"]["traceId"] == span.trace_id


def test_our_generations_have_the_attributes_that_the_sdks_have(
    sdk: Any, langfuse: Any, client: LangfuseClient, an_answer: Callable[..., Interaction]
) -> None:
    from langfuse import propagate_attributes

    with (
        propagate_attributes(user_id="ada", session_id="thread-1", tags=["api"], trace_name="chat"),
        sdk.start_as_current_observation(
            as_type="generation",
            name="chat",
            model="qwen3-8b",
            input="hi",
            output="hello",
            metadata={"adapter": "polite"},
            model_parameters={"temperature": 0.6},
            usage_details={"input": 1},
        ),
    ):
        pass
    sdk.flush()
    (theirs,) = langfuse.spans.values()
    langfuse.spans.clear()
    client.send_observations(
        [observe_answer(an_answer(), labels_of(LangfuseSpec(public_key="", secret_key="")))]
    )
    (ours,) = langfuse.spans.values()
    about_the_sdk = {"langfuse.internal.is_app_root", "langfuse.environment", "public_key"}
    assert theirs.attributes.keys() - about_the_sdk <= ours.attributes.keys()
    for name in theirs.attributes.keys() & ours.attributes.keys():
        assert type(theirs.attributes[name]) is type(ours.attributes[name]), name


def test_our_trace_ids_are_made_as_the_sdk_makes_them(
    an_answer: Callable[..., Interaction],
) -> None:
    package = pytest.importorskip("langfuse")
    seed = "thread-1\nrequest-chatcmpl-1"
    assert ids.trace_id(an_answer()) == package.Langfuse.create_trace_id(seed=seed)


def test_the_sdk_reads_the_datasets_that_are_pushed(
    sdk: Any, client: LangfuseClient, langfuse: Any
) -> None:
    client.create_dataset("capitals of the world", description="", metadata={"format": "sft"})
    for number in range(3):
        client.put_item(
            {
                "id": f"item-{number}",
                "datasetName": "capitals of the world",
                "input": [{"role": "user", "content": "Norway?"}],
                "expectedOutput": "Oslo",
                "metadata": {"split": "train"},
            }
        )
    dataset = sdk.get_dataset("capitals of the world")
    assert [item.expected_output for item in dataset.items] == ["Oslo"] * 3
    assert dataset.metadata == {"format": "sft"}


def test_the_sdk_reads_the_scores_that_are_pushed(
    sdk: Any,
    client: LangfuseClient,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    rating = a_rating(thumb="up", scale=4, edited=Edit(content="Better."), comment="good")
    client.send_scores(judgement(an_answer(), [rating]).scores)
    page = sdk.api.scores_v3.get_many_v3(fields="details,subject")
    assert {each.name: each.value for each in page.data} == {
        "thumb": True,
        "scale": 4.0,
        "output": "Better.",
    }
    assert {each.comment for each in page.data} == {"good"}


def test_a_run_of_the_sdk_is_taken_as_ours_is(
    sdk: Any, client: LangfuseClient, langfuse: Any
) -> None:
    client.create_dataset("d", description="", metadata={})
    client.put_item({"id": "item-0", "datasetName": "d", "input": "Norway?"})
    sdk.get_dataset("d").run_experiment(name="first", run_name="first", task=lambda **_: "Oslo")
    sdk.flush()
    (item,) = langfuse.run_items
    assert (item["runName"], item["datasetItemId"]) == ("first", "item-0")
    linked = [
        each
        for each in langfuse.spans.values()
        if each.attributes.get("langfuse.experiment.id") == "run-first"
    ]
    assert {each.attributes["langfuse.environment"] for each in linked} == {"sdk-experiment"}
