"""Runs what the Dockerfiles install, without Docker: `python docker/try_runs.py llm-cpu`.

Each stage becomes a folder, and every RUN line that installs runs with the paths it names inside
of that folder, under this machine's Python, Node and pip, from the files alone that the ignore file
lets through. Then the image's command is started and its health check asked.

What that shows: the lines work, the versions go together, the server starts. What it does not: the
base images, users and file systems of containers, and CUDA. `apt-get` only simulates, and only for
images of this machine's release; llama-cpp-python is compiled without CUDA.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).parent))

from dockerfile import (
    Instruction,
    Stage,
    image_of,
    is_ignored,
    patterns_of,
    split_mounts,
    stages,
)

FOLDER = Path(__file__).parent
CONTEXT = FOLDER.parent
INSTALLS = re.compile(r"\b(apt-get install|pip install|pip wheel|npm ci|npm pack|python -m venv)\b")
OWN_PATHS = re.compile(r"(?<![\w./$}-])/(opt|wheels|src|page|models|logs)(?![\w-])")
VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
CUDA_FLAG = re.compile(r"\s*-D\S*(CUDA|shlib)\S*")
PACKAGES = re.compile(r"--no-install-recommends (.*?)\s*&&")
START_S = 300.0
KEY = "only-for-this-try"
INHERITED = re.compile(
    r"HOME|LANG|PATH|TMPDIR|PIP_\w+|npm_config_\w+|NODE_EXTRA_CA_CERTS|SSL_CERT_\w+|\w+_proxy",
    re.IGNORECASE,
)
"""What a line may know of this machine: how packages are reached."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line.

    Args:
        stage: The stage it stands in.
        line: The line.
        result: `ran`, or what was done in its place and why.
        seconds: How long that took.
    """

    stage: str
    line: str
    result: str
    seconds: float


class Failed(Exception):
    """A line, or the image's command, did not work."""


@dataclass
class Trial:
    """One image, stage by stage, in a folder.

    Args:
        image: Its name: `llm-cpu` of `llm-cpu.Dockerfile`.
        folder: Where its stages become folders.
        wheels: Where compiled wheels are kept between trials.
        arguments: Values for `ARG`.
    """

    image: str
    folder: Path
    wheels: Path
    arguments: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dockerfile = FOLDER / f"{self.image}.Dockerfile"
        self.stages = stages(self.dockerfile)
        self.outcomes: list[Outcome] = []
        self.environment: dict[str, str] = {}
        self.last: list[Instruction] = []

    def run(self) -> None:
        """Run every stage.

        Raises:
            Failed: A line did not work.
        """
        for stage in self.stages:
            self._run_stage(stage)

    def root(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.folder / stage

    def _run_stage(self, stage: Stage) -> None:
        root = self.root(stage.name)
        root.mkdir(parents=True, exist_ok=True)
        self.environment = {k: v for k, v in os.environ.items() if INHERITED.fullmatch(k)}
        self.last = stage.instructions
        cwd = "/"
        for each in stage.instructions:
            match each.keyword:
                case "ARG":
                    name, _, default = each.argument.partition("=")
                    self.environment[name] = self.arguments.get(name, default.strip('"'))
                case "ENV":
                    self._set(each.argument, root)
                case "WORKDIR":
                    cwd = each.argument
                    inside(root, cwd).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(each.argument, root, cwd)
                case "RUN" if INSTALLS.search(each.argument):
                    self._install(stage, each.argument, inside(root, cwd))

    def _set(self, argument: str, root: Path) -> None:
        for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|(\S*))', argument):
            value = expand(quoted or bare, self.environment)
            self.environment[name] = OWN_PATHS.sub(rf"{root}/\1", value)

    def _copy(self, argument: str, root: Path, cwd: str) -> None:
        *sources, target = (each for each in argument.split() if not each.startswith("--"))
        into = inside(root, str(PurePosixPath(cwd) / target))
        origin = re.search(r"--from=(\S+)", argument)
        if origin is not None and not self.root(origin.group(1)).is_dir():
            raise Failed(f"{self.image}: COPY is from `{origin.group(1)}`, which is no stage")
        if origin is not None:
            copied = inside(self.root(origin.group(1)), sources[0])
            if copied.is_dir():
                shutil.copytree(copied, into, dirs_exist_ok=True)
            return
        patterns = patterns_of(self.dockerfile)
        for source in sources:
            copy_allowed(source, into, patterns, is_folder=target.endswith("/"))

    def _install(self, stage: Stage, argument: str, cwd: Path) -> None:
        began = time.monotonic()
        mounts, command = split_mounts(argument)
        root = self.root(stage.name)
        for mount in mounts:
            target = inside(root, mount.target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink():
                target.symlink_to(inside(self.root(mount.stage), mount.source))
        if self._is_kept(stage, command):
            result = "ran before, and was kept"
        elif "apt-get install" in command:
            result = self._simulate(command, image_of(stage, self.stages))
        elif "llama-cpp-python" in command:
            result = self._compile(OWN_PATHS.sub(rf"{root}/\1", command), cwd, root)
        else:
            self._shell(OWN_PATHS.sub(rf"{root}/\1", command), cwd)
            result = "ran"
        self._keep(stage, command)
        self.outcomes.append(Outcome(stage.name, command, result, time.monotonic() - began))
        print(f"{self.image}: {stage.name}: {result}: {command[:90]}", file=sys.stderr, flush=True)

    @property
    def _kept(self) -> Path:
        return self.folder / "kept.jsonl"

    def _is_kept(self, stage: Stage, command: str) -> bool:
        line = json.dumps([stage.name, command])
        return self._kept.exists() and line in self._kept.read_text("utf-8").splitlines()

    def _keep(self, stage: Stage, command: str) -> None:
        if not self._is_kept(stage, command):
            with self._kept.open("a", encoding="utf-8") as kept:
                kept.write(json.dumps([stage.name, command]) + "\n")

    def _simulate(self, command: str, image: str) -> str:
        release = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text("utf-8"))
        if release is None or release.group(1) not in image:
            return f"not run: this machine does not have the packages of {image}"
        packages = PACKAGES.search(command)
        if packages is None:
            raise Failed(f"{self.image}: can't tell what `{command}` installs")
        self._shell(f"apt-get install --simulate -qq {packages.group(1)}", self.folder)
        return "simulated"

    def _compile(self, command: str, cwd: Path, root: Path) -> str:
        flags = self.environment.get("CMAKE_ARGS", "")
        self.environment["CMAKE_ARGS"] = usable = CUDA_FLAG.sub("", flags).strip()
        built_by = f"{self.environment['LLAMA_CPP_PYTHON']} {usable} {sys.version_info[:2]}"
        kept = self.wheels / hashlib.sha256(built_by.encode()).hexdigest()[:12]
        into = root / "wheels"
        if kept.is_dir():
            shutil.copytree(kept, into, dirs_exist_ok=True)
            result = "compiled before, by the same flags"
        else:
            self._shell(command, cwd)
            shutil.copytree(into, kept)
            result = "ran"
        return result if usable == flags.strip() else f"{result}, without CUDA"

    def _shell(self, command: str, cwd: Path) -> None:
        with subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as running:
            try:
                said, _ = running.communicate()
            except BaseException:
                os.killpg(running.pid, signal.SIGKILL)  # all that the line has started
                raise
        if running.returncode:
            raise Failed(f"{self.image}: `{command}` ended with {running.returncode}\n{said}")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """A text with its variables filled in; one that is not set is empty."""
    return VARIABLE.sub(lambda found: environment.get(found[1] or found[2], ""), text)


