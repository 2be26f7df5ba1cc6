import pytest

pytestmark = pytest.mark.anyio


async def post(client, path, body):
    reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_text_becomes_tokens_and_text_again(client):
    tokens = (await post(client, "/tokenize", {"content": "Héllo"}))["tokens"]
    assert tokens == list("Héllo".encode())
    assert await post(client, "/detokenize", {"tokens": tokens}) == {"content": "Héllo"}


async def test_control_tokens_are_recognised_unless_switched_off(client, backend):
    end = backend.tokenizer.token_id("<|im_end|>")
    on = await post(client, "/tokenize", {"content": "a<|im_end|>"})
    off = await post(client, "/tokenize", {"content": "a<|im_end|>", "parse_special": False})
    assert on["tokens"] == [97, end]
    assert off["tokens"] == list(b"a<|im_end|>")
    assert await post(client, "/detokenize", on) == {"content": "a<|im_end|>"}


async def test_pieces_are_text_or_bytes(client):
    pieces = await post(client, "/tokenize", {"content": "aé", "with_pieces": True})
    assert pieces["tokens"] == [
        {"id": 97, "piece": "a"},
        {"id": 0xC3, "piece": [0xC3]},
        {"id": 0xA9, "piece": [0xA9]},
    ]


async def test_texts_and_ids_can_be_mixed(client):
    assert await post(client, "/tokenize", {"content": ["ab", 7, "c"]}) == {
        "tokens": [97, 98, 7, 99]
    }


async def test_nothing_becomes_nothing_as_for_llama_server(client):
    assert await post(client, "/tokenize", {}) == {"tokens": []}
    assert await post(client, "/detokenize", {}) == {"content": ""}


async def test_a_long_text_is_encoded_whole(client):
    assert len((await post(client, "/tokenize", {"content": "x" * 100_000}))["tokens"]) == 100_000


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"content": 5}, "content"),
        ("/tokenize", {"content": [10**6]}, "content[0]"),
        ("/tokenize", {"content": "a", "with_pieces": "yes"}, "with_pieces"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
        ("/detokenize", {"tokens": "abc"}, "tokens"),
        ("/apply-template", {}, "messages"),
        ("/apply-template", {"messages": []}, "messages"),
    ],
)
async def test_a_body_that_can_not_be_is_refused_with_its_field(client, path, body, param):
    reply = await client.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_the_template_is_applied_as_for_a_chat(client, ask, weather_tool):
    prompt = (await post(client, "/apply-template", ask("hello")))["prompt"]
    assert prompt == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    body = ask("hello", chat_template_kwargs={"enable_thinking": False}, tools=[weather_tool])
    prompt = (await post(client, "/apply-template", body))["prompt"]
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert '"name": "weather"' in prompt


async def test_the_applied_template_has_as_many_tokens_as_the_chats_prompt(client, ask):
    prompt = (await post(client, "/apply-template", ask("hello")))["prompt"]
    tokens = (await post(client, "/tokenize", {"content": prompt}))["tokens"]
    answer = await post(client, "/v1/chat/completions", ask("hello"))
    assert answer["usage"]["prompt_tokens"] == len(tokens)
