"""The ONNX backends against transformers and PEFT, on the demo model in float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.adapters.base import base_of_onnx
from qwenkit.adapters.prepare import prepare_adapter
from qwenkit.backends.base import AdapterUse, Backend, FloatArray
from qwenkit.backends.onnx.facts import OnnxOptions
from qwenkit.backends.onnx.generator import GeneratorBackend
from qwenkit.backends.onnx.layout import read_layout
from qwenkit.backends.onnx.session import SessionBackend
from qwenkit.models.demo import DEMO_DIR

from .conftest import embed, rows, together

pytestmark = pytest.mark.parity

ATOL = 1e-4
N_ORIGINAL = 256
KINDS = {"session": SessionBackend, "genai": GeneratorBackend}


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 990, n).tolist() for n in (70, 33, 5, 1)]


def load(folder: Path, kind: str, home: Path, **options: Any) -> Backend:
    options = {"n_ctx": 256, "n_slots": 4, "n_batch": 128, "n_threads": 1} | options
    layout = read_layout(folder)
    return KINDS[kind](layout, content_id="demo", options=OnnxOptions(**options), home=home)


@pytest.fixture(scope="module", params=KINDS)
def backend(
    request: pytest.FixtureRequest, demo_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    loaded = load(demo_onnx, request.param, tmp_path_factory.mktemp("home"))
    yield loaded
    loaded.close()


def transformer(folder: Path, **changes: Any) -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(folder)
    for name, value in changes.items():
        setattr(config, name, value)
    made = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32
    )
    return made.eval()


def logits_of(model: Any, tokens: list[int]) -> FloatArray:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        found: FloatArray = model(torch.tensor([tokens])).logits[0].numpy()
    return found


def test_logits_are_those_of_transformers(backend: Backend, texts: list[list[int]]) -> None:
    model = transformer(DEMO_DIR)
    expected = [logits_of(model, text) for text in texts]
    for slot, text in enumerate(texts):
        backend.trim(slot, 0)
        at_once = backend.decode(rows(text, slot=slot, every=True))
        np.testing.assert_allclose(at_once, expected[slot], atol=ATOL)
        backend.trim(slot, len(text) - 1)
    last = [
        rows(text[-1:], start=len(text) - 1, slot=slot)
        for slot, text in reversed(list(enumerate(texts)))
    ]
    side_by_side = backend.decode(together(*last))
    np.testing.assert_allclose(side_by_side, [e[-1] for e in reversed(expected)], atol=ATOL)


def test_an_embedding_is_the_mean_of_the_hidden_states(
    backend: Backend, texts: list[list[int]]
) -> None:
    torch = pytest.importorskip("torch")
    model = transformer(DEMO_DIR).model
    for text in texts:
        with torch.no_grad():
            states = model(torch.tensor([text])).last_hidden_state[0].numpy()
        np.testing.assert_allclose(embed(backend, text), states.mean(axis=0), atol=ATOL)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["k_proj", "o_proj", "down_proj"],
            "rank_pattern": {"k_proj": 2, "layers.1.mlp.down_proj": 7},
        },
    ],
    ids=["all", "two", "ranks"],
)
def test_an_adapter_does_what_it_does_in_peft(
    backend: Backend,
    demo_onnx: Path,
    texts: list[list[int]],
    tmp_path: Path,
    settings: dict[str, Any],
) -> None:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(**settings, task_type="CAUSAL_LM", init_lora_weights=False)
    model = peft.get_peft_model(transformer(DEMO_DIR), config).eval()
    model.save_pretrained(tmp_path / "peft")
    prepared = prepare_adapter(
        tmp_path / "peft", format="onnx", base=base_of_onnx(demo_onnx), home=tmp_path
    )
    adapter = backend.load_adapter(prepared.path)
    use = AdapterUse(adapter, 1.0)
    for slot, text in enumerate(texts):
        backend.trim(slot, 0)
        found = backend.decode(rows(text, slot=slot, every=True, adapter=use))
        expected = logits_of(model, text)
        np.testing.assert_allclose(found, expected, atol=ATOL)
        backend.trim(slot, 0)
    backend.unload_adapter(adapter)


@pytest.fixture(scope="module")
def stretched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The demo model as if it knew few positions, and its export for four times as many."""
    from qwenkit.export.onnx_folder import export_onnx
    from qwenkit.export.options import ExportOptions

    source = tmp_path_factory.mktemp("short") / "demo"
    shutil.copytree(DEMO_DIR, source)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = N_ORIGINAL
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    folder = tmp_path_factory.mktemp("stretched") / "demo"
    export_onnx(source, folder, ExportOptions(precision="fp32", n_ctx=4 * N_ORIGINAL))
    return source, folder


@pytest.mark.parametrize("kind", KINDS)
def test_yarn_reaches_four_times_the_original_context(
    stretched: tuple[Path, Path], kind: str, tmp_path: Path
) -> None:
    source, folder = stretched
    n_ctx = 4 * N_ORIGINAL
    backend = load(folder, kind, tmp_path, n_ctx=n_ctx, n_batch=n_ctx)
    text = np.random.default_rng(3).integers(0, 990, n_ctx).tolist()
    theta = json.loads((source / "config.json").read_text(encoding="utf-8"))["rope_theta"]
    yarn = {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": 4.0,
        "original_max_position_embeddings": N_ORIGINAL,
    }
    model = transformer(source, rope_parameters=yarn, max_position_embeddings=n_ctx)
    expected = logits_of(model, text)
    at_once = backend.decode(rows(text, every=True))
    np.testing.assert_allclose(at_once, expected, atol=ATOL)
    backend.trim(0, n_ctx - 2)
    for position in (n_ctx - 2, n_ctx - 1):
        one = backend.decode(rows([text[position]], start=position))[0]
        np.testing.assert_allclose(one, expected[position], atol=ATOL)
    plain = transformer(source, max_position_embeddings=n_ctx)
    assert np.abs(logits_of(plain, text) - expected).max() > 100 * ATOL
    backend.close()
