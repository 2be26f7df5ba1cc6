"""Reads a chat request's body: which options it means and which prompt it makes. Pure."""

from __future__ import annotations

from typing import Any

from qwenkit.chat.completion import (
    ChatModel,
    ChatOptions,
    JsonObject,
    JsonSchema,
    NamedTool,
    prepare_chat,
)
from qwenkit.chat.constraint import ResponseFormat, ToolChoice
from qwenkit.chat.template import Prompt
from qwenkit.errors import InvalidRequest
from qwenkit.server.openai import generation
from qwenkit.server.openai.schema import ChatBody
from qwenkit.server.serving import Limits


def render(model: ChatModel, body: ChatBody) -> Prompt:
    """The prompt of a body.

    Raises:
        InvalidRequest: Something is wrong; `param` names it.
    """
    options = chat_options(body, n_vocab=model.engine.tokenizer.n_vocab, limits=Limits())
    with generation.spelled_as(body):
        return prepare_chat(model, body.messages, body.tools or (), options).prompt


def chat_options(body: ChatBody, *, n_vocab: int, limits: Limits) -> ChatOptions:
    """What a body says beside its messages and tools.

    Raises:
        InvalidRequest: Something is wrong or not supported; `param` names it.
    """
    _refuse_unsupported(body)
    return ChatOptions(
        enable_thinking=_enable_thinking(body),
        thinking_budget=_thinking_budget(body, limits),
        sampling=generation.named_sampling(body, n_vocab=n_vocab),
        max_tokens=generation.max_tokens(body),
        n=generation.n_choices(body),
        stop=generation.stops(body),
        ignore_eos=bool(body.ignore_eos),
        logprobs=_logprobs(body),
        response_format=_response_format(body),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        template_kwargs=body.chat_template_kwargs or {},
        continue_final_message=bool(body.continue_final_message),
    )


def _refuse_unsupported(body: ChatBody) -> None:
    if body.modalities is not None and body.modalities != ["text"]:
        raise InvalidRequest("only text can be answered", param="modalities")
    if body.audio is not None:
        raise InvalidRequest("only text can be answered", param="audio")
    for old, new in (("functions", "tools"), ("function_call", "tool_choice")):
        if getattr(body, old) is not None:
            raise InvalidRequest(f"{old} is an older spelling", param=old, hint=f"send {new}")


def _enable_thinking(body: ChatBody) -> bool | None:
    if body.thinking is not None and body.thinking.type != "auto":
        return body.thinking.type == "enabled"
    return False if body.reasoning_effort == "none" else None


def _thinking_budget(body: ChatBody, limits: Limits) -> int | None:
    if body.thinking_budget is not None:
        return body.thinking_budget
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        return body.thinking.budget_tokens
    return limits.thinking_budget


def _logprobs(body: ChatBody) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise InvalidRequest("top_logprobs needs logprobs", param="top_logprobs")
    return None


def _tool_choice(body: ChatBody) -> ToolChoice:
    match body.tool_choice:
        case None:
            return "auto"
        case "auto" | "none" | "required":
            return body.tool_choice
        case {"type": "function", "function": {"name": str(name)}}:
            return NamedTool(name)
    raise InvalidRequest(
        "tool_choice is neither auto, none, required nor a function's name", param="tool_choice"
    )


def _response_format(body: ChatBody) -> ResponseFormat:
    named, form = generation.named_form(body), _openai_format(body)
    if named is not None and form is not None:
        raise InvalidRequest(
            "response_format excludes every other form of answer", param="response_format"
        )
    return form if named is None else named


def _openai_format(body: ChatBody) -> JsonObject | JsonSchema | None:
    form = body.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return JsonObject() if form.schema_ is None else JsonSchema(form.schema_, strict=False)
    if form.json_schema is None:
        raise InvalidRequest("a json_schema is needed", param="response_format.json_schema")
    return JsonSchema(_schema(form.json_schema), strict=form.json_schema.get("strict") is True)


def _schema(wrapper: dict[str, Any]) -> dict[str, Any] | bool:
    schema = wrapper.get("schema")
    if not isinstance(schema, dict | bool):
        raise InvalidRequest(
            "the schema must be an object", param="response_format.json_schema.schema"
        )
    return schema
