"""PEFT's own folders: what is read, and everything that is refused, each by its name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenkit.adapters.base import BaseShapes, check_fit
from qwenkit.adapters.read import is_adapter, read_adapter, require_servable
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelError, ModelNotFound

Tensors = dict[str, np.ndarray]
LAYER = "base_model.model.model.layers.0"
FIELDS = [
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_dora",
]
Q = f"{LAYER}.self_attn.q_proj"
V = f"{LAYER}.self_attn.v_proj"


def scales(folder: Path) -> dict[str, float]:
    return {pair.module: pair.scale for pair in read_adapter(folder).pairs}


def put(name: str, *shape: int) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: np.ones(shape, np.float32)})


def drop(name: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(name)


def spoil(name: str, value: float) -> Callable[[Tensors], Any]:
    def change(tensors: Tensors) -> None:
        tensors[name][1, 2] = value

    return change


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_numbers_are_read_as_they_are_stored(
    tmp_path: Path, lora: SimpleNamespace, dtype: str
) -> None:
    kept: Tensors = {}
    read = read_adapter(lora.write(tmp_path / "a", dtype=dtype, change=kept.update))
    assert [pair.module for pair in read.pairs] == sorted(
        {name.split(".lora_")[0].removeprefix("base_model.model.") for name in kept}
    )
    for pair in read.pairs:
        for half, found in (("A", pair.a), ("B", pair.b)):
            wanted = kept[f"base_model.model.{pair.module}.lora_{half}.weight"]
            if dtype == "BF16":
                wanted = (wanted.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
            elif dtype == "F16":
                wanted = wanted.astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(found, wanted)
    assert (read.rank, read.alpha, read.targets) == (4, 8.0, ("q_proj", "v_proj"))
    assert read.n_params == sum(array.size for array in kept.values())


def test_the_scale_is_alpha_over_rank_and_over_its_root_for_rslora(
    tmp_path: Path, lora: SimpleNamespace
) -> None:
    plain = scales(lora.write(tmp_path / "plain", config={"r": 4, "lora_alpha": 6}))
    rooted = scales(
        lora.write(tmp_path / "rs", config={"r": 4, "lora_alpha": 6, "use_rslora": True})
    )
    assert set(plain.values()) == {1.5}
    assert set(rooted.values()) == {3.0}


def test_patterns_give_single_matrices_their_rank_and_alpha(
    tmp_path: Path, lora: SimpleNamespace
) -> None:
    config = {
        "rank_pattern": {"v_proj": 2, r"layers\.1\.self_attn.q_proj": 3},
        "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 20, "q_proj": 12},
    }

    def rank_of(module: str) -> int:
        if module.endswith("v_proj"):
            return 2
        return 3 if module == "model.layers.1.self_attn.q_proj" else 4

    folder = lora.write(tmp_path / "a", config=config, rank_of=rank_of)
    found = scales(folder)
    assert found["model.layers.0.self_attn.q_proj"] == 20 / 4
    assert found["model.layers.1.self_attn.q_proj"] == 12 / 3
    assert found["model.layers.2.self_attn.q_proj"] == 12 / 4
    assert found["model.layers.3.self_attn.v_proj"] == 8 / 2
    assert read_adapter(folder).rank == 4


@pytest.mark.parametrize(
    "targets",
    [
        ["q_proj", "v_proj"],
        ["self_attn.q_proj", "self_attn.v_proj", "nothing"],
        r".*\.(q|v)_proj",
        r"model\.layers\.\d+\.self_attn\.[qv]_proj",
        "(?i).*Q_proj|.*v_proj",
        "all-linear",
        "All-Linear",
        None,
    ],
)
def test_every_spelling_of_the_targets_is_understood(
    tmp_path: Path, lora: SimpleNamespace, targets: Any
) -> None:
    folder = lora.write(tmp_path / "a", config={"target_modules": targets})
    assert read_adapter(folder).targets == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["proj"]},
        {"target_modules": r".*\.q_proj"},
        {"exclude_modules": ["v_proj"]},
        {"exclude_modules": r".*\.3\..*v_proj"},
        {"layers_to_transform": [0, 1, 2]},
        {"layers_to_transform": 3},
        {"layers_to_transform": [0, 1, 2, 3], "layers_pattern": "blocks"},
    ],
)
def test_a_tensor_that_the_configuration_does_not_target_is_corrupt(
    tmp_path: Path, lora: SimpleNamespace, config: dict[str, Any]
) -> None:
    with pytest.raises(ModelCorrupt, match="doesn't target"):
        read_adapter(lora.write(tmp_path / "a", config=config))


def test_some_layers_alone_may_be_changed(
    tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    some = {name: shape for name, shape in demo.layers.items() if re.search(r"\.[13]\.", name)}
    config = {"layers_to_transform": [1, 3], "layers_pattern": ["layers"]}
    folder = lora.write(tmp_path / "a", base=BaseShapes("some", some), config=config)
    assert len(read_adapter(folder).pairs) == 4


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"peft_type": None}, "peft_type"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"target_parameters": ["experts.gate"]}, "target_parameters"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"lora_bias": True}, "lora_bias"),
        ({"alora_invocation_tokens": [1, 2]}, "aLoRA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA"),
        ({"arrow_config": {"top_k": 2}}, "Arrow"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"monteclora_config": {"n": 1}}, "MonteCLoRA"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({"init_lora_weights": "OLoRA"}, "olora"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": "lora_ga"}, "lora_ga"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"r": 0}, "rank 0"),
        ({"rank_pattern": {"q_proj": 0}}, "rank 0"),
        ({"lora_alpha": 0}, "alpha of 0"),
        ({"target_modules": "(.*a+)+"}, "target_modules"),
        ({"rank_pattern": {"(?x)(.*a+) +b": 4}}, "rank_pattern"),
        ({"alpha_pattern": {".*" * 20: 4}}, "alpha_pattern"),
        ({"exclude_modules": "x" * 5000}, "exclude_modules"),
    ],
)
def test_what_two_matrices_cannot_express_is_refused_by_its_name(
    tmp_path: Path, lora: SimpleNamespace, config: dict[str, Any], named: str
) -> None:
    folder = lora.write(tmp_path / "a", config=config, rank_of=lambda _: 4)
    with pytest.raises(AdapterUnsupported, match=re.escape(named)):
        read_adapter(folder)


@pytest.mark.parametrize("value", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_a_start_that_leaves_the_base_alone_is_fine(
    tmp_path: Path, lora: SimpleNamespace, value: Any
) -> None:
    assert read_adapter(lora.write(tmp_path / "a", config={"init_lora_weights": value})).pairs


def test_a_bias_setting_without_biases_is_fine(tmp_path: Path, lora: SimpleNamespace) -> None:
    assert read_adapter(lora.write(tmp_path / "a", config={"bias": "lora_only"})).pairs


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put(f"{Q}.base_layer.bias", 256), f"{Q}.base_layer.bias"),
        (put(f"{Q}.lora_B.bias", 256), "lora_bias"),
        (put("base_model.model.lm_head.weight", 4, 4), "modules_to_save"),
        (put("base_model.model.model.embed_tokens.lora_embedding_A", 4, 8), "embeddings"),
        (put("base_model.model.model.embed_tokens.token_adapter.x", 4), "trainable_token_indices"),
        (put(f"{Q}.lora_E", 4), f"{Q}.lora_E"),
        (put("model.layers.0.self_attn.q_proj.lora_A.default", 4, 4), "not a tensor of a LoRA"),
        (dict.clear, "holds no LoRA"),
    ],
)
def test_a_tensor_beside_a_and_b_is_refused_by_its_name(
    tmp_path: Path, lora: SimpleNamespace, change: Any, named: str
) -> None:
    with pytest.raises(AdapterUnsupported, match=re.escape(named)):
        read_adapter(lora.write(tmp_path / "a", change=change))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop(f"{Q}.lora_A.weight"), "lacks `lora_A.weight`"),
        (drop(f"{Q}.lora_B.weight"), "lacks `lora_B.weight`"),
        (put(f"{Q}.lora_A.weight", 3, 256), "[3, 256], adapter_config.json says rank 4"),
        (put(f"{Q}.lora_B.weight", 256, 5), "[256, 5], adapter_config.json says rank 4"),
        (put(f"{Q}.lora_A.weight", 4), "should be a matrix"),
        (put(f"{Q}.lora_B.weight", 256, 4, 1), "should be a matrix"),
        (spoil(f"{V}.lora_A.weight", math.nan), "A of `model.layers.0.self_attn.v_proj`"),
        (spoil(f"{V}.lora_B.weight", -math.inf), "B of `model.layers.0.self_attn.v_proj`"),
        (put(f"{Q}.lora_magnitude_vector", 256), "use_dora"),
    ],
)
def test_halves_that_do_not_fit_are_corrupt(
    tmp_path: Path, lora: SimpleNamespace, change: Any, named: str
) -> None:
    with pytest.raises(ModelCorrupt, match=re.escape(named)):
        read_adapter(lora.write(tmp_path / "a", change=change))


def test_an_empty_matrix_fits_no_model(
    tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    empty = BaseShapes("empty", {"model.layers.0.self_attn.q_proj": (0, 256)})
    with pytest.raises(AdapterUnsupported, match="was made for another model"):
        check_fit(read_adapter(lora.write(tmp_path / "a", base=empty)), demo)


@pytest.mark.parametrize(
    "config",
    [
        {"r": "8"},
        {"r": -1},
        {"r": True},
        {"r": None},
        {"lora_alpha": "8"},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"lora_alpha": 10**400},
        {"rank_pattern": ["q_proj"]},
        {"rank_pattern": {"q_proj": "4"}},
        {"alpha_pattern": {"(": 4}},
        {"target_modules": {"q": 1}},
        {"target_modules": [1]},
        {"target_modules": "*"},
        {"target_modules": "a)(b"},
        {"layers_to_transform": "all"},
        {"layers_to_transform": [True]},
        {"layers_pattern": 3},
        {"use_rslora": "yes"},
        {"use_dora": 1},
    ],
)
def test_a_field_with_a_value_it_cannot_have_is_corrupt(
    tmp_path: Path, lora: SimpleNamespace, config: dict[str, Any]
) -> None:
    folder = lora.write(tmp_path / "a", config=config, rank_of=lambda _: 4)
    with pytest.raises(ModelCorrupt, match=next(iter(config))):
        read_adapter(folder)


def test_dora_is_read_and_refused_for_serving(tmp_path: Path, lora: SimpleNamespace) -> None:
    def with_magnitudes(tensors: Tensors) -> None:
        for name in [name for name in tensors if ".lora_B." in name]:
            n_out = len(tensors[name])
            tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = np.ones(
                n_out, np.float32
            )

    folder = lora.write(tmp_path / "a", config={"use_dora": True}, change=with_magnitudes)
    read = read_adapter(folder)
    assert read.is_dora
    with pytest.raises(AdapterUnsupported, match="DoRA") as caught:
        require_servable(read)
    assert "qwenkit lora merge" in caught.value.hint
    with pytest.raises(ModelCorrupt, match="has no magnitudes"):
        read_adapter(lora.write(tmp_path / "b", config={"use_dora": True}))


def test_a_pickle_is_refused_with_the_way_out(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(AdapterUnsupported, match="pickle") as caught:
        read_adapter(adapter)
    assert "save_pretrained" in caught.value.hint


def test_what_is_not_there_is_not_found(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    for path in (
        adapter,
        tmp_path,
        tmp_path / "x",
        tmp_path / "x.gguf",
        tmp_path / "x.onnx_adapter",
    ):
        with pytest.raises(ModelNotFound):
            read_adapter(path)


def test_a_file_of_another_kind_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(AdapterUnsupported, match="no adapter"):
        read_adapter(tmp_path / "x.bin")


def test_what_cannot_be_read_says_why(adapter: Path) -> None:
    (adapter / "adapter_config.json").unlink()
    (adapter / "adapter_config.json").mkdir()
    with pytest.raises(ModelCorrupt, match="can't be read"):
        read_adapter(adapter)


def test_broken_json_is_corrupt(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"r": 4', encoding="utf-8")
    with pytest.raises(ModelCorrupt, match="not valid JSON"):
        read_adapter(adapter)


def test_integers_are_no_adapter(tmp_path: Path, lora: SimpleNamespace) -> None:
    folder = lora.write(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))
    with pytest.raises(AdapterUnsupported, match="I32"):
        read_adapter(folder)


def test_the_version_is_of_the_content_wherever_it_lies(
    tmp_path: Path, lora: SimpleNamespace
) -> None:
    first = read_adapter(lora.write(tmp_path / "a")).version()
    again = read_adapter(lora.write(tmp_path / "b", config={"lora_dropout": 0.3})).version()
    assert first == again
    assert len(first) >= 12
    others = [
        {"seed": 1},
        {"dtype": "BF16"},
        {"config": {"lora_alpha": 9}},
        {"config": {"use_rslora": True}},
        {"change": spoil(f"{Q}.lora_A.weight", 0.5)},
    ]
    versions = {
        read_adapter(lora.write(tmp_path / f"o{i}", **other)).version()
        for i, other in enumerate(others)
    }
    assert len(versions | {first}) == len(others) + 1


def test_a_look_tells_adapters_from_models(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "x.onnx_adapter").touch()
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    assert is_adapter(adapter)
    assert is_adapter(tmp_path / "x.onnx_adapter")
    assert is_adapter(tmp_path / "broken.gguf")
    assert not is_adapter(tmp_path)
    assert not is_adapter(adapter / "adapter_config.json")
    assert not is_adapter(tmp_path / "nothing.gguf")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_folder_never_ends_in_another_error(
    tmp_path: Path, lora: SimpleNamespace, data: st.DataObject
) -> None:
    small = BaseShapes("small", {"model.layers.0.self_attn.q_proj": (4, 6)})
    folder = lora.write(tmp_path / "a", base=small)
    path = folder / data.draw(
        st.sampled_from(["adapter_model.safetensors", "adapter_config.json"]), "file"
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3), "changes")):
        at = data.draw(st.integers(0, len(content) - 1), "at")
        content[at] = data.draw(st.integers(0, 255), "byte")
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)), "end")
    path.write_bytes(content[:end])
    try:
        read = read_adapter(folder)
    except ModelError:
        return
    assert all(np.isfinite(array).all() for pair in read.pairs for _, array in pair.arrays())


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    config=st.dictionaries(
        st.sampled_from(FIELDS),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=4,
        ),
    )
)
def test_no_configuration_ends_in_another_error(
    tmp_path: Path, lora: SimpleNamespace, config: dict[str, Any]
) -> None:
    small = BaseShapes("small", {"model.layers.0.self_attn.q_proj": (4, 6)})
    folder = lora.write(tmp_path / "a", base=small)
    text = json.dumps(lora.config | config)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    with suppress(ModelError):
        read_adapter(folder)
