"""`/v1/responses`: schema → read_request → events, or what they have come to; and what is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from qwenkit.errors import InvalidRequest
from qwenkit.server.auth import Caller, caller_of
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.errors import NotThere
from qwenkit.server.openai.answers import (
    DeletedResponse,
    InputTokens,
    ItemList,
    ResponseAnswer,
)
from qwenkit.server.openai.responses.answering import Answering, Server, read_request
from qwenkit.server.openai.responses.background import BackgroundRun
from qwenkit.server.openai.responses.items import JsonObject
from qwenkit.server.openai.responses.schema import ResponseBody
from qwenkit.server.openai.responses.service import Responses
from qwenkit.server.openai.responses.writer import StreamEvent
from qwenkit.server.serving import Lease, Serving, ServingNow
from qwenkit.server.sse import EventStream

MAX_LISTED = 100

router = APIRouter(tags=["responses"], route_class=StrictRoute)


@router.post(
    "/v1/responses",
    summary="Answer a conversation made of items",
    response_model=None,
    responses={200: {"model": ResponseAnswer}},
)
async def create_response(
    body: ResponseBody, request: Request, serving: ServingNow
) -> Response | JsonObject:
    """OpenAI's Responses API, with Qwen3's thinking as `reasoning` items.

    The response is kept, unless `store` is false, and the next request can go on from it by
    `previous_response_id`.
    """
    if body.background:
        return await _in_background(body, request)
    answering = await read_request(body, caller_of(request), _server(request, serving))
    if not body.stream:
        return await unless_disconnected(request, _whole(answering))
    return EventStream(_encoded(answering.told_events()), ping_s=serving.limits.sse_ping_s)


@router.post(
    "/v1/responses/input_tokens",
    summary="Count a response's input tokens",
    responses={200: {"model": InputTokens}},
)
async def count_input_tokens(
    body: ResponseBody, request: Request, serving: ServingNow
) -> dict[str, Any]:
    """The tokens that the prompt of such a response has; nothing is answered."""
    answering = await read_request(body, caller_of(request), _server(request, serving))
    n_tokens = await answering.n_input_tokens()
    return {"object": "response.input_tokens", "input_tokens": n_tokens}


@router.get(
    "/v1/responses/{response_id}",
    summary="A kept response",
    response_model=None,
    responses={200: {"model": ResponseAnswer}},
)
async def get_response(
    response_id: str,
    request: Request,
    stream: Annotated[bool, Query(description="Send its events instead.")] = False,
    starting_after: Annotated[
        int, Query(ge=-1, description="With `stream`: the number of the last event known.")
    ] = -1,
) -> Response | JsonObject:
    """A response as it is now. One in the background can be streamed, from any event on."""
    responses, caller = _responses(request), caller_of(request)
    run = _run_of(responses, response_id, caller)
    if stream:
        if run is None:
            await responses.find(response_id, caller)
            raise InvalidRequest(
                "the events of this response are not there any more",
                param="stream",
                hint="only background responses can be streamed later, for a while",
            )
        serving: Serving = request.app.state.serving
        return EventStream(run.follow(starting_after), ping_s=serving.limits.sse_ping_s)
    if run is not None:
        return run.response()
    return dict((await responses.find(response_id, caller)).response)


@router.delete(
    "/v1/responses/{response_id}",
    summary="Delete a kept response",
    responses={200: {"model": DeletedResponse}},
)
async def delete_response(response_id: str, request: Request) -> dict[str, Any]:
    """Keep it no longer; conversations that went on from it can't be gone on with."""
    responses, caller = _responses(request), caller_of(request)
    if _run_of(responses, response_id, caller) is not None:
        await responses.background.cancel(response_id)
        responses.background.forget(response_id)
    await responses.find(response_id, caller)
    await responses.delete(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post(
    "/v1/responses/{response_id}/cancel",
    summary="End a background response",
    responses={200: {"model": ResponseAnswer}},
)
async def cancel_response(response_id: str, request: Request) -> dict[str, Any]:
    """End what is written in the background; one that has ended stays as it is."""
    responses, caller = _responses(request), caller_of(request)
    if _run_of(responses, response_id, caller) is not None:
        await responses.background.cancel(response_id)
    kept = await responses.find(response_id, caller)
    if not kept.response["background"]:
        raise InvalidRequest("only background responses can be cancelled", param="response_id")
    return dict(kept.response)


@router.get(
    "/v1/responses/{response_id}/input_items",
    summary="What a response answered",
    responses={200: {"model": ItemList}},
)
async def list_input_items(
    response_id: str,
    request: Request,
    after: Annotated[str | None, Query(description="The last item known.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Most items to list.")] = 20,
    order: Annotated[
        Literal["asc", "desc"], Query(description="Oldest first, or newest first.")
    ] = "desc",
) -> dict[str, Any]:
    """The items of its own request; those that it went on from belong to earlier responses."""
    responses, caller = _responses(request), caller_of(request)
    run = _run_of(responses, response_id, caller)
    kept = await responses.find(response_id, caller) if run is None else run.kept()
    items = [*kept.items] if order == "asc" else [*reversed(kept.items)]
    if after is not None:
        ids = [each["id"] for each in items]
        if after not in ids:
            raise NotThere(f"the response has no item {after!r}", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }


async def _in_background(body: ResponseBody, request: Request) -> Response | JsonObject:
    responses, serving = _responses(request), _serving(request)
    if not responses.wants(body.store):
        raise InvalidRequest("a background response must be kept", param="background")
    with ExitStack() as held:
        # The request's own lease ends with its answer, and this one's answer comes later.
        lease = held.enter_context(serving.lease())
        answering = await read_request(body, caller_of(request), _server(request, lease))
        responses.background.check_room()
        run = BackgroundRun(answering.caller.name, answering.writer, answering.as_kept)
        queued = run.response()
        responses.background.start(answering.id, run, answering.events(), held.pop_all())
    if not body.stream:
        return queued
    return EventStream(run.follow(), ping_s=serving.limits.sse_ping_s)


async def _whole(answering: Answering) -> JsonObject:
    response: JsonObject = {}
    async with aclosing(answering.kept_events()) as events:
        async for event in events:
            response = event.data["response"] if event.is_last else response
    return response


async def _encoded(events: AsyncGenerator[StreamEvent]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            yield event.encode()


def _run_of(responses: Responses, response_id: str, caller: Caller) -> BackgroundRun | None:
    run = responses.background.followable(response_id)
    return run if run is not None and caller.may_see(run.owner) else None


def _responses(request: Request) -> Responses:
    responses: Responses = request.app.state.responses
    return responses


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


def _server(request: Request, lease: Lease) -> Server:
    state = request.app.state
    return Server(
        lease=lease,
        responses=state.responses,
        connections=state.mcp,
        recorder=state.recorder,
    )
