"""Puts the server together: routes, middleware, the model's life. Reads `Settings`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import qwenkit
from qwenkit.chat.loading import load_chat_model
from qwenkit.engine.loading import fits_in_memory
from qwenkit.errors import InvalidSettings
from qwenkit.feedback.log import FOLDER
from qwenkit.mcp.client import McpConnections
from qwenkit.mcp.client.added import AddedServers
from qwenkit.mcp.client.addresses import AddressGuard, parse_networks
from qwenkit.mcp.client.config import load_config
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.server import (
    admin,
    errors,
    health,
    infill,
    lora,
    mcp_servers,
    me,
    metrics,
    openapi,
    tokens,
    ui,
)
from qwenkit.server.access_log import log_exchange
from qwenkit.server.adapters import Adapters
from qwenkit.server.agent import routes as agent
from qwenkit.server.agent.service import AgentService
from qwenkit.server.anthropic import messages
from qwenkit.server.anthropic.errors import AnthropicErrors
from qwenkit.server.auth import KeyAuth, KeyRing
from qwenkit.server.errors import ErrorBoundary
from qwenkit.server.feedback import label_studio
from qwenkit.server.feedback import routes as feedback_routes
from qwenkit.server.feedback.service import Feedback
from qwenkit.server.framing import OneEnd
from qwenkit.server.heap import giving_back
from qwenkit.server.limits import BodyLimit, HeadLimit
from qwenkit.server.loader import Loader
from qwenkit.server.lora_paths import LoraPaths
from qwenkit.server.mcp_mount import McpMount, ServedHost
from qwenkit.server.mcp_servers import McpServers
from qwenkit.server.openai import chat, completions, embeddings, models, rerank
from qwenkit.server.openai.responses import routes as responses
from qwenkit.server.openai.responses.service import Responses
from qwenkit.server.origins import (
    CORS_HEADERS,
    CORS_METHODS,
    EXPOSED_HEADERS,
    LocalHosts,
    host_name,
)
from qwenkit.server.plans import (
    agent_plan_of,
    features_of,
    feedback_plan_of,
    folders_of,
    keys_of,
    label_studio_of,
    limits_of,
    plan_of,
    response_store_of,
)
from qwenkit.server.recording import Recorder
from qwenkit.server.reload import Fits, Reloader
from qwenkit.server.rereading import Rereader
from qwenkit.server.serving import Serving
from qwenkit.server.telemetry.export import Telemetry
from qwenkit.server.telemetry.http import RequestSpans
from qwenkit.server.telemetry.tools import add_mcp_call, telling
from qwenkit.server.tracing import Tracing
from qwenkit.settings import Settings

ROUTES = (
    chat,
    responses,
    completions,
    infill,
    messages,
    embeddings,
    rerank,
    models,
    tokens,
    lora,
    admin,
    health,
    metrics,
    agent,
    mcp_servers,
    feedback_routes,
    label_studio,
    me,
    ui,
)
DESCRIPTION = """Qwen3 on your own machine, spoken to as OpenAI's API is.

