"""`qwenkit serve`."""

from __future__ import annotations

import json
import logging
import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli import console
from qwenkit.cli.flags import MODEL_FLAGS, with_settings
from qwenkit.errors import QwenkitError
from qwenkit.settings import LogFormat, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwenkit.models.progress import ProgressFactory
    from qwenkit.server.run import ServingInfo

app = typer.Typer()
logger = logging.getLogger(__name__)


@app.command()
@with_settings(
    *MODEL_FLAGS,
    "served_model_name",
    "host",
    "port",
    "api_keys",
    "admin_api_keys",
    "cors_origins",
    "max_queue",
    "step_latency_ms",
    "thinking_budget",
    "ray_replicas",
    "ray_max_replicas",
)
def serve(
    settings: Settings,
    *,
    ray: Annotated[
        bool, typer.Option("--ray", help="Serve with several replicas, which Ray Serve runs.")
    ] = False,
) -> None:
    """Serve a model over HTTP: the OpenAI API and more.

    Without --model the small demo model that comes with qwenkit is served. Flags win over the
    environment, which wins over `.env`; the setting behind a flag stands in brackets. Ctrl-C lets
    running answers finish; a second one ends at once.
    """
    from qwenkit.models.progress import silent
    from qwenkit.server.run import serve as serve_alone

    serve_until_stopped = serve_on_ray if ray else serve_alone
    if settings.log_format is LogFormat.TEXT:
        serve_until_stopped(settings, on_ready=announce, progress=console.progress)
        return
    try:
        serve_until_stopped(settings, on_ready=note_in_log, progress=silent)
    except QwenkitError as exc:  # the log has it, in its own form
        raise typer.Exit(exc.exit_code) from exc


def serve_on_ray(
    settings: Settings, *, on_ready: Callable[[ServingInfo], None], progress: ProgressFactory
) -> None:
    """Serve with several replicas until a signal has drained them.

    Args:
        progress: Not used: models are loaded in other processes.
    """
    del progress
    from qwenkit.cluster.plan import FleetPlan
    from qwenkit.cluster.run import serve_on_ray as serve_until_stopped
    from qwenkit.server.app import create_app
    from qwenkit.server.logs import written_to
    from qwenkit.server.plans import keys_of
    from qwenkit.server.run import logged, refuse_open_address

    n_threads = settings.n_threads or max(1, int(settings.ray_replica_cpus))
    each = settings.model_copy(update={"n_threads": n_threads})
    with logged(settings):
        refuse_open_address(settings)
        serve_until_stopped(
            partial(create_app, each),
            FleetPlan(
                replicas=settings.ray_replicas,
                max_replicas=settings.ray_max_replicas,
                target_requests=settings.ray_target_requests,
                cpus=settings.ray_replica_cpus,
                gpus=settings.ray_replica_gpus,
                doors=settings.ray_doors,
                drain_s=settings.drain_timeout_s,
            ),
            log=partial(written_to, form=settings.log_format.value, level=settings.log_level.value),
            host=settings.host,
            port=settings.port,
            keys=keys_of(settings),
            max_body_bytes=settings.max_request_bytes,
            client_timeout_s=settings.client_timeout_s,
            is_demo=settings.model_path is None,
            on_ready=on_ready,
        )


def note_in_log(info: ServingInfo) -> None:
    """Log what is served, and where."""
    logger.info("%s serves at %s", info.model, info.url)


def announce(info: ServingInfo) -> None:
    """Say what is served, where, and how to try it."""
    for text in banner(info):
        console.note(text)


def banner(info: ServingInfo) -> list[str]:
    """The lines that a server greets with."""
    served = f"{info.description} (demo)" if info.is_demo else info.description
    page = [f"chat     {info.url}/  (open it in a browser)"] if info.has_page else []
    lines = [
        *page,
        f"model    {info.model}: {served}",
        f"runtime  {info.runtime}, context of {info.n_ctx:,} tokens, {info.n_slots} slots",
        f"address  {info.url}",
        "",
        "try      " + curl_line(info),
    ]
    if info.is_demo:
        lines.append("")
        lines.append("This is the small demo model: it knows qwenkit and little else.")
        lines.append("For Qwen3-8B: qwenkit serve --model Qwen/Qwen3-8B-GGUF:Q4_K_M")
    return lines


def curl_line(info: ServingInfo) -> str:
    """A command that asks the server something."""
    messages = [{"role": "user", "content": "Hello!"}]
    body = json.dumps({"model": info.model, "messages": messages})
    key = " -H 'Authorization: Bearer '$QWENKIT_KEY" if info.needs_key else ""
    return (
        f"curl {info.url}/v1/chat/completions -H 'Content-Type: application/json'{key}"
        f" -d {shlex.quote(body)}"
    )
