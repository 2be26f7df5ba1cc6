"""The Compose files: that their services fit together, and that nothing has a default password."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenkit.mcp.client.config import load_config
from qwenkit.settings import Settings

COMPOSE = Path(__file__).parents[2] / "compose"
FILES = ("docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.cpu.yml")
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
BY_IMAGE = {"HOST", "PORT", "LOG_DIR", "QWENKIT_HOME"}
ELSEWHERE = {
    "OPENAI_API_BASE_URL",  # the agent's model is the server's own
    "OPENAI_API_KEY",
    "LANGFUSE_API_KEY",  # the two keys are set one by one
    "LANGFUSE_HOST",  # a former name
}
ONE_SHOT = {"mcp", "peft-tools"}
OURS = {"llm", "mcp", "peft-tools", "chat-ui"}
WITHOUT_A_SHELL = {"cadvisor", "dcgm-exporter"}


def read(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((COMPOSE / file).read_text(encoding="utf-8"))
    return content


SERVICES: dict[str, dict[str, Any]] = read("docker-compose.yml")["services"]


def variables(file: str) -> Iterator[tuple[str, str, str]]:
    """Each use of a variable: its name, how it stands in for an absent one, and with what."""
    yield from VARIABLE.findall((COMPOSE / file).read_text(encoding="utf-8"))


REQUIRED = sorted({name for file in FILES for name, kind, _ in variables(file) if kind == "?"})


def filled(value: Any, given: Mapping[str, str]) -> str:
    """A value as Compose passes it on."""
    return VARIABLE.sub(
        lambda found: given.get(found[1]) or (found[3] if found[2] == "-" else ""), str(value)
    )


def example() -> dict[str, str]:
    return dotenv(COMPOSE / ".env.example")


def dotenv(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(each.split("=", 1) for each in lines if each and not each.startswith("#"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder as it is after a clone."""
    into = tmp_path / "qwenkit" / "compose"
    shutil.copytree(COMPOSE, into, ignore=shutil.ignore_patterns(".env", "secrets"))
    return into


