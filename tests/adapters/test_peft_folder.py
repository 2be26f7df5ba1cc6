"""Adapters written as PEFT folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qwenkit.adapters.lora import LoraPair, make_lora
from qwenkit.adapters.peft_folder import write_peft
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported


def pair(module: str, rank: int, scale: float) -> LoraPair:
    rng = np.random.default_rng(rank)
    a = rng.standard_normal((rank, 6)).astype(np.float32)
    b = rng.standard_normal((4, rank)).astype(np.float32)
    return LoraPair(module=f"model.layers.{module}", a=a, b=b, scale=scale, stored_as="F32 F32")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    pairs = [
        pair("0.self_attn.q_proj", 3, 2.0),
        pair("1.self_attn.q_proj", 3, 2.0),
        pair("11.self_attn.q_proj", 5, 0.5),
        pair("1.mlp.up_proj", 2, 2.0),
    ]
    lora = make_lora(tmp_path, pairs, 6.0, "0123456789abcdef")
    write_peft(lora, tmp_path / "adapter", base="Qwen/Qwen3-8B")
    read = read_adapter(tmp_path / "adapter")
    assert read.template_hash == lora.template_hash
    for found, wanted in zip(read.pairs, lora.pairs, strict=True):
        assert (found.module, found.scale) == (wanted.module, wanted.scale)
        np.testing.assert_array_equal(found.a, wanted.a)
        np.testing.assert_array_equal(found.b, wanted.b)


def test_kinds_are_named_where_every_layer_has_them(tmp_path: Path) -> None:
    pairs = [
        pair(f"{i}.{kind}", 3, 1.0) for i in (0, 1) for kind in ("mlp.up_proj", "mlp.down_proj")
    ]
    write_peft(make_lora(tmp_path, pairs, 3.0), tmp_path / "adapter", base="b")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == ["down_proj", "up_proj"]
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (3, 3.0, {})
    assert config["base_model_name_or_path"] == "b"


def test_a_folder_that_was_there_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "old").touch()
    write_peft(make_lora(tmp_path, [pair("0.mlp.up_proj", 1, 1.0)], 1.0), folder, base="b")
    assert not (folder / "old").exists()


def test_dora_is_refused(tmp_path: Path) -> None:
    plain = pair("0.mlp.up_proj", 2, 1.0)
    dora = make_lora(tmp_path, [replace(plain, magnitude=np.ones(4, np.float32))], 1.0)
    with pytest.raises(AdapterUnsupported, match="DoRA"):
        write_peft(dora, tmp_path / "adapter", base="b")
    assert not (tmp_path / "adapter").exists()
