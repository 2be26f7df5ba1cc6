"""What may be handed to llama.cpp: parts that belong together, numbers it does not abort on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.errors import ModelCorrupt, ModelError
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.gguf_check import check_gguf
from qwenkit.models.gguf_header import split_parts

LOADS = """
import sys
from llama_cpp import llama_cpp as api
log = api.llama_log_callback(lambda *_: None)
api.llama_log_set(log, None)
params = api.llama_model_default_params()
sys.exit(0 if api.llama_model_load_from_file(sys.argv[1].encode(), params) else 9)
"""


@pytest.fixture
def gguf(checkpoint: Path, tmp_path: Path) -> Path:
    convert_checkpoint(checkpoint, tmp_path / "m.gguf", dtype="q8_0")
    return tmp_path / "m.gguf"


def write_parts(folder: Path, n_parts: int) -> list[Path]:
    writer = GGUFWriter(folder / "m.gguf", "qwen3", split_max_tensors=1)
    for i in range(n_parts):
        writer.add_tensor(f"t{i}", np.ones(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("m-*.gguf"))


def write_one(path: Path, arch: str = "qwen3", **values: object) -> Path:
    writer = GGUFWriter(path, arch)
    for key, value in values.items():
        name = f"{arch}.{key.replace('__', '.')}"
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_uint32(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"block_count": 0}, "block_count"),
        ({"block_count": 513}, "block_count"),
        ({"embedding_length": 2**31}, "embedding_length"),
        ({"attention__head_count": 4, "attention__head_count_kv": 5}, "head_count_kv"),
        ({"attention__key_length": 0}, "key_length"),
    ],
)
def test_a_number_that_llama_cpp_aborts_on_is_named(
    tmp_path: Path, values: dict[str, int], key: str
) -> None:
    with pytest.raises(ModelCorrupt, match=key):
        check_gguf(write_one(tmp_path / "m.gguf", **values))


@pytest.mark.parametrize("epsilon", [-1e-6, float("nan"), float("inf")])
def test_an_epsilon_that_llama_cpp_aborts_on_is_refused(tmp_path: Path, epsilon: float) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "qwen3")
    writer.add_layer_norm_rms_eps(epsilon)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelCorrupt, match="epsilon"):
        check_gguf(tmp_path / "m.gguf")


def test_numbers_for_each_layer_pass(tmp_path: Path) -> None:
    check_gguf(write_one(tmp_path / "m.gguf", attention__head_count_kv=[2, 0, 2]))


@pytest.mark.parametrize(
    "tokens", [["a", "b", "a"], ["a", "b", "a\0"]], ids=["equal", "equal-as-c-strings"]
)
def test_a_vocabulary_with_a_token_twice_is_refused(tmp_path: Path, tokens: list[str]) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "qwen3")
    writer.add_token_list(tokens)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelCorrupt, match="twice"):
        check_gguf(tmp_path / "m.gguf")


def test_fewer_kinds_than_tokens_are_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "qwen3")
    writer.add_token_list(["a", "b"])
    writer.add_token_types([1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelCorrupt, match="2 tokens and 1"):
        check_gguf(tmp_path / "m.gguf")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(at=st.integers(0, 4000), value=st.integers(0, 255))
def test_what_passes_the_check_never_crashes_llama_cpp(
    tmp_path_factory: pytest.TempPathFactory, tiny: SimpleNamespace, at: int, value: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flip"
    if not (folder / "whole.gguf").exists():
        tiny.write(folder / "m")
        convert_checkpoint(folder / "m", folder / "whole.gguf")
    whole = bytearray((folder / "whole.gguf").read_bytes())
    whole[at] = value
    flipped = folder / "flipped.gguf"
    flipped.write_bytes(whole)
    try:
        check_gguf(flipped)
    except ModelError:
        return
    code = subprocess.run([sys.executable, "-c", LOADS, str(flipped)], check=False).returncode
    assert code in (0, 9)


def test_all_parts_of_a_split_file_are_checked(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, 3)
    assert split_parts(parts[1]) == parts
    for part in parts:
        assert check_gguf(part).n_split == 3
    parts[2].write_bytes(parts[2].read_bytes()[:-40])
    with pytest.raises(ModelCorrupt, match="00003-of-00003"):
        check_gguf(parts[0])
    parts[2].unlink()
    with pytest.raises(ModelCorrupt, match=r"00003-of-00003.*missing"):
        check_gguf(parts[0])


def test_a_part_under_another_parts_name_is_refused(tmp_path: Path) -> None:
    first, second = write_parts(tmp_path, 2)
    second.write_bytes(first.read_bytes())
    with pytest.raises(ModelCorrupt, match="part 1 of 2"):
        check_gguf(first)


def test_a_whole_file_with_a_name_like_a_part_passes(gguf: Path) -> None:
    renamed = gguf.rename(gguf.with_name("m-00001-of-00002.gguf"))
    assert check_gguf(renamed).n_split == 1
