"""One request for a response: what it asks, and its answer's events. Knows leases; no HTTP.

body ─▶ items, kept ones first ─▶ Conversation ─▶ answer_events ─▶ ResponseWriter
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from qwenkit.chat.completion import ChatModel, ChatOptions, prepare_chat
from qwenkit.errors import QwenkitError
from qwenkit.mcp.client import McpConnections
from qwenkit.server.auth import Caller
from qwenkit.server.errors import failure
from qwenkit.server.openai.adapter_choice import chosen_model
from qwenkit.server.openai.asked import asked_by
from qwenkit.server.openai.chat_events import answer_events
from qwenkit.server.openai.chat_record import ChatRecord
from qwenkit.server.openai.mcp_tools import (
    WAKE_S,
    ChosenTools,
    choose_tools,
    named_choice,
    named_servers,
)
from qwenkit.server.openai.responses.conversation import Conversation, Placed
from qwenkit.server.openai.responses.items import JsonObject, item_id
from qwenkit.server.openai.responses.kept import KeptResponse, items_of, kept_items
from qwenkit.server.openai.responses.options import (
    as_chat,
    is_summarised,
    response_options,
    spelled,
)
from qwenkit.server.openai.responses.schema import ResponseBody
from qwenkit.server.openai.responses.service import Responses
from qwenkit.server.openai.responses.tools import (
    GivenTools,
    only,
    read_choice,
    read_tools,
    server_lists,
)
from qwenkit.server.openai.responses.truncation import n_leading_system, n_left_out
from qwenkit.server.openai.responses.writer import ResponseWriter, StreamEvent
from qwenkit.server.openai.schema import ChatBody
from qwenkit.server.recording import Recorder
from qwenkit.server.serving import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What answering needs of the server.

    Args:
        lease: The model that the request is bound to.
        responses: What is kept.
        connections: The MCP servers.
        recorder: Takes answers down.
    """

    lease: Lease
    responses: Responses
    connections: McpConnections
    recorder: Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """A request that can be answered.

    Args:
        id: The response's id.
        body: What was asked.
        chat: The same as the chat API has it.
        caller: Who asks.
        server: Answers.
        model: Who answers.
        earlier: The responses that it goes on from, oldest first.
        items: What is new, as it is listed.
        conversation: All of it.
        tools: The tools of the request.
        chosen: What they come to.
        options: What else was asked for.
        is_kept: Whether the response is to be kept.
        writer: Writes it.
    """

    id: str
    body: ResponseBody
    chat: ChatBody
    caller: Caller
    server: Server
    model: ChatModel
    earlier: Sequence[KeptResponse]
    items: Sequence[Mapping[str, Any]]
    conversation: Conversation
    tools: GivenTools
    chosen: ChosenTools
    options: ChatOptions
    is_kept: bool
    writer: ResponseWriter

    @property
    def root_id(self) -> str:
        """The first response of the conversation."""
        return self.earlier[0].root_id if self.earlier else self.id

    async def events(self) -> AsyncGenerator[StreamEvent]:
        """The response's events; closing them cancels the answer.

        Raises:
            QwenkitError: As `stream_chat` does.
        """
        with spelled(self.chat, self.conversation, self.tools):
            n_gone = await self._n_left_out() if self.body.truncation == "auto" else 0
            n_system = n_leading_system(self.conversation.messages)
            self.conversation.leave_out(n_system, n_gone)
            events = answer_events(
                self.model,
                self.conversation.messages,
                self.options,
                self.chosen,
                self.server.connections,
                self._record(),
                max_calls=self.body.max_tool_calls,
            )
            async with aclosing(events):
                async for event in events:
                    for told in self.writer.follow(event):
                        yield told

    async def kept_events(self) -> AsyncGenerator[StreamEvent]:
        """The same; the response is kept before its last event is passed on."""
        async with aclosing(self.events()) as events:
            async for event in events:
                await self._keep_if_last(event)
                yield event

    async def told_events(self) -> AsyncGenerator[StreamEvent]:
        """The same; a failure in mid-answer is the last event instead of an error."""
        try:
            async with aclosing(self.kept_events()) as events:
                async for event in events:
                    yield event
        except QwenkitError as exc:
            if not self.writer.has_begun:
                raise
            for event in self.writer.fail(failure(exc)):
                await self._keep_if_last(event)
                yield event

    def as_kept(self, response: JsonObject) -> KeptResponse:
        """What is kept of the response."""
        return KeptResponse(
            id=self.id,
            owner=self.caller.name,
            previous_id=self.body.previous_response_id,
            root_id=self.root_id,
            response=response,
            items=self.items,
        )

    async def n_input_tokens(self) -> int:
        """Tokens of the prompt.

        Raises:
            InvalidRequest: The conversation can't be rendered.
        """
        with spelled(self.chat, self.conversation, self.tools):
            return await self._count(self.conversation.messages)

    async def _keep_if_last(self, event: StreamEvent) -> None:
        if event.is_last and self.is_kept:
            response = event.data["response"]
            response["store"] = await self.server.responses.keep(self.as_kept(response))

    async def _n_left_out(self) -> int:
        n_ctx = self.model.engine.capabilities.n_ctx
        wanted = self.options.max_tokens
        room = n_ctx // 4 if wanted is None else min(wanted, n_ctx // 2)
        return await n_left_out(self.conversation.messages, self._count, most=n_ctx - room)

    async def _count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        prepared = await asyncio.to_thread(
            prepare_chat, self.model, messages, self.chosen.functions, self.options
        )
        return len(prepared.request.prompt)

    def _record(self) -> ChatRecord:
        recorder = self.server.recorder
        if not recorder.wants(self.body.store):
            return ChatRecord(recorder, None, self.model)
        asked = asked_by(self.body, self.server.lease, answer_id=self.id)
        user = asked.user or self.body.safety_identifier
        thread_id = asked.thread_id or self.root_id
        return ChatRecord(recorder, replace(asked, thread_id=thread_id, user=user), self.model)