def make_env(folder: Path, *arguments: str) -> dict[str, str]:
    command = ["sh", folder / "new-env.sh", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return dotenv(folder / ".env")


def test_the_services_are_there() -> None:
    wanted = {"llm", "chat-ui", "langfuse", "langfuse-worker", "labelstudio", "mcp", "peft-tools"}
    wanted |= {"postgres", "clickhouse", "redis", "object-store"}
    wanted |= {"prometheus", "grafana", "cadvisor"}
    assert wanted == set(SERVICES)


def test_every_setting_can_be_given_to_the_server() -> None:
    passed = set(SERVICES["llm"]["environment"])
    settings = {name.upper() for name in Settings.model_fields}
    of_many_machines = {each for each in settings if each.startswith("RAY_")}
    assert settings - passed - of_many_machines == BY_IMAGE | ELSEWHERE
    assert passed <= settings


def test_settings_that_stand_empty_keep_their_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    usual = Settings()
    environment = {
        name: filled(value, {}) for name, value in SERVICES["llm"]["environment"].items()
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = Settings()
    changed = {
        name.upper()
        for name in Settings.model_fields
        if getattr(given, name) != getattr(usual, name)
    }
    assert changed == {
        *("MCP_CONFIG", "LANGFUSE_BASE_URL", "LABEL_STUDIO_URL", "LOG_FORMAT"),
        *("LORA_PATHS", "LORA_WATCH", "LORA_DIRS"),
    }


def test_each_who_calls_the_server_has_a_key_of_its_own(folder: Path) -> None:
    given = make_env(folder)
    keys = filled(SERVICES["llm"]["environment"]["API_KEYS"], given).split(",")
    admin = filled(SERVICES["llm"]["environment"]["ADMIN_API_KEYS"], given)
    assert len({*keys, admin}) == 4
    assert filled(SERVICES["chat-ui"]["environment"]["LANGSMITH_API_KEY"], given) in keys
    assert (folder / "secrets" / "metrics_api_key").read_text(encoding="utf-8") in keys


def test_langfuse_makes_the_project_whose_keys_the_server_has() -> None:
    served, made = SERVICES["llm"]["environment"], SERVICES["langfuse"]["environment"]
    for kind in ("PUBLIC", "SECRET"):
        assert served[f"LANGFUSE_{kind}_KEY"] == made[f"LANGFUSE_INIT_PROJECT_{kind}_KEY"]
    assert served["LANGFUSE_BASE_URL"].endswith("http://langfuse:3000}")


def test_label_studio_has_the_token_that_the_server_sends() -> None:
    token = SERVICES["labelstudio"]["environment"]["LABEL_STUDIO_USER_TOKEN"]
    assert SERVICES["llm"]["environment"]["LABEL_STUDIO_API_KEY"] == token


def test_each_database_is_made_with_the_password_that_its_service_has() -> None:
    made = SERVICES["postgres"]["environment"]
    langfuse = SERVICES["langfuse"]["environment"]["DATABASE_URL"]
    assert (
        langfuse == f"postgresql://langfuse:{made['LANGFUSE_DB_PASSWORD']}@postgres:5432/langfuse"
    )
    label_studio = SERVICES["labelstudio"]["environment"]["POSTGRE_PASSWORD"]
    assert label_studio == made["LABEL_STUDIO_DB_PASSWORD"]


def test_the_file_of_mcp_servers_can_be_read() -> None:
    assert load_config(COMPOSE / "mcp.json", {}) == ()


@pytest.mark.parametrize("file", FILES)
def test_no_secret_has_a_default(file: str) -> None:
    for name, kind, rest in variables(file):
        if re.search(r"PASSWORD|SECRET|SALT|API_KEY|ENCRYPTION|_KEY$", name):
            assert (kind, rest) == ("?", "run new-env.sh"), name


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_required_stands_in_the_example(name: str) -> None:
    assert name in example()


def test_the_example_has_no_secrets() -> None:
    empty = {name for name, value in example().items() if not value}
    secrets = {n for n in REQUIRED if n not in {"LANGFUSE_USER_EMAIL", "LABEL_STUDIO_USERNAME"}}
    assert secrets <= empty


def test_new_env_fills_in_everything_that_is_required(folder: Path) -> None:
    given = make_env(folder)
    assert all(given[name] for name in REQUIRED)
    assert len({given[name] for name in REQUIRED}) == len(REQUIRED) - 1  # one address for two
    assert re.fullmatch("[0-9a-f]{64}", given["LANGFUSE_ENCRYPTION_KEY"])
    assert re.fullmatch("[0-9a-f]{40}", given["LABEL_STUDIO_API_KEY"])
    assert given["LANGFUSE_SECRET_KEY"].startswith("sk-lf-")


def test_new_env_keeps_what_is_there_and_adds_what_is_missing(folder: Path) -> None:
    before = make_env(folder, "--cpu")
    kept = {**before, "MODEL_PATH": "mine"}
    del kept["REDIS_PASSWORD"]
    lines = "".join(f"{name}={value}\n" for name, value in kept.items())
    (folder / ".env").write_text(lines, encoding="utf-8")
    after = make_env(folder)
    assert after.pop("REDIS_PASSWORD") not in ("", before["REDIS_PASSWORD"])
    assert after == kept


def test_new_env_spoils_no_last_line_that_has_no_end(folder: Path) -> None:
    before = make_env(folder)
    lines = "\n".join(f"{name}={value}" for name, value in before.items())
    (folder / ".env").write_text(f"{lines}\nREDIS_IMAGE=mine", encoding="utf-8")
    assert make_env(folder) == {**before, "REDIS_IMAGE": "mine"}


def test_others_cannot_read_what_new_env_writes(folder: Path) -> None:
    make_env(folder)
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    # Prometheus has another user, which sees the file and not the folder.
    assert stat.S_IMODE((folder / "secrets" / "metrics_api_key").stat().st_mode) == 0o644


def test_new_env_refuses_what_it_does_not_know(folder: Path) -> None:
    done = subprocess.run(["sh", folder / "new-env.sh", "--tpu"], capture_output=True, check=False)
    assert done.returncode == 2
    assert not (folder / ".env").exists()


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_unless_asked_otherwise(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:")
    assert example()["BIND_ADDRESS"] == "127.0.0.1"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_starts_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_says_how_its_health_is_asked(name: str) -> None:
    """Ours by their images, and cAdvisor by its own."""
    assert "healthcheck" in SERVICES[name] or name in OURS | WITHOUT_A_SHELL


@pytest.mark.parametrize("name", SERVICES)
def test_services_wait_for_the_health_of_others(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert how == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - OURS))
def test_images_of_others_have_the_tag_of_a_version(name: str) -> None:
    assert re.search(r":-[\w./-]+:(v?\d+\.\d+|RELEASE\.\d{4})", SERVICES[name]["image"])


@pytest.mark.parametrize("name", ["postgres", "clickhouse", "redis", "object-store"])
def test_stores_are_reached_by_those_alone_that_use_them(name: str) -> None:
    assert SERVICES[name]["networks"] == ["data"]
    assert "ports" not in SERVICES[name]
    assert read("docker-compose.yml")["networks"]["data"] == {"internal": True}
    users = {each for each in SERVICES if "data" in SERVICES[each]["networks"]}
    assert users == {
        *("postgres", "clickhouse", "redis", "object-store"),
        *("langfuse", "langfuse-worker", "labelstudio"),
    }


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for each in service.get("volumes", []):
            source = filled(each, {}).partition(":")[0]
            if source.startswith("./"):
                assert (COMPOSE / source).exists(), source


@pytest.mark.parametrize("name", ["llm", "mcp"])
def test_what_is_written_in_memory_belongs_to_the_images_user(name: str) -> None:
    """A tmpfs has the mode of the image's folder, and root for its owner."""
    for each in SERVICES[name]["tmpfs"]:
        assert each == "/tmp" or each.endswith(":uid=10001,gid=10001")


def test_gpus_are_reserved_for_what_computes() -> None:
    for name in ("llm", "peft-tools"):
        reserved = read("docker-compose.gpu.yml")["services"][name]["deploy"]["resources"]
        (device,) = reserved["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "devices" not in (COMPOSE / "docker-compose.cpu.yml").read_text(encoding="utf-8")


@pytest.mark.deploy
@pytest.mark.parametrize("kind", ["--cpu", "--gpu"])
def test_docker_compose_puts_the_files_together(folder: Path, kind: str) -> None:
    make_env(folder, kind)
    services = config(folder)["services"]
    assert set(SERVICES) <= set(services)
    assert services["llm"]["build"]["dockerfile"].endswith(
        "llm-cpu.Dockerfile" if kind == "--cpu" else "llm.Dockerfile"
    )
    has_gpus = "reservations" in services["llm"]["deploy"]["resources"]
    assert has_gpus is (kind == "--gpu")


@pytest.mark.deploy
@pytest.mark.parametrize("name", ["QWENKIT_API_KEY", "GRAFANA_PASSWORD"])
def test_docker_compose_refuses_to_start_without_a_secret(folder: Path, name: str) -> None:
    given = make_env(folder)
    lines = "".join(f"{each}={value}\n" for each, value in given.items() if each != name)
    (folder / ".env").write_text(lines, encoding="utf-8")
    done = compose(folder, "config", "-q")
    assert done.returncode
    assert name in done.stderr


@pytest.mark.deploy
@pytest.mark.parametrize("file", FILES)
def test_a_file_is_as_the_specification_has_it(file: str) -> None:
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, COMPOSE / file], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout


def config(folder: Path) -> dict[str, Any]:
    """All services of all profiles, as docker-compose understands them."""
    profiles = ("--profile", "mcp", "--profile", "peft-tools", "--profile", "exporters")
    done = compose(folder, *profiles, "config")
    assert not done.returncode, done.stderr
    content: dict[str, Any] = yaml.safe_load(done.stdout)
    return content


def compose(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("docker-compose"), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def program(name: str) -> str:
    """A program beside this Python or on PATH."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found is not None, f"{name} is not installed"
    return found
