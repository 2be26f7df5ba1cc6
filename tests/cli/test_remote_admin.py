"""`qwenkit lora load|unload|list` and `qwenkit model load` against a running server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from safetensors.numpy import save_file

from qwenkit.adapters.template_stamp import write_stamp
from qwenkit.chat.template import ChatTemplate
from qwenkit.cli import remote_admin
from qwenkit.cli.app import run
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

KEY = "admin-key"


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    """A folder with an adapter of the demo model in it, `poet`."""
    folder = tmp_path / "adapters" / "poet"
    folder.mkdir(parents=True)
    prefix = "base_model.model.model.layers.1.self_attn.q_proj"
    tensors = {
        f"{prefix}.lora_A.weight": np.full((2, 256), 0.5, np.float32),
        f"{prefix}.lora_B.weight": np.full((256, 2), 0.25, np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(fields), encoding="utf-8")
    return folder.parent


@pytest.fixture
def app(tmp_path: Path, adapters: Path) -> FastAPI:
    settings = Settings(
        _env_file=None,
        qwenkit_home=tmp_path / "home",
        lora_dirs=str(adapters),
        admin_api_keys=KEY,
        n_ctx=1024,
        n_parallel=2,
        n_threads=1,
    )
    return create_app(settings)


@pytest.fixture
def url(app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of the demo model that the commands find by the environment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        while not server.started or httpx.get(url + "/readyz").status_code != 200:
            thread.join(0.01)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("OPENAI_API_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("ADMIN_API_KEYS", KEY)
        monkeypatch.setattr(remote_admin, "POLL_S", 0.001)
        yield url
        server.should_exit = True
        thread.join()


def names(url: str) -> list[str]:
    return [each["id"] for each in httpx.get(f"{url}/v1/models").json()["data"]]


def test_an_adapter_is_loaded_listed_and_unloaded(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lora", "load", "my/poet", "adapters/poet"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("my/poet ")
    assert "rank 2" in shown.err
    assert names(url) == [DEMO_NAME, "my/poet"]
    assert run(["lora", "list"]) == 0
    assert "my/poet" in capsys.readouterr().out
    assert run(["lora", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["rank"]) == ("my/poet", 2)
    assert run(["lora", "unload", "my/poet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "my/poet"
    assert names(url) == [DEMO_NAME]


def test_an_adapter_of_another_template_is_noted_where_it_is_loaded_and_listed(
    url: str, adapters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stamp(adapters / "poet", template_hash="0123456789ab")
    assert run(["lora", "load", "poet", str(adapters / "poet")]) == 0
    assert "0123456789ab" in capsys.readouterr().err
    assert run(["lora", "list"]) == 0
    assert "0123456789ab" in capsys.readouterr().err
    served = ChatTemplate(None, control_tokens=()).hash
    write_stamp(adapters / "poet", template_hash=served)
    assert run(["lora", "load", "poet", str(adapters / "poet")]) == 0
    assert served not in capsys.readouterr().err


def test_a_refusal_is_one_sentence_and_the_servers_own_hint(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lora", "load", "poet", str(tmp_path)]) == 6
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0].startswith("error: the server answered 403")
    assert shown.err.splitlines()[1] == "hint: name its folder in LORA_DIRS or LORA_PATHS"
    assert run(["lora", "unload", "nobody"]) == 6
    assert "nobody" in capsys.readouterr().err


def test_a_name_is_taken_over_only_when_asked(url: str, adapters: Path) -> None:
    (adapters / "poet").rename(adapters / "second")
    first = adapters / "first"
    first.mkdir()
    for file in (adapters / "second").iterdir():
        (first / file.name).write_bytes(file.read_bytes())
    assert run(["lora", "load", "poet", "adapters/first"]) == 0
    assert run(["lora", "load", "poet", "adapters/second"]) == 6
    assert run(["lora", "load", "poet", "adapters/second", "--replace"]) == 0


def test_the_model_is_loaded_with_what_the_flags_name(
    url: str, app: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model", "load", "--n-ctx", "512", "--kv-type", "f32", "--name", "small"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "small\n"
    assert "side_by_side" in shown.err
    spec = app.state.reloader.plan.spec
    assert (spec.n_ctx, spec.kv_type, spec.n_parallel) == (512, "f32", 2)
    assert names(url) == ["small"]
    assert run(["model", "load", "", "--no-mmap", "--mode", "drain", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "drain"
    assert not app.state.reloader.plan.spec.use_mmap


def test_a_draft_model_is_named_so_that_the_server_finds_it(
    url: str, app: FastAPI, tmp_path: Path
) -> None:
    copytree(DEMO_DIR, tmp_path / "small")
    assert run(["model", "load", "--draft-model", "./small", "--speculation", "off"]) == 0
    assert app.state.reloader.plan.spec.draft_model_path == str(tmp_path / "small")
    assert run(["model", "load", "--draft-model", ""]) == 0
    assert app.state.reloader.plan.spec.draft_model_path is None


def test_a_model_that_is_not_there_leaves_the_old_one(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model", "load", "./nothing.gguf"]) == 6
    assert "nothing.gguf" in capsys.readouterr().err
    assert run(["model", "load", "--n-ctx", "-1"]) == 2
    assert names(url) == [DEMO_NAME]


def test_without_an_admins_key_it_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ADMIN_API_KEYS")
    assert run(["lora", "list"]) == 6
    assert "ADMIN_API_KEYS" in capsys.readouterr().err
    assert run(["lora", "list", "--api-key", KEY]) == 0
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert run(["lora", "list"]) == 0


def test_where_no_server_answers_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert run(["lora", "list", "--url", f"http://127.0.0.1:{port}"]) == 6
    assert "qwenkit serve" in capsys.readouterr().err


def test_this_machines_admin_key_is_not_sent_to_another_machine() -> None:
    settings = Settings(_env_file=None, admin_api_keys=KEY, openai_api_key="theirs")
    key_for = lambda url: remote_admin._key(settings, url)  # noqa: E731
    assert key_for("http://localhost:8000/v1") == KEY
    assert key_for("https://api.example/v1") == "theirs"
