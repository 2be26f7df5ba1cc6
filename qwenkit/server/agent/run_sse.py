"""A run's log as server-sent events. Knows logs and headers; no LangGraph."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from urllib.parse import quote

from qwenkit.server.agent.run_manager import Run, RunManager
from qwenkit.server.sse import EventStream

HEARTBEAT_S = 5.0
BEGIN = b": connected\n\n"
_ALWAYS = ("metadata", "error")


def run_headers(run: Run, *, to: str) -> dict[str, str]:
    """Where the run is, and where to go on if the connection breaks, below `/agent`."""
    # A thread's id is whatever its maker chose: line ends in it would end the header.
    place = f"/threads/{quote(run.record.thread_id, safe='')}/runs/{run.record.run_id}"
    return {"Content-Location": place, "Location": f"{place}/{to}"}


def event_stream(
    chunks: AsyncGenerator[bytes, None], headers: dict[str, str] | None = None
) -> EventStream:
    """A response that tells events, with comments while there are none."""
    response = EventStream(chunks, ping_s=HEARTBEAT_S)
    response.headers.update(headers or {})
    return response


async def run_chunks(
    run: Run,
    *,
    after: str | None,
    modes: Collection[str] = (),
    cancels: bool = False,
) -> AsyncGenerator[bytes, None]:
    """A run's events.

    Args:
        after: The id of the last event that the client has; None is from now on.
        modes: Only events of these stream modes; empty is all of them.
        cancels: Whether the run ends when the client goes away and nobody else follows it.
    """
    try:
        async with aclosing(run.events(after)) as events:
            yield BEGIN
            async for event in events:
                if not modes or _is_of(event.name, modes):
                    yield event.encode(with_id=run.resumable)
    finally:
        if cancels and not run.log.n_readers:
            run.cancel("interrupt")


async def thread_chunks(runs: RunManager, thread_id: str) -> AsyncGenerator[bytes, None]:
    """The events of all runs of a thread from now on."""
    async with aclosing(runs.thread_events(thread_id)) as events:
        yield BEGIN
        async for event in events:
            yield event.encode(with_id=True)


def _is_of(name: str, modes: Collection[str]) -> bool:
    kind = name.partition("|")[0]
    if kind in _ALWAYS:
        return True
    if kind == "messages":
        return "messages-tuple" in modes
    return kind.partition("/")[0] in modes
