"""Where Continue keeps its configuration, and how it gets ours. Knows its folder; no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.ide import files
from qwenkit.ide.continue_config import DEFAULTS, SECRET
from qwenkit.ide.dotenv_text import with_variable
from qwenkit.ide.yaml_text import dumped, merged

FOLDER_VARIABLE = "CONTINUE_GLOBAL_DIR"
CONFIG = "config.yaml"
OLD_CONFIG = "config.json"
SECRETS = ".env"


@dataclass(frozen=True, slots=True)
class Installed:
    """What was written.

    Args:
        file: The configuration.
        backup: A copy of it as it was; None where there was none, or nothing changed.
        secrets: The file with the key; None where there is no key.
    """

    file: Path
    backup: Path | None
    secrets: Path | None


def folder(variables: Mapping[str, str]) -> Path:
    """The folder that Continue reads before any workspace's."""
    given = variables.get(FOLDER_VARIABLE)
    return Path(given).absolute() if given else Path.home() / ".continue"


def whole(entries: Mapping[str, Any]) -> str:
    """A `config.yaml` of our entries alone."""
    return dumped(DEFAULTS | dict(entries))


def install(
    entries: Mapping[str, Any], *, file: Path, secrets: Path, api_key: str | None
) -> Installed:
    """Merge our entries into a `config.yaml`, and put the key where Continue finds it.

    Args:
        entries: What `continue_config.config` makes.
        file: The `config.yaml`; it need not be there.
        secrets: The `.env` that gets the key.
        api_key: The key; None leaves that file alone.

    Raises:
        InvalidSettings: A file can't be read, changed in place or written, or Continue is
            configured by its older file.
    """
    _refuse_old_config(file)
    text = merged(files.read(file), entries, defaults=DEFAULTS)
    if api_key is not None:
        files.replace_secret(secrets, with_variable(files.read(secrets), SECRET, api_key))
    backup = files.replace(file, text)
    return Installed(file, backup, secrets if api_key is not None else None)


def _refuse_old_config(file: Path) -> None:
    old = file.with_name(OLD_CONFIG)
    if old.exists() and not file.exists():
        raise InvalidSettings(
            f"Continue is configured by `{old}`, which it would ignore beside a `{file.name}`",
            hint="move its models to a config.yaml first, as Continue's guide on YAML says",
        )
