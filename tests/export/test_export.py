"""Exported graphs against transformers in float32, and what an export leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.adapters.base import base_of_onnx
from qwenkit.errors import InvalidSettings, ModelUnsupported
from qwenkit.export.cache import exported_model
from qwenkit.export.check import ExportCheck, Graph, check_export
from qwenkit.export.onnx_folder import export_onnx
from qwenkit.export.options import BLOCK_SIZES, ExportOptions
from qwenkit.export.rope import plan_context
from qwenkit.export.size import OTHER_BYTES, export_bytes
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.info import inspect_model
from qwenkit.models.progress import Advance
from qwenkit.models.vocabulary import read_vocabulary

pytestmark = pytest.mark.parity

Variant = Callable[..., Path]
Exported = Callable[..., Path]

TOKENS = np.random.default_rng(1).integers(0, 998, 60)
FP32 = ExportOptions(precision="fp32")
QUANTISED = [
    {"precision": precision, "symmetric": symmetric, "provider": provider}
    for precision in ("int8", "int4")
    for symmetric in (True, False)
    for provider in ("cpu", "cuda")
]
# Share of tokens after which a quantised demo model still finds the same one likeliest.
AGREEMENT = {"int8": 0.9, "int4": 0.7}


def config_of(folder: Path) -> qwen3.Qwen3Config:
    return qwen3.parse_config(read_json(folder / "config.json"))


def checked(folder: Path, checkpoint: Path = DEMO_DIR, **options: Any) -> ExportCheck:
    return check_export(folder, checkpoint, config_of(checkpoint), **options)


def hidden_states(tokens: np.ndarray) -> np.ndarray:
    import torch
    from transformers import Qwen3Model

    model = Qwen3Model.from_pretrained(DEMO_DIR, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.from_numpy(tokens[None])).last_hidden_state[0].numpy()


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_fp32_computes_what_transformers_computes(
    variant: Variant, exported: Exported, tied: bool
) -> None:
    checkpoint = variant(tie_word_embeddings=tied)
    found = checked(exported(checkpoint, precision="fp32"), checkpoint)
    # Its embeddings as a head make logits ten times as large.
    assert found.max_error < (1e-3 if tied else 1e-4)
    assert found.divergence < 1e-8


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("options", QUANTISED, ids=lambda o: "-".join(map(str, o.values())))
def test_every_kind_of_quantising_stays_close(
    variant: Variant, exported: Exported, tied: bool, options: dict[str, Any]
) -> None:
    checkpoint = variant(tie_word_embeddings=tied)
    found = checked(exported(checkpoint, **options), checkpoint)
    assert found.divergence > 0
    assert found.agreement > AGREEMENT[options["precision"]]


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_every_block_size_can_be_run(exported: Exported, block_size: int) -> None:
    assert checked(exported(block_size=block_size)).agreement > 0.5


def test_halves_for_cuda_differ_by_their_rounding(exported: Exported) -> None:
    found = checked(exported(precision="fp16", provider="cuda"))
    assert 1e-4 < found.max_error < 0.1
    assert found.divergence < 1e-4


def test_yarn_is_that_of_transformers_at_four_times_the_context(
    variant: Variant, exported: Exported, tmp_path: Path
) -> None:
    checkpoint = variant(max_position_embeddings=256)
    folder = exported(checkpoint, precision="fp32", n_ctx=1024)
    genai = read_json(folder / "genai_config.json")
    assert genai["model"]["context_length"] == genai["search"]["max_length"] == 1024
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    prompts = [np.resize(TOKENS, 1024).tolist(), np.resize(TOKENS, 300).tolist()]
    assert checked(folder, tmp_path, prompts=prompts).max_error < 1e-4
    # Not the same as without stretching, or the test could not fail.
    assert checked(folder, checkpoint, prompts=prompts).max_error > 1e-2


def test_a_context_shorter_than_the_checks_texts_is_kept_to(tmp_path: Path) -> None:
    options = ExportOptions(precision="fp32", n_ctx=16)
    report = export_onnx(DEMO_DIR, tmp_path / "model", options, check=True)
    assert report.check is not None
    assert max(prompt.n_tokens for prompt in report.check.prompts) == 16
    assert report.check.max_error < 1e-4


def test_hidden_states_are_those_behind_the_last_norm(exported: Exported) -> None:
    graph = Graph(exported(precision="fp32"), config_of(DEMO_DIR))
    np.testing.assert_allclose(graph.hidden_states(TOKENS), hidden_states(TOKENS), atol=1e-4)


def test_without_hidden_states_and_slots_the_graph_has_neither(exported: Exported) -> None:
    import onnx

    folder = exported(precision="fp32", lora=False, hidden_states=False)
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    assert "hidden_states" not in {output.name for output in graph.output}
    assert not any("lora" in value.name for value in graph.input)
    facts = read_json(folder / "qwenkit_export.json")
    assert (facts["hidden_states"], facts["lora"]) == (False, [])
    assert checked(folder).max_error < 1e-4


def test_the_folder_has_all_that_serving_reads(exported: Exported) -> None:
    folder = exported()
    config = config_of(folder)
    words = read_vocabulary(folder, n_vocab=config.n_vocab, default_ids=config.special_ids)
    assert words.chat_template
    assert inspect_model(folder).n_ctx == config.n_ctx
    assert len(base_of_onnx(folder).layers) == 28
    facts = read_json(folder / "qwenkit_export.json")
    assert (facts["version"], facts["io_dtype"], facts["hidden_states"]) == (1, "float32", True)
    assert facts["options"]["precision"] == "int4"
    assert "bos_token_id" not in read_json(folder / "genai_config.json")["model"]
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "genai_config.json",
        "generation_config.json",
        "model.onnx",
        "model.onnx.data",
        "qwenkit_export.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_onnxruntime_genai_generates_from_it(exported: Exported) -> None:
    import onnxruntime_genai as og

    model = og.Model(str(exported(precision="fp32")))
    tokenizer = og.Tokenizer(model)
    prompt = tokenizer.apply_chat_template(
        json.dumps([{"role": "user", "content": "What can you do?"}]), add_generation_prompt=True
    )
    tokens = tokenizer.encode(prompt)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(tokens) + 60, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(tokens)
    while not generator.is_done():
        generator.generate_next_token()
    assert "qwenkit" in tokenizer.decode(generator.get_sequence(0)[len(tokens) :])


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp32"},
        {"precision": "int8"},
        {"precision": "int4"},
        {"precision": "int4", "symmetric": False, "block_size": 128},
        {"precision": "int8", "provider": "cuda"},
    ],
    ids=str,
)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_the_size_is_known_beforehand(
    variant: Variant, exported: Exported, tied: bool, options: dict[str, Any]
) -> None:
    checkpoint = variant(tie_word_embeddings=tied)
    config = config_of(checkpoint)
    planned = export_bytes(config, plan_context(config, None), ExportOptions(**options))
    written = (exported(checkpoint, **options) / "model.onnx.data").stat().st_size
    assert written == pytest.approx(planned - OTHER_BYTES, rel=0.02)


def test_nothing_is_said_on_stdout_and_nothing_left_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    report = export_onnx(DEMO_DIR, tmp_path / "out" / "model", FP32, check=True)
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "cwd").iterdir()) == []
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "model"]
    assert report.check is not None
    assert report.check.max_error < 1e-4


@contextmanager
def interrupted(description: str, *, total: int | None, unit: str = "B") -> Iterator[Advance]:
    def advance(n: int) -> None:
        if description.startswith("Writing"):
            raise KeyboardInterrupt

    yield advance


def test_an_interrupted_export_leaves_what_was_there_before(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        export_onnx(DEMO_DIR, target, FP32, progress=interrupted)
    assert list(tmp_path.iterdir()) == []
    export_onnx(DEMO_DIR, target, FP32)
    before = (target / "model.onnx").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        export_onnx(DEMO_DIR, target, ExportOptions(), progress=interrupted)
    assert (target / "model.onnx").read_bytes() == before
    export_onnx(DEMO_DIR, target, ExportOptions())
    assert (target / "model.onnx").read_bytes() != before
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_holds_no_export_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(InvalidSettings):
        export_onnx(DEMO_DIR, tmp_path, FP32)
    assert (tmp_path / "letters.txt").exists()


def test_what_is_no_dense_qwen3_is_refused_before_anything_is_written(
    variant: Variant, tmp_path: Path
) -> None:
    moe = variant(model_type="qwen3_moe", architectures=["Qwen3MoeForCausalLM"])
    with pytest.raises(ModelUnsupported):
        export_onnx(moe, tmp_path / "model", FP32)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def untouched(description: str, *, total: int | None, unit: str = "B") -> Iterator[Advance]:
    pytest.fail(f"{description}: there was nothing to do")
    yield lambda _: None


def test_a_cached_export_is_made_once_and_found_again(tmp_path: Path) -> None:
    def find(options: ExportOptions, **more: Any) -> Path:
        return exported_model(DEMO_DIR, name="a/b", home=tmp_path, options=options, **more)

    first = find(FP32)
    assert (first / "genai_config.json").exists()
    assert first.parent == tmp_path / "exported"
    assert first.name.startswith("a-b-")
    assert find(FP32, progress=untouched) == first
    assert find(ExportOptions(precision="int8")) != first
    assert len(list((tmp_path / "exported").iterdir())) == 2
