"""Reads adapters as PEFT saves them: adapter_config.json and adapter_model.safetensors.

Needs neither torch nor peft. The tensors are the truth; the configuration gives their scales and
must not contradict them. What plain matrices can't express is refused, by its name.
Source of the names and the meaning of each field: peft 0.21, tuners/lora and utils/other.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qwenkit.adapters.lora import Float32, Lora, LoraPair, make_lora
from qwenkit.adapters.template_stamp import read_stamp
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelNotFound
from qwenkit.models.checkpoint import (
    FLOAT_DTYPES,
    StoredTensor,
    read_json,
    read_tensors,
    to_float32,
)

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PICKLE_NAME = "adapter_model.bin"
ALL_LINEAR = "all-linear"

_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight"
    r"|lora_magnitude_vector|base_layer\.weight)"
)
# As PEFT spells what it makes of a pattern, by the field that the pattern stands in.
_SUFFIX = r"(.*\.)?({})$"
_WHOLE = "{}"
_LAYERS = r"(?:^|.*?\.){}\.(?P<layer>\d+)\."
_FIRST_LAYER = r".*?\.[^.]*\.(?P<layer>\d+)\."
MAX_ALPHA = 1e9
MAX_PATTERN = 2000
MAX_REPEATS = 6

# Fields that make an adapter more than B·A, and what each does.
_VARIANTS = {
    "modules_to_save": "trains whole modules beside LoRA",
    "trainable_token_indices": "trains single tokens",
    "target_parameters": "changes parameters that are no linear layers, such as experts",
    "layer_replication": "repeats layers of the base",
    "lora_bias": "trains biases",
    "alora_invocation_tokens": "works only from an invocation on (aLoRA)",
    "use_qalora": "pools its inputs (QA-LoRA)",
    "use_bdlora": "has block-diagonal matrices (BD-LoRA)",
    "arrow_config": "chooses among other adapters (Arrow)",
    "kasa_config": "changes the base's weights (KaSA)",
    "monteclora_config": "samples its weights (MonteCLoRA)",
}
# Initialisations that subtract what they start from from the base's weights.
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
# What a tensor that is neither A nor B says about the adapter.
_FOREIGN_TENSORS = {
    "lora_embedding_": "a LoRA of the embeddings",
    "lora_B.bias": "a trained bias (`lora_bias`)",
    ".bias": "a trained bias (`bias`)",
    "token_adapter": "trained tokens (`trainable_token_indices`)",
    "trainable_tokens": "trained tokens (`trainable_token_indices`)",
    ".weight": "a whole matrix (`modules_to_save`, or a changed vocabulary)",
}


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What the configuration says of the tensors."""

    path: Path
    rank: int
    alpha: float
    rslora: bool
    dora: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: str | tuple[str, ...] | None
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...]
    layers_patterns: tuple[str, ...] = field(default=())

    def rank_of(self, module: str) -> int:
        """Rank of a module's pair."""
        return self.ranks.get(_first_match(self.ranks, module), self.rank)

    def scale_of(self, module: str) -> float:
        """What PEFT multiplies a module's pair with."""
        alpha = self.alphas.get(_first_match(self.alphas, module), self.alpha)
        rank = self.rank_of(module)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank

    def has(self, module: str) -> bool:
        """Whether PEFT would put a pair on this module."""
        if _names(self.excluded, module):
            return False
        if self.targets is None:
            return True
        if isinstance(self.targets, str) and self.targets.lower() == ALL_LINEAR:
            return module != "lm_head"
        return _names(self.targets, module) and self._has_layer(module)

    def _has_layer(self, module: str) -> bool:
        if not self.layers:
            return True
        patterns = [_LAYERS.replace("{}", name) for name in self.layers_patterns] or [_FIRST_LAYER]
        matches = filter(None, (re.match(pattern, module) for pattern in patterns))
        return any(int(match["layer"]) in self.layers for match in matches)


def read_peft(folder: Path) -> Lora:
    """Read a folder that PEFT saved.

    Raises:
        ModelNotFound: A file is missing.
        ModelCorrupt: A file is truncated or damaged, or the two contradict each other.
        AdapterUnsupported: Not LoRA, or a variant that two matrices can't express.
    """
    config = parse_config(folder / CONFIG_NAME, read_json(folder / CONFIG_NAME))
    tensors = read_tensors(_weights(folder))
    parts: dict[str, dict[str, StoredTensor]] = {}
    for tensor in tensors.values():
        module, part = _place(folder, tensor.name)
        parts.setdefault(module, {})[part] = tensor
    pairs = [_pair(config, module, found) for module, found in parts.items()]
    return make_lora(folder, pairs, config.alpha, read_stamp(folder))


