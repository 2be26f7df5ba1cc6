"""What must be in one split: keys that answers share when one gives the other away. Pure.

prompt     the same rendered prompt
messages   the same conversation, whichever template and options render it
text       the same text to complete
thread     the same thread; an answer without one hangs together with the prompts of the earlier
           turns that its conversation repeats
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qwenkit.feedback.records import Interaction


def split_keys(answers: Iterable[Interaction]) -> list[bytes]:
    """The keys of answers to one prompt, each once."""
    keys: dict[bytes, None] = {}
    said: Sequence[Mapping[str, Any]] | None = None
    for each in answers:
        keys[_key("prompt", each.prompt_hash)] = None
        if each.thread_id is not None:
            keys[_key("thread", each.thread_id)] = None
        if each.prompt is not None:
            keys[_key("text", each.prompt)] = None
        if each.messages and (each.thread_id is None or each.messages != said):
            said = each.messages
            keys |= dict.fromkeys(_turns(said, earlier=each.thread_id is None))
    return list(keys)


def _turns(messages: Sequence[Mapping[str, Any]], *, earlier: bool) -> Iterator[bytes]:
    """The conversation up to its end, and up to each answer in it."""
    yield _messages(messages)
    if earlier:
        for turn, message in enumerate(messages):
            if message.get("role") == "assistant" and turn:
                yield _messages(messages[:turn])


def _messages(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """What is said, as another request for the same would have it."""
    said = [
        [each.get("role"), each.get("content"), bool(each.get("tool_calls"))] for each in messages
    ]
    return _key("messages", json.dumps(said, ensure_ascii=False))


def _key(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind} {text}".encode("utf-8", "replace")).digest()[:16]
