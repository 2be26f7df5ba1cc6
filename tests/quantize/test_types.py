"""The table of types against llama.cpp itself: names, bits, and which ones want importance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.gguf_writer import GGUFWriter

from qwenkit.errors import EngineError, UsageError
from qwenkit.models import qwen3
from qwenkit.models.gguf_file import Metadata
from qwenkit.models.gguf_header import read_header
from qwenkit.quality.measure import compare
from qwenkit.quantize.gguf import quantize_gguf
from qwenkit.quantize.imatrix import ImportanceMatrix, Usage, write_imatrix
from qwenkit.quantize.plan import read_plan
from qwenkit.quantize.process import run_job
from qwenkit.quantize.types import ALIASES, FILE_TYPES, FileType, file_type, tensor_type
from qwenkit.quantize.worker import Job

from .conftest import TEXT, tensor_types

# One of each family; the others take as long again, each.
QUICK = ("F32", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "IQ4_XS", "TQ2_0")
QWEN3_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
}


def round_trip(recipe: FileType, source: Path, imatrix: Path, target: Path) -> None:
    made = quantize_gguf(
        source,
        target,
        type=recipe.name,
        imatrix=imatrix if recipe.needs_imatrix else None,
        n_threads=1,
    )
    kinds = set(tensor_types(target).values())
    # Nothing in a dense model is an expert.
    assert recipe.name == "MXFP4_MOE" or recipe.main.name in kinds
    assert kinds == set(made.n_tensors)
    [_, quality] = compare(source, [target], TEXT, n_ctx=64, n_windows=1, n_threads=1)
    assert math.isfinite(quality.divergence.mean)
    assert quality.bits_per_weight == pytest.approx(made.bits_per_weight)


@pytest.mark.parametrize("name", QUICK)
def test_a_type_quantises_loads_and_decodes(
    name: str, demo_f16: Path, imatrix: Path, tmp_path: Path
) -> None:
    round_trip(file_type(name), demo_f16, imatrix, tmp_path / "made.gguf")


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [each for each in FILE_TYPES if each.name not in QUICK], ids=lambda each: each.name
)
def test_every_other_type_does_too(
    recipe: FileType, demo_f16: Path, imatrix: Path, tmp_path: Path
) -> None:
    round_trip(recipe, demo_f16, imatrix, tmp_path / "made.gguf")


@pytest.fixture(scope="module")
def hollow_8b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of Qwen3-8B's shape that takes no room: its 16 GB of weights are a hole."""
    path = tmp_path_factory.mktemp("hollow") / "qwen3-8b.gguf"
    config = qwen3.parse_config(QWEN3_8B)
    data = Metadata()
    qwen3.add_metadata(data, config)
    writer = GGUFWriter(path, qwen3.ARCHITECTURE)
    for key, (value, kind) in data.items.items():
        writer.add_key_value(key, value, kind)
    size = 0
    for tensor in qwen3.expected_tensors(config):
        n_bytes = math.prod(tensor.shape) * (4 if len(tensor.shape) == 1 else 2)
        stored = GGMLQuantizationType.F32 if len(tensor.shape) == 1 else GGMLQuantizationType.BF16
        writer.add_tensor_info(
            tensor.gguf_name, tensor.shape, np.dtype(np.float32), n_bytes, raw_dtype=stored
        )
        size += -(-n_bytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file = writer.fout[0]
    writer.write_padding(file, file.tell())
    file.truncate(file.tell() + size)
    writer.close()
    return path


@pytest.fixture(scope="module")
def even(hollow_8b: Path) -> Path:
    """An importance matrix that finds every column as important as the next."""
    target = hollow_8b.with_name("even.gguf")
    usage = {
        tensor.name: Usage(np.ones((1, tensor.shape[-1]), np.float32), np.ones(1, np.float32))
        for tensor in read_header(hollow_8b).tensors
        if len(tensor.shape) == 2 and tensor.name.startswith("blk.")
    }
    matrix = ImportanceMatrix(usage, ("nothing",), 1, 512)
    write_imatrix(matrix, target, architecture=qwen3.ARCHITECTURE)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("recipe", FILE_TYPES, ids=lambda each: each.name)
def test_the_bits_are_what_llama_cpp_counts_for_qwen3_8b(
    recipe: FileType, hollow_8b: Path, even: Path
) -> None:
    job = Job(
        source=str(hollow_8b),
        target="",
        file_type=recipe.code,
        imatrix=str(even) if recipe.needs_imatrix else "",
        dry_run=True,
    )
    tensors = read_header(hollow_8b).tensors
    plan = read_plan(run_job(job), tensors)
    bits = 8 * plan.n_bytes / sum(tensor.n_elements for tensor in tensors)
    assert recipe.bits == pytest.approx(bits, abs=0.006)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", FILE_TYPES, ids=lambda each: each.name)
def test_the_types_that_want_importance_are_those_that_llama_cpp_refuses_without(
    recipe: FileType, demo_f16: Path, tmp_path: Path
) -> None:
    job = Job(
        source=str(demo_f16),
        target=str(tmp_path / "made.gguf"),
        file_type=recipe.code,
        n_threads=1,
    )
    if recipe.needs_imatrix:
        with pytest.raises(EngineError, match="imatrix"):
            run_job(job)
    else:
        run_job(job)


def test_names_are_taken_in_any_case_and_short() -> None:
    assert file_type("q4_k_m") is file_type("Q4_K_M")
    assert all(file_type(short).name == name for short, name in ALIASES.items())
    assert tensor_type("q6_k") is GGMLQuantizationType.Q6_K
    assert len({each.name for each in FILE_TYPES}) == len(FILE_TYPES)
    assert len({each.code for each in FILE_TYPES}) == len(FILE_TYPES)


@pytest.mark.parametrize("name", ["Q9_K", "", "Q4_2", "IQ5"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        file_type(name)


@pytest.mark.parametrize("name", ["Q8_K", "I32", "Q4_K_M", ""])
def test_tensors_cant_be_everything(name: str) -> None:
    with pytest.raises(UsageError):
        tensor_type(name)
