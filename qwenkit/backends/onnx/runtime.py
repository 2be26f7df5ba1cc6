"""The two packages that run ONNX models, imported where they are needed and nowhere else."""

from __future__ import annotations

from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.extras import import_extra

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


def onnxruntime() -> Any:
    """The package of that name.

    Raises:
        MissingExtra: It is not installed.
    """
    return import_extra("onnxruntime", extra="onnx")


def onnxruntime_genai() -> Any:
    """The package of that name.

    Raises:
        MissingExtra: It is not installed.
    """
    return import_extra("onnxruntime_genai", extra="onnx")


def providers(device: str) -> list[str]:
    """Execution providers for a device, the preferred one first.

    Raises:
        InvalidSettings: The onnxruntime that is installed can't use the device.
    """
    if device == "cpu":
        return [_CPU]
    if _CUDA not in onnxruntime().get_available_providers():
        raise InvalidSettings(
            "ONNX_PROVIDER=cuda, and the onnxruntime that is installed has no CUDA",
            hint="pip install onnxruntime-gpu in its place, or set ONNX_PROVIDER=cpu",
        )
    return [_CUDA, _CPU]
