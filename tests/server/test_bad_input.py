import json

import pytest

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def refuse(client):
    """Posts a body that must be refused, sees that the server goes on, and gives the error."""

    async def post(body, *, status=400, headers=JSON, path=PATH):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = await client.post(path, content=content, headers=headers)
        assert reply.status_code == status, reply.text
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        answer = await client.post(PATH, json={"messages": HELLO})
        assert answer.json()["choices"][0]["message"]["content"] == "Hello there!"
        return error

    return post


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"hello"', b"\x80", b"{}}", b"a=b", b'{"messages": ]']
)
async def test_a_body_that_is_no_json_object_is_refused(refuse, body):
    assert (await refuse(body))["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_body_that_a_web_page_could_post_unasked_is_refused(refuse, media_type):
    body = json.dumps({"messages": HELLO}).encode()
    error = await refuse(body, status=415, headers={"Content-Type": media_type})
    assert "Content-Type: application/json" in error["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", None),
        ("messages", "hello"),
        ("messages", {}),
        ("messages", []),
        ("model", 5),
        ("stream", "yes"),
        ("stream", 1),
        ("n", 0),
        ("n", -1),
        ("n", 1000),
        ("n", 1.5),
        ("n", "2"),
        ("n", 10**30),
        ("max_tokens", -1),
        ("max_tokens", "5"),
        ("max_tokens", 0.5),
        ("max_completion_tokens", -1),
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", 10**30),
        ("top_p", -1),
        ("top_p", 1.5),
        ("top_k", -1),
        ("top_k", 2**40),
        ("top_k", 0.5),
        ("min_p", 2),
        ("typical_p", -1),
        ("presence_penalty", 3),
        ("frequency_penalty", -3),
        ("repeat_penalty", 0),
        ("repetition_penalty", 0),
        ("repeat_last_n", -2),
        ("dry_base", 0),
        ("xtc_probability", 2),
        ("top_n_sigma", -1),
        ("seed", "x"),
        ("seed", 0.5),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", [5]),
        ("stop", 5),
        ("stop", ["x"] * 100),
        ("logit_bias", {"a": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1000000": 1}),
        ("logit_bias", {"9" * 5000: 1}),
        ("logit_bias", {"²": 1}),
        ("logit_bias", {"1": 1000}),
        ("logit_bias", []),
        ("top_logprobs", 2),
        ("response_format", "json"),
        ("tools", "weather"),
        ("tools", {}),
        ("tool_choice", "sometimes"),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "weather"}}),
        ("tool_choice", 5),
        ("functions", [{"name": "weather"}]),
        ("function_call", "auto"),
        ("reasoning_effort", 5),
        ("chat_template_kwargs", "x"),
        ("thinking_budget", -1),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("grammar", "root ::= ("),
        ("grammar", 5),
        ("grammar", ""),
        ("grammar", 'start ::= "a"'),
        ("grammar", "x" * 200_000),
        ("model", "x" * 1000),
        ("guided_regex", "("),
        ("guided_choice", []),
        ("guided_grammar", "root ::= ("),
        ("json_schema", {"type": "nonsense"}),
        ("guided_json", {"type": 5}),
        ("stream_options", {"include_usage": True}),
        ("stream_options", 5),
    ],
)
async def test_a_field_that_can_not_be_is_named(refuse, field, value):
    assert (await refuse({"messages": HELLO, field: value}))["param"] == field


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"logprobs": True, "top_logprobs": 100}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        (
            {"stream": True, "stream_options": {"include_usage": "yes"}},
            "stream_options.include_usage",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}}},
            "response_format.json_schema.schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
                }
            },
            "response_format.json_schema.schema",
        ),
        ({"grammar": 'root ::= "a"', "guided_regex": "a"}, "guided_regex"),
        (
            {"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}},
            "response_format",
        ),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "clock"}}},
            "tool_choice",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": 5}}}, "tool_choice"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        (
            {"chat_template_kwargs": {"enable_thinking": "no"}},
            "chat_template_kwargs.enable_thinking",
        ),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"messages": [5]}, "messages[0]"),
    ],
)
async def test_a_place_within_a_field_is_named(refuse, extra, param):
    assert (await refuse({"messages": HELLO, **extra}))["param"] == param


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"content": "hello"}], "messages[0].role"),
        ([{"role": "wizard", "content": "hello"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([*HELLO, {"role": "user", "content": [{"type": "image_url"}]}], "messages[1].content[0]"),
        ([{"role": "assistant", "content": "a", "tool_calls": 5}], "messages[0].tool_calls"),
    ],
)
async def test_a_place_within_the_conversation_is_named(refuse, messages, param):
    assert (await refuse({"messages": messages}))["param"] == param


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "presence_penalty", "n"])
async def test_a_number_that_is_not_finite_is_named(refuse, field, number):
    body = f'{{"messages": [{{"role": "user", "content": "hi"}}], "{field}": {number}}}'
    assert (await refuse(body.encode()))["param"] == field


