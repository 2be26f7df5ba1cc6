"""Whether the AMX code in llama.cpp was compiled by a compiler that breaks it.

GCC drops all but the first 8 bytes of the tile configuration that `_tile_loadconfig` is given (GCC
bug 114098, mended in 11.5, 12.4, 13.3 and 14.1). llama.cpp built with an older one on a processor
with AMX dies of a segmentation fault at the first batch on quantised weights.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import llama_cpp
import llama_cpp.llama_cpp as native

_MENDED = {11: 5, 12: 4, 13: 3}
_COMPILER = re.compile(rb"GCC: \([^)\0]*\) (\d+)\.(\d+)\.\d+")


@cache
def amx_is_broken() -> bool:
    """Whether this process's llama.cpp would use AMX and must not."""
    if b"AMX_INT8 = 1" not in native.llama_print_system_info():
        return False
    libraries = Path(llama_cpp.__file__).parent.joinpath("lib").glob("libggml-cpu*")
    return any(compiler_breaks_amx(library.read_bytes()) for library in libraries)


def compiler_breaks_amx(library: bytes) -> bool:
    """Whether a library's bytes name a compiler that has the bug."""
    versions = ((int(major), int(minor)) for major, minor in _COMPILER.findall(library))
    return any(minor < _MENDED.get(major, 0 if major > 13 else 99) for major, minor in versions)
