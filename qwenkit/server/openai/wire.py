"""The pieces that all answers are made of: JSON text, ids, token counts, timings. Pure."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from qwenkit.chat.events import Timings, Usage
from qwenkit.engine.request import TokenLogprob

LOWEST_LOGPROB = -9999.0
"""What OpenAI says for a token that can't be; JSON has no infinity."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
# Line ends to `str.splitlines`, which httpx and others cut event streams with, but not to JSON.
_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def to_json(value: Any) -> str:
    """JSON on one line, whoever splits the lines."""
    return escape_line_ends(_encode(value))


def escape_line_ends(text: str) -> str:
    """JSON text that is one line, whoever splits the lines."""
    return text if text.isascii() else text.translate(_LINE_ENDS)


def make_id(prefix: str) -> str:
    """A fresh id of an answer (`chatcmpl-…`)."""
    return f"{prefix}-{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every object of one answer repeats.

    Args:
        id: The answer's id.
        object: OpenAI's name of the kind of object.
        created: Unix time.
        model: The served model's name.
        fingerprint: Changes when the weights or what they depend on do.
    """

    id: str
    object: str
    created: int
    model: str
    fingerprint: str

    def fields(self) -> dict[str, Any]:
        """As the beginning of an object."""
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def usage_json(usage: Usage) -> dict[str, Any]:
    """Token counts as OpenAI spells them."""
    return {
        "prompt_tokens": usage.n_prompt,
        "completion_tokens": usage.n_completion,
        "total_tokens": usage.n_total,
        "prompt_tokens_details": {"cached_tokens": usage.n_cached},
        "completion_tokens_details": {"reasoning_tokens": usage.n_reasoning},
    }


def timings_json(usage: Usage, timings: Timings) -> dict[str, float]:
    """Durations and speeds as llama-server spells them, and the time in the queue."""
    n_computed = usage.n_prompt - usage.n_cached
    return {
        "cache_n": usage.n_cached,
        **_speed("prompt", n_computed, timings.prefill_s),
        **_speed("predicted", usage.n_completion, timings.decode_s),
        "queue_ms": round(timings.queue_s * 1e3, 3),
    }


def _speed(name: str, n_tokens: int, seconds: float) -> dict[str, float]:
    return {
        f"{name}_n": n_tokens,
        f"{name}_ms": round(seconds * 1e3, 3),
        f"{name}_per_token_ms": round(seconds * 1e3 / n_tokens, 3) if n_tokens else 0.0,
        f"{name}_per_second": round(n_tokens / seconds, 3) if seconds > 0 else 0.0,
    }


def token_text(token: TokenLogprob) -> str:
    """A token's own text; a piece of a character shows as U+FFFD."""
    return token.bytes.decode("utf-8", "replace")


def finite(logprob: float) -> float:
    """A log-probability that JSON can hold."""
    return max(logprob, LOWEST_LOGPROB)
