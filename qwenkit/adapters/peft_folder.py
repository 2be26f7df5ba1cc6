"""Writes an adapter as PEFT saves it: adapter_config.json and adapter_model.safetensors.

Needs neither torch nor peft, which takes its defaults for the fields that are left out.
Source of the names: peft 0.21, tuners/lora/config.py and utils/save_and_load.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qwenkit.adapters.lora import Float32, Lora, LoraPair
from qwenkit.adapters.peft import CONFIG_NAME, WEIGHTS_NAME
from qwenkit.adapters.read import require_servable
from qwenkit.adapters.template_stamp import write_stamp
from qwenkit.models.atomic import atomic_folder
from qwenkit.models.safetensors_file import TensorToWrite, write_safetensors


def write_peft(lora: Lora, folder: Path, *, base: str) -> None:
    """Write an adapter as a PEFT folder of 32-bit floats, whole or not at all.

    Args:
        lora: The adapter.
        folder: What was there before is replaced.
        base: What the model that it was made for is called: a Hub id or a path.

    Raises:
        AdapterUnsupported: It is a DoRA, whose magnitudes are not written here.
    """
    require_servable(lora)
    with atomic_folder(folder) as partial:
        text = json.dumps(_config(lora, base), indent=2, sort_keys=True)
        (partial / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        write_safetensors(partial / WEIGHTS_NAME, list(_tensors(lora.pairs)), lambda _: None)
        if lora.template_hash is not None:
            write_stamp(partial, template_hash=lora.template_hash)


def _config(lora: Lora, base: str) -> dict[str, Any]:
    """PEFT's configuration: the commonest rank and alpha, and patterns for the others."""
    ranks = {pair.module: pair.rank for pair in lora.pairs}
    alphas = {pair.module: pair.scale * pair.rank for pair in lora.pairs}
    rank, alpha = (Counter(each.values()).most_common(1)[0][0] for each in (ranks, alphas))
    return {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {module: r for module, r in ranks.items() if r != rank},
        "alpha_pattern": {module: a for module, a in alphas.items() if a != alpha},
        "target_modules": _targets(lora),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def _targets(lora: Lora) -> list[str]:
    """The kinds of matrices where each is changed in every layer, all names otherwise."""
    per_kind = Counter(pair.target for pair in lora.pairs)
    if len(set(per_kind.values())) == 1:
        return list(lora.targets)
    return sorted(pair.module for pair in lora.pairs)


def _tensors(pairs: Sequence[LoraPair]) -> Iterator[TensorToWrite]:
    for pair in pairs:
        for part, array in (("lora_A", pair.a), ("lora_B", pair.b)):
            yield _planned(f"base_model.model.{pair.module}.{part}.weight", array)


def _planned(name: str, array: Float32) -> TensorToWrite:
    def chunks() -> Iterator[NDArray[Any]]:
        yield array

    return TensorToWrite(name, "F32", array.shape, chunks)
