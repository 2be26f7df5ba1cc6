from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qwenkit.cli.bench import app
from qwenkit.errors import UsageError

QUICK = ["--rounds", "2", "--max-tokens", "4", "--concurrency", "1,3"]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_json_holds_every_round_and_their_medians(words) -> None:
    done = CliRunner().invoke(app, ["--url", words.url, "--json", "--seed", "5", *QUICK])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["scenario"], told["seed"]) == ("decode", 5)
    assert [result["concurrency"] for result in told["results"]] == [1, 3]
    (target,) = told["results"][1]["targets"]
    assert target["target"] == f"{words.url}/v1"
    assert len(target["rounds"]) == 2
    assert target["median"]["output_tokens_per_s"] > 0


def test_the_table_goes_to_stdout_and_progress_to_stderr(words) -> None:
    done = CliRunner().invoke(app, ["--url", words.url, *QUICK])
    assert done.exit_code == 0, done.stderr
    assert "decode, tokens/s" in done.stdout
    assert "measuring" not in done.stdout
    assert "measuring" in done.stderr


def test_a_comparison_has_a_column_each_and_their_ratio(words, other_words) -> None:
    args = ["--url", words.url, "--vs", other_words.url, *QUICK]
    table = CliRunner().invoke(app, args).stdout
    told = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    assert all(each in table for each in (words.url, other_words.url, "A/B"))
    assert [each["target"] for each in told["results"][0]["targets"]] == [
        f"{words.url}/v1",
        f"{other_words.url}/v1",
    ]
    assert told["results"][0]["ratios"]["output_tokens_per_s"] > 0


@pytest.mark.parametrize("concurrency", ["0", "1,x", "-1", "1;4"])
def test_a_concurrency_that_is_no_number_is_refused(words, concurrency: str) -> None:
    done = CliRunner().invoke(app, ["--url", words.url, "--concurrency", concurrency])
    assert isinstance(done.exception, UsageError)
    assert words.bodies == []
