"""The software: Python, the llama.cpp runtime, and which extras of qwenkit are installed."""

from __future__ import annotations

import errno
import importlib.metadata
import platform
import re
import socket
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from qwenkit import __version__

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+).*?;\s*extra\s*==\s*['\"](?P<extra>[^'\"]+)")
_FEATURE = re.compile(r"(\w+) = 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """llama.cpp as it was built here.

    Args:
        version: Of llama-cpp-python; None when it isn't installed.
        gpu_offload: Whether it can keep layers on a GPU.
        features: What it says it uses of the processor.
        breaks_amx: Whether the compiler that built it broke its AMX code, which then goes unused.
        problem: Why it can't be loaded; empty when it can.
    """

    version: str | None
    gpu_offload: bool = False
    features: tuple[str, ...] = ()
    breaks_amx: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """An extra of qwenkit.

    Args:
        name: As pip takes it.
        missing: Its packages that aren't installed.
    """

    name: str
    missing: tuple[str, ...]

    @property
    def installed(self) -> bool:
        """Whether all of its packages are there."""
        return not self.missing


def python() -> str:
    """Which Python this is, on what."""
    implementation = platform.python_implementation()
    return f"{implementation} {platform.python_version()} on {platform.platform(terse=True)}"


def qwenkit() -> str:
    """The version of qwenkit."""
    return __version__


def runtime() -> Runtime:
    """The llama.cpp runtime."""
    version = _version("llama-cpp-python")
    if version is None or find_spec("llama_cpp") is None:
        return Runtime(version=None, problem="llama-cpp-python is not installed")
    try:
        from llama_cpp import llama_cpp
    except (OSError, RuntimeError) as exc:  # a shared library that doesn't load
        return Runtime(version=version, problem=str(exc))
    from qwenkit.backends.llamacpp.amx import amx_is_broken

    info = llama_cpp.llama_print_system_info().decode(errors="replace")
    return Runtime(
        version=version,
        gpu_offload=bool(llama_cpp.llama_supports_gpu_offload()),
        features=tuple(_FEATURE.findall(info)),
        breaks_amx=amx_is_broken(),
    )


def extras(requirements: Iterable[str] | None = None) -> list[Extra]:
    """The extras and what they lack.

    Args:
        requirements: Of the package, as its metadata states them; by default the installed ones.
    """
    stated = _stated() if requirements is None else requirements
    needed: dict[str, list[str]] = defaultdict(list)
    for match in filter(None, map(_REQUIREMENT.match, stated)):
        needed[match["extra"]].append(match["name"])
    return [
        Extra(name=name, missing=tuple(each for each in packages if _version(each) is None))
        for name, packages in needed.items()
        if name != "all"  # it only names the others
    ]


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError as exc:
        return exc.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _stated() -> list[str]:
    try:
        return importlib.metadata.requires("qwenkit") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return []


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
