"""Merging: every number of the result, what lies beside it, and nothing left of a failure."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import load_file, save_file

from qwenkit.adapters.base import BaseShapes, gguf_name
from qwenkit.adapters.gguf_adapter import write_gguf_adapter
from qwenkit.adapters.merge import merge_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported, InvalidSettings, ModelCorrupt, ModelUnsupported
from qwenkit.models.checkpoint import open_checkpoint, to_float32
from qwenkit.models.demo import DEMO_DIR

Tensors = dict[str, np.ndarray]


def numbers(folder: Path) -> Tensors:
    """All tensors of a checkpoint in float32."""
    return {
        name: np.concatenate([to_float32(rows, tensor.dtype) for rows in tensor.chunks()])
        for name, tensor in open_checkpoint(folder).tensors.items()
    }


def expected(lora: SimpleNamespace, adapter: Path, base: Path, scale: float = 1.0) -> Tensors:
    """The base with the adapter added, in 64-bit floats."""
    wanted = {name: data.astype(np.float64) for name, data in numbers(base).items()}
    for module, delta in lora.deltas(read_adapter(adapter)).items():
        wanted[f"{module}.weight"] += scale * delta
    return wanted


def assert_close(found: Tensors, wanted: Tensors, share: float) -> None:
    assert found.keys() == wanted.keys()
    for name, data in wanted.items():
        np.testing.assert_allclose(
            found[name], data, rtol=0, atol=share * np.abs(data).max(), err_msg=name
        )


@contextmanager
def failing(*_: object, **__: object) -> Iterator[Callable[[int], None]]:
    """A progress bar that fails in the middle."""
    seen = 0

    def advance(n_bytes: int) -> None:
        nonlocal seen
        seen += n_bytes
        if seen > 1_000_000:
            raise KeyboardInterrupt

    yield advance


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The demo model over three files."""
    folder = tmp_path / "sharded"
    shutil.copytree(DEMO_DIR, folder)
    (folder / "model.safetensors").unlink()
    tensors = load_file(DEMO_DIR / "model.safetensors")
    weight_map = {}
    for part in range(3):
        file = f"model-0000{part + 1}-of-00003.safetensors"
        some = {name: tensors[name] for name in sorted(tensors)[part::3]}
        save_file(some, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(some, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("dtype", "stored", "share"),
    [("auto", "F16", 5e-4), ("f32", "F32", 1e-6), ("f16", "F16", 5e-4), ("bf16", "BF16", 4e-3)],
)
def test_a_folder_holds_base_plus_adapter(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, dtype: str, stored: str, share: float
) -> None:
    target = tmp_path / "merged"
    made = merge_adapter(DEMO_DIR, adapter, target, dtype=dtype, check=True)
    assert_close(numbers(target), expected(lora, adapter, DEMO_DIR), share)
    assert {tensor.dtype for tensor in open_checkpoint(target).tensors.values()} == {stored}
    assert (made.path, made.format, made.n_merged) == (target, "safetensors", 8)
    assert made.check is not None
    assert made.check.max_rel <= share
    assert made.size_bytes == open_checkpoint(target).n_bytes


def test_what_the_adapter_does_not_change_is_copied_bit_for_bit(
    adapter: Path, tmp_path: Path
) -> None:
    merge_adapter(DEMO_DIR, adapter, tmp_path / "merged")
    before = load_file(DEMO_DIR / "model.safetensors")
    after = load_file(tmp_path / "merged" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, data in before.items():
        changed = name.endswith(("q_proj.weight", "v_proj.weight"))
        assert (after[name].tobytes() == data.tobytes()) is not changed, name


@pytest.mark.parametrize(
    ("dtype", "share"), [("auto", 5e-4), ("f32", 1e-6), ("bf16", 4e-3), ("q8_0", 6e-3)]
)
def test_a_gguf_holds_base_plus_adapter(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, dtype: str, share: float
) -> None:
    target = tmp_path / "merged.gguf"
    made = merge_adapter(DEMO_DIR, adapter, target, dtype=dtype, check=True)
    found = {
        t.name: dequantize(t.data, t.tensor_type).reshape(t.shape[::-1])
        for t in GGUFReader(target).tensors
    }
    wanted = expected(lora, adapter, DEMO_DIR)
    for module in {name.removesuffix(".weight") for name in wanted}:
        name = gguf_name(module)
        if name is not None:
            data = wanted[f"{module}.weight"]
            atol = share * np.abs(data).max()
            np.testing.assert_allclose(found[name], data, rtol=0, atol=atol)
    assert made.format == "gguf"
    assert made.check is not None
    assert made.check.n_matrices == len(wanted)


def test_shards_stay_shards(sharded: Path, adapter: Path, tmp_path: Path) -> None:
    whole = merge_adapter(DEMO_DIR, adapter, tmp_path / "whole", check=True)
    parts = merge_adapter(sharded, adapter, tmp_path / "parts", check=True)
    first, second = numbers(tmp_path / "whole"), numbers(tmp_path / "parts")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) == 3
    index = json.loads(
        (tmp_path / "parts" / "model.safetensors.index.json").read_text(encoding="utf-8")
    )
    assert index["metadata"]["total_size"] == parts.size_bytes == whole.size_bytes


def test_tokenizer_and_configuration_go_along(adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(DEMO_DIR, base)
    for name in ("LICENSE", "vocab.txt", "README.md", "notes.bin"):
        (base / name).write_text(name, encoding="utf-8")
    merge_adapter(base, adapter, tmp_path / "merged")
    made = {path.name for path in (tmp_path / "merged").iterdir()}
    assert made == {path.name for path in base.iterdir()} - {"README.md", "notes.bin"}
    for name in made - {"model.safetensors"}:
        assert (tmp_path / "merged" / name).read_bytes() == (base / name).read_bytes()


def test_another_number_format_is_written_into_the_configuration(
    adapter: Path, tmp_path: Path
) -> None:
    merge_adapter(DEMO_DIR, adapter, tmp_path / "merged", dtype="bf16")
    before, after = (
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for folder in (DEMO_DIR, tmp_path / "merged")
    )
    assert after == before | {"torch_dtype": "bfloat16"}


@pytest.mark.parametrize("scale", [0.5, -1.0, 0.0])
def test_the_scale_multiplies_the_change(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, scale: float
) -> None:
    merge_adapter(DEMO_DIR, adapter, tmp_path / "m", scale=scale, dtype="f32", check=True)
    wanted = expected(lora, adapter, DEMO_DIR, scale)
    assert_close(numbers(tmp_path / "m"), wanted, 1e-6)


def test_an_adapter_in_a_gguf_merges_as_the_folder_it_came_from(
    adapter: Path, tmp_path: Path
) -> None:
    write_gguf_adapter(read_adapter(adapter), tmp_path / "a.gguf")
    merge_adapter(DEMO_DIR, adapter, tmp_path / "one")
    merge_adapter(DEMO_DIR, tmp_path / "a.gguf", tmp_path / "two")
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two


def test_dora_sets_the_length_of_every_row(tmp_path: Path, lora: SimpleNamespace) -> None:
    def with_magnitudes(tensors: Tensors) -> None:
        rng = np.random.default_rng(7)
        for name in [name for name in tensors if ".lora_B." in name]:
            lengths = rng.uniform(0.5, 2, len(tensors[name])).astype(np.float32)
            tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = lengths

    folder = lora.write(tmp_path / "a", config={"use_dora": True}, change=with_magnitudes)
    merge_adapter(DEMO_DIR, folder, tmp_path / "m", dtype="f32", check=True)
    wanted = expected(lora, folder, DEMO_DIR)
    for pair in read_adapter(folder).pairs:
        data = wanted[f"{pair.module}.weight"]
        assert pair.magnitude is not None
        data *= (pair.magnitude / np.linalg.norm(data, axis=1))[:, None]
    assert_close(numbers(tmp_path / "m"), wanted, 1e-6)
    with pytest.raises(InvalidSettings, match="DoRA"):
        merge_adapter(DEMO_DIR, folder, tmp_path / "n", scale=0.5)


@pytest.mark.parametrize("name", ["merged", "merged.gguf"])
def test_an_interrupted_merge_leaves_what_was_there(
    adapter: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "out" / name
    merge_adapter(DEMO_DIR, adapter, target)
    kept = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(KeyboardInterrupt):
        merge_adapter(DEMO_DIR, adapter, target, scale=2.0, progress=failing)
    left = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == kept


def test_a_model_that_is_there_is_replaced_and_other_folders_never(
    adapter: Path, tmp_path: Path
) -> None:
    target = tmp_path / "merged"
    target.mkdir()
    merge_adapter(DEMO_DIR, adapter, target)
    (target / "old").touch()
    merge_adapter(DEMO_DIR, adapter, target)
    assert not (target / "old").exists()

    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").touch()
    with pytest.raises(InvalidSettings, match="holds no model"):
        merge_adapter(DEMO_DIR, adapter, precious)
    assert (precious / "thesis.txt").exists()


def test_the_base_is_never_the_target(adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "parent" / "base"
    shutil.copytree(DEMO_DIR, base)
    (base.parent / "config.json").touch()
    for target in (base, base.parent):
        with pytest.raises(InvalidSettings, match="holds the base"):
            merge_adapter(base, adapter, target)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": float("nan")},
        {"scale": 1000.0},
        {"dtype": "q8_0"},
        {"dtype": "int4"},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    adapter: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidSettings):
        merge_adapter(DEMO_DIR, adapter, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


def test_a_base_of_another_shape_or_kind_is_refused(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace
) -> None:
    wide = BaseShapes("wide", {"model.layers.0.self_attn.q_proj": (512, 512)})
    with pytest.raises(AdapterUnsupported, match=r"\[512, 512\]"):
        merge_adapter(DEMO_DIR, lora.write(tmp_path / "w", base=wide), tmp_path / "m")
    (tmp_path / "base.gguf").touch()
    with pytest.raises(ModelUnsupported, match="safetensors"):
        merge_adapter(tmp_path / "base.gguf", adapter, tmp_path / "m")


def test_a_base_that_is_not_what_it_says_is_corrupt(adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(DEMO_DIR, base)
    tensors = load_file(base / "model.safetensors")
    name = "model.layers.0.self_attn.v_proj.weight"
    save_file(tensors | {name: tensors[name][:64].copy()}, base / "model.safetensors")
    with pytest.raises(ModelCorrupt, match=r"v_proj.*\[128, 256\].*\[64, 256\]"):
        merge_adapter(base, adapter, tmp_path / "m")
    save_file({n: d for n, d in tensors.items() if n != name}, base / "model.safetensors")
    with pytest.raises(ModelCorrupt, match="lacks it"):
        merge_adapter(base, adapter, tmp_path / "m")


def test_numbers_that_half_precision_cannot_hold_are_refused(
    tmp_path: Path, lora: SimpleNamespace
) -> None:
    huge = lora.write(tmp_path / "a", config={"lora_alpha": 10_000_000})
    for name in ("m", "m.gguf"):
        with pytest.raises(ModelUnsupported, match="F16") as caught:
            merge_adapter(DEMO_DIR, huge, tmp_path / name)
        assert "bf16" in caught.value.hint
        assert not (tmp_path / name).exists()
        merge_adapter(DEMO_DIR, huge, tmp_path / name, dtype="bf16")


def test_numbers_beyond_all_bounds_are_refused(tmp_path: Path, lora: SimpleNamespace) -> None:
    def blow_up(tensors: Tensors) -> None:
        for name in tensors:
            tensors[name] *= np.float32(1e30)

    with pytest.raises(ModelCorrupt, match="infinity"):
        merge_adapter(DEMO_DIR, lora.write(tmp_path / "a", change=blow_up), tmp_path / "m")


def test_memory_stays_below_the_model(adapter: Path, tmp_path: Path, sharded: Path) -> None:
    tracemalloc.start()
    merge_adapter(sharded, adapter, tmp_path / "m")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
