"""Reads an adapter, whichever of the three formats it has."""

from __future__ import annotations

from pathlib import Path

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.gguf_adapter import is_gguf_adapter, read_gguf_adapter
from qwenkit.adapters.lora import Lora
from qwenkit.adapters.onnx_adapter import read_onnx_adapter
from qwenkit.adapters.peft import CONFIG_NAME, read_peft
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelNotFound

ONNX_SUFFIX = ".onnx_adapter"


def is_adapter(path: Path) -> bool:
    """Whether something looks like an adapter: a quick look, its content is not checked.

    A `.gguf` whose header can't be read counts as one, so that loading it says what is wrong.
    """
    if path.is_dir():
        return (path / CONFIG_NAME).is_file()
    if not path.is_file():
        return False
    return path.suffix == ONNX_SUFFIX or (path.suffix == ".gguf" and is_gguf_adapter(path))


def read_adapter(source: Path, base: BaseShapes | None = None) -> Lora:
    """Read a PEFT folder, an adapter in a `.gguf`, or an `.onnx_adapter`, and check it.

    Args:
        source: What to read.
        base: Tells what the inputs in an `.onnx_adapter` stand for; without it they must be named
            after matrices, as our export and onnxruntime-genai's model builder name them.

    Raises:
        ModelNotFound: Nothing there.
        ModelCorrupt: A file is truncated, damaged or contradicts itself.
        AdapterUnsupported: Not an adapter, or of a kind that can't be used.
    """
    try:
        if source.is_dir():
            return read_peft(source)
        if source.suffix == ".gguf":
            return read_gguf_adapter(source)
        if source.suffix == ONNX_SUFFIX:
            return read_onnx_adapter(source, base)
        found = source.exists()
    except OSError as exc:
        raise ModelCorrupt(f"`{source}` can't be read: {exc.strerror}") from exc
    if not found:
        raise ModelNotFound(f"there is no file or folder `{source}`")
    raise AdapterUnsupported(
        f"`{source}` is no adapter",
        hint="name a PEFT folder, a .gguf or an .onnx_adapter",
    )


def require_servable(lora: Lora) -> None:
    """Refuse what can only be merged.

    Raises:
        AdapterUnsupported: It is a DoRA.
    """
    if lora.is_dora:
        raise AdapterUnsupported(
            f"`{lora.source}` is a DoRA (`use_dora`), which can't be applied while serving",
            hint="merge it into its base: `qwenkit lora merge`",
        )
