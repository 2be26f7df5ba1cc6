from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenkit.cli.app import run
from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.reader import read_log
from qwenkit.feedback.records import Interaction, Rating
from qwenkit.settings import LangfuseSpec


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeedbackLog:
    monkeypatch.chdir(tmp_path)
    return FeedbackLog(tmp_path / "logs" / "feedback")


@pytest.fixture
def connected(spec: LangfuseSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_API_KEY", f"{spec.public_key}:{spec.secret_key}")
    monkeypatch.setenv("LANGFUSE_BASE_URL", spec.base_url)


@pytest.mark.usefixtures("connected")
def test_push_sends_the_log_and_says_what_it_sent(
    log: FeedbackLog,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.append(an_answer())
    log.append(a_rating(thumb="up"))
    assert run(["feedback", "push", "--to", "langfuse", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_answers"], report["n_scores"]) == (1, 1)
    assert list(langfuse.scores) == ["rating-1-thumb"]
    assert run(["feedback", "push", "--to", "langfuse", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_answers"] == 0
    assert run(["feedback", "push", "--to", "langfuse", "--everything", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_answers"] == 1


@pytest.mark.usefixtures("connected")
def test_push_makes_a_dataset_of_rows(
    log: FeedbackLog,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.append(an_answer())
    log.append(a_rating(thumb="up"))
    command = ["feedback", "push", "--to", "langfuse", "--dataset", "good", "--format", "sft"]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": "good", "n_items": 1}
    (item,) = langfuse.items.values()
    assert item["input"] == [{"role": "user", "content": "Where is Oslo?"}]
    assert item["expectedOutput"]["content"] == "In Norway."
    assert run([*command[:-3], "other", *command[-2:], "--until", "2020-01-01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": "other", "n_items": 0}


@pytest.mark.usefixtures("connected")
def test_pull_brings_annotations_into_the_log_once(
    log: FeedbackLog,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.append(an_answer())
    subject = {"kind": "observation", "id": ids.answer_observation_id("chatcmpl-1")}
    langfuse.annotate("s1", name="thumb", dataType="BOOLEAN", value=0, subject=subject)
    for expected in (1, 0):
        assert run(["feedback", "pull", "--from", "langfuse", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["n_ratings"] == expected
    (rating,) = [each for each in read_log(log.folder) if isinstance(each, Rating)]
    assert rating.thumb == "down"


@pytest.mark.usefixtures("connected")
def test_pull_has_the_demo_model_answer_a_dataset(
    log: FeedbackLog,
    langfuse: Any,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    client.create_dataset("greetings", description="", metadata={})
    client.put_item({"id": "i", "datasetName": "greetings", "input": "hi", "expectedOutput": "x"})
    command = ["feedback", "pull", "--from", "langfuse", "--dataset", "greetings"]
    flags = ["--run-name", "try", "--no-think", "--max-tokens", "8", "--seed", "1", "--json"]
    assert run([*command, *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_answers"], report["run"]) == (1, "try")
    (generation,) = langfuse.observations("generation")
    assert generation.json("output")["content"]
    assert generation.json("usage_details")["total"] > 0


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"LANGFUSE_API_KEY": ""}, "LANGFUSE_API_KEY"),
        ({"LANGFUSE_TRACING_ENABLED": "false"}, "LANGFUSE_TRACING_ENABLED"),
        ({"LANGFUSE_API_KEY": "pk-lf-x:sk-lf-wrong"}, "LANGFUSE_API_KEY"),
    ],
)
@pytest.mark.usefixtures("connected")
def test_what_is_wrong_with_the_keys_is_one_sentence_with_the_next_step(
    log: FeedbackLog,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    hint: str,
) -> None:
    log.append(an_answer())
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    assert run(["feedback", "push", "--to", "langfuse"]) == 2
    told = capsys.readouterr()
    assert hint in told.err
    assert "sk-lf" not in told.out + told.err


@pytest.mark.usefixtures("connected")
def test_a_server_that_is_gone_ends_with_exit_code_6(
    log: FeedbackLog,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.append(an_answer())
    langfuse.failures += [400]
    assert run(["feedback", "push", "--to", "langfuse"]) == 6
    assert "400" in capsys.readouterr().err
