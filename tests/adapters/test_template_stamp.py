"""The chat template's hash in an adapter's files, and through every conversion."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.convert import convert_adapter
from qwenkit.adapters.gguf_adapter import write_gguf_adapter
from qwenkit.adapters.prepare import prepare_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.adapters.template_stamp import (
    hash_of_versions,
    onnx_versions,
    read_stamp,
    same_template,
    write_stamp,
)
from qwenkit.errors import ModelCorrupt

HASH = "d059f6771ac6"
HASHES = st.text("0123456789abcdef", min_size=12, max_size=12)


def test_a_folder_says_the_hash_that_was_written_into_it(adapter: Path) -> None:
    assert read_stamp(adapter) is None
    assert read_adapter(adapter).template_hash is None
    write_stamp(adapter, template_hash=HASH)
    assert read_stamp(adapter) == HASH
    assert read_adapter(adapter).template_hash == HASH


@pytest.mark.parametrize("value", [17, "", "d059", "no hash at all", "D059F6771AC6", ["d059f67"]])
def test_a_hash_that_is_none_is_damage(adapter: Path, value: object) -> None:
    (adapter / "qwenkit.json").write_text(json.dumps({"template_hash": value}), encoding="utf-8")
    with pytest.raises(ModelCorrupt, match="template_hash"):
        read_adapter(adapter)


def test_a_file_of_another_purpose_says_nothing_of_templates(adapter: Path) -> None:
    (adapter / "qwenkit.json").write_text(json.dumps({"other": 1}), encoding="utf-8")
    assert read_adapter(adapter).template_hash is None


def test_a_converted_gguf_carries_it(adapter: Path, tmp_path: Path) -> None:
    write_stamp(adapter, template_hash=HASH)
    made = convert_adapter(adapter, tmp_path / "a.gguf", check=True)
    assert read_adapter(made.path).template_hash == HASH


def test_a_gguf_of_an_unstamped_folder_carries_none(adapter: Path, tmp_path: Path) -> None:
    write_gguf_adapter(read_adapter(adapter), tmp_path / "a.gguf")
    assert read_adapter(tmp_path / "a.gguf").template_hash is None


def test_a_hash_in_a_gguf_that_is_none_is_damage(tmp_path: Path, gguf_file, demo) -> None:
    import numpy as np

    tensors = {
        "blk.0.attn_q.weight.lora_a": np.ones((2, 256), np.float32),
        "blk.0.attn_q.weight.lora_b": np.ones((256, 2), np.float32),
    }
    path = gguf_file(
        tmp_path / "a.gguf",
        tensors,
        extra=lambda writer: writer.add_string("qwenkit.template_hash", "?"),
    )
    with pytest.raises(ModelCorrupt, match="template_hash"):
        read_adapter(path)


def test_a_cached_conversion_keeps_it_and_is_not_another_templates(
    adapter: Path, demo: BaseShapes, tmp_path: Path
) -> None:
    def prepare():
        return prepare_adapter(adapter, format="gguf", base=demo, home=tmp_path / "home")

    plain = prepare()
    write_stamp(adapter, template_hash=HASH)
    stamped = prepare()
    write_stamp(adapter, template_hash="0123456789ab")
    restamped = prepare()
    found = [each.template_hash for each in (plain, stamped, restamped)]
    assert found == [None, HASH, "0123456789ab"]
    in_files = [read_adapter(each.path).template_hash for each in (plain, stamped, restamped)]
    assert in_files == found
    assert plain.version == stamped.version == restamped.version


@pytest.mark.parity
def test_an_onnx_adapter_carries_the_first_seven_digits(
    adapter: Path, tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    base = lora.with_slots(demo)
    unstamped = convert_adapter(adapter, tmp_path / "plain.onnx_adapter", base=base)
    assert read_adapter(unstamped.path, base).template_hash is None
    write_stamp(adapter, template_hash=HASH)
    made = convert_adapter(adapter, tmp_path / "a.onnx_adapter", base=base, check=True)
    found = read_adapter(made.path, base).template_hash
    assert found == HASH[:7]
    assert same_template(found, HASH)
    onward = convert_adapter(made.path, tmp_path / "b.gguf", base=base)
    assert read_adapter(onward.path).template_hash == HASH[:7]


@given(HASHES, HASHES)
def test_two_version_numbers_tell_templates_apart_by_seven_digits(one: str, other: str) -> None:
    found = hash_of_versions(*onnx_versions(one))
    assert found is not None
    assert same_template(found, other) == (one[:7] == other[:7])


@given(st.integers(0, 2**31 - 1))
def test_versions_that_another_tool_counts_are_no_hash(model_version: int) -> None:
    assert hash_of_versions(1, model_version) is None
