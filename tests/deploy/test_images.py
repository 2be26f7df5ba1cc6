"""The Dockerfiles: what they are made from, what they install, and that it really installs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
PYTHON_IMAGES = ("llm", "llm-cpu", "peft-tools")
SECRETS = (".env", "compose/.env", "compose/secrets/metrics_api_key", "logs/feedback/a.jsonl")


def load(name: str) -> ModuleType:
    """A script of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


dockerfile = load("dockerfile")
lock = load("lock")


def image_name(path: Path) -> str:
    return path.name.removesuffix(".Dockerfile")


def named(path: Path) -> str:
    return image_name(path)


def text(image: str) -> str:
    return (DOCKER / f"{image}.Dockerfile").read_text(encoding="utf-8")


def locked(image: str) -> dict[str, str]:
    lines = (DOCKER / "requirements" / f"{image}.txt").read_text(encoding="utf-8").splitlines()
    return dict(each.split("==") for each in lines if not each.startswith("#"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_every_base_image_has_the_tag_of_a_version(path: Path) -> None:
    stages = dockerfile.stages(path)
    for stage in stages:
        image = dockerfile.image_of(stage, stages)
        assert re.search(r":v?\d+\.\d+\.\d+", image), image


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_no_image_runs_as_root(path: Path) -> None:
    last = dockerfile.stages(path)[-1]
    users = [each.argument for each in last.instructions if each.keyword == "USER"]
    assert users == ["10001:10001"] or "unprivileged" in last.base


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_every_image_says_how_its_health_is_asked(path: Path) -> None:
    last = dockerfile.stages(path)[-1]
    assert "HEALTHCHECK" in {each.keyword for each in last.instructions}


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    patterns = dockerfile.patterns_of(path)
    for stage in dockerfile.stages(path):
        for each in stage.instructions:
            if each.keyword != "COPY" or each.argument.startswith("--from"):
                continue
            *sources, _ = each.argument.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert not dockerfile.is_ignored(source, patterns), source


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_and_logs_never_enter_a_build(path: Path, secret: str) -> None:
    assert dockerfile.is_ignored(secret, dockerfile.patterns_of(path))


def test_built_pages_and_node_modules_never_enter_a_build() -> None:
    patterns = dockerfile.patterns_of(DOCKER / "llm.Dockerfile")
    for path in ("qwenkit/ui/dist/index.html", "qwenkit/ui/web/node_modules/a/b.js"):
        assert dockerfile.is_ignored(path, patterns)


@pytest.mark.parametrize("image", PYTHON_IMAGES)
def test_a_lock_is_made_from_what_pyproject_says_now(image: str) -> None:
    """Where this fails: `python docker/lock.py`, with Python 3.11."""
    path = DOCKER / "requirements" / f"{image}.txt"
    assert lock.made_from(path) == lock.wanted(lock.LOCKS[image])


@pytest.mark.parametrize("image", PYTHON_IMAGES)
def test_a_lock_fulfils_what_it_was_made_from(image: str) -> None:
    versions = locked(image)
    for each in lock.wanted(lock.LOCKS[image]):
        requirement = Requirement(each)
        name = lock.name_of(requirement.name)
        if name != lock.BUILT:
            assert requirement.specifier.contains(versions[name]), each


@pytest.mark.parametrize("image", PYTHON_IMAGES)
def test_an_image_has_one_onnx_runtime(image: str) -> None:
    """Both kinds install the same files."""
    runtimes = {"onnxruntime", "onnxruntime-gpu"} & set(locked(image))
    assert runtimes == ({"onnxruntime-gpu"} if image == "llm" else {"onnxruntime"})


@pytest.mark.parametrize("image", PYTHON_IMAGES)
def test_llama_cpp_is_compiled_at_the_version_that_the_package_names(image: str) -> None:
    version = re.search(r"ARG LLAMA_CPP_PYTHON=(\S+)", text(image))
    assert version is not None
    assert f"llama-cpp-python=={version[1]}" in PYPROJECT["project"]["dependencies"]
    assert lock.BUILT not in locked(image)


@pytest.mark.parametrize("image", PYTHON_IMAGES)
def test_llama_cpp_is_compiled_for_other_machines_than_the_one_it_is_built_on(image: str) -> None:
    assert "-DGGML_NATIVE=OFF" in text(image)


def test_what_only_the_image_with_the_compiler_has_is_not_linked() -> None:
    assert "-DGGML_CUDA_NCCL=OFF" in text("llm")


@pytest.mark.parametrize("image", ["llm", "llm-cpu"])
def test_torch_is_installed_at_the_version_of_the_lock(image: str) -> None:
    assert f'"$TORCH_INDEX_URL" torch=={locked(image)["torch"]}' in text(image)


@pytest.mark.parametrize("image", ["llm", "llm-cpu"])
def test_the_health_check_asks_the_port_that_the_server_has(image: str) -> None:
    assert "HOST=0.0.0.0" in text(image)
    assert "{os.environ[" in text(image)


def test_every_variable_of_the_pages_configuration_is_known() -> None:
    template = (DOCKER / "chat-ui" / "default.conf.template").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)\}", template))
    by_image = {"CHAT_UI_HOSTS", "NEXT_PUBLIC_API_URL", "NEXT_PUBLIC_ASSISTANT_ID"}
    by_whoever_starts_it = {"LANGGRAPH_API_URL", "LANGSMITH_API_KEY"}
    by_nginx = {"NGINX_LOCAL_RESOLVERS"}
    assert used == by_image | by_whoever_starts_it | by_nginx
    assert all(f"{each}=" in text("chat-ui") for each in by_image)
    assert "NGINX_ENTRYPOINT_LOCAL_RESOLVERS=1" in text("chat-ui")


