"""Many streams of events as one. Knows asyncio only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def fan_in(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Every stream's items with the stream's index, as they come.

    Closing it closes all streams; so does the first error, which is raised.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_forward(i, each, queue)) for i, each in enumerate(streams)]
    try:
        n_open = len(tasks)
        while n_open:
            indexed = await queue.get()
            if indexed is None:
                n_open -= 1
                _raise_first_error(tasks)
            else:
                yield indexed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _forward(
    index: int, stream: AsyncGenerator[T], queue: asyncio.Queue[tuple[int, T] | None]
) -> None:
    try:
        async with aclosing(stream):
            async for item in stream:
                queue.put_nowait((index, item))
    finally:
        queue.put_nowait(None)


def _raise_first_error(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
