"""What a response says, without streaming."""

import json

import pytest

from qwenkit.backends.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"


async def prompt_of(client, messages, **body):
    reply = await client.post("/apply-template", json={"messages": messages, **body})
    return reply.json()["prompt"]


async def test_the_thinking_and_the_text_are_items(client, respond):
    response = await respond(client, "hello")
    reasoning, message = response["output"]
    assert response["object"] == "response"
    assert response["id"].startswith("resp_")
    assert response["model"] == "scripted"
    assert (response["status"], response["error"]) == ("completed", None)
    assert reasoning["type"] == "reasoning"
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "A greeting."}]
    assert (reasoning["summary"], reasoning["encrypted_content"]) == ([], None)
    assert message["role"] == "assistant"
    assert message["content"] == [
        {"type": "output_text", "text": "Hello there!", "annotations": [], "logprobs": []}
    ]
    assert {reasoning["status"], message["status"]} == {"completed"}


async def test_usage_is_that_of_the_same_chat(client, respond, ask):
    chat = (await client.post("/v1/chat/completions", json=ask("hello"))).json()["usage"]
    usage = (await respond(client, "hello"))["usage"]
    assert usage["input_tokens"] == chat["prompt_tokens"]
    assert usage["output_tokens"] == chat["completion_tokens"]
    assert usage["total_tokens"] == chat["total_tokens"]
    details = chat["completion_tokens_details"]
    assert usage["output_tokens_details"] == details
    assert usage["input_tokens_details"]["cached_tokens"] > 0


async def test_no_effort_is_no_thinking(client, respond):
    response = await respond(client, "hello", reasoning={"effort": "none"})
    assert [item["type"] for item in response["output"]] == ["message"]
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}


@pytest.mark.parametrize("summary", ["auto", "detailed"])
async def test_the_thinking_stands_as_its_summary_only_when_asked(client, respond, summary):
    response = await respond(client, "hello", reasoning={"summary": summary})
    assert response["output"][0]["summary"] == [{"type": "summary_text", "text": "A greeting."}]
    assert response["reasoning"] == {"effort": None, "summary": summary}


async def test_a_function_is_called(client, respond, weather):
    response = await respond(client, "weather", tools=[weather])
    call = response["output"][-1]
    assert call["type"] == "function_call"
    assert call["name"] == "weather"
    assert json.loads(call["arguments"]) == {"city": "Oslo"}
    assert call["call_id"].startswith("call_")
    assert call["id"].startswith("fc_")
    assert response["tools"] == [weather]


async def test_several_functions_are_called_unless_that_is_forbidden(
    client, respond, weather, clock
):
    tools = [weather, clock]
    both = await respond(client, "both", tools=tools)
    one = await respond(client, "both", tools=tools, parallel_tool_calls=False)
    names = [[item.get("name") for item in each["output"]] for each in (both, one)]
    assert names == [[None, "weather", "clock"], [None, "weather"]]


async def test_a_choice_of_tools_is_kept_to(client, respond, weather, clock):
    tools = [weather, clock]
    named = await respond(
        client, "weather", tools=tools, tool_choice={"type": "function", "name": "clock"}
    )
    none = await respond(client, "weather", tools=tools, tool_choice="none")
    allowed = {"type": "allowed_tools", "mode": "required"}
    allowed |= {"tools": [{"type": "function", "name": "clock"}]}
    only = await respond(client, "weather", tools=tools, tool_choice=allowed)
    assert named["output"][-1]["name"] == "clock"
    assert "function_call" not in [item["type"] for item in none["output"]]
    assert only["output"][-1]["name"] == "clock"


async def test_a_custom_tool_is_called_with_a_text(make_app, models, run, respond):
    call = json.dumps({"name": "shell", "arguments": {"input": 'say "hi"\n'}})
    answer = f"<think>\n\n</think>\n\n<tool_call>\n{call}\n</tool_call>"
    models.makers = {None: lambda: ScriptedBackend({"": answer}, n_ctx=8192)}
    tool = {"type": "custom", "name": "shell", "description": "Runs a command"}
    async with run(make_app(models=models)) as client:
        response = await respond(client, "go", tools=[tool])
    (made,) = response["output"]
    assert (made["type"], made["name"]) == ("custom_tool_call", "shell")
    assert made["input"] == 'say "hi"\n'


async def test_a_function_of_a_namespace_is_called_by_both_names(
    make_app, models, run, respond, weather
):
    call = json.dumps({"name": "sky__weather", "arguments": {"city": "Oslo"}})
    answer = f"<think>\n\n</think>\n\n<tool_call>\n{call}\n</tool_call>"
    models.makers = {None: lambda: ScriptedBackend({"": answer}, n_ctx=8192)}
    tool = {"type": "namespace", "name": "sky", "description": "", "tools": [weather]}
    async with run(make_app(models=models)) as client:
        response = await respond(client, "go", tools=[tool])
    (made,) = response["output"]
    assert (made["namespace"], made["name"]) == ("sky", "weather")


async def test_tools_that_nobody_runs_here_are_left_out_and_named(client, respond, weather):
    response = await respond(client, "hello", tools=[{"type": "web_search"}, weather])
    assert response["tools"] == [weather]
    assert response["tools_left_out"] == ["web_search"]