async def test_a_bias_that_is_not_finite_is_named(refuse):
    body = b'{"messages": [{"role": "user", "content": "hi"}], "logit_bias": {"1": NaN}}'
    assert (await refuse(body))["param"] == "logit_bias.1"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "messages[0].content"),
        (b'{"messages": [], "model": "\\udfff"}', "model"),
        (b'{"messages": [], "stop": ["\\udc00"]}', "stop[0]"),
        (
            b'{"messages": [], "tools": [{"function": {"name": "\\ud8ff"}}]}',
            "tools[0].function.name",
        ),
    ],
)
async def test_a_lone_surrogate_is_named(refuse, body, param):
    assert (await refuse(body))["param"] == param


@pytest.mark.parametrize("depth", [101, 1_000, 100_000])
async def test_deep_nesting_is_refused(refuse, depth):
    nested = b"[" * depth + b"]" * depth
    await refuse(b'{"messages": [], "metadata": ' + nested + b"}")


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(refuse):
    error = await refuse({"messages": [{"role": "user", "content": "x" * 50_000}]})
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "messages"
    assert "8192" in error["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_of_ten_megabytes_is_refused(refuse, stream):
    body = {"messages": [{"role": "user", "content": "x" * 10_000_000}], "stream": stream}
    assert (await refuse(body, status=413))["code"] == "request_too_large"


async def test_a_prompt_of_seven_megabytes_is_refused_too(refuse):
    error = await refuse({"messages": [{"role": "user", "content": "x" * 7_000_000}]})
    assert error["code"] == "context_length_exceeded"


async def test_a_body_of_unknown_length_is_refused_where_it_gets_too_large(make_app, run):
    async def chunks():
        while True:
            yield b" " * 65_536

    async with run(make_app(max_request_bytes=1_000_000)) as client:
        reply = await client.post(PATH, content=chunks(), headers=JSON)
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "request_too_large"
        assert (await client.post(PATH, json={"messages": HELLO})).status_code == 200


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "x", "²"])
async def test_a_length_that_is_none_does_no_harm(client, length):
    reply = await client.post(
        PATH, content=b"{}", headers={**JSON, "Content-Length": length.encode()}
    )
    assert reply.status_code in (400, 413)


async def test_the_api_describes_itself(client):
    page = (await client.get("/openapi.json")).json()
    assert page["info"]["title"] == "qwenkit"
    body = page["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"].endswith("/ChatBody")
    assert page["components"]["schemas"]["ChatBody"]["properties"]["top_k"]["description"]


async def test_an_unknown_route_and_a_wrong_method_have_openais_shape(client):
    missing = await client.get("/v1/nothing")
    wrong = await client.get(PATH)
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert wrong.headers["allow"] == "POST"
    assert "/v1/nothing" in missing.json()["error"]["message"]
    assert "GET" in wrong.json()["error"]["message"]


async def test_a_bug_is_answered_with_an_id_and_logged_with_its_traceback(make_app, run, caplog):
    app = make_app()

    @app.get("/broken")
    async def broken():
        raise LookupError("secret detail")

    async with run(app) as client:
        reply = await client.get("/broken")
        assert (await client.get("/healthz")).status_code == 200
    error = reply.json()["error"]
    assert reply.status_code == 500
    assert error["code"] == "internal_error"
    assert "secret" not in reply.text
    assert error["message"].split()[-1] in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failed_decode_hurts_its_own_request_alone(client, ask, backend, stream):
    backend.failing_tokens = {7}
    reply = await client.post(PATH, json=ask("poison", stream=stream))
    if stream:
        assert reply.status_code == 200
        last = [line for line in reply.text.split("\n") if line.startswith("data: ")][-1]
        error = json.loads(last.removeprefix("data: "))["error"]
        assert "[DONE]" not in reply.text
    else:
        assert reply.status_code == 500
        error = reply.json()["error"]
    assert error["type"] == "server_error"
    assert (await client.post(PATH, json={"messages": HELLO})).status_code == 200
