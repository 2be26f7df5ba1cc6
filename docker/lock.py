"""Resolves what each image installs, and writes the versions to `requirements/`.

Run it with the images' Python after a change of pyproject.toml: `python docker/lock.py`. It knows
requirements and pip's resolver; what an image does with them, its Dockerfile knows.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
PYPROJECT = FOLDER.parent / "pyproject.toml"
PYTHON = (3, 11)
BUILT = "llama-cpp-python"
"""Compiled in a stage of its own, for another processor in each image; so it is in no lock."""

TORCH = "torch==2.13.0"
SERVED = ("onnx", "export", "postgres", "langfuse", "redact", "otel")
CUDA = {
    "onnxruntime": "onnxruntime-gpu[cuda,cudnn]>=1.31",
    "onnxruntime-genai": "onnxruntime-genai-cuda>=0.18,<0.19",
}
"""The same modules for CUDA. Both kinds write the same files, so an image has one of them."""


@dataclass(frozen=True, slots=True)
class Lock:
    """What an image installs beside qwenkit's own requirements.

    Args:
        extras: Extras of qwenkit; those that it does not have are left out.
        more: Further requirements.
        instead: Requirements by the name of that which they replace.
    """

    extras: tuple[str, ...]
    more: tuple[str, ...]
    instead: Mapping[str, str] = field(default_factory=dict)


LOCKS = {
    "llm": Lock(SERVED, (TORCH, "optimum>=2.3", "peft>=0.21", "langchain>=1.4"), CUDA),
    "llm-cpu": Lock(SERVED, (TORCH, "optimum>=2.3", "peft>=0.21", "langchain>=1.4")),
    "peft-tools": Lock(
        ("train", "export", "onnx", "postgres", "langfuse", "label-studio", "redact", "plots"),
        (TORCH,),
    ),
}


def wanted(lock: Lock) -> list[str]:
    """The requirements of an image, each once, as pyproject.toml writes them."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    extras = [each for extra in lock.extras for each in known.get(extra, [])]
    requirements = [*project["dependencies"], *extras, *lock.more]
    return sorted({lock.instead.get(name_of(each), each) for each in requirements})


def name_of(requirement: str) -> str:
    """The normalised name of a requirement."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    if name is None:
        raise ValueError(f"`{requirement}` names no package")
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def resolve(requirements: Iterable[str], python: Path) -> dict[str, str]:
    """The version of every package that the requirements bring, by its name.

    Raises:
        subprocess.CalledProcessError: They do not go together; pip says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
        ]
        subprocess.run([*command, "--report", str(report), *requirements], check=True)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        name_of(each["metadata"]["name"]): each["metadata"]["version"].partition("+")[0]
        for each in installs
    }


def text(image: str, requirements: list[str], versions: Mapping[str, str]) -> str:
    """A lock as pip reads it, with what it was made from."""
    lines = [f"# {image}.Dockerfile installs these. Made by docker/lock.py from:"]
    lines += [f"#   {each}" for each in requirements]
    lines += [f"{name}=={versions[name]}" for name in sorted(versions) if name != BUILT]
    return "\n".join(lines) + "\n"


def made_from(lock: Path) -> list[str]:
    """The requirements that a lock says it was made from."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [each.removeprefix("#   ") for each in lines if each.startswith("#   ")]


def main(images: list[str]) -> None:
    """Write the locks of some images, or of all."""
    if sys.version_info[:2] != PYTHON:
        sys.exit("the images have Python {}.{}: run this with it".format(*PYTHON))
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
        for image in images or LOCKS:
            requirements = wanted(LOCKS[image])
            lock = FOLDER / "requirements" / f"{image}.txt"
            found = resolve(requirements, python)
            lock.write_text(text(image, requirements, found), encoding="utf-8")
            print(f"{lock.name}: {len(found)} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
