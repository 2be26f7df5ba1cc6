"""PEFT folders written with numpy alone, for the demo model unless another shape is named."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.gguf_writer import GGUFWriter
from gguf.quants import quantize

from qwenkit.adapters.base import BaseShapes, LoraSlot, base_of_checkpoint
from qwenkit.models.demo import DEMO_DIR

Tensors = dict[str, np.ndarray]
DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
CONFIG: dict[str, Any] = {
    "alpha_pattern": {},
    "base_model_name_or_path": "qwenkit-demo",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": 8,
    "lora_dropout": 0.05,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 4,
    "rank_pattern": {},
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": False,
}


def stored(data: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        return (data.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return data.astype(DTYPES[dtype]).tobytes()


def write_safetensors(path: Path, tensors: Tensors, dtype: str = "F32") -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, data in tensors.items():
        blob = stored(data, dtype)
        end = offset + len(blob)
        header[name] = {"dtype": dtype, "shape": list(data.shape), "data_offsets": [offset, end]}
        offset = end
        blobs.append(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def random_pairs(
    base: BaseShapes, targets: tuple[str, ...], rank_of: Callable[[str], int], seed: int
) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for module, (n_out, n_in) in base.layers.items():
        if module.endswith(targets):
            prefix, rank = f"base_model.model.{module}", rank_of(module)
            a = rng.standard_normal((rank, n_in)) / n_in**0.5
            b = rng.standard_normal((n_out, rank)) / rank**0.5
            tensors[f"{prefix}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = b.astype(np.float32)
    return tensors


def write_peft(
    folder: Path,
    *,
    base: BaseShapes | None = None,
    dtype: str = "F32",
    seed: int = 0,
    targets: tuple[str, ...] = ("q_proj", "v_proj"),
    config: Mapping[str, Any] | None = None,
    rank_of: Callable[[str], int] | None = None,
    change: Callable[[Tensors], Any] = lambda _: None,
) -> Path:
    """Write an adapter with random A and B and return its folder.

    `config` overrides keys of the default one; `rank_of` gives a module's rank where it is not
    `r`; `change` edits the tensors.
    """
    merged = CONFIG | {"target_modules": list(targets)} | dict(config or {})
    base = base or base_of_checkpoint(DEMO_DIR)
    tensors = random_pairs(base, targets, rank_of or (lambda _: merged["r"]), seed)
    change(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(merged), encoding="utf-8")
    write_safetensors(folder / "adapter_model.safetensors", tensors, dtype)
    return folder


def deltas(lora: Any) -> dict[str, np.ndarray]:
    """What each matrix is changed by, in 64-bit floats."""
    return {
        pair.module: pair.scale * pair.b.astype(np.float64) @ pair.a.astype(np.float64)
        for pair in lora.pairs
    }


def with_slots(base: BaseShapes, io_dtype: str = "float32") -> BaseShapes:
    """The same matrices, as slots of an exported graph."""
    slots = {
        module: LoraSlot(f"{module}.lora_A.weight", f"{module}.lora_B.weight")
        for module in base.layers
    }
    return BaseShapes(base.name, base.layers, slots, io_dtype)  # type: ignore[arg-type]


def write_gguf(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    architecture: str = "qwen3",
    kind: str = "adapter",
    adapter_type: str = "lora",
    alpha: float | None = 8.0,
    raw_dtype: GGMLQuantizationType | None = None,
    extra: Callable[[GGUFWriter], Any] = lambda _: None,
) -> Path:
    """Write a GGUF file with the gguf package, as another tool would."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("general.type", kind)
    writer.add_string("adapter.type", adapter_type)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    extra(writer)
    for name, data in tensors.items():
        raw = data if raw_dtype is None else quantize(data, raw_dtype)
        writer.add_tensor(name, raw, raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def gguf_file() -> Callable[..., Path]:
    """Writes a GGUF file as another tool would."""
    return write_gguf


@pytest.fixture(scope="session")
def lora() -> SimpleNamespace:
    """The functions of this file, for tests."""
    return SimpleNamespace(
        write=write_peft,
        write_safetensors=write_safetensors,
        deltas=deltas,
        with_slots=with_slots,
        config=CONFIG,
    )


@pytest.fixture(scope="session")
def demo() -> BaseShapes:
    """The demo model's matrices."""
    return base_of_checkpoint(DEMO_DIR)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A rank-4 adapter of the demo model's q and v."""
    return write_peft(tmp_path / "adapter")
