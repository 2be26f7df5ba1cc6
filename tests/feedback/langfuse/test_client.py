from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qwenkit.errors import InvalidSettings, RemoteError, RemoteUnreachable
from qwenkit.feedback.langfuse.client import MAX_BYTES, LangfuseClient
from qwenkit.feedback.langfuse.observations import labels_of, observe_answer
from qwenkit.feedback.langfuse.scores import judgement
from qwenkit.feedback.records import Interaction, Rating
from qwenkit.settings import LangfuseSpec


def test_a_generation_arrives_as_it_was_sent(
    client: LangfuseClient,
    spec: LangfuseSpec,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
) -> None:
    sent = observe_answer(an_answer(), labels_of(spec))
    client.send_observations([sent])
    (span,) = langfuse.spans.values()
    assert (span.trace_id, span.id, span.parent_id) == (sent.trace_id, sent.id, None)
    assert (span.start_ns, span.end_ns) == (sent.start_ns, sent.end_ns)
    assert {**span.attributes, "langfuse.trace.tags": ("api",)} == sent.attributes
    assert span.scope == "langfuse-sdk"


def test_what_is_sent_twice_is_there_once(
    client: LangfuseClient,
    spec: LangfuseSpec,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    scores = judgement(an_answer(), [a_rating(thumb="up")]).scores
    for _ in range(2):
        client.send_observations([observe_answer(an_answer(), labels_of(spec))])
        client.send_scores(scores)
    assert len(langfuse.spans) == 1
    assert list(langfuse.scores) == ["rating-1-thumb"]


def test_half_surrogates_do_not_keep_an_answer_from_arriving(
    client: LangfuseClient,
    spec: LangfuseSpec,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    answer = an_answer(user="a\ud800b", messages=({"role": "user", "content": "日本 \udc00"},))
    client.send_observations([observe_answer(answer, labels_of(spec))])
    client.send_scores(judgement(answer, [a_rating(comment="\ud800", thumb="up")]).scores)
    (span,) = langfuse.spans.values()
    assert span.attributes["user.id"] == "a?b"
    assert span.json("input")[0]["content"] == "日本 ?"


def test_large_answers_are_sent_in_parts(
    client: LangfuseClient,
    spec: LangfuseSpec,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
) -> None:
    long = ({"role": "user", "content": "x" * (MAX_BYTES // 2 - 10_000)},)
    answers = [an_answer(f"chatcmpl-{i}", messages=long) for i in range(5)]
    client.send_observations([observe_answer(each, labels_of(spec)) for each in answers])
    assert len(langfuse.spans) == 5
    assert len(langfuse.requests) == 3


def test_a_score_that_is_refused_is_told_and_the_others_are_taken(
    client: LangfuseClient,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    langfuse.refused_scores.add("rating-1-thumb")
    scores = judgement(an_answer(), [a_rating(thumb="up", scale=3)]).scores
    (refused,) = client.send_scores(scores)
    assert (refused.id, refused.status) == ("rating-1-thumb", 400)
    assert list(langfuse.scores) == ["rating-1-scale"]


def test_wrong_keys_are_told_without_them(langfuse: Any, spec: LangfuseSpec) -> None:
    with (
        LangfuseClient(replace(spec, secret_key="sk-lf-other")) as client,
        pytest.raises(InvalidSettings) as refused,
    ):
        client.dataset("any")
    assert "sk-lf" not in refused.value.message + refused.value.hint
    assert "LANGFUSE_API_KEY" in refused.value.hint


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(client: LangfuseClient, langfuse: Any, status: int) -> None:
    langfuse.failures += [status, status]
    client.create_dataset("d", description="", metadata={})
    assert "d" in langfuse.datasets
    assert len(langfuse.requests) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_what_will_not_pass_is_tried_once(
    client: LangfuseClient, langfuse: Any, status: int
) -> None:
    langfuse.failures += [status]
    with pytest.raises(RemoteError) as refused:
        client.create_dataset("d", description="", metadata={})
    assert refused.value.status == status
    assert len(langfuse.requests) == 1


def test_a_server_that_stays_broken_is_told(client: LangfuseClient, langfuse: Any) -> None:
    langfuse.failures += [500, 500, 500]
    with pytest.raises(RemoteError) as refused:
        client.create_dataset("d", description="", metadata={})
    assert refused.value.status == 500


def test_the_pause_is_the_one_that_the_server_asks_for(langfuse: Any, spec: LangfuseSpec) -> None:
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    langfuse.failures += [429, 503]
    langfuse.retry_after = "7"
    with LangfuseClient(spec, wait=wait, pauses_s=(1.0, 4.0)) as client:
        client.create_dataset("d", description="", metadata={})
    assert pauses == [7.0, 7.0]


def test_a_server_that_is_not_there_is_unreachable(langfuse: Any, spec: LangfuseSpec) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with (
        LangfuseClient(replace(spec, base_url=url), pauses_s=(0.0,)) as client,
        pytest.raises(RemoteUnreachable),
    ):
        client.dataset("d")


def test_a_server_that_does_not_answer_in_time_is_unreachable(
    langfuse: Any, spec: LangfuseSpec
) -> None:
    langfuse.open.clear()
    with (
        LangfuseClient(replace(spec, timeout_s=0.05), pauses_s=()) as client,
        pytest.raises(RemoteUnreachable),
    ):
        client.dataset("d")


def test_scores_are_read_page_by_page(client: LangfuseClient, langfuse: Any) -> None:
    for number in range(250):
        langfuse.annotate(f"s{number}", name="thumb", dataType="BOOLEAN", value=1)
    found = list(client.scores(sources=("ANNOTATION",)))
    assert [each["id"] for each in found] == [f"s{number}" for number in range(250)]
    assert len(langfuse.requests) == 3


def test_items_are_read_page_by_page_without_the_archived(
    client: LangfuseClient, langfuse: Any
) -> None:
    client.create_dataset("d", description="", metadata={})
    for number in range(205):
        client.put_item({"id": f"i{number}", "datasetName": "d", "input": "hi"})
    langfuse.items["i7"]["status"] = "ARCHIVED"
    langfuse.requests.clear()
    found = [each["id"] for each in client.items("d")]
    assert found == [f"i{number}" for number in range(205) if number != 7]
    assert len(langfuse.requests) == 3


def test_neither_requests_nor_refusals_write_keys_to_the_log(
    langfuse: Any, spec: LangfuseSpec, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    langfuse.failures += [500, 400]
    with LangfuseClient(spec, pauses_s=(0.0,)) as client, pytest.raises(RemoteError):
        client.create_dataset("d", description="", metadata={})
    assert "sk-lf" not in caplog.text
    assert "Basic " not in caplog.text
    assert "sk-lf" not in repr(spec)


@pytest.mark.parametrize(
    "answer", [[], "text", {}, {"data": 7}, {"data": [{"id": "s1"}], "meta": {}}, {"data": []}]
)
def test_an_answer_of_another_server_is_told_as_such(
    client: LangfuseClient, langfuse: Any, answer: Any
) -> None:
    langfuse.strange_answer = answer
    with pytest.raises(RemoteError) as strange:
        list(client.scores(sources=("API",)))
    assert "LANGFUSE_BASE_URL" in strange.value.hint
    with pytest.raises(RemoteError):
        list(client.items("d"))
    with pytest.raises(RemoteError):
        client.link_run({})


@pytest.mark.parametrize("errors", [None, 7, [{"id": "s1"}], [7]])
def test_scores_of_which_nobody_says_what_became_of_them_are_not_taken_for_sent(
    client: LangfuseClient,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
    errors: Any,
) -> None:
    langfuse.strange_answer = {"successes": [], "errors": errors}
    with pytest.raises(RemoteError):
        client.send_scores(judgement(an_answer(), [a_rating(thumb="up")]).scores)
