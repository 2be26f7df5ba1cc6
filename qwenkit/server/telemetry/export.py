"""Where spans go: a provider of our own that sends them by OTLP. Knows OpenTelemetry's SDK.

What the settings don't name (`OTEL_BSP_…`, `OTEL_EXPORTER_OTLP_TIMEOUT`, certificates) the SDK
reads from the environment itself.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import httpx

import qwenkit
from qwenkit.chat.remote import is_local
from qwenkit.extras import import_extra
from qwenkit.server.loader import run_aside
from qwenkit.server.telemetry.spans import Api, Kind, Span, Value
from qwenkit.settings import TelemetrySpec

logger = logging.getLogger(__name__)

EXTRA = "otel"
CLOSE_S = 5.0
"""Most seconds that the end of the server waits for spans to be sent."""

CountSpans: TypeAlias = Callable[[Literal["sent", "failed"], int], None]


class Telemetry:
    """Makes spans and sends them.

    Args:
        spec: Who takes them, and what they say of this server.
        count: Told what becomes of spans.

    Raises:
        MissingExtra: The extra `otel` is not installed.
    """

    def __init__(self, spec: TelemetrySpec, count: CountSpans) -> None:
        self._trace = import_extra("opentelemetry.trace", extra=EXTRA)
        self._context = import_extra("opentelemetry.context", extra=EXTRA)
        propagation = import_extra("opentelemetry.trace.propagation.tracecontext", extra=EXTRA)
        self._propagator = propagation.TraceContextTextMapPropagator()
        sdk = import_extra("opentelemetry.sdk.trace", extra=EXTRA)
        export = import_extra("opentelemetry.sdk.trace.export", extra=EXTRA)
        self._provider = sdk.TracerProvider(
            sampler=_sampler(spec), resource=_resource(spec), shutdown_on_exit=False
        )
        exporter = _Counted(_exporter(spec), count)
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        tracer = self._provider.get_tracer("qwenkit", qwenkit.__version__)
        self._api = Api(self._trace, self._context.Context, tracer)

    def begin(
        self, name: str, attributes: Mapping[str, Value], *, kind: Kind, headers: Mapping[str, str]
    ) -> Span:
        """A span inside of the trace that headers name (`traceparent`), or of a new one."""
        parent = self._propagator.extract(headers, self._context.Context())
        return self._api.begin(name, attributes, kind=kind, parent=parent, start_ns=None)

    async def close(self) -> None:
        """Send what is left, but don't wait long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await run_aside(self._provider.shutdown)


class _Counted:
    """An exporter that tells what becomes of spans."""

    def __init__(self, exporter: Any, count: CountSpans) -> None:
        self._exporter = exporter
        self._count = count

    def export(self, spans: Sequence[Any]) -> Any:
        result = self._exporter.export(spans)
        self._count("sent" if result.name == "SUCCESS" else "failed", len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed: bool = self._exporter.force_flush(timeout_millis)
        return flushed


def _exporter(spec: TelemetrySpec) -> Any:
    module = import_extra("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra=EXTRA)
    session = import_extra("requests", extra=EXTRA).Session()
    # A proxy from the environment can't reach a collector on this machine.
    session.trust_env = not is_local(httpx.URL(spec.endpoint))
    return module.OTLPSpanExporter(
        endpoint=spec.endpoint, headers=dict(spec.headers), session=session
    )


def _resource(spec: TelemetrySpec) -> Any:
    resources = import_extra("opentelemetry.sdk.resources", extra=EXTRA)
    own = {
        "service.version": qwenkit.__version__,
        "service.instance.id": str(uuid.uuid4()),
        **dict(spec.resource),
        "service.name": spec.service_name,
    }
    return resources.Resource.create(own)


def _sampler(spec: TelemetrySpec) -> Any:
    sampling = import_extra("opentelemetry.sdk.trace.sampling", extra=EXTRA)
    name = spec.sampler.removeprefix("parentbased_")
    root = {
        "always_on": lambda: sampling.ALWAYS_ON,
        "always_off": lambda: sampling.ALWAYS_OFF,
        "traceidratio": lambda: sampling.TraceIdRatioBased(spec.ratio),
    }[name]()
    return root if name == spec.sampler else sampling.ParentBased(root)
