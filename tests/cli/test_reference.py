from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qwenkit.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_has_a_docstring() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_example_env_file_is_what_the_settings_are_without_it(tmp_path: Path) -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    uncommented = [line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in lines]
    path = tmp_path / "env"
    path.write_text("\n".join(uncommented), encoding="utf-8")
    assert Settings(_env_file=path) == Settings(_env_file=None)
