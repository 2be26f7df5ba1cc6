from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from qwenkit.errors import InvalidRecord
from qwenkit.feedback.langfuse import ids, observations
from qwenkit.feedback.langfuse.observations import Labels, observe_answer, observe_tool
from qwenkit.feedback.records import Interaction, ToolRun, choice_id

LABELS = Labels(environment="testing", release="1.2.3")


def test_all_choices_of_an_answer_and_its_tools_are_one_trace(
    an_answer: Callable[..., Interaction], a_tool_run: Callable[..., ToolRun]
) -> None:
    first = an_answer()
    second = replace(first, id=choice_id(first.id, 1))
    assert ids.trace_id(first) == ids.trace_id(second) == ids.trace_id(a_tool_run())
    assert ids.answer_observation_id(first.id) != ids.answer_observation_id(second.id)


def test_choices_without_a_request_id_are_one_trace_by_their_response(
    an_answer: Callable[..., Interaction],
) -> None:
    first = an_answer(request_id=None)
    second = replace(first, id=choice_id(first.id, 11))
    assert ids.trace_id(first) == ids.trace_id(second)
    assert ids.trace_id(first) != ids.trace_id(replace(first, id="chatcmpl-2"))


def test_equal_request_ids_of_two_conversations_are_two_traces(
    an_answer: Callable[..., Interaction],
) -> None:
    assert ids.trace_id(an_answer()) != ids.trace_id(an_answer(thread_id="thread-2"))


def test_an_answer_is_a_generation_with_model_parameters_usage_and_reasoning(
    an_answer: Callable[..., Interaction],
) -> None:
    found = observe_answer(an_answer(), LABELS).attributes
    assert found["langfuse.observation.type"] == "generation"
    assert found["langfuse.observation.model.name"] == "qwen3-8b"
    assert json.loads(str(found["langfuse.observation.model.parameters"])) == {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "max_tokens": 100,
        "stop": ["END"],
        "enable_thinking": True,
    }
    said = json.loads(str(found["langfuse.observation.output"]))
    assert said["content"] == "In Norway."
    assert said["reasoning_content"] == "Think of a map."
    assert said["tool_calls"][0]["function"] == {"name": "map", "arguments": '{"city":"Oslo"}'}


def test_token_counts_do_not_overlap_and_add_up_to_their_total(
    an_answer: Callable[..., Interaction],
) -> None:
    usage = json.loads(
        str(observe_answer(an_answer(), LABELS).attributes["langfuse.observation.usage_details"])
    )
    total = usage.pop("total")
    assert usage == {
        "input": 12,
        "input_cached_tokens": 8,
        "output": 7,
        "output_reasoning_tokens": 5,
    }
    assert sum(usage.values()) == total == 32


def test_times_are_those_of_the_record(an_answer: Callable[..., Interaction]) -> None:
    found = observe_answer(an_answer(), LABELS)
    assert found.end_ns - found.start_ns == 2_500_000_000
    started = found.attributes["langfuse.observation.completion_start_time"]
    assert json.loads(str(started)) == "2026-11-25T14:00:00.750000Z"


def test_session_user_environment_and_release_are_told(
    an_answer: Callable[..., Interaction],
) -> None:
    found = observe_answer(an_answer(), LABELS).attributes
    assert found["session.id"] == "thread-1"
    assert found["user.id"] == "ada"
    assert found["langfuse.environment"] == "testing"
    assert found["langfuse.release"] == "1.2.3"


def test_adapter_and_template_stand_in_the_metadata(an_answer: Callable[..., Interaction]) -> None:
    found = observe_answer(an_answer(), LABELS).attributes
    about = {
        name.removeprefix("langfuse.observation.metadata."): value
        for name, value in found.items()
        if name.startswith("langfuse.observation.metadata.")
    }
    assert about["adapter"] == "polite"
    assert about["adapter_version"] == "abc123"
    assert about["adapter_scale"] == "0.5"
    assert about["template_hash"] == "t" * 12
    assert about["answer_id"] == "chatcmpl-1"


def test_a_name_that_langfuse_would_drop_is_shortened(
    an_answer: Callable[..., Interaction],
) -> None:
    found = observe_answer(an_answer(user="u" * 300), LABELS).attributes
    assert found["user.id"] == "u" * 200


