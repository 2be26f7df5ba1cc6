"""`qwenkit feedback export` and `stats`, on a log in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwenkit.cli.app import run
from qwenkit.feedback.log import FOLDER
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Interaction,
    Rating,
    Record,
    TokenCounts,
    encode,
)


def answer(name: str, content: str, *, prompt: str, adapter: str = "") -> Interaction:
    return Interaction(
        id=name,
        created_at="2026-11-01T09:00:00.000000Z",
        source="api",
        model="demo",
        prompt_hash=prompt,
        finish_reason="stop",
        usage=TokenCounts(prompt=1),
        messages=({"role": "user", "content": prompt},),
        answer=AnswerText(content=content),
        adapter=AdapterUsed(name=adapter, version="1") if adapter else None,
    )


def rating(name: str, of: str, thumb: Any, rater: str = "ann") -> Rating:
    return Rating(
        id=name,
        created_at="2026-11-02T09:00:00.000000Z",
        answer_id=of,
        source="ui",
        rater=rater,
        thumb=thumb,
        scale=5 if thumb == "up" else 1,
    )


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    """Two prompts, each with an answer that is liked and one that is not; and a broken line."""
    records: list[Record] = []
    for prompt in ("Is tea hot?", "Is ice?"):
        for content, thumb in (("Yes.", "up"), ("No.", "down")):
            name = f"{prompt} {content}"
            records.append(answer(name, content, prompt=prompt, adapter="new" * (thumb == "up")))
            records.append(rating(f"rating {name}", name, thumb))
    records.append(rating("rating 9", "Is ice? No.", "down", "ben"))
    folder = tmp_path / "logs" / FOLDER
    folder.mkdir(parents=True)
    lines = "".join(f"{encode(record)}\n" for record in records)
    (folder / "2026-11-01.jsonl").write_text(f"{lines}no record\n", encoding="utf-8")
    return folder.parent


def feedback(log_dir: Path, *args: str) -> int:
    return run(["feedback", *args, "--log-dir", str(log_dir)])


def test_export_writes_a_folder_and_shows_what_is_in_it(
    log_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs"
    assert feedback(log_dir, "export", "--format", "dpo", "-o", str(out)) == 0
    shown = capsys.readouterr()
    assert "rated" in shown.out
    assert "1 line is no record" in shown.err
    assert f"qwenkit finetune MODEL {out}/data/train.jsonl --method dpo" in shown.err
    rows = [
        json.loads(line)
        for path in sorted((out / "data").iterdir())
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert {row["chosen"][0]["content"] for row in rows} == {"Yes."}


def test_export_says_as_json_what_it_made(
    log_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels.jsonl"
    assert feedback(log_dir, "export", "--format", "kto", "-o", str(out), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_rows"] == 4
    assert report["by_origin"] == {"rated": 4}
    assert report["output"] == str(out)
    assert len(out.read_text(encoding="utf-8").splitlines()) == 4


def test_export_filters_and_takes_choices(
    log_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--from-adapter", "new", "--since", "2026-11-01", "--rater", "ann", "--json")
    out = tmp_path / "out"
    assert feedback(log_dir, "export", "--format", "ppo", "-o", str(out), *flags) == 0
    assert json.loads(capsys.readouterr().out)["n_rows"] == 2


def test_export_replaces_an_export_only_when_told_to(log_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("export", "--format", "sft", "-o", str(out))
    assert feedback(log_dir, *arguments) == 0
    assert feedback(log_dir, *arguments) == 2
    assert feedback(log_dir, *arguments, "--force") == 0


def test_export_never_replaces_a_folder_of_another_kind(log_dir: Path, tmp_path: Path) -> None:
    assert feedback(log_dir, "export", "--format", "sft", "-o", str(tmp_path), "--force") == 2
    assert log_dir.is_dir()


def test_export_names_the_reasons_where_nothing_becomes_a_row(
    log_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("export", "--format", "dpo", "-o", str(tmp_path / "out"), "--until", "2026-10-01")
    assert feedback(log_dir, *flags) == 2
    assert "none of 0 answers" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("export", "--format", "dpo"), ("stats",)])
def test_without_a_log_there_is_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert feedback(tmp_path / "none", *command) == 2
    assert "there is no log in" in capsys.readouterr().err


def test_trlx_takes_the_template_of_another_model(
    log_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}", encoding="utf-8")
    flags = ("export", "--format", "trlx", "-o", str(tmp_path / "out"), "--template")
    assert feedback(log_dir, *flags, str(template)) == 2
    assert "rendered with another chat template" in capsys.readouterr().err
    assert feedback(log_dir, *flags, str(tmp_path / "none")) == 2


def test_stats_shows_counts_days_adapters_and_raters(
    log_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert feedback(log_dir, "stats") == 0
    shown = capsys.readouterr().out
    for text in ("Counts", "Scale", "2026-11-02", "new 1", "100 %", "ben"):
        assert text in shown


def test_stats_as_json_is_what_the_server_says(
    log_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert feedback(log_dir, "stats", "--json", "--from-adapter", "new") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_answers"], found["n_up"], found["n_down"]) == (2, 2, 0)
    assert [(each["adapter"], each["win_rate"]) for each in found["adapters"]] == [("new", 1.0)]


def test_stats_replaces_no_plot(log_dir: Path, tmp_path: Path) -> None:
    plot = tmp_path / "stats.png"
    plot.write_text("mine", encoding="utf-8")
    assert feedback(log_dir, "stats", "--plot", str(plot)) == 2
    assert plot.read_text(encoding="utf-8") == "mine"
