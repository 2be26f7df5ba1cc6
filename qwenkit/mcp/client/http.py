"""The HTTP client under an MCP connection: headers, proxies, bounds, and checked addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import httpx2

from qwenkit.mcp.client.addresses import AddressGuard

MAX_BODY_BYTES = 16 * 2**20
"""Most of an answer that is no event stream; an event has a limit of its own."""
CONNECT_S = 10.0


class Compressed(httpx2.DecodingError):
    """A server compressed its answer unasked; unpacked, it could be of any size."""


class BodyTooLarge(httpx2.ReadError):
    """A server's answer is over the limit."""


def http_client(
    url: str,
    headers: Mapping[str, str],
    guard: AddressGuard | None,
    timeout: httpx2.Timeout | None = None,
) -> httpx2.AsyncClient:
    """A client for one server.

    Args:
        url: The server's address.
        headers: Sent with every request.
        guard: Checks every address that is connected to; None trusts them all.
        timeout: None waits for answers without end: calls have limits of their own.
    """
    return httpx2.AsyncClient(
        headers={**httpx2.Headers(dict(headers)), "accept-encoding": "identity"},
        timeout=timeout or httpx2.Timeout(None, connect=CONNECT_S),
        transport=None if guard is None else _Checked(guard),
        # A proxy would connect to an address that nobody here has checked, and one from the
        # environment can't reach a server on this machine.
        trust_env=guard is None and not _is_local(url),
        event_hooks={"response": [_bound]},
    )


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Checked(httpx2.AsyncBaseTransport):
    """Resolves a request's host, checks what it finds, and connects to exactly that."""

    def __init__(self, guard: AddressGuard) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self._guard = guard

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        default_port = 443 if request.url.scheme == "https" else 80
        addresses = await self._guard.addresses_of(host, request.url.port or default_port)
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_sent_to(request, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_sent_to(request, addresses[-1]))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _sent_to(request: httpx2.Request, address: str) -> httpx2.Request:
    # The Host header stays as it is, and a certificate is checked against the name.
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


async def _bound(response: httpx2.Response) -> None:
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Compressed("its answer is compressed, which was not asked for")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream" and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """Breaks off an answer that grows over the limit."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        n_read = 0
        async for chunk in self._inner:
            n_read += len(chunk)
            if n_read > MAX_BODY_BYTES:
                raise BodyTooLarge(f"the answer has over {MAX_BODY_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
