"""Traces by OpenTelemetry, where a setting names who takes them.

    a request ─▶ http: its span, and the trace that it belongs to
        an answer  ─▶ generation: `chat …`, `text_completion …`, `embeddings …`
        an agent   ─▶ agent: `invoke_agent …`
        a tool     ─▶ tools: `execute_tool …`, `tools/call …`
    spans ─▶ export ─▶ OTLP over HTTP

The current span is kept in a variable of our own and the provider is never made OpenTelemetry's
global one: other libraries of the process that trace, Langfuse's among them, see nothing of ours,
and we nothing of theirs. No span has content or keys.

Names and attributes: OpenTelemetry's semantic conventions for HTTP, GenAI and MCP.
"""