def test_the_page_sends_paths_on_as_they_came() -> None:
    """What nginx has decoded, a blank or a question mark, would end the path or the request."""
    template = (DOCKER / "chat-ui" / "default.conf.template").read_text(encoding="utf-8")
    assert "map $request_uri $route {" in template
    assert "proxy_pass $agent$route$is_args$args;" in template


def test_the_pages_lock_names_no_address() -> None:
    packages = (DOCKER / "chat-ui" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in packages
    assert '"integrity"' in packages


def test_continued_lines_and_comments_between_them_are_one_instruction() -> None:
    found = list(dockerfile.instructions("RUN a \\\n    # why\n    && b\n\nUSER me\n"))
    assert [(each.keyword, each.argument) for each in found] == [
        ("RUN", "a && b"),
        ("USER", "me"),
    ]


def test_mounts_are_told_from_the_command() -> None:
    mounts, command = dockerfile.split_mounts(
        "--mount=type=bind,from=wheel,source=/wheels,target=/w pip install /w/*.whl"
    )
    assert command == "pip install /w/*.whl"
    assert mounts == [dockerfile.Mount("wheel", "/wheels", "/w")]


@pytest.mark.parametrize(
    ("path", "ignored"),
    [("a/b.py", False), ("a/skip/b.py", True), ("a/x/node_modules/b.js", True), ("c.py", True)],
)
def test_the_last_pattern_that_matches_decides(path: str, ignored: bool) -> None:
    patterns = ["*", "!a", "a/skip", "**/node_modules"]
    assert dockerfile.is_ignored(path, patterns) is ignored


@pytest.mark.deploy
@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_hadolint_finds_nothing(path: Path) -> None:
    command = [program("hadolint"), "--config", DOCKER / ".hadolint.yaml", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("image", ["llm-cpu", "peft-tools", "chat-ui"])
def test_what_an_image_installs_goes_together_and_works(image: str, tmp_path: Path) -> None:
    """With WHEELS, compiled wheels are kept in that folder from one run to the next."""
    command = [sys.executable, DOCKER / "try_runs.py", image]
    command += ["--wheels", os.environ.get("WHEELS", str(tmp_path / "wheels"))]
    if "TORCH_INDEX_URL" in os.environ:
        command += ["--build-arg", f"TORCH_INDEX_URL={os.environ['TORCH_INDEX_URL']}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def program(name: str) -> str:
    """A program beside this Python or on PATH."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found is not None, f"{name} is not installed"
    return found
