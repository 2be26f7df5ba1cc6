"""Which chat template an adapter was trained with: a short hash that its own files carry.

    PEFT folder     `qwenkit.json` beside the weights
    .gguf           a metadata key
    .onnx_adapter   its two version numbers, which runtimes ignore: a mark, and the first digits

An adapter expects the prompts that it was trained with. Without a hash nothing is known, and
nothing is claimed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from qwenkit.errors import ModelCorrupt
from qwenkit.models.atomic import atomic_file
from qwenkit.models.checkpoint import read_json

STAMP_NAME = "qwenkit.json"
FIELD = "template_hash"
GGUF_KEY = "qwenkit.template_hash"
ONNX_MARK = int.from_bytes(b"qwkt")
"""An `adapter_version` that says: `model_version` holds the hash."""

# As many hex digits as a signed 32-bit number is sure to hold.
_N_ONNX_DIGITS = 7
_HASH = re.compile(r"[0-9a-f]{7,64}")


def write_stamp(folder: Path, *, template_hash: str) -> None:
    """Say beside the weights of a PEFT folder which template they were trained with."""
    with atomic_file(folder / STAMP_NAME) as partial:
        partial.write_text(json.dumps({FIELD: template_hash}, indent=2) + "\n", encoding="utf-8")


def read_stamp(folder: Path) -> str | None:
    """The template's hash of a PEFT folder; None where it has none.

    Raises:
        ModelCorrupt: The file is damaged.
    """
    path = folder / STAMP_NAME
    return checked_hash(path, read_json(path).get(FIELD)) if path.exists() else None


def checked_hash(source: Path, value: object) -> str | None:
    """A hash as a file has it; None where it has none.

    Raises:
        ModelCorrupt: It is something else than hexadecimal digits.
    """
    if value is None:
        return None
    if not isinstance(value, str) or _HASH.fullmatch(value) is None:
        raise ModelCorrupt(f"`{source}` has no valid `{FIELD}`: {value!r}")
    return value


def same_template(one: str, other: str) -> bool:
    """Whether two hashes, of which one may be shortened, are of one template."""
    n = min(len(one), len(other))
    return one[:n] == other[:n]


def onnx_versions(template_hash: str) -> tuple[int, int]:
    """`adapter_version` and `model_version` that carry a hash, shortened to seven digits."""
    return ONNX_MARK, int(template_hash[:_N_ONNX_DIGITS], 16)


def hash_of_versions(adapter_version: int, model_version: int) -> str | None:
    """The hash that the version numbers of an `.onnx_adapter` carry; None where they carry none."""
    is_hash = adapter_version == ONNX_MARK and 0 <= model_version < 16**_N_ONNX_DIGITS
    return f"{model_version:0{_N_ONNX_DIGITS}x}" if is_hash else None
