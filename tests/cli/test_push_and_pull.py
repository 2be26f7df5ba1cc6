"""`qwenkit feedback push` and `pull`: what they refuse before they talk to anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.cli.app import run
from qwenkit.feedback.log import FOLDER

LANGFUSE = ("--to", "langfuse")
LABEL_STUDIO = ("--to", "label-studio")


@pytest.fixture(autouse=True)
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty log, and no settings but those of the test."""
    for name in ("LANGFUSE_API_KEY", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs" / FOLDER).mkdir(parents=True)
    return tmp_path / "logs"


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command says that is refused."""
    assert run(["feedback", *args]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.parametrize(
    "flags",
    [
        ("--template", "pairs"),
        ("--project", "0"),
        ("--max-pairs", "2"),
        ("--again",),
        ("--webhook", "https://qwenkit.example"),
    ],
)
def test_flags_for_label_studio_are_refused_with_langfuse(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    said = refused(capsys, "push", *LANGFUSE, *flags)
    assert f"{flags[0]} means nothing with langfuse" in said


@pytest.mark.parametrize("flags", [("--everything",), ("--dataset", "d"), ("--format", "dpo")])
def test_flags_for_langfuse_are_refused_with_label_studio(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    said = refused(capsys, "push", *LABEL_STUDIO, *flags)
    assert f"{flags[0]} means nothing with label-studio" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((*LANGFUSE, "--format", "sft"), "--format means nothing without --dataset"),
        ((*LANGFUSE, "--since", "2026-11-25"), "--since means nothing without --dataset"),
        ((*LANGFUSE, "--from-adapter", ""), "--from-adapter means nothing without --dataset"),
        (
            (*LANGFUSE, "--dataset", "d", "--everything"),
            "--everything means nothing with --dataset",
        ),
        (
            (*LABEL_STUDIO, "--template", "ratings", "--max-pairs", "2"),
            "--max-pairs means nothing with --template ratings",
        ),
    ],
)
def test_a_push_refuses_flags_that_would_change_nothing(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, "push", *flags)


@pytest.mark.parametrize(
    "flags",
    [
        ("--run-name", "try"),
        ("--model", "demo"),
        ("--think",),
        ("--max-tokens", "8"),
        ("--seed", "0"),
    ],
)
def test_flags_of_a_run_are_refused_where_nothing_is_run(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    said = refused(capsys, "pull", "--from", "langfuse", *flags)
    assert f"{flags[0]} means nothing without --dataset" in said
    said = refused(capsys, "pull", "--from", "label-studio", *flags)
    assert f"{flags[0]} means nothing with label-studio" in said


@pytest.mark.parametrize("flags", [("--since", "2026-11-25"), ("--evaluators",)])
def test_flags_for_scores_are_refused_with_a_run(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    said = refused(capsys, "pull", "--from", "langfuse", "--dataset", "d", *flags)
    assert f"{flags[0]} means nothing with --dataset" in said


@pytest.mark.parametrize("command", [("push", *LABEL_STUDIO), ("pull", "--from", "label-studio")])
def test_without_an_address_or_a_key_the_missing_setting_is_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    assert "LABEL_STUDIO_URL is not set" in refused(capsys, *command)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    assert "LABEL_STUDIO_API_KEY is not set" in refused(capsys, *command)


def test_a_webhook_needs_a_secret_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    monkeypatch.setattr(
        "qwenkit.feedback.label_studio.client.import_extra", lambda *_, **__: Anything()
    )
    said = refused(capsys, "push", *LABEL_STUDIO, "--webhook", "https://qwenkit.example")
    assert "LABEL_STUDIO_WEBHOOK_SECRET is not set" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LABEL_STUDIO_URL", "label-studio"),
        ("LABEL_STUDIO_URL", "http://ann:hidden@127.0.0.1:9"),
        ("LABEL_STUDIO_URL", "http://hidden:port"),
        ("LABEL_STUDIO_API_KEY", "hidden…"),
    ],
)
def test_an_address_or_a_key_that_is_none_is_named_and_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    monkeypatch.setenv(name, value)
    said = refused(capsys, "pull", "--from", "label-studio")
    assert name in said
    assert "hidden" not in said


def test_no_log_is_told_before_any_setting_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = refused(capsys, "push", *LANGFUSE, "--log-dir", str(tmp_path / "none"))
    assert "there is no log" in said


class Anything:
    """Stands for the SDK where it is not to be asked."""

    ApiError = RuntimeError

    def LabelStudio(self, **_: object) -> object:  # noqa: N802
        return self