def test_tools_stand_beside_the_conversation(an_answer: Callable[..., Interaction]) -> None:
    tool = {"type": "function", "function": {"name": "map"}}
    found = observe_answer(an_answer(tools=(tool,)), LABELS).attributes
    asked = json.loads(str(found["langfuse.observation.input"]))
    assert asked == {"messages": [{"role": "user", "content": "Where is Oslo?"}], "tools": [tool]}


def test_a_completed_text_is_text(an_answer: Callable[..., Interaction]) -> None:
    found = observe_answer(an_answer(messages=None, prompt="Once upon"), LABELS).attributes
    assert found["langfuse.observation.input"] == "Once upon"
    assert found["langfuse.observation.output"] == "In Norway."
    assert found["langfuse.trace.name"] == "text completion"


def test_without_content_nothing_that_was_said_is_told(
    an_answer: Callable[..., Interaction], a_tool_run: Callable[..., ToolRun]
) -> None:
    answer = observe_answer(an_answer(messages=None, answer=None), LABELS)
    tool = observe_tool(a_tool_run(arguments=None, result=None), LABELS)
    for found in (answer.attributes, tool.attributes):
        assert "langfuse.observation.input" not in found
        assert "langfuse.observation.output" not in found
        assert "Oslo" not in str(found)
        assert "Norway" not in str(found)


def test_a_cancelled_answer_is_marked(an_answer: Callable[..., Interaction]) -> None:
    found = observe_answer(an_answer(finish_reason="cancelled"), LABELS).attributes
    assert found["langfuse.observation.level"] == "WARNING"


def test_infinite_parameters_are_left_out(an_answer: Callable[..., Interaction]) -> None:
    found = observe_answer(an_answer(sampling={"penalty": float("inf"), "top_k": 1}), LABELS)
    parameters = json.loads(str(found.attributes["langfuse.observation.model.parameters"]))
    assert "penalty" not in parameters
    assert parameters["top_k"] == 1


def test_what_has_no_form_in_json_is_refused(an_answer: Callable[..., Interaction]) -> None:
    with pytest.raises(InvalidRecord):
        observe_answer(an_answer(messages=({"role": "user", "content": {1, 2}},)), LABELS)


def test_a_tool_stands_under_the_answer_that_called_it(
    an_answer: Callable[..., Interaction], a_tool_run: Callable[..., ToolRun]
) -> None:
    answer, tool = observe_answer(an_answer(), LABELS), observe_tool(a_tool_run(), LABELS)
    assert tool.parent_id == answer.id
    assert tool.trace_id == answer.trace_id
    assert tool.name == "map"
    assert tool.attributes["langfuse.observation.type"] == "tool"
    assert tool.attributes["langfuse.observation.metadata.approved"] is True


def test_a_tool_that_failed_is_an_error(a_tool_run: Callable[..., ToolRun]) -> None:
    found = observe_tool(a_tool_run(is_error=True), LABELS).attributes
    assert found["langfuse.observation.level"] == "ERROR"


def test_the_attributes_are_called_as_the_sdk_calls_them() -> None:
    sdk = pytest.importorskip("langfuse").LangfuseOtelSpanAttributes
    ours = {
        "OBSERVATION_TYPE": observations.TYPE,
        "OBSERVATION_INPUT": observations.INPUT,
        "OBSERVATION_OUTPUT": observations.OUTPUT,
        "OBSERVATION_LEVEL": observations.LEVEL,
        "OBSERVATION_STATUS_MESSAGE": observations.STATUS,
        "OBSERVATION_METADATA": observations.METADATA,
        "OBSERVATION_MODEL": observations.MODEL,
        "OBSERVATION_MODEL_PARAMETERS": observations.PARAMETERS,
        "OBSERVATION_USAGE_DETAILS": observations.USAGE,
        "OBSERVATION_COMPLETION_START_TIME": observations.COMPLETION_START,
        "TRACE_NAME": observations.TRACE_NAME,
        "TRACE_TAGS": observations.TRACE_TAGS,
        "TRACE_METADATA": observations.TRACE_METADATA,
        "TRACE_USER_ID": observations.USER,
        "TRACE_SESSION_ID": observations.SESSION,
        "ENVIRONMENT": observations.ENVIRONMENT,
        "RELEASE": observations.RELEASE,
    }
    assert ours == {name: getattr(sdk, name) for name in ours}
