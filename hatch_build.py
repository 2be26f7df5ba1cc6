"""Packages qwenkit with its chat page. Knows hatchling; how the page is built, `qwenkit.ui` knows.

It is the build backend as well as hatchling's hook: only a backend is told which kind of build is
being prepared, and an editable one, which has no page, must not fetch Node.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import hatchling.build
from hatchling.build import *  # noqa: F403
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from qwenkit.errors import QwenkitError  # noqa: E402
from qwenkit.ui import DIST  # noqa: E402
from qwenkit.ui.build import (  # noqa: E402
    NODE_REQUIREMENT,
    build_page,
    find_node,
    is_fresh,
)

IN_PACKAGE = "qwenkit/ui/dist"


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What hatchling needs, and Node where the page must be built and the machine has none."""
    return [*hatchling.build.get_requires_for_build_wheel(config_settings), *_node()]


def get_requires_for_build_sdist(config_settings: dict[str, Any] | None = None) -> list[str]:
    """The same for a source distribution, which carries the built page."""
    return [*hatchling.build.get_requires_for_build_sdist(config_settings), *_node()]


def _node() -> list[str]:
    needed = _wants_page() and not is_fresh(DIST) and find_node() is None
    return [NODE_REQUIREMENT] if needed else []


def _wants_page() -> bool:
    return os.environ.get("QWENKIT_BUILD_UI", "") != "0"


class PageHook(BuildHookInterface[Any]):
    """Puts the chat page into wheels and source distributions."""

    PLUGIN_NAME = "custom"
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page, unless it is there already, as it is in a source distribution."""
        if version == "editable" or not _wants_page():
            return
        page = DIST if is_fresh(DIST) else self._build()
        build_data["force_include"][str(page)] = IN_PACKAGE

    def finalize(self, *_: Any) -> None:
        """Delete what was built elsewhere."""
        if self._folder is not None:
            self._folder.cleanup()

    def _build(self) -> Path:
        self._folder = tempfile.TemporaryDirectory(prefix="qwenkit-page-")
        page = Path(self._folder.name) / "page"
        try:
            build_page(page, say=self.app.display_info)
        except QwenkitError as exc:
            self.app.abort(f"{exc.message}\nhint: {exc.hint}")
        return page
