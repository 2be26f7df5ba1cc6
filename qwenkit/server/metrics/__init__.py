"""What Prometheus sees of one server.

    requests ─▶ http          the engine's thread ─▶ engine      runs, steps, tools ─▶ agent
    records  ─▶ feedback      adapters come and go ─▶ adapters   calls of MCP tools ─▶ mcp
    spans    ─▶ telemetry     models come and go ─▶ models       at each scrape ─▶ process, gpu

Each module has one group of measures and knows nothing of the others; `page.py` puts them on one
page.
"""

from qwenkit.server.metrics.page import Metrics, router

__all__ = ["Metrics", "router"]
