"""The log is searched, summed up and downloaded over HTTP."""

import asyncio
import contextlib
import json
import threading

import pytest

from qwenkit.feedback.reader import read_log
from qwenkit.feedback.records import Interaction
from qwenkit.server.errors import ClientGone
from qwenkit.server.feedback.download import PIECE_BYTES, Download
from qwenkit.server.feedback.service import MAX_EXPORTS

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
RATE = "/v1/feedback"


@pytest.fixture
async def rated(client, ask):
    """A server with three answers: in conversation t1 a good and a bad one, and another."""
    ids = []
    for text, thread_id in (("hello", "t1"), ("hello", "t1"), ("count", "t2")):
        body = ask(text, metadata={"thread_id": thread_id})
        ids.append((await client.post(CHAT, json=body)).json()["id"])
    for answer_id, thumb in zip(ids, ("up", "down"), strict=False):
        await client.post(RATE, json={"answer_id": answer_id, "thumb": thumb, "rater": "ada"})
    client.ids = ids
    return client


async def search(client, **query):
    reply = await client.get(f"{RATE}/answers", params=query)
    assert reply.status_code == 200
    return reply.json()


async def test_answers_are_found_newest_first_with_their_ratings(rated):
    found = await search(rated)
    assert [each["id"] for each in found["data"]] == rated.ids[::-1]
    thumbs = [[rating["thumb"] for rating in each["ratings"]] for each in found["data"]]
    assert thumbs == [[], ["down"], ["up"]]
    assert found["next_cursor"] is None
    assert found["data"][0]["answer"]["content"] == "one two three four five"


async def test_answers_are_found_by_what_is_known_of_them(rated):
    up, down, other = rated.ids
    for query, expected in (
        ({"thread_id": "t2"}, [other]),
        ({"thumb": "up"}, [up]),
        ({"rater": "ada"}, [down, up]),
        ({"rater": "bob"}, []),
        ({"model": "scripted"}, [other, down, up]),
        ({"adapter": "poet"}, []),
        ({"text": "FIVE"}, [other]),
        ({"until": "2001-01-01"}, []),
        ({"since": "2001-01-01"}, [other, down, up]),
    ):
        found = (await search(rated, **query))["data"]
        assert [each["id"] for each in found] == expected, query


async def test_pages_follow_each_other(rated):
    first = await search(rated, limit=2)
    second = await search(rated, limit=2, cursor=first["next_cursor"])
    assert [each["id"] for each in first["data"] + second["data"]] == rated.ids[::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"min_scale": 6}, "min_scale"),
        ({"thumb": "x"}, "thumb"),
        ({"since": "yesterday"}, "since"),
        ({"cursor": "x"}, "cursor"),
    ],
)
async def test_what_can_not_be_asked_is_refused_by_its_name(client, query, param):
    reply = await client.get(f"{RATE}/answers", params=query)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_one_answer_is_found_by_its_id(rated):
    found = (await rated.get(f"{RATE}/answers/{rated.ids[0]}")).json()
    assert (found["id"], found["ratings"][0]["thumb"]) == (rated.ids[0], "up")
    assert (await rated.get(f"{RATE}/answers/none")).status_code == 404


async def test_a_log_that_is_not_there_yet_is_an_empty_one(client):
    assert (await search(client))["data"] == []
    assert (await client.get(f"{RATE}/export")).text == ""
    assert (await client.get(f"{RATE}/stats")).json()["n_answers"] == 0


async def test_the_numbers_tell_what_was_thought(rated):
    stats = (await rated.get(f"{RATE}/stats")).json()
    assert (stats["n_answers"], stats["n_rated"]) == (3, 2)
    assert (stats["n_up"], stats["n_down"]) == (1, 1)
    assert [each["rater"] for each in stats["raters"]] == ["ada"]


async def test_the_log_is_downloaded_as_a_log(rated, tmp_path):
    reply = await rated.get(f"{RATE}/export")
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["content-disposition"] == 'attachment; filename="qwenkit-feedback.jsonl"'
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "2026-11-25.jsonl").write_bytes(reply.content)
    records = [*read_log(folder, on_skip=lambda skipped: pytest.fail(skipped.why))]
    kinds = [each.kind for each in records]
    assert kinds == ["interaction", "rating", "interaction", "rating", "interaction"]
    assert [each.id for each in records if isinstance(each, Interaction)] == rated.ids


