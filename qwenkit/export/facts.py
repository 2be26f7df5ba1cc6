"""What an exported folder says of itself, in `qwenkit_export.json`, for whoever loads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwenkit.adapters.base import EXPORT_FACTS
from qwenkit.export.options import ExportOptions
from qwenkit.export.rope import Context
from qwenkit.export.slots import LoraSlot

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFacts:
    """What an export was made of and how.

    Args:
        options: As they were asked for.
        source: Fingerprint of the checkpoint, of an adapter merged into it too.
        context: Its length, and how its positions are scaled.
        slots: Where adapters go; none without LoRA slots.
    """

    options: ExportOptions
    source: str
    context: Context
    slots: Sequence[LoraSlot]


def write_facts(folder: Path, facts: ExportFacts) -> None:
    """Write the file; it is what tells a whole export."""
    options = facts.options
    text = json.dumps(
        {
            "version": VERSION,
            "options": asdict(options) | {"accuracy_level": options.level},
            "source": facts.source,
            "io_dtype": options.io_dtype,
            "hidden_states": options.hidden_states,
            "n_ctx": facts.context.n_ctx,
            "rope_scaling": facts.context.scaling,
            "lora": [_entry(slot) for slot in facts.slots],
        },
        indent=1,
    )
    (folder / EXPORT_FACTS).write_text(text + "\n", encoding="utf-8")


def _entry(slot: LoraSlot) -> dict[str, Any]:
    return {
        "module": slot.module,
        "a": slot.a,
        "b": slot.b,
        "in": slot.n_in,
        "out": slot.n_out,
    }
