"""Chats with another OpenAI-compatible server and tells it in the events of a local model.

Knows HTTP and server-sent events; no template and no engine. Works with what llama-server, Ollama,
vLLM and qwenkit have in common.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx

from qwenkit.chat.events import (
    ChatDone,
    ChatEvent,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Delta,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.errors import InvalidSettings, RemoteError, RemoteUnreachable

CONNECT_TIMEOUT_S = 10.0
KEY_HINTS = {
    401: "set OPENAI_API_KEY, or pass --api-key",
    403: "set OPENAI_API_KEY, or pass --api-key",
}
STATUS_HINTS = KEY_HINTS | {
    404: "check the URL (most end in /v1) and the model's name",
    503: "the server is busy or still loading: try again",
}


class RemoteServer:
    """An OpenAI-compatible server. Use it as an async context manager.

    Args:
        url: Its address; `/v1` is added when it has no path.
        api_key: Sent as a bearer token.
        transport: For tests: answers instead of the network.

    Raises:
        InvalidSettings: The URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        base = base_url(url)
        self.url = str(base).rstrip("/")
        self._root = self.url.removesuffix("/v1")
        self._client = httpx.AsyncClient(
            base_url=base,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            # Servers close a kept connection when they like, after some seconds or requests, and a
            # request sent at that moment is lost.
            limits=httpx.Limits(max_keepalive_connections=0),
            # A proxy from the environment can't reach a server on this machine.
            trust_env=not is_local(base),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def models(self) -> list[str]:
        """The names of the models that it serves.

        Raises:
            RemoteUnreachable: It does not answer.
            RemoteError: It answers with an error, or with something else than a list of models.
        """
        with self._translated():
            response = await self._client.get("models")
        if response.is_error:
            raise _refusal(response)
        try:
            return [str(each["id"]) for each in response.json()["data"]]
        except (ValueError, KeyError, TypeError) as exc:
            raise RemoteError(
                f"`{self.url}/models` does not answer with a list of models",
                status=response.status_code,
                hint=STATUS_HINTS[404],
            ) from exc

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What a route of qwenkit's own answers with, as JSON.

        Args:
            method: Such as `GET`.
            path: From the server's root, which is where `/v1` lies.
            body: Sent as JSON.

        Raises:
            RemoteUnreachable: It does not answer, or the connection broke.
            RemoteError: It answers with an error, or with something else than JSON.
        """
        with self._translated():
            response = await self._client.request(method, self._root + path, json=body)
        if response.is_error:
            raise _refusal(response, hints=KEY_HINTS)
        try:
            return response.json()
        except ValueError as exc:
            raise RemoteError(
                f"`{self._root}{path}` does not answer with JSON",
                status=response.status_code,
                hint="check that it is a qwenkit server",
            ) from exc

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a text that a route of qwenkit's own answers with, as they come.

        Raises:
            RemoteUnreachable: It does not answer, or the connection broke.
            RemoteError: It answers with an error.
        """
        with self._translated():
            async with self._client.stream("GET", self._root + path) as response:
                if response.is_error:
                    await response.aread()
                    raise _refusal(response, hints=KEY_HINTS)
                buffer = b""
                async for chunk in response.aiter_bytes():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        yield line
                if buffer:
                    yield buffer

    @asynccontextmanager
    async def post(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a request and hand out the `data` of the events that answer it, as they come.

        Raises:
            RemoteUnreachable: It does not answer, or the connection broke.
            RemoteError: It answers with an error.
        """
        with self._translated():
            async with self._client.stream("POST", path, json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise _refusal(response)
                yield event_data(response.aiter_bytes())

    async def stream_chat(self, body: Mapping[str, Any]) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation; closing the iterator cancels the request.

        Args:
            body: `model`, `messages` and what else `/v1/chat/completions` takes.

        Raises:
            RemoteUnreachable: It does not answer, or the connection broke.
            RemoteError: It answers with an error, or its answer ends in the middle.
        """
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        reader = ChunkReader()
        async with self.post("chat/completions", asked) as payloads:
            async for payload in payloads:
                for event in reader.read(payload):
                    yield event
        yield reader.done()

    def _translated(self) -> _Translated:
        return _Translated(self.url)


class _Translated:
    """Turns httpx's failures into ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        match exc:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                raise RemoteUnreachable(
                    f"nothing answers at `{self._url}`",
                    hint="start it (`qwenkit serve`), or check --url and OPENAI_API_BASE_URL",
                ) from exc
            case httpx.HTTPError():
                raise RemoteUnreachable(
                    f"the connection to `{self._url}` broke: {str(exc) or type(exc).__name__}"
                ) from exc


class ChunkReader:
    """Turns the chunks of one streamed chat completion into events; no I/O but the clock."""

    def __init__(self) -> None:
        self._sent = time.perf_counter()
        self._first: float | None = None
        self._calls: set[int] = set()
        self._usage = Usage(0, 0, 0, 0)
        self._finished = False

    def read(self, payload: bytes) -> Iterator[ChatEvent]:
        """The events of one chunk.

        Raises:
            RemoteError: The server reports an error in the stream, or sends no chunk.
        """
        if payload == b"[DONE]":
            return
        chunk = _parse(payload)
        if self._first is None:
            self._first = time.perf_counter()
            # Servers tell the counts at the end.
            yield ChatStarted(n_prompt=0, n_cached=0, id=_text(chunk.get("id")))
        if usage := chunk.get("usage"):
            self._usage = _usage(usage)
        for choice in chunk.get("choices") or ():
            yield from self._choice(choice)

    def done(self) -> ChatDone:
        """The last event.

        Raises:
            RemoteError: The stream ended before the answer did.
        """
        if not self._finished:
            raise RemoteError("the server's answer ended in the middle", status=502)
        first = self._first or self._sent
        return ChatDone(self._usage, Timings(0.0, first - self._sent, time.perf_counter() - first))

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[ChatEvent]:
        index = choice.get("index") or 0
        if deltas := tuple(self._deltas(choice.get("delta") or {})):
            yield ChoiceDelta(index, deltas)
        if reason := choice.get("finish_reason"):
            self._finished = True
            known = reason in tuple(ChatFinish)
            yield ChoiceDone(index, ChatFinish(reason) if known else ChatFinish.STOP)

    def _deltas(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        # `reasoning` is how Ollama and OpenRouter spell it.
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            yield ReasoningDelta(reasoning)
        if text := delta.get("content"):
            yield TextDelta(text)
        for call in delta.get("tool_calls") or ():
            yield from self._tool_call(call)

    def _tool_call(self, call: Mapping[str, Any]) -> Iterator[Delta]:
        index = call.get("index") or 0
        function = call.get("function") or {}
        if index not in self._calls:
            self._calls.add(index)
            yield ToolCallStarted(index, call.get("id") or "", function.get("name") or "")
        if arguments := function.get("arguments"):
            yield ToolCallDelta(index, arguments)


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The `data` lines of a stream of server-sent events, as they are complete.

    Splits at newlines only: a JSON text may hold other characters that Python's `splitlines` takes
    for line ends.
    """
    buffer = b""
    async for chunk in chunks:
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def base_url(url: str) -> httpx.URL:
    """The address under which a server's routes lie.

    Raises:
        InvalidSettings: It is no http or https URL.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise _no_url(url) from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _no_url(url)
    return parsed.copy_with(path="/v1") if parsed.path in ("", "/") else parsed


def _no_url(url: str) -> InvalidSettings:
    return InvalidSettings(
        f"`{url}` is no URL of a server", hint="for example http://127.0.0.1:8000/v1"
    )


def is_local(url: httpx.URL) -> bool:
    """Whether a URL names this machine by its loopback address."""
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(payload)
    except ValueError as exc:
        raise RemoteError("the server sent something that is no JSON", status=502) from exc
    if not isinstance(chunk, dict):
        raise RemoteError("the server sent something that is no chunk of an answer", status=502)
    if "error" in chunk:
        raise _error(chunk, status=500)
    return chunk


def _refusal(response: httpx.Response, *, hints: Mapping[int, str] = STATUS_HINTS) -> RemoteError:
    try:
        body = response.json()
    except ValueError:
        body = None
    return _error(body if isinstance(body, dict) else {}, status=response.status_code, hints=hints)


def _error(
    body: Mapping[str, Any], *, status: int, hints: Mapping[int, str] = STATUS_HINTS
) -> RemoteError:
    error = body.get("error")
    detail = error.get("message") if isinstance(error, dict) else error
    # Our own server appends its hint.
    said, _, hint = str(detail or "").partition("; hint: ")
    return RemoteError(
        f"the server answered {status}{f': {said}' if said else ''}",
        status=status,
        hint=hint or hints.get(status, ""),
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    prompt_details = usage.get("prompt_tokens_details") or {}
    completion_details = usage.get("completion_tokens_details") or {}
    return Usage(
        n_prompt=usage.get("prompt_tokens") or 0,
        n_cached=prompt_details.get("cached_tokens") or 0,
        n_completion=usage.get("completion_tokens") or 0,
        n_reasoning=completion_details.get("reasoning_tokens") or 0,
    )
