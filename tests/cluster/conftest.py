"""A cluster of two replicas on this machine, served by the command itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwenkit.cluster.ask import Accepted, Ask, Body, Head, Headers, Message, Target
from qwenkit.cluster.changes import Changes, Served
from qwenkit.cluster.fleet import Fleet
from qwenkit.cluster.ledger import Ledger
from qwenkit.cluster.lost import NoReplica, ReplicaLost
from qwenkit.server.loader import LoadPlan
from qwenkit.settings import Settings

START_S = 420.0
END_S = 90.0
N_STARTS = 2
SERVED = Served(LoadPlan(spec=Settings().model_spec()), {})
USER, ADMIN = "a-user's-key", "an-admin's-key"


class NotBegun(Exception):
    """The server ended before it served."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A served cluster.

    Args:
        url: Where it is.
        folder: Its working folder.
    """

    url: str
    folder: Path

    def client(self, key: str = ADMIN, timeout: float = 120) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def replicas(self) -> list[str]:
        with self.client() as client:
            status = client.get("/admin/status").json()
        return sorted(each["replica"] for each in status["replicas"])


def wait_until(happens: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Cluster]:
    """`qwenkit serve --ray` in a process of its own, until the context is left."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    log = folder / "serve.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "qwenkit", "serve", "--ray", "--port", str(port)],
            cwd=folder,
            env={
                **os.environ,
                "QWENKIT_HOME": str(folder / "home"),
                "LOG_DIR": str(folder / "logs"),
                "API_KEYS": USER,
                "ADMIN_API_KEYS": ADMIN,
                "N_THREADS": "1",
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: _has_begun(process, log), START_S)
        yield Cluster(f"http://127.0.0.1:{port}", folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(END_S)


def _has_begun(process: subprocess.Popen[bytes], log: Path) -> bool:
    said = log.read_text(encoding="utf-8")
    if process.poll() is not None:
        raise NotBegun(said)
    return "\naddress  http" in said


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("ray")
    with ExitStack() as stack:
        yield _begun(stack, tmp_path_factory)


def _begun(stack: ExitStack, folders: pytest.TempPathFactory) -> Cluster:
    """Ray gives up where its own processes take over 30 s to start, as on a machine with others."""
    for _ in range(N_STARTS - 1):
        with suppress(NotBegun):
            return stack.enter_context(serving(folders.mktemp("cluster")))
    return stack.enter_context(serving(folders.mktemp("cluster")))


@dataclass
class FakeReplica:
    """A replica without a model: answers what it is told to, and dies when it is told to."""

    status: int = 200
    content: bytes = b"fine"
    headers: Headers = ((b"content-type", b"application/json"),)
    dies: str = ""
    """`unheard`, `before` it accepts, having `accepted`, or after its `head`."""
    served: Served = SERVED
    becomes: Served | None = None
    undone: int = 0
    asked: list[Ask] = field(default_factory=list)


@dataclass
class FakeCalls:
    """Reaches fake replicas, the first that is not to be avoided."""

    replicas: dict[str, FakeReplica]
    kept: dict[str, Served] = field(default_factory=dict)

    def find(self, target: Target) -> str:
        if target.only in self.replicas:
            return target.only
        names = [name for name in self.replicas if name not in target.avoid]
        return (names or list(self.replicas))[0]

    async def call(self, method: str, target: Target) -> Any:
        name = self.find(target)
        replica = self.replicas[name]
        if target.only != name:
            return None
        if method == "undo":
            replica.undone += 1
            replica.served = self.kept[name]
            return True
        if method == "keep":
            self.kept[name] = replica.served
        return replica.served

    async def stream(self, ask: Ask) -> AsyncGenerator[Message, None]:
        name = self.find(ask.target)
        replica = self.replicas[name]
        replica.asked.append(ask)
        if replica.dies == "before":
            raise ReplicaLost("gone", replica=None)
        if replica.dies == "unheard":
            raise NoReplica
        is_meant = ask.target.only in (None, name)
        yield Accepted(name, is_meant)
        if not is_meant:
            return
        if replica.dies == "accepted":
            raise ReplicaLost("gone", replica=name)
        yield Head(replica.status, replica.headers)
        if replica.dies == "head":
            raise ReplicaLost("gone", replica=name)
        if replica.status < 400:
            replica.served = replica.becomes or replica.served
        yield Body(replica.content)


class FakeLedger:
    """A ledger in this process."""

    def __init__(self, calls: FakeCalls) -> None:
        self._calls = calls
        self.own = Ledger()

    async def replicas(self) -> list[str]:
        return sorted(self._calls.replicas)

    async def begin(self, who: str, at_most_s: float) -> bool:
        return self.own.begin(who, at_most_s)

    async def commit(self, changes: Changes) -> None:
        self.own.commit(changes)

    async def end(self, who: str) -> None:
        self.own.end(who)


@dataclass
class Fakes:
    """A fleet of fake replicas."""

    replicas: dict[str, FakeReplica]
    ledger: FakeLedger
    fleet: Fleet


@pytest.fixture
def fakes() -> Callable[..., Fakes]:
    """Makes a fleet: `fakes(a={"status": 503}, b={})`."""

    def make(**replicas: dict[str, Any]) -> Fakes:
        calls = FakeCalls({name: FakeReplica(**given) for name, given in replicas.items()})
        ledger = FakeLedger(calls)
        return Fakes(calls.replicas, ledger, Fleet(calls, ledger))

    return make
