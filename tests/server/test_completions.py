import pytest

pytestmark = pytest.mark.anyio

PATH = "/v1/completions"


async def complete(client, prompt, **body):
    reply = await client.post(PATH, json={"prompt": prompt, "max_tokens": 64, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_raw_prompt_is_continued(client):
    answer = await complete(client, "Once upon")
    choice = answer["choices"][0]
    assert answer["object"] == "text_completion"
    assert answer["model"] == "scripted"
    assert choice == {
        "text": " a time there was a king.",
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert answer["usage"]["prompt_tokens"] == len("Once upon")
    assert answer["usage"]["completion_tokens"] == len(choice["text"]) + 1
    assert answer["timings"]["prompt_n"] == len("Once upon")


async def test_the_default_length_is_openais(client):
    reply = await client.post(PATH, json={"prompt": "Once upon"})
    choice = reply.json()["choices"][0]
    assert choice["text"] == " a time there wa"
    assert choice["finish_reason"] == "length"


async def test_token_ids_are_a_prompt_too(client):
    assert (await complete(client, list(b"Once upon")))["choices"][0]["text"].startswith(" a time")


@pytest.mark.parametrize(
    "prompts", [["Once upon", "def add("], [list(b"Once upon"), list(b"def add(")]]
)
async def test_every_prompt_of_a_list_has_its_own_choices_in_order(client, prompts):
    answer = await complete(client, prompts, n=2)
    texts = [(choice["index"], choice["text"]) for choice in answer["choices"]]
    king, add = " a time there was a king.", "return a + b"
    assert texts == [(0, king), (1, king), (2, add), (3, add)]
    assert answer["usage"]["prompt_tokens"] == len("Once upon") + len("def add(")


async def test_a_stream_says_the_same_as_the_whole_answer(client, events):
    body = {"prompt": ["Once upon", "def add("], "n": 2, "max_tokens": 64, "stream": True}
    reply = await client.post(PATH, json={**body, "stream_options": {"include_usage": True}})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = events(reply.text)
    assert done == "[DONE]"
    whole = await complete(client, body["prompt"], n=2)
    for index, choice in enumerate(whole["choices"]):
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(c["text"] for c in mine) == choice["text"]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


async def test_control_tokens_are_recognised_in_a_raw_prompt(client):
    answer = await complete(client, "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    assert answer["choices"][0]["text"].endswith("Hello there!")
    assert answer["usage"]["prompt_tokens"] < len("<|im_start|>user\nhello<|im_end|>")


async def test_echo_begins_with_the_prompt(client):
    answer = await complete(client, "Once upon", echo=True)
    assert answer["choices"][0]["text"] == "Once upon a time there was a king."


async def test_echo_with_logprobs_and_no_tokens_scores_the_prompt(client):
    answer = await complete(client, "Once upon", echo=True, logprobs=2, max_tokens=0)
    choice = answer["choices"][0]
    columns = choice["logprobs"]
    assert choice["text"] == "Once upon"
    assert "".join(columns["tokens"]) == "Once upon"
    assert columns["token_logprobs"][0] is None
    assert all(logprob <= 0 for logprob in columns["token_logprobs"][1:])
    assert columns["text_offset"] == list(range(len("Once upon")))
    assert answer["usage"]["completion_tokens"] == 0


async def test_logprobs_come_in_columns_with_offsets(client):
    choice = (await complete(client, "Once upon", logprobs=3, max_tokens=5))["choices"][0]
    columns = choice["logprobs"]
    assert columns["tokens"] == list(" a ti")
    assert columns["text_offset"] == [0, 1, 2, 3, 4]
    assert all(-0.1 < logprob <= 0 for logprob in columns["token_logprobs"])
    assert all(
        1 <= len(top) <= 3 and token in top
        for token, top in zip(columns["tokens"], columns["top_logprobs"], strict=True)
    )


async def test_streamed_logprobs_are_the_whole_ones(client, events):
    body = {"prompt": "Once upon", "logprobs": 1, "max_tokens": 8, "echo": True}
    whole = (await client.post(PATH, json=body)).json()["choices"][0]["logprobs"]
    reply = await client.post(PATH, json={**body, "stream": True})
    pieces = [
        choice["logprobs"]
        for chunk in events(reply.text)[:-1]
        for choice in chunk["choices"]
        if choice["logprobs"]
    ]
    for column in ("tokens", "token_logprobs", "text_offset"):
        assert [each for piece in pieces for each in piece[column]] == whole[column]


async def test_stop_strings_end_the_text_and_are_not_in_it(client):
    choice = (await complete(client, "Once upon", stop=["there", "king"]))["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (" a time ", "stop")


async def test_a_suffix_is_given_as_fill_in_the_middle(client, backend):
    backend.decodes.clear()
    await complete(client, "def add(a, b):\n    ", suffix="\n<|im_end|>", max_tokens=4)
    fim = {
        text: backend.tokenizer.token_id(f"<|fim_{text}|>")
        for text in ("prefix", "suffix", "middle")
    }
    given = [token for rows in backend.decodes for token in rows.tokens.tolist()]
    expected = [
        fim["prefix"],
        *b"def add(a, b):\n    ",
        fim["suffix"],
        *b"\n<|im_end|>",
        fim["middle"],
    ]
    assert given[: len(expected)] == expected


async def test_a_second_request_reuses_the_first_ones_prefix(client):
    await complete(client, "Once upon")
    usage = (await complete(client, "Once upon"))["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [""]}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [10**9]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [10**30]}, "prompt[0]"),
        ({"prompt": ["a"] * 1000}, "prompt"),
        ({"prompt": ["a"] * 20, "n": 16}, "prompt"),
        ({"prompt": "x" * 10_000}, "prompt"),
        ({"prompt": "a", "n": 2, "best_of": 3}, "best_of"),
        ({"prompt": "a", "logprobs": 100}, "logprobs"),
        ({"prompt": "a", "logprobs": -1}, "logprobs"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": [1, 2], "suffix": "b"}, "suffix"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "stop": ""}, "stop"),
        ({"prompt": "a", "grammar": "root ::= ("}, "grammar"),
    ],
)
async def test_a_body_that_can_not_be_is_refused_with_its_field(client, body, param):
    reply = await client.post(PATH, json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
    assert (await complete(client, "def add("))["choices"][0]["text"] == "return a + b"


async def test_a_stream_whose_second_prompt_fails_answers_with_the_error(client):
    reply = await client.post(PATH, json={"prompt": ["Once upon", "x" * 10_000], "stream": True})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"


async def test_a_model_without_fill_in_tokens_says_so(client, backend, monkeypatch):
    monkeypatch.setattr(backend.tokenizer, "token_id", lambda text: None)
    reply = await client.post(PATH, json={"prompt": "a", "suffix": "b"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "suffix"
