"""`POST /v1/feedback`: answers are rated, and the ratings are read again."""

import asyncio

import pytest

from qwenkit.errors import LogUnwritable
from qwenkit.feedback.records import Rating

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
RATE = "/v1/feedback"
KEYS = {"api_keys": "user-key", "admin_api_keys": "admin-key"}
USER = {"Authorization": "Bearer user-key"}


@pytest.fixture
def answered(ask):
    """Lets the server answer; gives the answer's id."""

    async def answered(client, text="hello", **body):
        return (await client.post(CHAT, json=ask(text, **body))).json()["id"]

    return answered


def ratings_in(log):
    return [each for each in log.records() if isinstance(each, Rating)]


async def test_a_rating_is_in_the_log_when_it_is_acknowledged(client, answered, log):
    answer_id = await answered(client, metadata={"thread_id": "t1"})
    said = {"answer_id": answer_id, "thumb": "up", "scale": 5, "comment": "Yes.", "rater": "ada"}
    reply = await client.post(RATE, json=said)
    assert reply.status_code == 201
    (kept,) = ratings_in(log)
    assert reply.json() == {
        **said,
        "id": kept.id,
        "created_at": kept.created_at,
        "kind": "rating",
        "schema": 1,
        "thread_id": "t1",
        "source": "api",
        "compared": None,
        "edited": None,
        "external_id": None,
        "retracted": False,
    }
    assert (kept.thumb, kept.scale, kept.comment, kept.rater) == ("up", 5, "Yes.", "ada")


async def test_any_choice_of_an_answer_can_be_rated(client, answered):
    answer_id = await answered(client, n=2)
    for each in (answer_id, f"{answer_id}:1"):
        assert (await client.post(RATE, json={"answer_id": each, "scale": 2})).status_code == 201


async def test_two_answers_are_compared(client, answered, log):
    one, other = await answered(client), await answered(client)
    said = {"answer_id": one, "compared": {"other_id": other, "verdict": "better"}}
    assert (await client.post(RATE, json=said)).status_code == 201
    (kept,) = ratings_in(log)
    assert (kept.compared.other_id, kept.compared.verdict) == (other, "better")


