"""What a request shares with others: its model and the beginnings of its prompt. Knows JSON bodies.

A prompt is told by a chain of digests, each of everything up to it: first what a conversation
begins with (system prompt, tools, first message), then every `CHUNK` characters. Two requests whose
chains begin alike begin alike, and the replica that computed one has the other's beginning in its
KV cache. Nothing is tokenised: it need only be right where it matters, and cheap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHUNK = 256
"""Characters of a link."""
MAX_TEXT = 512 * 1024
"""Characters of a prompt that are looked at."""
_CHAT = ("system", "instructions", "tools", "functions", "messages", "input")
_RERANK = ("instruction", "query")
PROMPTS: Mapping[str, tuple[str, ...]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/responses": _CHAT,
    "/v1/messages": _CHAT,
    "/v1/completions": ("prompt",),
    "/infill": ("input_extra", "input_prefix", "prompt"),
    "/rerank": _RERANK,
    "/v1/rerank": _RERANK,
    "/v2/rerank": _RERANK,
    "/v1/embeddings": (),
}
"""Routes that compute prompts, and the fields that these begin with, in the prompt's order."""
_TURNS = ("messages", "input")
"""Fields that grow from one request of a conversation to the next."""


@dataclass(frozen=True, slots=True)
class Affinity:
    """What speaks for one replica rather than another.

    Args:
        model: The model or adapter that is asked.
        chain: Digests of the prompt's beginnings, shortest first; empty where nothing of it is
            asked again.
        follows: The response that it goes on from; empty where there is none.
    """

    model: str
    chain: tuple[bytes, ...]
    follows: str = ""


def affinity_of(path: str, body: bytes) -> Affinity | None:
    """What a request shares with others; None where it computes nothing or is no sound JSON."""
    names = PROMPTS.get(path)
    if names is None:
        return None
    try:
        fields = json.loads(body)
        return _of_fields(fields, names) if isinstance(fields, dict) else None
    except (ValueError, RecursionError):
        return None


def _of_fields(fields: Mapping[str, Any], names: Sequence[str]) -> Affinity:
    lora = fields.get("lora")
    key = _string(fields.get("model")) + (_text(lora) if lora else "")
    return Affinity(
        _adapter(lora) or _string(fields.get("model")),
        tuple(_chain(key, fields, names)),
        _string(fields.get("previous_response_id")),
    )


def _adapter(lora: Any) -> str:
    """The adapter that llama-server's field names, where it does so by name."""
    uses = lora if isinstance(lora, list) else []
    named = (each for each in uses if isinstance(each, dict) and each.get("scale") != 0)
    return next((_string(each.get("name")) for each in named), "")


def _chain(key: str, fields: Mapping[str, Any], names: Sequence[str]) -> Iterator[bytes]:
    head, rest = _parts(fields, names)
    if not head:
        return
    digest = _begun(key)
    digest.update(_encoded("\n".join(head)))
    yield digest.digest()
    text = "\n".join([*head, *rest])[:MAX_TEXT]
    digest = _begun(key)
    for begin in range(0, len(text) - CHUNK + 1, CHUNK):
        digest.update(_encoded(text[begin : begin + CHUNK]))
        yield digest.digest()


def _begun(key: str) -> hashlib.blake2b:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(_encoded(key + "\0"))
    return digest


def _parts(fields: Mapping[str, Any], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The prompt's text, piece by piece: what a conversation keeps from its first turn on, and what
    comes then."""
    head: list[str] = []
    rest: list[str] = []
    for name in names:
        value = fields.get(name)
        if not value:
            continue
        if name in _TURNS and isinstance(value, list):
            n_head = _n_head(value)
            head += map(_text, value[:n_head])
            rest += map(_text, value[n_head:])
        else:
            head.append(_text(value))
    return head, rest


def _n_head(turns: Sequence[Any]) -> int:
    """Turns that a conversation begins with: system prompts, and what is first said."""
    roles = [each.get("role") if isinstance(each, dict) else None for each in turns]
    n_system = next(
        (n for n, role in enumerate(roles) if role not in ("system", "developer")), len(roles)
    )
    return n_system + 1


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