async def read_request(body: ResponseBody, caller: Caller, server: Server) -> Answering:
    """Check a request and find what it goes on from.

    Raises:
        InvalidRequest: Something is wrong; `param` names it.
        UnknownModel: `model` names nothing that is served.
        UnknownAdapter: `lora` names an adapter that is not loaded.
        UnknownMcpServer: `tools` names a server that there is not.
    """
    chat = as_chat(body)
    is_kept = server.responses.wants(body.store)
    model = chosen_model(server.lease, body)
    asked_by(body, server.lease, answer_id="")
    given = items_of(body.input)
    items = await server.responses.resolved(given, caller)
    earlier: Sequence[KeptResponse] = ()
    if body.previous_response_id is not None:
        earlier = await server.responses.conversation(body.previous_response_id, caller)
    conversation = Conversation(body.instructions, _placed(earlier, items))
    tools = read_tools(body.tools)
    choice = read_choice(body.tool_choice, tools)
    await server.connections.wake(named_servers(tools.entries), within_s=WAKE_S)
    with tools.spelled():
        chosen = only(choose_tools(tools.entries, server.connections), choice)
    choice = replace(choice, among=named_choice(choice.among, chosen))
    n_vocab = model.engine.tokenizer.n_vocab
    options = response_options(chat, choice, n_vocab=n_vocab, limits=server.lease.limits)
    own_id, lists = item_id("resp"), server_lists(chosen)
    head = _head(own_id, body, model, tools, is_kept)
    summarised = is_summarised(body)
    writer = ResponseWriter(head, lists=lists, names=tools.names, summarised=summarised)
    return Answering(
        id=own_id,
        body=body,
        chat=chat,
        caller=caller,
        server=server,
        model=model,
        earlier=earlier,
        items=kept_items(items),
        conversation=conversation,
        tools=tools,
        chosen=chosen,
        options=options,
        is_kept=is_kept,
        writer=writer,
    )


def _placed(earlier: Sequence[KeptResponse], items: Sequence[Mapping[str, Any]]) -> list[Placed]:
    kept = [("previous_response_id", item) for response in earlier for item in response.said()]
    return [*kept, *((f"input[{index}]", item) for index, item in enumerate(items))]


def _head(
    own_id: str, body: ResponseBody, model: ChatModel, tools: GivenTools, is_kept: bool
) -> JsonObject:
    """What a response repeats of its request."""
    reasoning = body.reasoning
    form = body.text.format if body.text is not None else None
    head: JsonObject = {
        "id": own_id,
        "object": "response",
        "created_at": int(time.time()),
        "model": model.name,
        "system_fingerprint": model.fingerprint,
        "background": bool(body.background),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {
            "effort": reasoning.effort if reasoning is not None else None,
            "summary": reasoning.summary if reasoning is not None else None,
        },
        "store": is_kept,
        "temperature": body.temperature,
        "text": {
            "format": {"type": "text"}
            if form is None
            else form.model_dump(by_alias=True, exclude_none=True)
        },
        "tool_choice": body.tool_choice or "auto",
        "tools": tools.offered,
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
    }
    if tools.left_out:
        head["tools_left_out"] = tools.left_out
    return head
