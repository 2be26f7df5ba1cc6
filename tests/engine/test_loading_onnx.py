"""From settings to an engine over ONNX Runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from qwenkit.engine.loading import LoadedEngine, load_engine
from qwenkit.engine.loading_onnx import export_options
from qwenkit.errors import InvalidSettings
from qwenkit.models.demo import DEMO_DIR
from qwenkit.settings import (
    KvType,
    ModelSpec,
    OnnxDecoder,
    OnnxPrecision,
    OnnxProvider,
    RopeScaling,
    RuntimeBackend,
)

from .conftest import ask


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def spec(home: Path, **fields: Any) -> ModelSpec:
    return ModelSpec(runtime_backend=RuntimeBackend.ONNX, qwenkit_home=home, **fields)


def loaded(home: Path, **fields: Any) -> LoadedEngine:
    return load_engine(spec(home, n_parallel=2, **fields))


def times_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parity
@pytest.mark.anyio
async def test_the_demo_model_is_exported_once_and_served(home: Path) -> None:
    first = loaded(home)
    assert (first.model.name, first.model.format) == ("qwenkit-demo", "onnx")
    assert first.model.is_demo
    assert first.engine.facts.description.endswith("fp32")
    assert first.engine.capabilities.copies
    assert first.notes == ()
    said = await ask(first.engine, "<|im_start|>user\nhello", max_tokens=4)
    assert len(said.tokens()) == 4
    first.engine.close()
    made = times_of(home)
    again = loaded(home, onnx_decoder=OnnxDecoder.GENAI)
    assert again.engine.facts.runtime.startswith("ONNX Runtime GenAI")
    assert again.model.path == first.model.path
    again.engine.close()
    assert times_of(home) == made


@pytest.mark.parity
def test_a_graph_that_is_not_known_is_left_to_genai_with_the_reason(
    home: Path, tmp_path: Path
) -> None:
    first = loaded(home)
    first.engine.close()
    odd = tmp_path / "odd"
    shutil.copytree(first.model.path, odd)
    config = json.loads((odd / "genai_config.json").read_text(encoding="utf-8"))
    config["search"]["past_present_share_buffer"] = False
    (odd / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    other = loaded(home, model_path=str(odd))
    other.engine.close()
    assert not other.engine.capabilities.copies
    assert any("one after the other" in note for note in other.notes)


@pytest.mark.parity
def test_what_can_not_be_honoured_is_said_or_refused(home: Path) -> None:
    noted = loaded(home, kv_type=KvType.Q8_0)
    noted.engine.close()
    assert any("KV_TYPE=q8_0" in note for note in noted.notes)
    with pytest.raises(InvalidSettings, match="DRAFT_MODEL_PATH"):
        loaded(home, draft_model_path="small")
    with pytest.raises(InvalidSettings, match="8192") as caught:
        loaded(home, model_path=str(noted.model.path), n_ctx=8192)
    assert "--n-ctx 8192" in caught.value.hint


@pytest.mark.parity
def test_a_device_that_onnxruntime_can_not_use_is_refused(home: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime can use CUDA")
    here = loaded(home)
    here.engine.close()
    with pytest.raises(InvalidSettings, match="CUDA"):
        loaded(home, model_path=str(here.model.path), onnx_provider=OnnxProvider.CUDA)


@pytest.mark.parity
def test_a_longer_context_is_exported_with_yarn(home: Path) -> None:
    stretched = loaded(home, n_ctx=8192)
    stretched.engine.close()
    assert stretched.engine.capabilities.n_ctx == 8192
    assert any("YaRN" in note for note in stretched.notes)


def test_an_export_for_serving_follows_the_settings(home: Path) -> None:
    plain = export_options(DEMO_DIR, spec(home))
    assert (plain.precision, plain.provider, plain.n_ctx) == ("fp32", "cpu", None)
    assert plain.lora
    assert plain.hidden_states
    on_gpu = export_options(DEMO_DIR, spec(home, onnx_provider=OnnxProvider.CUDA))
    assert (on_gpu.precision, on_gpu.provider) == ("fp16", "cuda")
    asked = export_options(DEMO_DIR, spec(home, onnx_precision=OnnxPrecision.INT8, n_ctx=8192))
    assert (asked.precision, asked.n_ctx) == ("int8", 8192)
    assert export_options(DEMO_DIR, spec(home, n_ctx=1024)).n_ctx is None
    with pytest.raises(InvalidSettings):
        export_options(DEMO_DIR, spec(home, n_ctx=8192, rope_scaling=RopeScaling.NONE))


def test_a_large_checkpoint_is_exported_in_four_bits(home: Path, tmp_path: Path) -> None:
    config = json.loads((DEMO_DIR / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert export_options(tmp_path, spec(home)).precision == "int4"
