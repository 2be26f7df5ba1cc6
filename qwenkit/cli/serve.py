"""`qwenkit serve`."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import typer

from qwenkit.cli import console
from qwenkit.cli.flags import MODEL_FLAGS, with_settings
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.server.run import ServingInfo

app = typer.Typer()


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
)
def serve(settings: Settings) -> None:
    """Serve a model over HTTP: the OpenAI API and more.

    Without --model the small demo model that comes with qwenkit is served. Flags win over the
    environment, which wins over `.env`; the setting behind a flag stands in brackets. Ctrl-C lets
    running answers finish; a second one ends at once.
    """
    from qwenkit.server.run import serve as serve_until_stopped

    serve_until_stopped(settings, on_ready=announce, progress=console.progress)


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
