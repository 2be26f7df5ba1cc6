"""The machine: processor, memory, GPUs. Asks Linux and macOS, and heeds containers' limits."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from qwenkit.backends.llamacpp.sizing import available_memory, usable_cores

FEATURES = {
    "AVX2": ("avx2",),
    "AVX512": ("avx512f",),
    "AVX512-VNNI": ("avx512_vnni",),
    "AVX-VNNI": ("avx_vnni",),
    "AMX": ("amx_tile", "amx_int8"),
    "F16C": ("f16c",),
    "NEON": ("asimd", "neon"),
    "DOTPROD": ("asimddp",),
    "I8MM": ("i8mm",),
}
"""Instructions that speed inference up, by the flags that Linux gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor.

    Args:
        model: Its maker's name for it.
        features: Of the instructions that matter, those it has.
        n_physical: Cores.
        n_logical: Hardware threads.
        n_usable: Cores that this process may use, by affinity and the container's limit.
    """

    model: str
    features: tuple[str, ...]
    n_physical: int
    n_logical: int
    n_usable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Main memory in bytes; a container's limit counts where there is one."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An NVIDIA GPU; memory in bytes."""

    name: str
    total_bytes: int
    free_bytes: int


def cpu() -> Cpu:
    """The processor of this machine."""
    info = _cpu_info()
    flags = set(info.get("flags", info.get("Features", "")).split())
    n_logical = psutil.cpu_count() or 1
    return Cpu(
        model=info.get("model name") or _mac_cpu() or platform.processor() or platform.machine(),
        features=tuple(name for name, needed in FEATURES.items() if flags & set(needed)),
        n_physical=psutil.cpu_count(logical=False) or n_logical,
        n_logical=n_logical,
        n_usable=min(usable_cores(), _quota_cores() or n_logical),
    )


def memory() -> Memory:
    """The main memory of this machine or container."""
    total = psutil.virtual_memory().total
    limit = _memory_limit()
    limit = limit if limit is not None and limit < total else None
    return Memory(
        total_bytes=limit or total,
        available_bytes=min(available_memory(), limit or total),
        limit_bytes=limit,
    )


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that the driver tells of; none is fine."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [_gpu(handle) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: object) -> Gpu:
    import pynvml

    name = pynvml.nvmlDeviceGetName(handle)
    held = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else name,
        total_bytes=held.total,
        free_bytes=held.free,
    )


def _cpu_info() -> dict[str, str]:
    text = _read(Path("/proc/cpuinfo")).partition("\n\n")[0]
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _mac_cpu() -> str:
    if platform.system() != "Darwin":
        return ""
    asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def _quota_cores() -> int | None:
    """Cores that a container's CPU quota is worth; None without one."""
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).strip().partition(" ")
    if not quota.isdecimal() or not period.isdecimal():
        quota = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")).strip()
        period = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")).strip()
    if not quota.isdecimal() or not period.isdecimal():
        return None
    return max(1, int(quota) // int(period))


def _memory_limit() -> int | None:
    files = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    limits = [int(text) for text in map(_read, map(Path, files)) if text.strip().isdecimal()]
    return min(limits, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
