"""Keeps what a server writes to its stderr: in the log, and the last lines to explain its end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

from qwenkit.mcp.client.tools import one_line

logger = logging.getLogger(__name__)

N_LINES = 20
MAX_LINE = 2000
LAST_WORDS_S = 0.2
"""How long what a process wrote before its end may take to be read."""


class StderrLog:
    """The last lines of one server's stderr.

    Args:
        name: The server's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: deque[str] = deque(maxlen=N_LINES)

    @property
    def last(self) -> str:
        """The last line that says something; empty when there is none."""
        return next((line for line in reversed(self._lines) if line.strip()), "")

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[TextIO]:
        """A file for a process to write to; leaving the context ends the reading."""
        reading, writing = os.pipe()
        source, target = os.fdopen(reading, "rb", 0), os.fdopen(writing, "w", 1)
        reader = asyncio.StreamReader(limit=MAX_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), source
        )
        following = asyncio.create_task(self._follow(reader))
        try:
            yield target
        finally:
            target.close()
            # A child of the server that lives on holds the pipe open and is not waited for.
            await asyncio.wait({following}, timeout=LAST_WORDS_S)
            following.cancel()
            transport.close()

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        while line := await _line(reader):
            text = one_line(line.decode("utf-8", "replace").rstrip(), MAX_LINE)
            self._lines.append(text)
            logger.info("%s: %s", self._name, text)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    except asyncio.LimitOverrunError as exc:
        return await reader.readexactly(max(exc.consumed, 1))
