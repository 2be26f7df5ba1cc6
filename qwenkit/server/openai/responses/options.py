"""Reads a response's body: the chat API has a field for almost everything it says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qwenkit.chat.completion import ChatOptions
from qwenkit.errors import InvalidRequest
from qwenkit.server.openai import generation
from qwenkit.server.openai.conversation import chat_options
from qwenkit.server.openai.responses.conversation import Conversation
from qwenkit.server.openai.responses.schema import ResponseBody, TextFormat
from qwenkit.server.openai.responses.tools import Choice, GivenTools
from qwenkit.server.openai.schema import ChatBody, GenerationBody, ResponseFormat
from qwenkit.server.serving import Limits

LOGPROBS = "message.output_text.logprobs"
_INCLUDES = (
    LOGPROBS,
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_UNSUPPORTED = {
    "conversation": "send previous_response_id, or all of the conversation as input",
    "prompt": "send the text itself, as instructions or input",
    "context_management": "send truncation: auto",
    "moderation": "",
}
_SPELLINGS = {
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.json_schema": "text.format.schema",
    "response_format.json_schema.schema": "text.format.schema",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "top_logprobs",
}
"""What the chat API calls a field, and what it is called here."""


def as_chat(body: ResponseBody) -> ChatBody:
    """The body as the chat API has it, but for its messages and tools.

    Raises:
        InvalidRequest: It asks for what there is not; `param` names it.
    """
    _refuse_unsupported(body)
    shared = {name: getattr(body, name) for name in GenerationBody.model_fields}
    # `stream_options` are others here.
    shared |= {"stream_options": None}
    return ChatBody.model_construct(
        **shared,
        messages=[],
        max_completion_tokens=body.max_output_tokens,
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_format(body.text.format if body.text is not None else None),
        logprobs=LOGPROBS in (body.include or ()),
        top_logprobs=body.top_logprobs,
        reasoning_effort=body.reasoning.effort if body.reasoning is not None else None,
        chat_template_kwargs=body.chat_template_kwargs,
        thinking_budget=body.thinking_budget,
    )


def response_options(
    chat: ChatBody, choice: Choice, *, n_vocab: int, limits: Limits
) -> ChatOptions:
    """What a body says beside its items and tools.

    Raises:
        InvalidRequest: Something is wrong or not supported; `param` names it.
    """
    chat.tool_choice = choice.among
    with spelled(chat):
        return chat_options(chat, n_vocab=n_vocab, limits=limits)


def is_summarised(body: ResponseBody) -> bool:
    """Whether the thinking is given as its summary, too.

    Raises:
        InvalidRequest: A short summary is asked for, which nobody writes.
    """
    if body.reasoning is None:
        return False
    given = body.reasoning.summary or body.reasoning.generate_summary
    if given == "concise":
        raise InvalidRequest(
            "nobody shortens the thinking here",
            param="reasoning.summary",
            hint="send detailed for all of it, or nothing",
        )
    return given is not None


@contextmanager
def spelled(
    chat: ChatBody, conversation: Conversation | None = None, tools: GivenTools | None = None
) -> Iterator[None]:
    """Lets an error inside name a place as the response's body spells it."""
    try:
        with generation.spelled_as(chat):
            yield
    except InvalidRequest as exc:
        exc.param = _spelled(exc.param, chat, conversation, tools) if exc.param else None
        raise


def _spelled(
    param: str, chat: ChatBody, conversation: Conversation | None, tools: GivenTools | None
) -> str:
    if param == "max_tokens" and chat.max_tokens is not None:
        return param
    if conversation is not None:
        param = conversation.place_of(param)
    if tools is not None:
        param = tools.function_place_of(param)
    return _SPELLINGS.get(param, param)


def _refuse_unsupported(body: ResponseBody) -> None:
    for name, hint in _UNSUPPORTED.items():
        if getattr(body, name) is not None:
            raise InvalidRequest(f"{name} can't be used here", param=name, hint=hint)
    if body.n not in (None, 1):
        raise InvalidRequest("a response is one answer", param="n")
    _check_includes(body.include or ())


def _check_includes(includes: Sequence[str]) -> None:
    for index, each in enumerate(includes):
        if each not in _INCLUDES:
            raise InvalidRequest(
                f"{each[:80]!r} is nothing to include; there are {', '.join(_INCLUDES)}",
                param=f"include[{index}]",
            )


def _format(form: TextFormat | None) -> ResponseFormat | None:
    if form is None:
        return None
    if form.type != "json_schema":
        return ResponseFormat(type=form.type)
    if form.schema_ is None:
        raise InvalidRequest("a schema is needed", param="text.format.schema")
    wrapped: dict[str, Any] = {"schema": form.schema_, "strict": form.strict is True}
    return ResponseFormat(type="json_schema", json_schema=wrapped)
