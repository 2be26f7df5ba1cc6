"""Reads the choices of a run from a YAML file: names and values, without any nesting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from qwenkit.errors import InvalidSettings


def read_config_file(path: Path) -> dict[str, Any]:
    """The choices in a file, as `make_config` takes them.

    Raises:
        InvalidSettings: It isn't there, is no YAML, or holds something else than names with values.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InvalidSettings(f"`{path}` can't be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise InvalidSettings(f"`{path}` is no YAML: {' '.join(str(exc).split())}") from exc
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise InvalidSettings(f"`{path}` holds no names with values", hint="as in `rank: 16`")
    for name, each in value.items():
        if isinstance(each, dict):
            raise InvalidSettings(
                f"`{name}` in `{path}` holds further names, and choices have none",
                hint="write every name at the beginning of a line",
            )
    return value
