"""A line in the log for every answer. Knows logging.

What load balancers and Prometheus ask for every few seconds is told only to those who want every
detail.
"""

from __future__ import annotations

import logging

from qwenkit.server.exchange import Exchange

logger = logging.getLogger("qwenkit.access")

PROBES = frozenset({"/healthz", "/readyz", "/health", "/metrics"})


def log_exchange(exchange: Exchange) -> None:
    """Log what a request came to."""
    level = _level(exchange)
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
        "%s %s %d in %.3f s",
        exchange.method,
        exchange.route,
        exchange.status,
        exchange.seconds,
        extra={
            "method": exchange.method,
            "route": exchange.route,
            "status": exchange.status,
            "duration_s": round(exchange.seconds, 6),
            "request_bytes": exchange.n_received,
            "response_bytes": exchange.n_sent,
            "client": exchange.client,
        },
    )


def _level(exchange: Exchange) -> int:
    if exchange.route in PROBES:
        return logging.DEBUG
    return logging.WARNING if exchange.status >= 500 else logging.INFO
