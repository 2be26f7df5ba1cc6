"""Freed memory goes back to the system."""

import asyncio
import ctypes
import sys
import threading

import psutil
import pytest

from qwenkit.server.heap import give_back, giving_back

pytestmark = pytest.mark.anyio
MB = 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_pages_between_blocks_that_stay_are_given_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(64 * 1024) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, 64 * 1024)
    for block in blocks[:-1]:
        if block % 3:
            libc.free(block)
    stay = [block for block in blocks[:-1] if not block % 3] + blocks[-1:]
    before = psutil.Process().memory_info().rss
    assert give_back()
    assert psutil.Process().memory_info().rss < before - 20 * MB
    for block in stay:
        libc.free(block)


async def test_it_is_done_again_and_again_until_the_server_ends():
    n_trims, done = 0, asyncio.Event()
    loop = asyncio.get_running_loop()

    def trim():
        nonlocal n_trims
        n_trims += 1
        if n_trims == 3:
            loop.call_soon_threadsafe(done.set)
        return True

    async with giving_back(0.001, trim=trim):
        await asyncio.wait_for(done.wait(), 10)
    after = n_trims
    await asyncio.to_thread(bool)
    assert n_trims == after


async def test_nothing_that_streams_runs_on_the_thread_that_does_it():
    threads, done = set(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def trim():
        threads.add(threading.current_thread())
        loop.call_soon_threadsafe(done.set)
        return True

    async with giving_back(0.001, trim=trim):
        await asyncio.wait_for(done.wait(), 10)
    assert threading.current_thread() not in threads