async def test_a_better_wording_is_kept(client, answered, log):
    said = {"answer_id": await answered(client), "edited": {"content": "Good day."}}
    assert (await client.post(RATE, json=said)).status_code == 201
    (kept,) = ratings_in(log)
    assert kept.edited.content == "Good day."


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({}, "thumb"),
        ({"thumb": "sideways"}, "thumb"),
        ({"scale": 6}, "scale"),
        ({"scale": "5"}, "scale"),
        ({"thumb": "up", "scale": 1}, "scale"),
        ({"thumb": "down", "scale": 5}, "scale"),
        ({"retracted": True, "thumb": "up"}, "retracted"),
        ({"comment": "x" * 20_001}, "comment"),
        ({"rater": "", "thumb": "up"}, "rater"),
        ({"compared": {"other_id": "x"}}, "compared.verdict"),
        ({"thumb": "up", "thread_id": "another"}, "thread_id"),
        ({"thumb": "up", "source": "langfuse"}, "source"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_its_field(client, answered, log, said, param):
    answer_id = await answered(client, metadata={"thread_id": "t1"})
    reply = await client.post(RATE, json={"answer_id": answer_id, **said})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert ratings_in(log) == []


async def test_an_answer_is_not_better_than_itself(client, answered):
    answer_id = await answered(client)
    said = {"answer_id": answer_id, "compared": {"other_id": answer_id, "verdict": "tie"}}
    reply = await client.post(RATE, json=said)
    assert reply.json()["error"]["param"] == "compared.other_id"


async def test_an_answer_that_nobody_knows_can_not_be_rated(client, answered):
    reply = await client.post(RATE, json={"answer_id": "chatcmpl-none", "thumb": "up"})
    assert reply.status_code == 404
    assert reply.json()["error"]["param"] == "answer_id"
    compared = {"other_id": "chatcmpl-none", "verdict": "tie"}
    reply = await client.post(
        RATE, json={"answer_id": await answered(client), "compared": compared}
    )
    assert reply.status_code == 404
    assert reply.json()["error"]["param"] == "compared.other_id"


async def test_an_answer_that_was_not_to_be_stored_can_not_be_rated(client, answered):
    answer_id = await answered(client, store=False)
    reply = await client.post(RATE, json={"answer_id": answer_id, "thumb": "up"})
    assert reply.status_code == 404


async def test_with_the_log_off_nothing_can_be_rated(make_app, run, answered):
    async with run(make_app(log_answers="off")) as client:
        answer_id = await answered(client)
        reply = await client.post(RATE, json={"answer_id": answer_id, "thumb": "up"})
    assert reply.status_code == 409
    assert "LOG_ANSWERS" in reply.json()["error"]["message"]


async def test_a_rating_that_is_not_written_is_not_acknowledged(client, answered, monkeypatch):
    answer_id = await answered(client)

    class Full:
        def rating(self, record):
            raise LogUnwritable("no space is left", hint="make some")

        def close(self):
            pass

    client.state.recorder.attach("log", Full())
    reply = await client.post(RATE, json={"answer_id": answer_id, "thumb": "up"})
    assert reply.status_code == 507
    assert reply.json()["error"]["code"] == "log_unwritable"


async def test_an_answer_is_given_though_the_log_can_not_be_written(client, ask, log):
    log.folder.parent.mkdir(parents=True, exist_ok=True)
    log.folder.write_text("no folder", encoding="utf-8")
    reply = await client.post(CHAT, json=ask("hello"))
    assert reply.json()["choices"][0]["message"]["content"] == "Hello there!"
    metrics = (await client.get("/metrics")).text
    assert (
        'qwenkit_feedback_records_total{kind="interaction",outcome="failed",sink="log"} 1.0'
        in metrics
    )


async def test_a_conversations_ratings_can_be_read_again(client, answered):
    mine, other = [
        await answered(client, metadata={"thread_id": thread_id}) for thread_id in ("t1", "t2")
    ]
    for answer_id, thumb in ((mine, "up"), (mine, "down"), (other, "up")):
        await client.post(RATE, json={"answer_id": answer_id, "thumb": thumb})
    reply = (await client.get(f"{RATE}/ratings", params={"thread_id": "t1"})).json()
    assert [(each["answer_id"], each["thumb"]) for each in reply["data"]] == [(mine, "down")]


async def test_a_retracted_rating_is_gone(client, answered):
    answer_id = await answered(client, metadata={"thread_id": "t1"})
    await client.post(RATE, json={"answer_id": answer_id, "thumb": "up"})
    await client.post(RATE, json={"answer_id": answer_id, "retracted": True})
    reply = (await client.get(f"{RATE}/ratings", params={"thread_id": "t1"})).json()
    assert reply["data"] == []


async def test_a_conversation_must_be_named(client):
    reply = await client.get(f"{RATE}/ratings")
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "thread_id"


async def test_a_user_may_rate_and_read_ratings_and_nothing_more(make_app, run, answered):
    async with run(make_app(**KEYS), **USER) as client:
        answer_id = await answered(client, metadata={"thread_id": "t1"})
        said = {"answer_id": answer_id, "thumb": "up"}
        assert (await client.post(RATE, json=said)).status_code == 201
        assert (await client.get(f"{RATE}/ratings?thread_id=t1")).status_code == 200
        for path in ("answers", f"answers/{answer_id}", "export", "stats"):
            assert (await client.get(f"{RATE}/{path}")).status_code == 403


async def test_what_is_taken_out_of_a_comment_is_not_sent_back_either(make_app, run, answered):
    async with run(make_app(log_redact="email")) as client:
        said = {"answer_id": await answered(client), "comment": "ask ada@example.org"}
        reply = await client.post(RATE, json=said)
    assert "ada@" not in reply.json()["comment"]


async def test_many_rate_at_once(client, answered, log):
    answer_id = await answered(client)
    said = [{"answer_id": answer_id, "scale": 1 + i % 5, "rater": f"r{i}"} for i in range(50)]
    replies = await asyncio.gather(*(client.post(RATE, json=each) for each in said))
    assert {reply.status_code for reply in replies} == {201}
    assert {each.rater for each in ratings_in(log)} == {each["rater"] for each in said}
