"""Observations as OTLP: the protobuf message that `/v1/traces` takes. Knows no HTTP.

Source: opentelemetry-proto, `ExportTraceServiceRequest`; its classes come with Langfuse's SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwenkit.extras import import_extra
from qwenkit.feedback.langfuse.observations import Attribute, Observation

SCOPE = "langfuse-sdk"
"""Langfuse copies the attributes of all other scopes into the metadata once more."""


class Encoder:
    """Writes OTLP.

    Raises:
        MissingExtra: The extra `langfuse` is not installed.
    """

    def __init__(self) -> None:
        self.version: str = import_extra("langfuse", extra="langfuse").__version__
        service = import_extra(
            "opentelemetry.proto.collector.trace.v1.trace_service_pb2", extra="langfuse"
        )
        self._request = service.ExportTraceServiceRequest
        self._trace = import_extra("opentelemetry.proto.trace.v1.trace_pb2", extra="langfuse")
        self._common = import_extra("opentelemetry.proto.common.v1.common_pb2", extra="langfuse")

    def encode(self, observations: Sequence[Observation]) -> bytes:
        """One request with all of them."""
        scope = self._common.InstrumentationScope(name=SCOPE, version=self.version)
        spans = self._trace.ScopeSpans(scope=scope, spans=map(self._span, observations))
        resource = self._trace.ResourceSpans(scope_spans=[spans])
        encoded: bytes = self._request(resource_spans=[resource]).SerializeToString()
        return encoded

    def _span(self, observation: Observation) -> Any:
        parent = observation.parent_id
        return self._trace.Span(
            trace_id=bytes.fromhex(observation.trace_id),
            span_id=bytes.fromhex(observation.id),
            parent_span_id=b"" if parent is None else bytes.fromhex(parent),
            name=_sound(observation.name),
            kind=self._trace.Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=observation.start_ns,
            end_time_unix_nano=observation.end_ns,
            attributes=self._attributes(observation.attributes),
        )

    def _attributes(self, attributes: Mapping[str, Attribute]) -> list[Any]:
        return [
            self._common.KeyValue(key=name, value=self._value(value))
            for name, value in attributes.items()
        ]

    def _value(self, value: Attribute) -> Any:
        if isinstance(value, str):
            return self._common.AnyValue(string_value=_sound(value))
        if isinstance(value, bool):
            return self._common.AnyValue(bool_value=value)
        if isinstance(value, int):
            return self._common.AnyValue(int_value=value)
        values = [self._value(each) for each in value]
        return self._common.AnyValue(array_value=self._common.ArrayValue(values=values))


def _sound(text: str) -> str:
    """Text that UTF-8 has a form for: half surrogates become `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
