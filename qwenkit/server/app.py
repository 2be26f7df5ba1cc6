"""Puts the server together: routes, middleware, the model's life. Reads `Settings`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import qwenkit
from qwenkit.chat.loading import load_chat_model
from qwenkit.errors import InvalidSettings
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.server import errors, health, metrics, tokens
from qwenkit.server.auth import KeyAuth, KeyRing
from qwenkit.server.errors import ErrorBoundary
from qwenkit.server.limits import BodyLimit
from qwenkit.server.openai import chat, completions, models
from qwenkit.server.origins import CORS_HEADERS, CORS_METHODS, LocalHosts, host_name
from qwenkit.server.serving import Limits, Loader, Serving
from qwenkit.server.tracing import REQUEST_ID, Tracing
from qwenkit.settings import Settings

DESCRIPTION = """Qwen3 on your own machine, spoken to as OpenAI's API is.

Clients made for OpenAI work unchanged: point them at `/v1`.
"""


def create_app(settings: Settings, *, load: Loader | None = None) -> FastAPI:
    """The server as an ASGI application, which loads its model when it starts.

    Args:
        load: Loads the model; by default the one that the settings name.

    Raises:
        InvalidSettings: Settings that contradict each other.
    """
    keys = key_ring(settings)
    _refuse_open_cors(settings, keys)
    serving = Serving(
        load or settings_loader(settings),
        aliases=(settings.model_path,) if settings.model_path else (),
        limits=Limits(sse_ping_s=settings.sse_ping_s, thinking_budget=settings.thinking_budget),
    )
    app = FastAPI(
        title="qwenkit",
        version=qwenkit.__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        middleware=_middleware(settings, keys, serving),
        docs_url=None,  # the page takes its scripts from elsewhere
        redoc_url=None,
    )
    app.state.serving = serving
    for module in (chat, completions, models, tokens, health, metrics):
        app.include_router(module.router)
    errors.install(app)
    return app


def settings_loader(settings: Settings, progress: ProgressFactory = silent) -> Loader:
    """A loader of the model that the settings name."""
    return lambda observer: load_chat_model(
        settings.model_spec(),
        name=settings.served_model_name,
        progress=progress,
        observer=observer,
    )


def key_ring(settings: Settings) -> KeyRing:
    """The keys that the settings name."""
    return KeyRing(
        users=[key.get_secret_value() for key in settings.api_keys],
        admins=[key.get_secret_value() for key in settings.admin_api_keys],
    )


def _refuse_open_cors(settings: Settings, keys: KeyRing) -> None:
    if "*" in settings.cors_origins and not keys.needs_key:
        raise InvalidSettings(
            "CORS_ORIGINS is * and there are no API_KEYS: any web page could use the server",
            hint="set API_KEYS, or name the origins",
        )


def _middleware(settings: Settings, keys: KeyRing, serving: Serving) -> list[Middleware]:
    """Outermost first."""
    stack = [
        Middleware(Tracing, metrics=serving.metrics),
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_HEADERS,
            expose_headers=(REQUEST_ID, "Retry-After"),
        ),
        Middleware(ErrorBoundary),
        Middleware(KeyAuth, keys=keys),
        Middleware(BodyLimit, max_bytes=settings.max_request_bytes),
    ]
    if not keys.needs_key:
        names = [settings.host, *map(host_name, settings.cors_origins)]
        stack.insert(1, Middleware(LocalHosts, allowed=names))
    return stack


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    serving: Serving = app.state.serving
    serving.start()
    try:
        yield
    finally:
        await serving.close()
