"""From forty thumbs over HTTP to a server that answers as people liked it, and a killed round."""

from __future__ import annotations

import json
import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from qwenkit.cli.app import run
from qwenkit.improve.rounds import Rounds
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

pytestmark = pytest.mark.parity

Rater = Any
"""The one of conftest.py."""

RATED = (
    *("the moon", "France", "cooking rice", "football", "cats", "history", "Mars", "bread", "love"),
    *("dinosaurs", "music", "the ocean", "chess", "black holes", "gardening", "volcanoes", "tax"),
    *("coffee", "trains", "dogs", "birds", "paintings", "movies", "biology", "chemistry", "sleep"),
    *("the heart", "Germany", "China", "the stock market"),
)
UNSEEN = (
    *("cheese", "sailing", "rain", "maps", "opera", "glass", "honey", "rivers", "Spain", "tigers"),
    *("jazz", "snow"),
)
FRAMES = ("What is {}?", "Tell me about {}", "Why is {} important?", "Explain {}")
LIKED = "MODEL_PATH for real questions"
QUICK = ("n_steps=16", "learning_rate=5e-4", "batch_size=8", "n_threads=1")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The demo model behind a real socket, with a log and a home of its own."""
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.chdir(tmp_path)
    app = create_app(Settings.load(n_threads="1", n_parallel="4"))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", http="h11"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            found = f"http://127.0.0.1:{sock.getsockname()[1]}"
            _wait(lambda: _is_ready(found))
            yield found
        finally:
            server.should_exit = True
            thread.join(20)


def _wait(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.01)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


class Person:
    """Asks a server, and says what it thinks of the answers."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)

    def ask(self, question: str, **more: Any) -> tuple[str, str]:
        """The id and the text of an answer."""
        body = {
            "model": "qwenkit-demo",
            "messages": [{"role": "user", "content": question}],
            "chat_template_kwargs": {"enable_thinking": False},
            "max_tokens": 48,
        }
        answered = self._client.post("/v1/chat/completions", json=body | more).json()
        return answered["id"], answered["choices"][0]["message"]["content"] or ""

    def rate_pair(self, question: str) -> int:
        """Ask again until there are a good and a bad answer, and rate both; returns how many."""
        found: dict[str, str] = {}
        for seed in range(30):
            answer_id, text = self.ask(
                question,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                seed=seed,
                metadata={"thread_id": question},
            )
            if text and "think>" not in text:
                found.setdefault("up" if LIKED in text else "down", answer_id)
            if len(found) == 2:
                break
        else:
            return 0
        for thumb, answer_id in found.items():
            body = {"answer_id": answer_id, "thumb": thumb, "rater": "ada"}
            self._client.post("/v1/feedback", json=body).raise_for_status()
        return 2

    def liked(self, subjects: Sequence[str], **more: Any) -> int:
        """Of how many questions it likes the answer."""
        questions = [FRAMES[i % 4].format(subject) for i, subject in enumerate(subjects)]
        answers = [self.ask(each, temperature=0, store=False, **more)[1] for each in questions]
        return sum(LIKED in text for text in answers)

    def close(self) -> None:
        self._client.close()


def test_forty_thumbs_move_a_servers_answers_to_what_was_liked(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    person = Person(url)
    n_rated = 0
    for i, subject in enumerate(RATED):
        if n_rated < 40:
            n_rated += person.rate_pair(FRAMES[i % 4].format(subject))
    assert n_rated == 40
    before = person.liked(UNSEEN)
    choices = [word for each in QUICK for word in ("--set", each)]
    command = ["improve", "--name", "kind", "--max-new-tokens", "48", "--url", url, *choices]
    assert run([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    after = person.liked(UNSEEN, model="kind")
    person.close()
    assert report["outcome"] == "improved"
    assert report["loaded"]["version"] == report["adapter"]["version"]
    measures = [report["evaluation"][part]["win_rate"] for part in ("before", "after")]
    assert measures[1] >= measures[0] + 0.3
    assert after >= before + len(UNSEEN) // 2


def test_a_round_that_was_killed_in_mid_training_goes_on(
    rater: Rater, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    rater.pairs()
    home = tmp_path / "rounds"
    choices = [f"--set={each}" for each in (*QUICK[1:], "n_steps=40", "save_every=1")]
    command = ["improve", "--log", str(rater.folder), "-o", str(home), *choices]
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=run, args=(command,))
    process.start()
    rounds = Rounds(home / "improved")

    def has_saved() -> bool:
        assert process.is_alive()
        return any(any(each.run.checkpoints.glob("step-*")) for each in rounds.all())

    _wait(has_saved, timeout_s=120)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (round_,) = rounds.all()
    assert not round_.run.report.exists()
    run([*command, "--max-new-tokens", "512"])
    (round_,) = rounds.all()
    assert round_.is_finished
    resumed = json.loads(round_.run.report.read_text("utf-8"))
    assert resumed["resumed_from"] >= 1
    assert resumed["n_steps"] == 40