def parse_config(path: Path, config: dict[str, Any]) -> PeftConfig:
    """Read adapter_config.json.

    Raises:
        ModelCorrupt: A field has a value that it can't have.
        AdapterUnsupported: Not LoRA, or a variant that two matrices can't express.
    """
    _refuse_variants(path, config)
    rank = _rank(path, "r", config.get("r", 8))
    targets = _patterns(path, config, "target_modules")
    return PeftConfig(
        path=path,
        rank=rank,
        alpha=_alpha(path, "lora_alpha", config.get("lora_alpha", 8)),
        rslora=_flag(path, config, "use_rslora"),
        dora=_flag(path, config, "use_dora"),
        ranks={
            k: _rank(path, "rank_pattern", v) for k, v in _mapping(path, config, "rank_pattern")
        },
        alphas={
            k: _alpha(path, "alpha_pattern", v) for k, v in _mapping(path, config, "alpha_pattern")
        },
        targets=targets,
        excluded=_patterns(path, config, "exclude_modules") or (),
        layers=_layers(path, config),
        layers_patterns=_layers_patterns(path, config),
    )


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS_NAME
    if path.exists():
        return path
    if (folder / PICKLE_NAME).exists():
        raise AdapterUnsupported(
            f"`{folder}` has its weights in `{PICKLE_NAME}`, a pickle, which could run any code",
            hint="save the adapter again with PEFT's `save_pretrained`, which writes safetensors",
        )
    raise ModelNotFound(f"`{folder}` has no `{WEIGHTS_NAME}`")


def _place(folder: Path, name: str) -> tuple[str, str]:
    match = _TENSOR.fullmatch(name)
    if match is not None:
        return match["module"], match["part"]
    for sign, meaning in _FOREIGN_TENSORS.items():
        if sign in name:
            raise AdapterUnsupported(f"`{folder}`: `{name}` is {meaning}, which can't be applied")
    raise AdapterUnsupported(f"`{folder}`: `{name}` is not a tensor of a LoRA")


def _pair(config: PeftConfig, module: str, found: dict[str, StoredTensor]) -> LoraPair:
    folder = config.path.parent
    for part, other in (("lora_A.weight", "lora_B.weight"), ("lora_B.weight", "lora_A.weight")):
        if part not in found:
            present = other if other in found else next(iter(found))
            raise ModelCorrupt(f"`{folder}`: `{module}` has `{present}` and lacks `{part}`")
    if not config.has(module):
        raise ModelCorrupt(
            f"`{folder}` has tensors for `{module}`, which its {CONFIG_NAME} doesn't target"
        )
    a, b = found["lora_A.weight"], found["lora_B.weight"]
    _check_rank(config, module, a, b)
    _check_frozen(folder, found.get("base_layer.weight"), (b.shape[0], a.shape[1]))
    return LoraPair(
        module=module,
        a=_numbers(folder, a),
        b=_numbers(folder, b),
        scale=config.scale_of(module),
        stored_as=f"{a.dtype} {b.dtype}",
        magnitude=_magnitude(config, module, found.get("lora_magnitude_vector")),
    )


def _check_rank(config: PeftConfig, module: str, a: StoredTensor, b: StoredTensor) -> None:
    expected = config.rank_of(module)
    for name, shape, axis in (("A", a.shape, 0), ("B", b.shape, 1)):
        if len(shape) != 2:
            raise ModelCorrupt(
                f"`{config.path.parent}`: {name} of `{module}` has the shape {list(shape)}, "
                "it should be a matrix"
            )
        if shape[axis] != expected:
            raise ModelCorrupt(
                f"`{config.path.parent}`: {name} of `{module}` is {list(shape)}, "
                f"{CONFIG_NAME} says rank {expected}"
            )


def _check_frozen(folder: Path, tensor: StoredTensor | None, shape: tuple[int, int]) -> None:
    # PEFT saves the frozen matrix too where the output is changed; it is the base's own.
    if tensor is not None and tensor.shape != shape:
        raise ModelCorrupt(
            f"`{folder}`: `{tensor.name}` is {list(tensor.shape)}, its LoRA is for {list(shape)}"
        )


def _magnitude(config: PeftConfig, module: str, tensor: StoredTensor | None) -> Float32 | None:
    if config.dora and tensor is None:
        raise ModelCorrupt(
            f"`{config.path.parent}`: `use_dora` is set and `{module}` has no magnitudes"
        )
    if tensor is None:
        return None
    if not config.dora:
        raise ModelCorrupt(
            f"`{config.path.parent}`: `{tensor.name}` belongs to a DoRA, and `use_dora` is not set"
        )
    return _numbers(config.path.parent, tensor)


