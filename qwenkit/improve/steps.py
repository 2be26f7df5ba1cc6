"""Results of steps as files: made once for the same inputs, whole or not there.

A step's file says which inputs it was made from, by their hash. Whoever comes again with the same
inputs gets what is in the file; with others it is made anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenkit.models.checkpoint import read_json
from qwenkit.training.run_folder import write_json

N_HEX = 16


def key_of(value: object) -> str:
    """Short hash of anything that JSON can hold; paths count as text."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:N_HEX]


@dataclass(frozen=True, slots=True)
class Step:
    """What a step found, and how long it took when it was done."""

    result: dict[str, Any]
    seconds: float


def once(path: Path, key: str, make: Callable[[], Mapping[str, Any]]) -> Step:
    """A step, done if it has not been.

    Args:
        path: Its file.
        key: Hash of its inputs.
        make: Does it.

    Raises:
        ModelCorrupt: The file is damaged.
    """
    saved = read_json(path) if path.is_file() else {}
    if saved.get("key") != key:
        began = time.monotonic()
        result = make()
        seconds = round(time.monotonic() - began, 3)
        write_json(path, {"key": key, "seconds": seconds, "result": result})
        saved = read_json(path)  # as whoever comes again gets it
    return Step(saved["result"], saved["seconds"])
