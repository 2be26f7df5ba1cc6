from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from qwenkit.cli.app import run

USERS = "name: Mine # by hand\nversion: 1.0.0\nmodels:\n  - uses: some/model # theirs\n"


@pytest.fixture
def continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Continue's folder; the working folder has no `.env`."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "continue"
    folder.mkdir()
    monkeypatch.setenv("CONTINUE_GLOBAL_DIR", str(folder))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return folder


@pytest.fixture
def ide(url: str, key: str, continues: Path) -> Callable[..., int]:
    return lambda *args: run(["ide", *args, "--url", url, "--api-key", key])


def test_the_configuration_is_printed_and_the_key_is_not(
    ide: Callable[..., int], capsys: pytest.CaptureFixture[str], key: str, continues: Path
) -> None:
    assert ide("continue") == 0
    out, err = capsys.readouterr()
    read = yaml.safe_load(out)
    assert (read["version"], read["models"][0]["model"]) == ("1.0.0", "qwenkit-demo")
    assert key not in out + err
    assert "--write" in err
    assert list(continues.iterdir()) == []


def test_it_is_merged_into_continues_file(
    ide: Callable[..., int], capsys: pytest.CaptureFixture[str], key: str, continues: Path
) -> None:
    file = continues / "config.yaml"
    file.write_text(USERS, encoding="utf-8")
    assert ide("continue", "--write", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["file"], facts["written"]) == (str(file), True)
    assert Path(facts["backup"]).read_text(encoding="utf-8") == USERS
    text = file.read_text(encoding="utf-8")
    assert text.startswith(USERS)
    assert yaml.safe_load(text)["models"][1:] == facts["config"]["models"]
    secrets = (continues / ".env").read_text(encoding="utf-8")
    assert secrets == f"QWENKIT_API_KEY={key}\n"


def test_another_file_can_be_named(ide: Callable[..., int], tmp_path: Path) -> None:
    file = tmp_path / "other" / "agent.yaml"
    assert ide("continue", "--write", "--file", str(file), "--mcp", "none") == 0
    assert "mcpServers" not in yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--model", "nobody"], 2, "nobody"),
        (["--api-key", "wrong"], 6, "401"),
        (["--url", "http://127.0.0.1:9"], 6, "127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_said(
    ide: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    code: int,
    word: str,
    url: str,
    key: str,
) -> None:
    given = ["ide", "continue", "--url", url, "--api-key", key, *args]
    assert run(given) == code
    assert word in capsys.readouterr().err


def test_codegpts_fields_are_told(
    ide: Callable[..., int], capsys: pytest.CaptureFixture[str], url: str, key: str
) -> None:
    assert ide("codegpt", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    values = {(each["place"], each["name"]): each["value"] for each in told["settings"]}
    assert values["Set connection", "Custom Link"] == f"{url}/v1"
    assert key not in str(told)
    assert ide("codegpt") == 0
    assert "ProxyAI" in capsys.readouterr().out


@pytest.mark.parametrize(("place", "words"), [("Chat Completions", "Qwen"), ("Code", "")])
def test_the_server_answers_what_codegpt_then_sends(
    ide: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    client: httpx.Client,
    place: str,
    words: str,
) -> None:
    ide("codegpt", "--json")
    fields = json.loads(capsys.readouterr().out)["settings"]
    asked = {each["name"]: each["value"] for each in fields if each["place"].startswith(place)}
    body: dict[str, Any] = json.loads(asked["Body"])
    known = {
        "$OPENAI_MESSAGES": [{"role": "user", "content": "What is qwenkit?"}],
        "$PREFIX": "import qwenkit\n\nprint(",
        "$SUFFIX": ".__version__)",
    }
    sent = {key: known.get(str(value), value) for key, value in body.items()}
    reply = client.post(asked["URL"], json=sent)
    assert reply.status_code == 200
    said = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    choices = [choice for chunk in said for choice in chunk["choices"]]
    texts = [each.get("text") or each.get("delta", {}).get("content") or "" for each in choices]
    assert any(texts)
    assert words in "".join(texts)
    assert choices[-1]["finish_reason"] == "stop"
