"""The server's log: for people and for programs, with requests and without what was said."""

import asyncio
import io
import json
import logging
import threading
import warnings

import pytest
from pydantic import BaseModel, ConfigDict

from qwenkit.cli import app as command_line
from qwenkit.server.logs import JsonLines, TextLines, story, written_to

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
SECRET = "the cat is called Schroedinger"
logger = logging.getLogger("qwenkit.test")


@pytest.fixture
def log():
    """A place for the log, and what is in it so far."""

    class Log(io.StringIO):
        def json(self):
            return [json.loads(line) for line in self.getvalue().splitlines()]

    return Log()


async def test_an_answer_is_a_line_of_json_with_its_request_and_its_numbers(
    log, make_app, run, ask
):
    with written_to(log, form="json", level="info"):
        async with run(make_app()) as client:
            reply = await client.post(CHAT, json=ask("hello"), headers={"X-Request-Id": "mine-1"})
    (line,) = (each for each in log.json() if each["logger"] == "qwenkit.access")
    assert line.pop("time").endswith("Z")
    assert 0 < line.pop("duration_s") < 60
    assert line.pop("message").startswith("POST /v1/chat/completions 200 in ")
    assert line == {
        "level": "info",
        "logger": "qwenkit.access",
        "request_id": "mine-1",
        "method": "POST",
        "route": CHAT,
        "status": 200,
        "request_bytes": len(reply.request.content),
        "response_bytes": len(reply.content),
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize("form", ["json", "text"])
async def test_neither_content_nor_keys_nor_queries_are_logged(log, form, make_app, run, ask):
    keys = {"api_keys": "user-key-1", "admin_api_keys": "admin-key-1"}
    with written_to(log, form=form, level="debug"):
        async with run(make_app(**keys), Authorization="Bearer user-key-1") as client:
            await client.post(CHAT, json=ask(SECRET, stream=True))
            await client.post(CHAT, json=ask(SECRET, max_tokens="many"))
            await client.post("/v1/completions", json={"prompt": SECRET, "top_p": 7})
            await client.get(f"/nothing/{SECRET}?key=user-key-1")
            await client.get("/v1/models", headers={"Authorization": "Bearer wrong-key-1"})
    text = log.getvalue()
    assert text.count("qwenkit.access") == 5
    for secret in ("Schroedinger", "key-1", "I do not know"):
        assert secret not in text


async def test_probes_are_logged_for_those_who_want_every_detail(log, make_app, run):
    async with run(make_app()) as client:
        with written_to(log, form="json", level="info"):
            await client.get("/healthz")
            await client.get("/metrics")
        assert log.json() == []
        with written_to(log, form="json", level="debug"):
            await client.get("/healthz")
    assert [line["route"] for line in log.json() if "route" in line] == ["/healthz"]


async def test_a_bug_is_logged_with_its_traceback_in_the_line_of_its_request(log, make_app, run):
    app = make_app()

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("of course")

    with written_to(log, form="json", level="warning"):
        async with run(app) as client:
            reply = await client.get("/bug", headers={"X-Request-Id": "mine-2"})
    failed, answered = log.json()
    assert failed["request_id"] == answered["request_id"] == "mine-2"
    assert failed["message"].split()[-1] in reply.json()["error"]["message"]
    assert failed["exception"]["type"] == "ZeroDivisionError"
    assert failed["exception"]["message"] == "of course"
    assert "in bug\n" in failed["exception"]["stack"]
    assert (answered["status"], answered["level"]) == (500, "warning")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    text: int


def test_a_failed_check_of_what_was_sent_is_told_without_what_was_sent(log):
    with written_to(log, form="json", level="info"):
        try:
            Strict.model_validate({"text": SECRET})
        except ValueError:
            logger.exception("it failed")
    (line,) = log.json()
    assert "Schroedinger" not in log.getvalue()
    assert line["exception"]["message"].startswith("text: ")


def test_what_led_to_a_failure_is_told_first():
    try:
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise OSError("second") from exc
    except OSError as exc:
        text = story(exc)
    assert text.index("first") < text.index("which led to") < text.index("second")


def test_failures_that_led_to_each_other_are_told_once():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert story(one).count("ValueError: one") == 1


def test_every_failure_of_a_group_is_told():
    text = story(ExceptionGroup("some", [ValueError("one"), KeyError("two")]))
    assert "ValueError: one" in text
    assert "KeyError: 'two'" in text


@pytest.mark.parametrize("sent", ["a\nINFO fake line", "a\r\nb", "a\x1b[31mred", "a\u2028b"])
def test_a_message_for_people_stays_on_its_line(log, sent):
    with written_to(log, form="text", level="info"):
        logger.info("loaded %s", sent)
    (line,) = log.getvalue().splitlines()
    assert "\x1b" not in line


@pytest.mark.parametrize("sent", ["a\nb", "\udc80", "a\u2028b", '"}'])
def test_any_message_is_one_line_of_json(log, sent):
    with written_to(log, form="json", level="info"):
        logger.info("%s", sent)
    assert log.getvalue().count("\n") == 1
    assert log.json()[0]["message"] == sent


def test_other_packages_are_heard_from_warnings_on(log):
    other, server = logging.getLogger("httpx"), logging.getLogger("uvicorn.error")
    with written_to(log, form="json", level="info"):
        other.info("GET https://somewhere?key=secret")
        server.warning("Invalid HTTP request received.")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("that is old", DeprecationWarning, stacklevel=1)
    heard = [(line["logger"], line["level"]) for line in log.json()]
    assert heard == [("uvicorn.error", "warning"), ("py.warnings", "warning")]


def test_a_thread_that_fails_is_logged(log):
    def fail() -> None:
        raise OSError("disk gone")

    with written_to(log, form="json", level="error"):
        thread = threading.Thread(target=fail, name="writer")
        thread.start()
        thread.join()
    (line,) = log.json()
    assert (line["level"], line["exception"]["message"]) == ("critical", "disk gone")
    assert line["message"].startswith("writer ")


def test_a_failure_that_nobody_can_be_told_of_is_a_line_too(log):
    class Careless:
        def __del__(self) -> None:
            raise OSError("no end")

    with written_to(log, form="json", level="error"):
        Careless()
    (line,) = log.json()
    assert (line["level"], line["exception"]["message"]) == ("error", "no end")


@pytest.mark.parametrize("lines", [TextLines(), JsonLines()])
def test_a_message_whose_values_do_not_fit_is_one_line_without_them(lines):
    record = logging.makeLogRecord({"msg": "%d tokens", "args": (SECRET,)})
    (line,) = lines.format(record).splitlines()
    assert "%d tokens" in line
    assert SECRET not in line


def test_what_is_below_the_level_is_not_written_and_nothing_is_after_the_end(log):
    before = logging.getLogger().handlers[:], logging.getLogger().level, threading.excepthook
    with written_to(log, form="json", level="error"):
        logger.warning("quiet")
    logger.error("over")
    assert log.getvalue() == ""
    assert before == (
        logging.getLogger().handlers[:],
        logging.getLogger().level,
        threading.excepthook,
    )


async def test_requests_that_run_together_are_logged_each_under_its_own_id(log, make_app, run, ask):
    with written_to(log, form="json", level="info"):
        async with run(make_app()) as client:
            sent = [f"r-{i}" for i in range(6)]
            await asyncio.gather(
                *(
                    client.post(CHAT, json=ask("hello"), headers={"X-Request-Id": each})
                    for each in sent
                )
            )
    logged = [line["request_id"] for line in log.json() if line["logger"] == "qwenkit.access"]
    assert sorted(logged) == sent


def test_a_server_that_can_not_start_says_so_in_json_and_only_so(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOG_FORMAT", "json")
    assert command_line.run(["serve", "--host", "0.0.0.0"]) == 2
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert line["level"] == "critical"
    assert "API_KEYS" in line["message"]
