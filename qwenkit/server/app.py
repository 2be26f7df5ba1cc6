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
from qwenkit.server import admin, errors, health, lora, mcp_servers, me, metrics, tokens, ui
from qwenkit.server.adapters import Adapters
from qwenkit.server.agent import routes as agent
from qwenkit.server.agent.service import AgentPlan, AgentService
from qwenkit.server.auth import KeyAuth, KeyRing
from qwenkit.server.errors import ErrorBoundary
from qwenkit.server.feedback import label_studio
from qwenkit.server.feedback import routes as feedback_routes
from qwenkit.server.feedback.label_studio import LabelStudioHook
from qwenkit.server.feedback.service import Feedback
from qwenkit.server.limits import BodyLimit
from qwenkit.server.loader import Loader
from qwenkit.server.lora_paths import LoraPaths
from qwenkit.server.mcp_mount import McpMount, ServedHost
from qwenkit.server.mcp_servers import McpServers
from qwenkit.server.openai import chat, completions, embeddings, models
from qwenkit.server.origins import (
    CORS_HEADERS,
    CORS_METHODS,
    EXPOSED_HEADERS,
    LocalHosts,
    host_name,
)
from qwenkit.server.recording import Recorder
from qwenkit.server.reload import Fits, Reloader
from qwenkit.server.rereading import (
    Rereader,
    feedback_plan_of,
    folders_of,
    keys_of,
    limits_of,
    plan_of,
)
from qwenkit.server.serving import Serving
from qwenkit.server.tracing import Tracing
from qwenkit.settings import LogAnswers, Settings

ROUTES = (
    chat,
    completions,
    embeddings,
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
    recorder = Recorder(serving.metrics.on_record)
    feedback = Feedback(feedback_plan_of(settings), recorder)
    app = FastAPI(
        title="qwenkit",
        version=qwenkit.__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        middleware=_middleware(settings, keys, serving),
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
    app.state.label_studio = label_studio_of(settings)
    app.state.rereader = Rereader(
        settings, keys, serving, adapters, LoraPaths(adapters), reloader, feedback
    )
    app.state.mcp_servers = mcp_servers_of(settings)
    app.state.mcp = app.state.mcp_servers.connections
    app.state.mcp_mount = McpMount(
        ServedHost(serving, adapters, recorder),
        feedback=feedback,
        origins=settings.cors_origins,
        max_body_bytes=settings.max_request_bytes,
    )
    app.router.routes.append(app.state.mcp_mount.route())
    app.state.agent = AgentService(
        agent_plan_of(settings), serving, lambda: app.state.mcp, recorder
    )
    for module in ROUTES:
        app.include_router(module.router)
    errors.install(app)
    return app


def agent_plan_of(settings: Settings) -> AgentPlan:
    """What the settings say of the agent."""
    url, key = settings.database_url, settings.openai_api_key
    return AgentPlan(
        database=settings.log_dir / "agent.sqlite" if url is None else url.get_secret_value(),
        remote_url=settings.openai_api_base_url,
        remote_key=None if key is None else key.get_secret_value(),
        system_prompt=settings.agent_system_prompt,
        allowed_tools=settings.agent_allowed_tools,
        max_steps=settings.agent_max_steps,
    )


def label_studio_of(settings: Settings) -> LabelStudioHook:
    """Who may report judgements, and where they are asked for."""
    key, secret = settings.label_studio_api_key, settings.label_studio_webhook_secret
    return LabelStudioHook(
        url=settings.label_studio_url,
        api_key=None if key is None else key.get_secret_value(),
        secret=None if secret is None else secret.get_secret_value(),
    )


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
        recorder.attach("langfuse", LangfuseSink(spec, find=find, counter=counter))


def features_of(settings: Settings) -> dict[str, bool]:
    """What the chat page may offer."""
    is_logged = settings.log_answers is not LogAnswers.OFF
    return {"agent": True, "feedback": is_logged, "mcp": True}


def mcp_servers_of(settings: Settings) -> McpServers:
    """The MCP servers that the settings name, and those that were added before.

    Raises:
        InvalidSettings: One of their files can't be read, or has mistakes in it.
    """
    path, added = settings.mcp_config, AddedServers(settings.qwenkit_home / "mcp.json")
    connections = McpConnections(
        () if path is None else load_config(path, settings.variables()),
        added=added.load(),
        guard=AddressGuard(parse_networks(settings.mcp_allowed_networks)),
    )
    return McpServers(connections, added)


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
            expose_headers=EXPOSED_HEADERS,
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
    rereader: Rereader = app.state.rereader
    await rereader.lora_paths.begin()
    rereader.reloader.start(plan_of(rereader.settings))
    rereader.lora_paths.keep_watching(rereader.settings.lora_watch)
    try:
        async with app.state.mcp, app.state.mcp_mount.running(), app.state.feedback.running():
            yield
    finally:
        rereader.lora_paths.keep_watching(False)
        await rereader.reloader.close()
        await app.state.agent.close()
        await rereader.serving.close()
        await app.state.feedback.close()
