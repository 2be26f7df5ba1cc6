"""Turns a whole chat result into `/v1/chat/completions`' answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwenkit.chat.completion import CallResult, ChatResult, ChoiceResult
from qwenkit.engine.request import Logprobs, TokenLogprob
from qwenkit.server.openai.wire import Envelope, finite, timings_json, token_text, usage_json


def answer_json(envelope: Envelope, result: ChatResult) -> dict[str, Any]:
    """The answer of a request that did not stream."""
    return envelope.fields() | {
        "choices": [_choice_json(index, choice) for index, choice in enumerate(result.choices)],
        "usage": usage_json(result.usage),
        "timings": timings_json(result.usage, result.timings),
    }


def _choice_json(index: int, choice: ChoiceResult) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message_json(choice),
        "logprobs": logprobs_json(choice.logprobs) if choice.logprobs else None,
        "finish_reason": choice.finish.value,
    }


def _message_json(choice: ChoiceResult) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.reasoning:
        # Clients differ on the name: DeepSeek's and llama-server's, and vLLM's newer one.
        message |= {"reasoning_content": choice.reasoning, "reasoning": choice.reasoning}
    if choice.tool_calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [_call_json(call) for call in choice.tool_calls]
    return message


def _call_json(call: CallResult) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def logprobs_json(logprobs: Sequence[Logprobs]) -> dict[str, Any]:
    """Log-probabilities of an answer's tokens."""
    content = [
        {**_token_json(each.chosen), "top_logprobs": [_token_json(token) for token in each.top]}
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


def _token_json(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token_text(token),
        "logprob": finite(token.logprob),
        "bytes": list(token.bytes),
    }
