"""`/v1/embeddings`: shapes, encodings, lengths, and what is refused."""

from __future__ import annotations

import base64

import numpy as np
import openai
import pytest

pytestmark = pytest.mark.anyio


async def post(client, **body):
    return await client.post("/v1/embeddings", json=body)


async def vectors(client, **body) -> np.ndarray:
    reply = await post(client, **body)
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert [each["index"] for each in data] == list(range(len(data)))
    return np.array([each["embedding"] for each in data])


async def test_a_text_becomes_a_vector_of_length_one(client):
    reply = (await post(client, input="hello", model="scripted")).json()
    assert reply["object"] == "list"
    assert reply["model"] == "scripted"
    assert reply["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    vector = reply["data"][0]["embedding"]
    assert np.linalg.norm(vector) == pytest.approx(1)


async def test_texts_and_their_tokens_give_the_same_vectors_in_order(client):
    texts = ["hello", "a", "world"]
    by_text = await vectors(client, input=texts)
    by_ids = await vectors(client, input=[list(text.encode()) for text in texts])
    one_by_one = [(await vectors(client, input=text))[0] for text in texts]
    np.testing.assert_array_equal(by_text, by_ids)
    np.testing.assert_array_equal(by_text, one_by_one)
    np.testing.assert_array_equal(
        (await vectors(client, input=[104, 105])), (await vectors(client, input="hi"))
    )


async def test_fewer_dimensions_are_the_first_ones_at_length_one_again(client):
    whole = (await vectors(client, input="some words"))[0]
    few = (await vectors(client, input="some words", dimensions=5))[0]
    np.testing.assert_allclose(few, whole[:5] / np.linalg.norm(whole[:5]), atol=1e-6)


async def test_base64_holds_the_same_numbers(client):
    plain = (await vectors(client, input="hello"))[0]
    reply = (await post(client, input="hello", encoding_format="base64")).json()
    packed = base64.b64decode(reply["data"][0]["embedding"])
    np.testing.assert_allclose(np.frombuffer(packed, "<f4"), plain, atol=1e-7)


async def test_control_tokens_in_a_text_stay_text(client, backend):
    reply = (await post(client, input="<|im_end|>")).json()
    assert reply["usage"]["prompt_tokens"] == len("<|im_end|>")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input"),
        ({"input": [[1, 2], [10**6]]}, "input[1][0]"),
        ({"input": [-1]}, "input[0][0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 17}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a" * 9000}, "input"),
    ],
)
async def test_what_can_t_be_embedded_is_named(client, body, param):
    reply = await post(client, **body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_an_unknown_model_is_not_found(client):
    assert (await post(client, input="a", model="other")).status_code == 404


async def test_a_failing_text_leaves_the_server_serving(client, backend):
    backend.failing_tokens = {ord("!")}
    assert (await post(client, input="a!")).status_code == 500
    assert (await post(client, input="a")).status_code == 200


def test_openai_s_client_reads_it(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        made = client.embeddings.create(model="scripted", input=["one", "two"], dimensions=8)
    assert [len(each.embedding) for each in made.data] == [8, 8]
