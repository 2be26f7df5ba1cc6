"""How Qwen3's makers advise to sample it (model card of Qwen3-8B). Knows values only."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from qwenkit.engine.request import SamplingParams
from qwenkit.errors import InvalidRequest

THINKING = SamplingParams(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0)
DIRECT = SamplingParams(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0)
_FIELDS = frozenset(field.name for field in fields(SamplingParams))


def sampling(thinking: bool, **overrides: Any) -> SamplingParams:
    """The preset for an answer with or without thinking; each field that is named wins over it.

    Raises:
        InvalidRequest: A value is out of its range, or there is no such field.
    """
    for name in overrides.keys() - _FIELDS:
        raise InvalidRequest(f"there is no sampling parameter {name!r}", param=name)
    return replace(THINKING if thinking else DIRECT, **overrides)
