"""Listens, runs the server, and ends it politely. Knows sockets and signals; no routes.

The first SIGTERM or SIGINT drains: nothing new is accepted, running answers may finish for a
while, those that don't are ended with an error. A second signal ends at once. SIGHUP reads the
settings again; where it means that the terminal is gone, it ends the server like SIGTERM.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from qwenkit.chat.loading import load_chat_model
from qwenkit.errors import AddressInUse, InvalidSettings, QwenkitError, ServerError
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.server.app import create_app
from qwenkit.server.connection import connection_with
from qwenkit.server.loader import Loader
from qwenkit.server.logs import written_to
from qwenkit.server.plans import keys_of
from qwenkit.server.rereading import Rereader
from qwenkit.server.serving import Serving
from qwenkit.server.ui import Page
from qwenkit.settings import LogFormat, Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 75
CANCEL_GRACE_S = 5.0
STDERR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingInfo:
    """What a server that takes requests can say of itself.

    Args:
        url: Where it can be reached from this machine, without a path.
        has_page: Whether the chat page is there.
        model: The served model's name.
        is_demo: Whether that is the small demo model.
        description: One line on the model for people.
        runtime: The runtime that computes it.
        n_ctx: Tokens of context.
        n_slots: Sequences decoded together.
        needs_key: Whether requests need an API key.
    """

    url: str
    has_page: bool
    model: str
    is_demo: bool
    description: str
    runtime: str
    n_ctx: int
    n_slots: int
    needs_key: bool


def serve(
    settings: Settings,
    *,
    on_ready: Callable[[ServingInfo], None],
    progress: ProgressFactory = silent,
    load: Loader = load_chat_model,
) -> None:
    """Serve until a signal has drained the server. Call it on the main thread.

    Args:
        on_ready: Called once, when the model is loaded and requests are taken.
        progress: Told what is downloaded, converted and loaded.
        load: Loads a model.

    Raises:
        InvalidSettings: The address is public and no key is set, or is none of this machine's.
        AddressInUse: Something else listens there; known before anything is loaded.
        QwenkitError: The model could not be loaded.
    """
    with logged(settings):
        _serve(settings, on_ready=on_ready, progress=progress, load=load)


@contextmanager
def logged(settings: Settings) -> Iterator[None]:
    """Write the log as the settings say; as JSON, it also has why serving failed."""
    with written_to(sys.stderr, form=settings.log_format.value, level=settings.log_level.value):
        try:
            yield
        except QwenkitError as exc:
            if settings.log_format is LogFormat.JSON:
                logger.critical("could not serve: %s; hint: %s", exc.message, exc.hint or "none")
            raise


def _serve(
    settings: Settings,
    *,
    on_ready: Callable[[ServingInfo], None],
    progress: ProgressFactory,
    load: Loader,
) -> None:
    refuse_open_address(settings)
    with listen(settings.host, settings.port) as sock:
        app = create_app(settings, load=load, progress=progress)
        rereader: Rereader = app.state.rereader
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=connection_with(timeout_s=settings.client_timeout_s),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s + CANCEL_GRACE_S),
        )
        server = _Server(config, rereader, drain_timeout_s=settings.drain_timeout_s)
        server.when_stopping = app.state.agent.stop
        server.when_drained = partial(_leave_mcp, app)
        server.when_loaded = lambda: on_ready(_info(settings, app, sock))
        server.run(sockets=[sock])
    server.raise_load_failure()


def _info(settings: Settings, app: FastAPI, sock: socket.socket) -> ServingInfo:
    serving: Serving = app.state.rereader.serving
    page: Page = app.state.page
    model = serving.model
    return ServingInfo(
        url=url_of(sock),
        has_page=page.is_built,
        model=model.name,
        is_demo=settings.model_path is None,
        description=model.engine.facts.description,
        runtime=model.engine.facts.runtime,
        n_ctx=model.engine.capabilities.n_ctx,
        n_slots=model.engine.capabilities.n_slots,
        needs_key=keys_of(settings).needs_key,
    )


def refuse_open_address(settings: Settings) -> None:
    """Let only those with keys listen on an address that others can reach.

    Raises:
        InvalidSettings: HOST is no loopback address and API_KEYS is empty.
    """
    if keys_of(settings).needs_key or _is_loopback(settings.host):
        return
    raise InvalidSettings(
        f"HOST is {settings.host}, which others can reach, and API_KEYS is empty",
        hint="set API_KEYS, for example to the output of `openssl rand -hex 24`",
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that nothing is loaded for an address that can't be had.

    Raises:
        AddressInUse: Something else listens there.
        InvalidSettings: The host is none of this machine's addresses.
        ServerError: The system does not allow it.
    """
    address = _addresses(host)[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise _cannot_listen(exc, host, port) from exc


def _cannot_listen(exc: OSError, host: str, port: int) -> ServerError | InvalidSettings:
    match exc.errno:
        case errno.EADDRINUSE:
            return AddressInUse(
                f"something else listens on port {port} of {host}",
                hint=f"qwenkit serve --port {port + 1}, or 0 for any free port",
            )
        case errno.EADDRNOTAVAIL:
            return InvalidSettings(f"HOST is {host}, which is no address of this machine")
        case _:
            return ServerError(f"can't listen on port {port} of {host}: {exc.strerror}")


def _is_loopback(host: str) -> bool:
    # An IPv6 zone (`fe80::1%eth0`) is part of getaddrinfo's spelling but not of the address.
    addresses = (address.partition("%")[0] for address in _addresses(host))
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def _addresses(host: str) -> list[str]:
    """The addresses of a host, IPv4 first."""
    try:
        found = socket.getaddrinfo(
            host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as exc:
        raise InvalidSettings(f"HOST is {host}, which is not known: {exc.strerror}") from exc
    return [str(address[0]) for _, _, _, _, address in sorted(found, key=lambda each: each[0])]


def url_of(sock: socket.socket) -> str:
    """Where a socket that listens can be reached from this machine."""
    address, port = sock.getsockname()[:2]
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        address = "::1" if ":" in address else "127.0.0.1"
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


async def _leave_mcp(app: FastAPI) -> None:
    """End what waits for MCP, which the engine's drain knows nothing of: sessions and calls."""
    await app.state.mcp_mount.stop()
    await app.state.mcp.stop()


async def _nothing() -> None:
    pass


class _Server(uvicorn.Server):
    """uvicorn, with our way of ending."""

    def __init__(
        self, config: uvicorn.Config, rereader: Rereader, *, drain_timeout_s: float
    ) -> None:
        super().__init__(config)
        self.when_loaded: Callable[[], None] = lambda: None
        self.when_stopping: Callable[[], None] = lambda: None
        self.when_drained: Callable[[], Awaitable[None]] = _nothing
        self._rereader = rereader
        self._serving = rereader.serving
        self._drain_timeout_s = drain_timeout_s
        self._announcing: asyncio.Task[None] | None = None
        self._rereading: set[asyncio.Task[None]] = set()
        self._has_terminal = os.isatty(STDERR)

    def raise_load_failure(self) -> None:
        """Raise what kept the model from being loaded, if anything did."""
        if self._announcing is not None and not self._announcing.cancelled():
            self._announcing.result()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._handle_hangup)
        self._announcing = asyncio.create_task(self._announce())
        self._announcing.add_done_callback(self._exit_if_failed)

    async def _announce(self) -> None:
        await self._serving.loaded()
        if not self.should_exit:
            self.when_loaded()

    def _exit_if_failed(self, announcing: asyncio.Task[None]) -> None:
        if not announcing.cancelled() and announcing.exception() is not None:
            self.should_exit = True

    def _handle_hangup(self) -> None:
        if self._has_terminal and not os.isatty(STDERR):
            self.handle_exit(signal.SIGHUP, None)
            return
        task = asyncio.create_task(self._rereader.reread())
        self._rereading.add(task)
        task.add_done_callback(self._end_rereading)

    def _end_rereading(self, rereading: asyncio.Task[None]) -> None:
        self._rereading.discard(rereading)
        error = None if rereading.cancelled() else rereading.exception()
        if error is not None:
            logger.error("taking on the settings failed on an internal error", exc_info=error)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self._end_running())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()
            if self.force_exit:  # uvicorn then skips the lifespan's end
                await self._serving.close()

    async def _end_running(self) -> None:
        self.when_stopping()
        await self._rereader.reloader.close()
        await self._serving.drain(self._drain_timeout_s)
        await self.when_drained()
        await self._serving.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, which would turn a clean drain into
        # a death by signal and skip everything that Python does at exit.
        handlers = {
            each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
