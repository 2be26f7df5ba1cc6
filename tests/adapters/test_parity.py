"""Converted and merged adapters against PEFT itself, in float32 on the demo model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.adapters.base import base_of_gguf
from qwenkit.adapters.merge import merge_adapter
from qwenkit.adapters.prepare import prepare_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.backends.base import AdapterUse, Rows
from qwenkit.backends.llamacpp.backend import LlamaBackend, LlamaOptions
from qwenkit.errors import AdapterUnsupported
from qwenkit.models.checkpoint import open_checkpoint, to_float32
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR

# peft and transformers warn about each other, and about what a test does on purpose.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

TOKENS = np.random.default_rng(1).integers(0, 900, 120).astype(np.int32)
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    "all linears": {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"},
    "rslora": {
        "r": 9,
        "lora_alpha": 4,
        "use_rslora": True,
        "target_modules": r".*\.(gate|up|down)_proj",
    },
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "o_proj", "down_proj"],
        "rank_pattern": {"o_proj": 7, r"layers\.[01]\.mlp.down_proj": 2},
        "alpha_pattern": {"down_proj": 3, "^model.layers.2.self_attn.q_proj": 21},
    },
    "rslora with patterns": {
        "r": 4,
        "lora_alpha": 2,
        "use_rslora": True,
        "target_modules": ["k_proj", "v_proj"],
        "rank_pattern": {"v_proj": 5},
        "alpha_pattern": {"k_proj": 6},
    },
    "some layers": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "up_proj"],
        "layers_to_transform": [1, 3],
    },
    "output": {"r": 4, "lora_alpha": 8, "target_modules": ["lm_head", "o_proj"]},
    "orthogonal": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "init_lora_weights": "orthogonal",
    },
}
Saved = Callable[..., tuple[Path, Any]]


def base_model() -> Any:
    import torch
    from transformers import Qwen3ForCausalLM

    return Qwen3ForCausalLM.from_pretrained(
        DEMO_DIR, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Saves an adapter that PEFT made, every number random, and gives the model that has it."""
    import torch
    from peft import LoraConfig, get_peft_model

    def save(**config: Any) -> tuple[Path, Any]:
        torch.manual_seed(0)
        model = get_peft_model(base_model(), LoraConfig(task_type="CAUSAL_LM", **config))
        for name, parameter in model.named_parameters():
            if ".lora_B." in name or ".lora_A." in name:
                torch.nn.init.normal_(parameter, std=0.3 / parameter.shape[1] ** 0.5)
            elif "lora_magnitude_vector" in name:
                parameter.data *= torch.empty_like(parameter).uniform_(0.7, 1.4)
        model.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter", model.eval()

    return save


def theirs(model: Any) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(TOKENS[None]).long()).logits[0])


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    convert_checkpoint(DEMO_DIR, path, dtype="f32")
    return path


@pytest.fixture(scope="module")
def llama(gguf: Path) -> Iterator[LlamaBackend]:
    options = LlamaOptions(n_ctx=256, n_slots=1, n_batch=256, n_threads=1, kv_type="f32")
    backend = LlamaBackend(gguf, content_id="demo", options=options)
    yield backend
    backend.close()


def ours(backend: LlamaBackend, adapter: AdapterUse | None) -> np.ndarray:
    """Logits after every token, one token a decode."""
    zero, one = np.zeros(1, np.int32), np.ones(1, np.int8)
    logits = [
        backend.decode(Rows(TOKENS[i : i + 1], zero + i, zero, one, adapter))[0].copy()
        for i in range(len(TOKENS))
    ]
    backend.trim(0, 0)
    return np.array(logits)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_llama_cpp_computes_what_peft_computes(
    saved: Saved, llama: LlamaBackend, gguf: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder, model = saved(**config)
    made = prepare_adapter(folder, format="gguf", base=base_of_gguf(gguf), home=tmp_path / "home")
    loaded = llama.load_adapter(made.path)
    wanted = theirs(model)
    found = ours(llama, AdapterUse(loaded, 1.0))
    plain = ours(llama, None)
    llama.unload_adapter(loaded)
    assert np.abs(plain - wanted).max() > 0.5
    assert np.abs(found - wanted).max() <= 1e-3


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_change_is_the_one_peft_makes(saved: Saved, config: dict[str, Any]) -> None:
    folder, model = saved(**config)
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }
    pairs = read_adapter(folder).pairs
    assert {pair.module for pair in pairs} == layers.keys()
    for pair in pairs:
        wanted = layers[pair.module].get_delta_weight("default").detach().numpy()
        np.testing.assert_allclose(pair.scale * pair.b @ pair.a, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        CONFIGS["plain"],
        CONFIGS["rslora with patterns"],
        CONFIGS["output"],
        CONFIGS["plain"] | {"use_dora": True},
        CONFIGS["rslora"] | {"use_dora": True},
    ],
    ids=["plain", "rslora with patterns", "output", "dora", "dora with rslora"],
)
def test_a_merge_is_what_peft_merges(saved: Saved, tmp_path: Path, config: dict[str, Any]) -> None:
    folder, model = saved(**config)
    logits = theirs(model)
    merged = model.merge_and_unload()
    merge_adapter(DEMO_DIR, folder, tmp_path / "m", dtype="f32", check=True)
    wanted = merged.state_dict()
    tensors = open_checkpoint(tmp_path / "m").tensors
    assert tensors.keys() == wanted.keys()
    for name, tensor in tensors.items():
        found = np.concatenate([to_float32(rows, tensor.dtype) for rows in tensor.chunks()])
        np.testing.assert_allclose(found, wanted[name].numpy(), atol=2e-6, err_msg=name)

    import torch
    from transformers import Qwen3ForCausalLM

    reloaded = Qwen3ForCausalLM.from_pretrained(
        tmp_path / "m", dtype=torch.float32, attn_implementation="eager"
    )
    np.testing.assert_allclose(theirs(reloaded), logits, atol=1e-3)


def test_an_adapter_in_another_precision_is_read_as_peft_reads_it(
    saved: Saved, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    folder, _ = saved(**CONFIGS["plain"])
    path = folder / "adapter_model.safetensors"
    save_file({name: data.to(torch.bfloat16) for name, data in load_file(path).items()}, path)
    model = PeftModel.from_pretrained(base_model(), str(folder))
    for pair in read_adapter(folder).pairs:
        layer = model.get_submodule(f"base_model.model.{pair.module}")
        wanted = layer.get_delta_weight("default").detach().float().numpy()
        np.testing.assert_allclose(pair.scale * pair.b @ pair.a, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"target_modules": ["embed_tokens"]}, "embed"),
    ],
)
def test_what_peft_saves_of_other_kinds_is_refused(
    saved: Saved, config: dict[str, Any], named: str
) -> None:
    folder, _ = saved(**(CONFIGS["plain"] | config))
    with pytest.raises(AdapterUnsupported, match=re.escape(named)):
        read_adapter(folder)


def test_a_pissa_that_peft_converted_is_plain_lora(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3ForCausalLM

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights="pissa")
    model = get_peft_model(base_model(), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "initial")
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data += 0.02 * torch.randn_like(parameter)
    wanted = theirs(model.eval())
    model.save_pretrained(
        tmp_path / "converted", path_initial_model_for_weight_conversion=tmp_path / "initial"
    )
    merge_adapter(DEMO_DIR, tmp_path / "converted", tmp_path / "m", dtype="f32")
    merged = Qwen3ForCausalLM.from_pretrained(
        tmp_path / "m", dtype=torch.float32, attn_implementation="eager"
    )
    np.testing.assert_allclose(theirs(merged), wanted, atol=2e-3)
