"""The computed tables of the page on hardware. The words around them are written by hand.

Every number is the code's own: bits of a weight as `qwenkit quantize --list` has them, the cache
and what fits as `qwenkit doctor` reckons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from qwenkit.backends.llamacpp.sizing import kv_bytes_per_token
from qwenkit.doctor.fit import KV_BYTES_PER_TOKEN, N_CTX, N_PARAMETERS, fits
from qwenkit.quantize.types import file_type
from qwenkit.settings import KvType

PAGE = Path(__file__).parent / "concepts" / "hardware.md"
GIB = 2**30
QUANTS = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
KV_TYPES = (KvType.F16, KvType.Q8_0, KvType.Q4_0)
CONTEXTS = (4_096, 8_192, 16_384, 32_768, 65_536, 131_072)
MEMORIES_GIB = (6, 8, 12, 16, 24, 32, 48)
BANDWIDTHS = {
    "two channels of DDR4-3200": 51,
    "two channels of DDR5-5600": 90,
    "eight channels of DDR5-4800": 307,
    "NVIDIA L4": 300,
    "NVIDIA RTX 3090": 936,
    "NVIDIA RTX 4090": 1_008,
    "NVIDIA A100, 80 GB": 2_039,
    "NVIDIA H100 SXM": 3_350,
}
"""What makers say of memory, in GB (10⁹ bytes) a second."""
CEILING_QUANTS = ("Q4_K_M", "Q8_0", "F16")


def hardware_page() -> str:
    """The page with its tables computed anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        begin, end = f"<!-- computed: {name} -->", "<!-- end -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{make()}\n\n{end}{rest.partition(end)[2]}"
    return text


def weights_bytes(quant: str) -> int:
    """What Qwen3-8B's weights take."""
    return round(N_PARAMETERS * file_type(quant).bits / 8)


def _weights() -> str:
    rows = ((quant, f"{file_type(quant).bits:.2f}", _gib(weights_bytes(quant))) for quant in QUANTS)
    return _table(("Type", "Bits a weight", "Weights"), rows)


def _contexts() -> str:
    rows = (
        (f"{n_ctx:,}", *(_gib(n_ctx * kv) for kv in map(_kv_bytes, KV_TYPES)), _yarn(n_ctx))
        for n_ctx in CONTEXTS
    )
    heads = ("Context", *(f"`KV_TYPE={kind.value}`" for kind in KV_TYPES), "YaRN")
    return _table(heads, rows)


def _kv_bytes(kind: KvType) -> int:
    return kv_bytes_per_token(KV_BYTES_PER_TOKEN, kind)


def _yarn(n_ctx: int) -> str:
    factor = math.ceil(n_ctx / N_CTX)
    return f"{factor}x" if factor > 1 else ""


def _memories() -> str:
    rows = []
    for memory in MEMORIES_GIB:
        found = {each.quant: each.n_ctx_max for each in fits(memory * GIB)}
        rows.append((f"{memory} GiB", *(_fitting(n_ctx) for n_ctx in found.values())))
    return _table(("Free memory", *(each.quant for each in fits(0))), rows)


def _fitting(n_ctx: int) -> str:
    return f"{n_ctx:,} tokens" if n_ctx else "no"


def _ceilings() -> str:
    rows = (
        (
            name,
            f"{speed:,} GB/s",
            *(f"{speed * 1e9 / weights_bytes(quant):.0f}" for quant in CEILING_QUANTS),
        )
        for name, speed in BANDWIDTHS.items()
    )
    return _table(("Memory", "Bandwidth", *CEILING_QUANTS), rows)


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / GIB:.1f} GiB"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---", *("---:" for _ in heads[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "weights": _weights,
    "contexts": _contexts,
    "memories": _memories,
    "ceilings": _ceilings,
}
