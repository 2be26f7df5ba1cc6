"""Which files of a Hub repository make the model. Pure: names in, names out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import PurePosixPath

from qwenkit.errors import ModelNotFound, ModelUnsupported
from qwenkit.models.gguf_header import SPLIT_NAME
from qwenkit.models.hub import HubId
from qwenkit.models.info import GENAI_CONFIG

# The best for most machines first; what is not named here is taken only when asked for.
PREFERRED = (
    "Q4_K_M",
    "Q4_K_XL",
    "Q4_K_S",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_0",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_0",
    "Q6_K",
    "Q8_0",
    "Q3_K_M",
    "BF16",
    "F16",
    "F32",
)
CHECKPOINT_PATTERNS = ("*.json", "*.jinja", "*.txt", "model*.safetensors")
_LABEL = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d|TQ\d|MXFP\d|NVFP\d|B?F\d|FP\d)\w*)$", re.IGNORECASE
)
_NOT_MODELS = ("mmproj", "imatrix", "lora")


def quant_label(name: str) -> str:
    """The quantisation that a GGUF file's name ends with, such as `Q4_K_M`; empty without one."""
    match = _LABEL.search(_stem(name))
    return match[1].upper() if match else ""


def choose_gguf(hub_id: HubId, names: Iterable[str]) -> list[str]:
    """The GGUF files to fetch, all parts of a split one in order.

    Raises:
        ModelNotFound: No GGUF file, or none of that quantisation; the hint lists those there are.
    """
    models = _group(name for name in names if name.endswith(".gguf"))
    if hub_id.path:
        wanted = [parts for parts in models.values() if hub_id.path in parts]
    elif hub_id.quant:
        wanted = _of_quant(models, hub_id.quant)
    else:
        wanted = _best(models)
    if wanted:
        return wanted[0]
    labels = sorted({quant_label(stem) or PurePosixPath(stem).name for stem in models})
    asked = hub_id.path or hub_id.quant
    raise ModelNotFound(
        f"`{hub_id.repo}` has no GGUF file `{asked}`"
        if asked
        else f"`{hub_id.repo}` has several GGUF files and none of a usual quantisation",
        hint=f"there are: {', '.join(labels) or 'none'}",
    )


def choose_checkpoint(names: Iterable[str]) -> list[str]:
    """The files of a safetensors checkpoint at the repository's root."""
    return [
        name
        for name in names
        if "/" not in name and any(fnmatch(name, pattern) for pattern in CHECKPOINT_PATTERNS)
    ]


def choose_onnx(hub_id: HubId, names: Iterable[str]) -> list[str]:
    """The files of an ONNX Runtime GenAI folder.

    Raises:
        ModelNotFound: There is none, or none of that name.
        ModelUnsupported: There are several and the id names none.
    """
    files = list(names)
    folders = [str(PurePosixPath(n).parent) for n in files if PurePosixPath(n).name == GENAI_CONFIG]
    wanted = [f for f in folders if f == (hub_id.path.rstrip("/") or f)]
    if not wanted:
        raise ModelNotFound(f"`{hub_id.repo}` has no folder `{hub_id.path}` of an ONNX model")
    if len(wanted) > 1:
        raise ModelUnsupported(
            f"`{hub_id.repo}` holds {len(wanted)} ONNX models",
            hint=f"name one, such as {hub_id.repo}/{wanted[0]}",
        )
    return [name for name in files if str(PurePosixPath(name).parent) == wanted[0]]


def _stem(name: str) -> str:
    match = SPLIT_NAME.match(name)
    return match["stem"] if match else name.removesuffix(".gguf")


def _group(names: Iterable[str]) -> dict[str, list[str]]:
    models: dict[str, list[str]] = {}
    for name in sorted(names):
        if not any(word in PurePosixPath(name).name.lower() for word in _NOT_MODELS):
            models.setdefault(_stem(name), []).append(name)
    return models


def _of_quant(models: dict[str, list[str]], quant: str) -> list[list[str]]:
    wanted = quant.upper()
    matches = [stem for stem in models if quant_label(stem) in (wanted, f"UD-{wanted}")]
    return [models[stem] for stem in sorted(matches, key=lambda s: (len(quant_label(s)), s))]


def _best(models: dict[str, list[str]]) -> list[list[str]]:
    for quant in PREFERRED:
        if matches := _of_quant(models, quant):
            return matches
    return list(models.values()) if len(models) == 1 else []
