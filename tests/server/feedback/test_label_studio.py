"""Label Studio reports, and what was judged there is in the log."""

from contextlib import nullcontext

import pytest

from qwenkit.errors import RemoteError, RemoteUnreachable
from qwenkit.feedback.label_studio.tasks import KEY

pytestmark = pytest.mark.anyio

PATH = "/v1/feedback/label-studio"
SECRET = {"X-Qwenkit-Secret": "shared"}
SETTINGS = {
    "label_studio_url": "http://127.0.0.1:9",
    "label_studio_api_key": "key",
    "label_studio_webhook_secret": "shared",
}
AT = "2026-11-25T12:00:00.000000Z"


class Judged:
    """A Label Studio with one task, and what was said of it."""

    def __init__(self, answer_id):
        self.said = []
        self.data = {KEY: "rating-1", "answer_id": answer_id, "thread_id": None}

    def task(self, task_id):
        assert task_id == 5
        return {"id": 5, "project": 2, "data": self.data, "annotations": self.said}

    def say(self, thumb, number=1):
        value = {"choices": [thumb]}
        result = [{"from_name": "thumb", "to_name": "answer", "type": "choices", "value": value}]
        person = {"id": 1, "email": "ann@example.com"}
        self.said.append(
            {
                "id": number,
                "completed_by": person,
                "result": result,
                "was_cancelled": False,
                "created_at": AT,
                "updated_at": AT,
            }
        )


def report(action="ANNOTATION_CREATED", **more):
    return {"action": action, "project": {"id": 2, "title": "x"}, "task": {"id": 5}, **more}


@pytest.fixture
def hooked(make_app, run, ask):
    """A server with one answer in its log, and the Label Studio that it asks."""

    async def start(client, app):
        reply = await client.post("/v1/chat/completions", json=ask("hello"))
        judged = Judged(reply.json()["id"])
        app.state.label_studio.connect = lambda url, key: nullcontext(judged)
        return judged

    return start


async def ratings(client):
    reply = await client.get("/v1/feedback/answers")
    [answer] = reply.json()["data"]
    return [(each["thumb"], each["rater"], each["source"]) for each in answer["ratings"]]


async def test_what_was_judged_there_is_a_rating_here_once(make_app, run, hooked):
    app = make_app(**SETTINGS)
    async with run(app) as client:
        judged = await hooked(client, app)
        judged.say("Good")
        reply = await client.post(PATH, json=report(), headers=SECRET)
        assert (reply.status_code, reply.json()) == (200, {"n_ratings": 1})
        reply = await client.post(PATH, json=report("ANNOTATION_UPDATED"), headers=SECRET)
        assert reply.json() == {"n_ratings": 0}
        assert await ratings(client) == [("up", "ann@example.com", "label-studio")]


async def test_a_task_that_is_named_twice_is_taken_once(make_app, run, hooked):
    app = make_app(**SETTINGS)
    async with run(app) as client:
        judged = await hooked(client, app)
        judged.say("Good")
        twice = report("ANNOTATIONS_CREATED", task=[{"id": 5}, {"id": 5}])
        reply = await client.post(PATH, json=twice, headers=SECRET)
        assert reply.json() == {"n_ratings": 1}


async def test_what_is_deleted_there_counts_no_more_here(make_app, run, hooked):
    app = make_app(**SETTINGS)
    async with run(app) as client:
        judged = await hooked(client, app)
        judged.say("Bad")
        await client.post(PATH, json=report(), headers=SECRET)
        gone = {"action": "ANNOTATIONS_DELETED", "project": {"id": 2}, "annotations": [{"id": 1}]}
        reply = await client.post(PATH, json=gone, headers=SECRET)
        assert reply.json() == {"n_retracted": 1}
        assert await ratings(client) == []


@pytest.mark.parametrize("headers", [{}, {"X-Qwenkit-Secret": "wrong"}])
async def test_a_stranger_is_refused(make_app, run, hooked, headers):
    app = make_app(**SETTINGS)
    async with run(app) as client:
        judged = await hooked(client, app)
        judged.say("Good")
        assert (await client.post(PATH, json=report(), headers=headers)).status_code == 403
        assert await ratings(client) == []


async def test_without_a_secret_nothing_is_received(make_app, run):
    async with run(make_app()) as client:
        reply = await client.post(PATH, json=report(), headers={"X-Qwenkit-Secret": ""})
        assert reply.status_code == 403
        assert "LABEL_STUDIO_WEBHOOK_SECRET" in reply.json()["error"]["message"]


async def test_label_studio_needs_no_key_beside_its_secret(make_app, run):
    app = make_app(api_keys="user-key", label_studio_webhook_secret="shared")
    async with run(app) as client:
        reply = await client.post(PATH, json={"action": "PROJECT_UPDATED"}, headers=SECRET)
        assert (reply.status_code, reply.json()) == (200, {"n_ratings": 0})
        assert (await client.get("/v1/models")).status_code == 401


async def test_a_report_without_an_address_to_ask_at_says_what_to_set(make_app, run):
    app = make_app(label_studio_webhook_secret="shared")
    async with run(app) as client:
        reply = await client.post(PATH, json=report(), headers=SECRET)
        assert reply.status_code == 400
        assert "LABEL_STUDIO_URL" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (RemoteError("no such task", status=404), "remote_error"),
        (RemoteUnreachable("no answer"), "remote_unreachable"),
    ],
)
async def test_a_label_studio_that_does_not_tell_is_a_bad_gateway(
    make_app, run, hooked, monkeypatch, failure, code
):
    def fail(task_id):
        raise failure

    app = make_app(**SETTINGS)
    async with run(app) as client:
        judged = await hooked(client, app)
        monkeypatch.setattr(judged, "task", fail)
        reply = await client.post(PATH, json=report(), headers=SECRET)
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, code)
        assert await ratings(client) == []


@pytest.mark.parametrize(
    "body", [{}, {"action": 1}, {"action": "ANNOTATION_CREATED", "task": {"id": "x"}}]
)
async def test_a_report_that_is_none_is_refused(make_app, run, body):
    async with run(make_app(label_studio_webhook_secret="shared")) as client:
        assert (await client.post(PATH, json=body, headers=SECRET)).status_code == 400