def _numbers(folder: Path, tensor: StoredTensor) -> Float32:
    if tensor.dtype not in FLOAT_DTYPES:
        raise AdapterUnsupported(
            f"`{folder}`: `{tensor.name}` is stored as {tensor.dtype}; "
            "F16, BF16 and F32 can be read"
        )
    if math.prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, np.float32)
    with np.errstate(over="ignore"):
        return np.concatenate([to_float32(rows, tensor.dtype) for rows in tensor.chunks()])


def _refuse_variants(path: Path, config: dict[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterUnsupported(f"`{path.parent}` is a {kind} adapter (`peft_type`), not LORA")
    for name, what_it_does in _VARIANTS.items():
        if config.get(name):
            raise AdapterUnsupported(
                f"`{path.parent}` {what_it_does}: `{name}` is {_shown(config[name])}"
            )
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_BASE):
        raise AdapterUnsupported(
            f"`{path.parent}` was started by `{start}`, which changes the base's weights, "
            "so that it doesn't fit the base as it is",
            hint=""
            if start == "loftq"
            else "save it with PEFT's `path_initial_model_for_weight_conversion`",
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flag(path: Path, config: dict[str, Any], key: str) -> bool:
    value = config.get(key) or False
    if not isinstance(value, bool):
        raise _invalid(path, key, value)
    return value


def _rank(path: Path, key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _invalid(path, key, value)
    if value == 0:
        raise AdapterUnsupported(f"`{path.parent}` has rank 0: `{key}`")
    return value


def _alpha(path: Path, key: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -MAX_ALPHA <= value <= MAX_ALPHA:  # also true for NaN
        raise _invalid(path, key, value)
    return float(value)


def _mapping(path: Path, config: dict[str, Any], key: str) -> Iterable[tuple[str, Any]]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise _invalid(path, key, value)
    for pattern in value:
        _check_pattern(path, key, pattern, _SUFFIX)
    return list(value.items())


def _patterns(path: Path, config: dict[str, Any], key: str) -> str | tuple[str, ...] | None:
    match config.get(key):
        case None:
            return None
        case str(pattern):
            _check_pattern(path, key, pattern, _WHOLE)
            return pattern
        case [*names] if all(isinstance(name, str) for name in names):
            return tuple(names)
        case value:
            raise _invalid(path, key, value)


def _layers(path: Path, config: dict[str, Any]) -> tuple[int, ...]:
    match config.get("layers_to_transform"):
        case None:
            return ()
        case int(layer) if not isinstance(layer, bool):
            return (layer,)
        case [*layers] if all(type(layer) is int for layer in layers):
            return tuple(layers)
        case value:
            raise _invalid(path, "layers_to_transform", value)


def _layers_patterns(path: Path, config: dict[str, Any]) -> tuple[str, ...]:
    key = "layers_pattern"
    value = config.get(key) or ()
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(p, str) for p in patterns):
        raise _invalid(path, key, value)
    for pattern in patterns:
        _check_pattern(path, key, pattern, _LAYERS)
    return tuple(patterns)


def _check_pattern(path: Path, key: str, pattern: str, use: str) -> None:
    """Refuse a pattern that is none, or that could keep `re` busy for hours."""
    n_repeats = len(re.findall(r"[*+{]", pattern))
    is_wild = n_repeats > MAX_REPEATS or re.search(r"\)[*+{]|[#\s]", pattern) is not None
    if is_wild or len(pattern) > MAX_PATTERN:
        raise AdapterUnsupported(
            f"`{path.parent}`: the pattern {_shown(pattern)} in `{key}` is too complex "
            "to be tried safely",
            hint="name the modules instead",
        )
    try:
        re.compile(use.replace("{}", pattern))
    except (re.error, RecursionError, OverflowError) as exc:
        raise _invalid(path, key, pattern) from exc


def _first_match(patterns: Iterable[str], module: str) -> str:
    matching = (each for each in patterns if re.match(_SUFFIX.replace("{}", each), module))
    return next(matching, module)


def _names(targets: str | tuple[str, ...], module: str) -> bool:
    """Whether a pattern, or one of a list of names' ends, is this module."""
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in targets)


def _invalid(path: Path, key: str, value: Any) -> ModelCorrupt:
    return ModelCorrupt(f"`{path}` has no valid `{key}`: {_shown(value)}")