Clients made for OpenAI work unchanged: point them at `/v1`.
"""


def create_app(
    settings: Settings,
    *,
    load: Loader = load_chat_model,
    fits: Fits = fits_in_memory,
    progress: ProgressFactory = silent,
) -> FastAPI:
    """The server as an ASGI application, which loads its model when it starts.

    Args:
        load: Loads a model.
        fits: Tells whether a model has room beside the one that is served.
        progress: Told what is downloaded, converted and loaded.

    Raises:
        InvalidSettings: Settings that contradict each other.
    """
    keys = keys_of(settings)
    _refuse_open_cors(settings, keys)
    serving = Serving(limits=limits_of(settings))
    adapters = Adapters(serving, folders_of(settings))
    reloader = Reloader(serving, adapters, load=load, fits=fits, show=progress)
    recorder = Recorder(serving.metrics.feedback.on_record)
    telemetry = telemetry_of(settings, serving.metrics)
    feedback = Feedback(feedback_plan_of(settings), recorder)
    app = FastAPI(
        title="qwenkit",
        version=qwenkit.__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        middleware=_middleware(settings, keys, serving, telemetry),
        openapi_url=None,  # `openapi.install` answers there
        docs_url=None,  # the page takes its scripts from elsewhere
        redoc_url=None,
    )
    attach_langfuse(settings, recorder, serving.metrics)
    app.state.keys = keys
    app.state.page = ui.Page()
    app.state.features = features_of(settings)
    app.state.serving = serving
    app.state.adapters = adapters
    app.state.reloader = reloader
    app.state.recorder = recorder
    app.state.feedback = feedback
    app.state.responses = Responses(response_store_of(settings))
    app.state.label_studio = label_studio_of(settings)
    app.state.rereader = Rereader(
        settings, keys, serving, adapters, LoraPaths(adapters), reloader, feedback
    )
    app.state.telemetry = telemetry
    app.state.mcp_servers = mcp_servers_of(settings, serving.metrics)
    app.state.mcp = app.state.mcp_servers.connections
    app.state.mcp_mount = McpMount(
        ServedHost(serving, adapters, recorder),
        feedback=feedback,
        origins=settings.cors_origins,
        max_body_bytes=settings.max_request_bytes,
        on_tool=serving.metrics.mcp.on_served,
    )
    app.router.routes.append(app.state.mcp_mount.route())
    app.state.agent = AgentService(
        agent_plan_of(settings), serving, lambda: app.state.mcp, recorder
    )
    for module in ROUTES:
        app.include_router(module.router)
    errors.install(app)
    openapi.install(app)
    return app


def attach_langfuse(settings: Settings, recorder: Recorder, counter: metrics.Metrics) -> None:
    """Send what is recorded to Langfuse as well, where the settings have keys for it.

    Raises:
        InvalidSettings: The settings of Langfuse make no sense.
        MissingExtra: The extra `langfuse` is not installed.
    """
    spec = settings.langfuse_spec()
    if spec is not None:
        from qwenkit.feedback.langfuse.history import LogHistory
        from qwenkit.feedback.langfuse.sink import LangfuseSink

        find = LogHistory(settings.log_dir / FOLDER)
        sink = LangfuseSink(spec, find=find, counter=counter.feedback)
        recorder.attach("langfuse", sink)


def telemetry_of(settings: Settings, counter: metrics.Metrics) -> Telemetry | None:
    """What sends traces, where the settings say where to.

    Raises:
        InvalidSettings: They make no sense.
        MissingExtra: The extra `otel` is not installed.
    """
    spec = settings.telemetry_spec()
    return None if spec is None else Telemetry(spec, counter.telemetry.on_spans)


def mcp_servers_of(settings: Settings, counter: metrics.Metrics) -> McpServers:
    """The MCP servers that the settings name, and those that were added before.

    Raises:
        InvalidSettings: One of their files can't be read, or has mistakes in it.
    """
    path, added = settings.mcp_config, AddedServers(settings.qwenkit_home / "mcp.json")
    connections = McpConnections(
        () if path is None else load_config(path, settings.variables()),
        added=added.load(),
        guard=AddressGuard(parse_networks(settings.mcp_allowed_networks)),
        on_call=telling(counter.mcp.on_call, add_mcp_call),
    )
    counter.mcp.watch(connections.status)
    return McpServers(connections, added)


def _refuse_open_cors(settings: Settings, keys: KeyRing) -> None:
    if "*" in settings.cors_origins and not keys.needs_key:
        raise InvalidSettings(
            "CORS_ORIGINS is * and there are no API_KEYS: any web page could use the server",
            hint="set API_KEYS, or name the origins",
        )


def _middleware(
    settings: Settings, keys: KeyRing, serving: Serving, telemetry: Telemetry | None
) -> list[Middleware]:
    """Outermost first."""
    stack = [
        Middleware(
            Tracing,
            on_begin=serving.metrics.http.on_begin,
            on_end=(serving.metrics.http.on_end, log_exchange),
        ),
        Middleware(AnthropicErrors),
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        ),
        Middleware(ErrorBoundary),
        Middleware(OneEnd),
        Middleware(HeadLimit),
        Middleware(KeyAuth, keys=keys),
        Middleware(BodyLimit, max_bytes=settings.max_request_bytes),
    ]
    if not keys.needs_key:
        names = [settings.host, *map(host_name, settings.cors_origins)]
        stack.insert(2, Middleware(LocalHosts, allowed=names))
    if telemetry is not None:
        stack.insert(0, Middleware(RequestSpans, telemetry=telemetry))
    return stack


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    rereader: Rereader = app.state.rereader
    await rereader.lora_paths.begin()
    rereader.reloader.start(plan_of(rereader.settings))
    rereader.lora_paths.keep_watching(rereader.settings.lora_watch)
    try:
        async with (
            giving_back(),
            app.state.mcp,
            app.state.mcp_mount.running(),
            app.state.feedback.running(),
        ):
            yield
    finally:
        rereader.lora_paths.keep_watching(False)
        await rereader.reloader.close()
        await app.state.responses.close()
        await app.state.agent.close()
        await rereader.serving.close()
        await app.state.feedback.close()
        if app.state.telemetry is not None:
            await app.state.telemetry.close()
