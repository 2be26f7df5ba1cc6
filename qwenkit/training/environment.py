"""What a run was made with: versions, machine, device. A fact sheet; nothing decides by it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import psutil

from qwenkit import __version__
from qwenkit.extras import import_extra
from qwenkit.training.processes import Processes


def describe_environment(packages: Iterable[str]) -> dict[str, Any]:
    """The facts that hold whatever trains, as JSON holds them.

    Args:
        packages: Those whose versions matter.
    """
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "qwenkit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "n_cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def describe_torch(processes: Processes) -> dict[str, Any]:
    """What torch computes on, as JSON holds it."""
    torch = import_extra("torch", extra="train")
    return {
        "device": _device(processes.device),
        "cuda": torch.version.cuda,
        "n_processes": processes.n,
        "n_threads": torch.get_num_threads(),
    }


def _device(device: Any) -> dict[str, Any]:
    if device.type != "cuda":
        return {"type": device.type, "name": platform.processor() or platform.machine()}
    facts = import_extra("torch", extra="train").cuda.get_device_properties(device)
    return {"type": "cuda", "name": facts.name, "memory_bytes": facts.total_memory}
