from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from qwenkit.cli.flags import (
    MODEL_FLAGS,
    SHORT_NAMES,
    flag_of,
    with_changes,
    with_settings,
)
from qwenkit.settings import Settings


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path) -> tuple[typer.Typer, list[Settings]]:
    monkeypatch.chdir(tmp_path)
    for name in ("N_CTX", "API_KEYS", "USE_MMAP"):
        monkeypatch.delenv(name, raising=False)
    received: list[Settings] = []
    app = typer.Typer()

    @app.command()
    @with_settings("n_ctx", "use_mmap", "api_keys")
    def command(settings: Settings) -> None:
        received.append(settings)

    return app, received


def test_a_flag_wins_over_the_environment_and_that_over_the_env_file(
    seen, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    app, received = seen
    (tmp_path / ".env").write_text("N_CTX=1\n", encoding="utf-8")
    CliRunner().invoke(app, [])
    monkeypatch.setenv("N_CTX", "2")
    CliRunner().invoke(app, [])
    CliRunner().invoke(app, ["--n-ctx", "3"])
    assert [settings.n_ctx for settings in received] == [1, 2, 3]


def test_a_switch_can_be_turned_off(seen) -> None:
    app, received = seen
    CliRunner().invoke(app, ["--no-mmap"])
    assert received[0].use_mmap is False


def test_a_list_of_secrets_is_given_with_commas(seen) -> None:
    app, received = seen
    CliRunner().invoke(app, ["--api-key", "one,two"])
    assert [key.get_secret_value() for key in received[0].api_keys] == ["one", "two"]


def test_help_shows_the_settings_docstring_and_its_name(seen) -> None:
    shown = CliRunner().invoke(seen[0], ["--help"]).stdout
    assert "[N_CTX]" in shown
    assert "Tokens of context" in shown


def test_changes_are_what_the_command_line_names_and_nothing_else(
    seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []
    app = typer.Typer()

    @app.command()
    @with_changes("n_ctx", "use_mmap", "kv_type")
    def command(changes: dict, name: str = "") -> None:
        received.append((changes, name))

    monkeypatch.setenv("N_CTX", "2")
    CliRunner().invoke(app, [])
    CliRunner().invoke(app, ["--no-mmap", "--kv-type", "q8_0", "--name", "x"])
    assert received == [({}, ""), ({"use_mmap": False, "kv_type": "q8_0"}, "x")]


@pytest.mark.parametrize("name", [*MODEL_FLAGS, *SHORT_NAMES])
def test_every_flag_belongs_to_a_setting(name: str) -> None:
    assert name in Settings.model_fields
    assert flag_of(name).startswith("--")
