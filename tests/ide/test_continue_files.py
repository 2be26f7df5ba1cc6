from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenkit.errors import InvalidSettings
from qwenkit.ide.continue_config import McpTransport, config
from qwenkit.ide.continue_files import Installed, folder, install
from qwenkit.ide.dotenv_text import with_variable
from qwenkit.ide.served import Served

USERS = "name: Mine # by hand\nversion: 1.0.0\nmodels: []\n"


@pytest.fixture
def entries(served: Callable[..., Served]) -> dict[str, Any]:
    return config(served(), with_key=True, mcp=McpTransport.HTTP)


def put(entries: dict[str, Any], where: Path, *, key: str | None = None) -> Installed:
    return install(entries, file=where / "config.yaml", secrets=where / ".env", api_key=key)


def test_a_new_file_is_its_owners_only(entries: dict[str, Any], tmp_path: Path) -> None:
    done = put(entries, tmp_path / "new")
    assert done.file.stat().st_mode & 0o777 == 0o600
    assert (done.backup, done.secrets) == (None, None)


def test_the_old_file_is_kept_beside_the_new_one(entries: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(USERS, encoding="utf-8")
    file.chmod(0o644)
    done = put(entries, tmp_path)
    assert done.backup is not None
    assert done.backup.read_text(encoding="utf-8") == USERS
    assert file.read_text(encoding="utf-8").startswith("name: Mine # by hand\n")
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_second_change_keeps_the_first_copy(entries: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(USERS, encoding="utf-8")
    first = put(entries, tmp_path).backup
    assert put(entries, tmp_path).backup is None  # nothing to change
    entries["models"][0]["model"] = "another"
    second = put(entries, tmp_path).backup
    assert first is not None
    assert second not in (None, first)
    assert first.read_text(encoding="utf-8") == USERS


def test_a_link_stays_one(entries: dict[str, Any], tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.yaml"
    real.write_text(USERS, encoding="utf-8")
    link = tmp_path / "config.yaml"
    link.symlink_to(real)
    put(entries, tmp_path)
    assert link.is_symlink()
    assert len(yaml.safe_load(real.read_text(encoding="utf-8"))["models"]) > 1


def test_the_key_goes_to_continues_secrets_and_nowhere_else(
    entries: dict[str, Any], tmp_path: Path
) -> None:
    secrets = tmp_path / ".env"
    secrets.write_text("OTHER=1\nQWENKIT_API_KEY=old\n# mine\n", encoding="utf-8")
    done = put(entries, tmp_path, key="top-secret")
    assert secrets.read_text(encoding="utf-8") == "OTHER=1\nQWENKIT_API_KEY=top-secret\n# mine\n"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert "top-secret" not in done.file.read_text(encoding="utf-8")
    assert not [path for path in tmp_path.iterdir() if path.name not in (".env", "config.yaml")]


def test_a_file_that_can_t_be_merged_is_left_alone(entries: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("models: [\n", encoding="utf-8")
    with pytest.raises(InvalidSettings):
        put(entries, tmp_path, key="top-secret")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert file.read_text(encoding="utf-8") == "models: [\n"


def test_continues_older_file_is_not_put_out_of_use(
    entries: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidSettings, match=r"config\.json"):
        put(entries, tmp_path)
    (tmp_path / "config.yaml").write_text(USERS, encoding="utf-8")
    assert put(entries, tmp_path).backup is not None


def test_continues_own_variable_moves_its_folder(tmp_path: Path) -> None:
    assert folder({"CONTINUE_GLOBAL_DIR": str(tmp_path)}) == tmp_path
    assert folder({}) == Path.home() / ".continue"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("sk-a_b.c", "K=sk-a_b.c\n"),
        ("a # b", "K='a # b'\n"),
        ("it's", "K=`it's`\n"),
    ],
)
def test_a_key_is_quoted_as_dotenv_reads_it(value: str, line: str) -> None:
    assert with_variable("", "K", value) == line
    assert with_variable("export K = old", "K", value) == line.removesuffix("\n")


def test_a_key_that_no_quotes_can_hold_is_refused() -> None:
    with pytest.raises(InvalidSettings):
        with_variable("", "K", "'`")
