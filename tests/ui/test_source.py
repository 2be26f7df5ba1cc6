"""The page's source: its types, and its own tests of what needs no browser."""

import shutil
import subprocess

import pytest

from qwenkit.ui import WEB
from qwenkit.ui.build import SKIPPED, find_node

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the source with its packages."""
    node = find_node()
    assert node is not None, "Node 22 or newer is needed"
    copy = tmp_path_factory.mktemp("source") / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns(*SKIPPED))
    install = [*node.npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(install, cwd=copy, env=node.environment(), check=True, timeout=300)
    return copy


@pytest.mark.parametrize("script", ["types", "test"])
def test_the_source_passes_its_own_checks(source, script):
    node = find_node()
    done = subprocess.run(
        [*node.npm, "run", script],
        cwd=source,
        env=node.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
