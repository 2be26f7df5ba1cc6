"""The packages that exporting takes and serving doesn't, or the error that names the extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from qwenkit.errors import MissingExtra
from qwenkit.export.options import Exporter

PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxruntime": "onnxruntime",
    "onnxruntime_genai": "onnxruntime-genai",
    "optimum": "optimum-onnx",
    "ml_dtypes": "ml-dtypes",
    "tqdm": "tqdm",
}
"""What a missing import is called where it is installed from."""

_OWN_ENVIRONMENT = (
    "Optimum's exporter needs an environment of its own, with transformers<4.58: "
    "see the guide on ONNX"
)


def import_extra(module: str, *, exporter: Exporter = "builder") -> Any:
    """Import a module of an optional package, for one of the two exporters.

    Raises:
        MissingExtra: Its package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in PACKAGES:
            raise
        error = MissingExtra(PACKAGES[missing], extra="export")
        if exporter == "optimum":
            error.hint = _OWN_ENVIRONMENT
        raise error from exc