async def test_a_line_stays_one_whoever_splits_it(client, ask):
    await client.post(CHAT, json=ask("wide"))
    text = (await client.get(f"{RATE}/export")).text
    assert len(text.splitlines()) == 1
    assert json.loads(text)["answer"]["content"] == "日本語 \u2028 ok"


async def test_a_download_has_only_what_is_asked_for(rated):
    text = (await rated.get(f"{RATE}/export", params={"thumb": "down"})).text
    assert [json.loads(line)["kind"] for line in text.splitlines()] == ["interaction", "rating"]


async def test_pairs_are_downloaded_as_the_command_makes_them(rated):
    said = {"answer_id": rated.ids[2], "edited": {"content": "1 2 3"}}
    await rated.post(RATE, json=said)
    reply = await rated.get(f"{RATE}/export", params={"format": "dpo", "thread_id": "t2"})
    (row,) = [json.loads(line) for line in reply.text.splitlines()]
    assert row["chosen"][-1]["content"] == "1 2 3"
    assert row["rejected"][-1]["content"] == "one two three four five"
    assert "dpo" in reply.headers["content-disposition"]


async def test_people_can_read_the_download(rated):
    reply = await rated.get(f"{RATE}/export", params={"format": "markdown", "thread_id": "t1"})
    assert reply.headers["content-type"].startswith("text/markdown")
    assert reply.text.count("Hello there!") == 2
    assert "ada: 👍" in reply.text


async def test_a_format_that_is_none_is_refused(client):
    reply = await client.get(f"{RATE}/export", params={"format": "xml"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "format"


async def test_only_so_many_downloads_run_at_once(rated):
    with contextlib.ExitStack() as running:
        for _ in range(MAX_EXPORTS):
            running.enter_context(rated.state.feedback.exporting())
        reply = await rated.get(f"{RATE}/export")
    assert reply.status_code == 503
    assert "retry-after" in reply.headers
    assert (await rated.get(f"{RATE}/export")).status_code == 200


class Reader:
    """A client that takes a piece when it is told to, and leaves when it is told to."""

    def __init__(self):
        self.pieces = []
        self.may_take = asyncio.Semaphore(0)
        self.took = asyncio.Semaphore(0)
        self.left = asyncio.Event()

    async def send(self, message):
        if message["type"] == "http.response.body":
            await self.may_take.acquire()
            self.pieces.append(message["body"])
            self.took.release()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}


class Lines:
    """Lines of a thousand bytes each without end, and how many were made."""

    def __init__(self):
        self.n_made = 0
        self.is_closed = threading.Event()
        self.threads = set()

    def __call__(self):
        try:
            while True:
                self.n_made += 1
                self.threads.add(threading.get_ident())
                yield "x" * 999 + "\n"
        finally:
            self.is_closed.set()


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def place():

    return contextlib.nullcontext()


async def test_no_more_is_made_than_the_client_takes(lines, place):
    reader = Reader()
    download = await Download.begun(lines, place=place, name="x", media_type="text/plain")
    sending = asyncio.create_task(download({}, reader.receive, reader.send))
    for _ in range(20):
        reader.may_take.release()
        await reader.took.acquire()
    assert lines.n_made * 1000 <= 22 * (PIECE_BYTES + 1000)
    reader.left.set()
    await sending
    assert lines.is_closed.wait(10)
    assert threading.get_ident() not in lines.threads
    assert len(lines.threads) == 1


async def test_the_server_goes_on_while_a_piece_is_made(place):
    others_ran = threading.Event()

    def lines():
        assert others_ran.wait(10)
        yield "made"

    asyncio.get_running_loop().call_soon(others_ran.set)
    reader = Reader()
    for _ in range(2):
        reader.may_take.release()
    download = await Download.begun(lines, place=place, name="x", media_type="text/plain")
    await download({}, reader.receive, reader.send)
    assert reader.pieces == [b"made", b""]


async def test_what_breaks_on_the_way_breaks_the_download(place):
    def lines():
        yield "x" * PIECE_BYTES
        raise ValueError("broken")

    reader = Reader()
    for _ in range(3):
        reader.may_take.release()
    download = await Download.begun(lines, place=place, name="x", media_type="text/plain")
    with pytest.raises(ValueError, match="broken"):
        await download({}, reader.receive, reader.send)


async def test_what_breaks_before_the_first_byte_is_a_proper_error(place):
    def lines():
        raise ClientGone("nothing")
        yield ""

    with pytest.raises(ClientGone):
        await Download.begun(lines, place=place, name="x", media_type="text/plain")
