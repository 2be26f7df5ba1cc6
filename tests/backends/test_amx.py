"""Which compilers' AMX code is left alone."""

from __future__ import annotations

import pytest

from qwenkit.backends.llamacpp.amx import amx_is_broken, compiler_breaks_amx


@pytest.mark.parametrize(
    ("comment", "breaks"),
    [
        (b"GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0", True),
        (b"GCC: (GNU) 12.4.0\0", False),
        (b"GCC: (Ubuntu 13.2.0-23ubuntu4) 13.2.0\0", True),
        (b"GCC: (Ubuntu 13.3.0-6ubuntu2) 13.3.0\0", False),
        (b"GCC: (GNU) 14.1.1\0", False),
        (b"GCC: (GNU) 9.4.0\0", True),
        (b"clang version 17.0.6\0", False),
        (b"GCC: (GNU) 14.2.0\0GCC: (GNU) 12.1.0\0", True),
    ],
)
def test_compilers_with_the_bug_are_known_by_their_version(comment: bytes, breaks: bool) -> None:
    assert compiler_breaks_amx(b"\x7fELF" + b"\0" * 100 + comment) is breaks


def test_this_machine_is_asked_without_failing() -> None:
    assert amx_is_broken() in (True, False)
