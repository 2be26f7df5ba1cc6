"""Starts the application on Ray, waits for a signal, and ends it politely. Knows Ray's life.

RAY_ADDRESS, Ray's own variable, names a cluster to join (`auto` is the one that `ray start` began
on this machine). Without it one of this machine alone is started, on loopback, and ended with the
server.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from qwenkit.cluster.ask import Target
from qwenkit.cluster.door import DoorPlan
from qwenkit.cluster.ledger import ledger_of
from qwenkit.cluster.plan import FleetPlan, WriteLog
from qwenkit.errors import ServerError
from qwenkit.extras import import_extra
from qwenkit.server.auth import KeyRing
from qwenkit.server.run import ServingInfo, listen, url_of

APP_NAME = "qwenkit"
REPLICA = "replica"
LOCAL = "local"
KEEP_ALIVE_S = 75
LOOPBACK = "127.0.0.1"
STDERR = 2

logger = logging.getLogger(__name__)


def serve_on_ray(
    make_app: Callable[[], FastAPI],
    fleet: FleetPlan,
    *,
    log: WriteLog,
    host: str,
    port: int,
    keys: KeyRing,
    max_body_bytes: int,
    client_timeout_s: float,
    is_demo: bool,
    on_ready: Callable[[ServingInfo], None],
) -> None:
    """Serve with several replicas until a signal has drained them. Call it on the main thread.

    Args:
        make_app: Makes the server of one replica; it is sent to the replicas.
        fleet: How many replicas, and what each may use.
        log: Has a process write its log.
        host: Where every machine's proxy listens.
        port: On which port; 0 takes a free one of this machine's.
        keys: Who may send requests with a body.
        max_body_bytes: Largest body.
        client_timeout_s: Seconds that a client may take to send a body.
        is_demo: Whether the model is the small demo model.
        on_ready: Called once, when requests are taken.

    Raises:
        MissingExtra: Ray is not installed.
        AddressInUse: Something else listens there.
        InvalidSettings: This machine alone has too little room for the replicas.
        ServerError: The replicas did not start, or the cluster has others of ours already.
    """
    is_own = _environment() == LOCAL
    import_extra("ray", extra="ray")
    from qwenkit.cluster.application import build

    with listen(host, port) as sock:
        url, port = url_of(sock), sock.getsockname()[1]
    door = DoorPlan(keys=keys, max_body_bytes=max_body_bytes, client_timeout_s=client_timeout_s)
    with _ray(fleet if is_own else None):
        folder = str(Path.cwd())
        application = build(make_app, door, fleet, log=log, app_name=APP_NAME, folder=folder)
        with _application(application, host=host, port=port) as replicas:
            replica = replicas.info.remote(Target()).result()
            info = _info(replica, url, is_demo=is_demo, needs_key=keys.needs_key)
            wait_for_signal(on_waiting=partial(on_ready, info))


def _environment() -> str:
    """Where the cluster is. Ray reads its variables when it is imported."""
    where = os.environ.get("RAY_ADDRESS") or LOCAL
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if where == LOCAL:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    return where


@contextmanager
def _ray(alone: FleetPlan | None) -> Iterator[None]:
    """Ray, begun or joined.

    Args:
        alone: What has to find room where a cluster of this machine alone is begun.
    """
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if alone is not None:
        options |= {"include_dashboard": False, "_node_ip_address": LOOPBACK}
    try:
        ray.init(address=_environment(), namespace=APP_NAME, **options)
    except Exception as exc:  # Ray raises Exception itself where it is too slow to start
        raise ServerError(
            f"Ray can't be started or joined: {exc}",
            hint="try again when the machine is less busy; with RAY_ADDRESS, look at `ray status`",
        ) from exc
    try:
        if alone is not None:
            room = ray.cluster_resources()
            alone.check_room(room.get("CPU", 0), room.get("GPU", 0))
        yield
    finally:
        ray.shutdown()


@contextmanager
def _application(application: Any, *, host: str, port: int) -> Iterator[Any]:
    import ray
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    logs = {"log_level": "WARNING"}
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if APP_NAME in serve.status().applications:
        raise ServerError(
            "the cluster serves qwenkit already",
            hint="stop the other one; one that was left behind is ended by `serve shutdown`",
        )
    try:
        try:
            serve.start(
                proxy_location="EveryNode",
                http_options={"host": host, "port": port, "keep_alive_timeout_s": KEEP_ALIVE_S},
                logging_config=logs,
            )
            serve.run(application, name=APP_NAME, route_prefix="/", logging_config=logs)
        except (RuntimeError, TimeoutError, RayError, RayServeException) as exc:
            raise ServerError(f"the replicas did not start: {exc}") from exc
        yield serve.get_deployment_handle(REPLICA, APP_NAME)
    finally:
        serve.delete(APP_NAME)
        if not serve.status().applications:  # a cluster may serve what others have begun
            serve.shutdown()
        ray.kill(ledger_of(APP_NAME))


def wait_for_signal(on_waiting: Callable[[], None]) -> None:
    """Return at the first SIGTERM or SIGINT; a second one is Python's own to handle.

    SIGHUP ends it as well where the terminal is gone; else it is noted in the log that settings
    are those of the start.

    Args:
        on_waiting: Called once signals are waited for.
    """
    stopped = threading.Event()
    has_terminal = os.isatty(STDERR)

    def hang_up(*_: Any) -> None:
        if has_terminal and not os.isatty(STDERR):
            stopped.set()
        else:
            logger.warning("settings that have changed are not taken on: start anew")

    handlers: dict[int, Any] = dict.fromkeys(
        (signal.SIGINT, signal.SIGTERM), lambda *_: stopped.set()
    )
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = hang_up
    before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
    try:
        on_waiting()
        stopped.wait()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _info(replica: dict[str, Any], url: str, *, is_demo: bool, needs_key: bool) -> ServingInfo:
    return ServingInfo(
        url=url,
        has_page=replica["has_page"],
        model=replica["model"],
        is_demo=is_demo,
        description=replica["description"],
        runtime=replica["runtime"],
        n_ctx=replica["n_ctx"],
        n_slots=replica["n_slots"],
        needs_key=needs_key,
    )