def inside(root: Path, path: str) -> Path:
    """Where an absolute path of an image is."""
    return root / path.lstrip("/")


def copy_allowed(source: str, into: Path, patterns: list[str], *, is_folder: bool) -> None:
    """Copy a file or folder of the build's context, without what is ignored.

    Raises:
        Failed: All of it is ignored, or it is not there.
    """
    origin = CONTEXT / source
    files = sorted(origin.rglob("*")) if origin.is_dir() else [origin]
    allowed = [
        each
        for each in files
        if each.is_file() and not is_ignored(each.relative_to(CONTEXT).as_posix(), patterns)
    ]
    if not allowed:
        raise Failed(f"COPY finds nothing at `{source}`")
    for each in allowed:
        if origin.is_dir():
            target = into / each.relative_to(origin)
        else:
            target = into / each.name if is_folder else into
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(each, target)


def serve(trial: Trial) -> None:
    """Start a server image's command, ask its health check, chat, and stop it.

    Raises:
        Failed: It does not get healthy, does not answer, or does not end when it is told to.
    """
    root = trial.root(trial.stages[-1].name)
    words = {each.keyword: each.argument for each in trial.last}
    command = [*json.loads(words["ENTRYPOINT"]), *json.loads(words["CMD"])]
    health = json.loads(words["HEALTHCHECK"].partition("CMD ")[2])
    for each in ("models", "logs"):
        (root / each).mkdir(exist_ok=True)
    settings = {"API_KEYS": KEY, "PORT": str(free_port()), "N_THREADS": "1"}
    environment = {**trial.environment, **settings}
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(command, env=environment, cwd=root, stdout=said, stderr=said)
        try:
            until_healthy(server, health, environment)
            chat(environment["PORT"])
            server.send_signal(signal.SIGTERM)
            if server.wait(60):
                raise Failed(f"the server ended with {server.returncode}")
        except Failed as exc:
            said.seek(0)
            raise Failed(f"{trial.image}: {exc}\n{said.read().decode()}") from None
        finally:
            server.kill()
            server.wait()


def until_healthy(
    server: subprocess.Popen[bytes], health: list[str], environment: Mapping[str, str]
) -> None:
    """Wait for a health check to succeed, as Docker does."""
    deadline = time.monotonic() + START_S
    while subprocess.run(health, env=environment, capture_output=True, check=False).returncode:
        if server.poll() is not None:
            raise Failed(f"the server ended with {server.returncode}")
        if time.monotonic() > deadline:
            raise Failed("the server did not get healthy")
        time.sleep(0.5)


def chat(port: str) -> None:
    """Ask a server something."""
    body = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection = HTTPConnection("127.0.0.1", int(port), timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = json.load(connection.getresponse())
    finally:
        connection.close()
    if not answer.get("choices"):
        raise Failed(f"the server answered {answer}")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Try images, and say what was run and what was not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="+", help="such as llm-cpu")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--wheels", type=Path, help="keeps compiled wheels between runs")
    parser.add_argument("--keep", type=Path, help="leaves the folders there, and goes on with them")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = dict(each.split("=", 1) for each in options.build_arg)
    with tempfile.TemporaryDirectory(prefix="qwenkit-images-") as folder:
        wheels = options.wheels or Path(folder) / "wheels"
        outcomes = []
        try:
            for image in options.images:
                trial = Trial(image, (options.keep or Path(folder)) / image, wheels, arguments)
                trial.run()
                if 'CMD ["serve"]' in trial.dockerfile.read_text(encoding="utf-8"):
                    serve(trial)
                outcomes += [(image, each) for each in trial.outcomes]
        except Failed as exc:
            sys.exit(str(exc))
    for image, each in outcomes:
        print(f"{image}\t{each.stage}\t{each.seconds:.0f} s\t{each.result}\t{each.line[:100]}")


if __name__ == "__main__":
    main()
