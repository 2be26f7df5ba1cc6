"""The project's checks, each in an environment of its own: `nox -s tests lint types docs`."""

import os

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")

# llama-cpp-python comes as source. The multimodal part is not used and not built; pip keeps the
# wheel in its cache, so every session after the first installs it in a second.
BUILD = {"CMAKE_ARGS": os.environ.get("CMAKE_ARGS", "-DLLAVA_BUILD=OFF")}


TWO_AT_ONCE = ("-n", "2", "--dist", "loadfile")
APART = ("browser", "deploy", "guides", "label_studio", "node", "parity", "ray", "slow")
USUAL = " and ".join(f"not {marker}" for marker in APART)
NODE_PACKAGES = (
    "@continuedev/config-yaml@1.42.0",
    "@continuedev/openai-adapters@1.37.0",
    "@langchain/langgraph-sdk",
    "@modelcontextprotocol/conformance",
    "@modelcontextprotocol/inspector",
    "@modelcontextprotocol/server-everything",
)


def install(session: nox.Session, *groups: str) -> None:
    """Install the package and dependency groups of pyproject.toml."""
    wanted = [
        requirement
        for group in groups
        for requirement in nox.project.dependency_groups(PYPROJECT, group)
    ]
    session.install("-e", ".", *wanted, env=BUILD)


@nox.session(python=["3.11", "3.12", "3.13"])
def matrix(session: nox.Session) -> None:
    """The tests on every supported Python that is installed."""
    install(session, "test")
    session.run("pytest", "-m", USUAL, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Everything that needs no torch and no minutes."""
    install(session, "test")
    session.run("pytest", *TWO_AT_ONCE, "-m", USUAL, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The same, and which lines and branches they reach."""
    install(session, "test")
    wanted = ("--cov", "--cov-report=term:skip-covered")
    session.run("pytest", *TWO_AT_ONCE, "-m", USUAL, *wanted, *session.posargs)


@nox.session
def parity(session: nox.Session) -> None:
    """Numbers against transformers in float32; installs torch."""
    install(session, "test", "parity")
    wanted = "parity and not slow and not guides"
    session.run("pytest", *TWO_AT_ONCE, "-m", wanted, *session.posargs)


@nox.session
def optimum(session: nox.Session) -> None:
    """Optimum's exporter, which takes an older transformers and Hub client."""
    session.install(
        "optimum-onnx==0.1.*",
        "transformers<4.58",
        "torch==2.13.0",
        "gguf>=0.19",
        "numpy>=2",
        "onnx>=1.23",
        "onnx-ir>=1.1",
        "onnxruntime>=1.32",
        "psutil>=7",
        "pydantic-settings>=2.16",
        "pytest>=9",
        "rich>=15",
        "safetensors>=0.6",
        "typer>=0.29",
    )
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "tests/export/test_optimum.py", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """What takes minutes."""
    install(session, "test", "parity")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def node(session: nox.Session) -> None:
    """Programs of others, from npm: SDKs, Continue's packages, MCP's own servers and suites.

    Node 22 or newer must be on PATH; `NODE_MODULES` names a folder that has them already.
    """
    install(session, "test")
    modules = os.environ.get("NODE_MODULES")
    if modules is None:
        folder = session.create_tmp()
        session.run("npm", "install", "--prefix", folder, *NODE_PACKAGES, external=True)
        modules = f"{folder}/node_modules"
    session.run("pytest", "-m", "node", *session.posargs, env={"NODE_MODULES": modules})


@nox.session
def browser(session: nox.Session) -> None:
    """The chat page: its own tests, then the page in headless Chromium.

    CHROMIUM names the browser where it is not on PATH.
    """
    install(session, "test", "browser")
    session.run("pytest", "tests/ui", "-m", "browser or not slow", *session.posargs)


@nox.session
def label_studio(session: nox.Session) -> None:
    """A round trip through a real Label Studio, in an environment of its own."""
    folder = session.create_tmp()
    session.run("python", "-m", "venv", f"{folder}/label-studio")
    server = f"{folder}/label-studio/bin"
    session.run(f"{server}/pip", "install", "--quiet", "label-studio==1.23.2", external=True)
    requirements = PYPROJECT["project"]["optional-dependencies"]["label-studio"]
    install(session, "test")
    session.install(*requirements)
    session.run(
        "pytest",
        "-m",
        "label_studio",
        *session.posargs,
        env={"LABEL_STUDIO_COMMAND": f"{server}/label-studio"},
    )


@nox.session
def guides(session: nox.Session) -> None:
    """Guides as scripts, on the demo model; those that train are `slow`, and need torch."""
    install(session, "test")
    session.run("pytest", "tests/docs", "-m", "guides and not parity", *session.posargs)


@nox.session
def deploy(session: nox.Session) -> None:
    """Dockerfiles, Compose files, dashboards and alerts, checked by the programs they are for.

    docker-compose, promtool and prometheus must be on PATH: Debian's packages `docker-compose` and
    `prometheus` bring them.
    """
    install(session, "test", "deploy")
    session.run("python", "compose/monitoring/dashboards.py", "--check")
    session.run("pytest", "tests/deploy", "-m", "deploy and not slow", *session.posargs)


@nox.session
def ray(session: nox.Session) -> None:
    """Replicas of a server on Ray Serve, started, killed and replaced on this machine."""
    install(session, "test")
    session.install(*PYPROJECT["project"]["optional-dependencies"]["ray"])
    session.run("pytest", "tests/cluster", "-m", "ray and not slow", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities in what is installed; asks PyPI's and npm's advisory services."""
    install(session)
    session.install("pip-audit")
    session.run("pip-audit", "--skip-editable", *session.posargs)
    with session.chdir("qwenkit/ui/web"):
        session.run("npm", "audit", "--omit=dev", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lint."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation: generated pages are fresh, links hold, the site builds."""
    install(session, "docs")
    session.run("python", "docs/generate.py", "--check")
    session.run("mkdocs", "build", "--strict", *session.posargs)