async def test_a_coding_agents_request_is_taken_as_it_comes(client, stream, weather):
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    body = {
        "client_metadata": {"session": "s"},
        "include": ["reasoning.encrypted_content"],
        "instructions": "You are a coding agent.",
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "tool_choice": "auto",
        "tools": [
            weather,
            {"type": "custom", "name": "apply_patch", "description": "x", "format": grammar},
            {"type": "web_search", "external_web_access": False},
            {"type": "namespace", "name": "box", "description": "x", "tools": [weather]},
        ],
        "text": {"verbosity": "low"},
    }
    given = [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "Rule"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather"}]},
    ]
    events = await stream(client, given, **body)
    response = events[-1]["response"]
    assert [item["type"] for item in response["output"]] == ["reasoning", "function_call"]
    assert response["store"] is False
    call = response["output"][-1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "hello"}
    later = await stream(client, [*given, *response["output"], output], **body)
    assert later[-1]["type"] == "response.completed"


async def test_a_schema_holds_the_text(client, respond, said):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "person", "schema": schema, "strict": True}
    response = await respond(client, "json", text={"format": form})
    assert json.loads(said(response)) == {"name": "Ada", "age": 36}
    assert response["text"]["format"] == form
    assert (await respond(client, "hello"))["text"] == {"format": {"type": "text"}}


async def test_an_answer_that_is_cut_off_is_incomplete(client, respond):
    response = await respond(client, "count", max_output_tokens=12)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][-1]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] == 12


async def test_log_probabilities_come_when_they_are_included(client, respond):
    include = ["message.output_text.logprobs", "reasoning.encrypted_content"]
    response = await respond(client, "hello", include=include, top_logprobs=2)
    (part,) = response["output"][-1]["content"]
    assert "".join(each["token"] for each in part["logprobs"]) == "Hello there!"
    assert [len(each["top_logprobs"]) for each in part["logprobs"]] == [2] * 12


async def test_instructions_stand_before_everything(client, respond, ask):
    await respond(client, "hello", instructions="Be brief.")
    tokens = (await respond(client, "hello", instructions="Be brief."))["usage"]["input_tokens"]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    prompt = await prompt_of(client, messages)
    assert tokens == len(
        (await client.post("/tokenize", json={"content": prompt})).json()["tokens"]
    )


async def test_input_tokens_are_counted_without_an_answer(client, respond, weather, backend):
    body = {"input": "hello", "tools": [weather], "instructions": "Be brief."}
    before = len(backend.decodes)
    counted = (await client.post(f"{PATH}/input_tokens", json=body)).json()
    assert len(backend.decodes) == before
    response = await respond(client, "hello", tools=[weather], instructions="Be brief.")
    assert counted == {
        "object": "response.input_tokens",
        "input_tokens": response["usage"]["input_tokens"],
    }


async def test_the_oldest_turns_make_room_only_when_asked(make_app, models, run, respond, said):
    answers = {"": "<think>\n\n</think>\n\nok", "newest": "<think>\n\n</think>\n\nHere."}
    models.makers = {None: lambda: ScriptedBackend(answers, n_ctx=512)}
    turns = [{"role": "system", "content": "Rule."}]
    for index in range(20):
        turns += [{"role": "user", "content": f"question {index} " + "x" * 40}]
        turns += [{"role": "assistant", "content": "yes"}]
    turns += [{"role": "user", "content": "newest"}]
    async with run(make_app(models=models)) as client:
        refused = await client.post(PATH, json={"input": turns})
        response = await respond(client, turns, truncation="auto", max_output_tokens=100)
        alone = await respond(client, [turns[0], turns[-1]])
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert refused.json()["error"]["param"] == "input"
    assert said(response) == "Here."
    assert alone["usage"]["input_tokens"] < response["usage"]["input_tokens"] <= 412


REFUSED = [
    ({}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": [{"type": "message", "role": "wizard", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input[0].content[0]",
    ),
    ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        "input[0].call_id",
    ),
    ({"input": [{"type": "item_reference", "id": "msg_none"}]}, "input[0].id"),
    ({"input": "x", "temperature": -1}, "temperature"),
    ({"input": "x", "max_output_tokens": -1}, "max_output_tokens"),
    ({"input": "x", "max_tokens": -1}, "max_tokens"),
    ({"input": "x", "n": 2}, "n"),
    ({"input": "x", "tools": [{"type": "rocket"}]}, "tools[0].type"),
    ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
    (
        {
            "input": "x",
            "tools": [
                {"type": "web_search"},
                {"type": "function", "name": "f", "parameters": {"type": 5}},
            ],
        },
        "tools[1].parameters",
    ),
    ({"input": "x", "tools": [{"type": "mcp", "server_label": "no"}]}, "tools[0].server_label"),
    ({"input": "x", "tool_choice": "required"}, "tool_choice"),
    ({"input": "x", "tool_choice": {"type": "function", "name": "no"}}, "tool_choice"),
    ({"input": "x", "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    (
        {"input": "x", "text": {"format": {"type": "json_schema", "schema": {"type": 5}}}},
        "text.format.schema",
    ),
    ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"input": "x", "include": ["everything"]}, "include[0]"),
    ({"input": "x", "reasoning": {"summary": "concise"}}, "reasoning.summary"),
    ({"input": "x", "conversation": "conv_1"}, "conversation"),
    ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
    ({"input": "x", "top_logprobs": 3}, "top_logprobs"),
    ({"input": "x", "previous_response_id": "resp_none"}, "previous_response_id"),
    ({"input": "x", "background": True, "store": False}, "background"),
    ({"input": "x", "truncation": "middle"}, "truncation"),
]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_can_not_be_is_refused_with_its_field(client, streamed):
    for body, param in REFUSED:
        reply = await client.post(PATH, json={**body, "stream": streamed})
        assert reply.status_code in (400, 404), body
        assert reply.json()["error"]["param"] == param, body
