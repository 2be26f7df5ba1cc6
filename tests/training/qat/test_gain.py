"""What training on the grid is for: the demo model loses less of what it was taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.qat.finish import finish_qat, write_full_precision
from qwenkit.training.qat.onnx_perplexity import perplexity as onnx_perplexity
from qwenkit.training.qat.prepare import prepare_qat
from qwenkit.training.qat.report import qat_report
from qwenkit.training.qat.scheme import find_scheme

# peft and transformers warn about each other.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

N_STEPS, N_ROWS, N_TOKENS = 24, 4, 192


@pytest.mark.parametrize("scheme", ["q4_0", "onnx-int4"])
def test_trained_on_the_grid_it_has_a_lower_perplexity_than_quantised_after_training(
    lora, full, stream, teach, tmp_path: Path, scheme: str
) -> None:
    runtime = find_scheme(scheme).runtime
    suffix = ".gguf" if runtime == "llama.cpp" else ""
    paths = {part: tmp_path / f"{part}{suffix}" for part in ("base", "trained", "ptq", "qat")}
    lessons = stream(101, N_STEPS * N_ROWS * N_TOKENS).reshape(N_STEPS, N_ROWS, N_TOKENS)

    write_full_precision(full(), runtime, checkpoint=DEMO_DIR, target=paths["base"])
    twin = lora(std=0.0, r=16, lora_alpha=32)
    teach(twin, lessons)
    write_full_precision(twin, runtime, checkpoint=DEMO_DIR, target=paths["trained"])
    finish_qat(twin, scheme, checkpoint=DEMO_DIR, target=paths["ptq"])
    model = lora(std=0.0, r=16, lora_alpha=32)
    prepare_qat(model, scheme)
    teach(model, lessons)
    finish_qat(model, scheme, checkpoint=DEMO_DIR, target=paths["qat"])

    report = qat_report(scheme, stream(202, 12_288), n_ctx=256, n_threads=1, **paths)
    assert report.is_fair
    assert report.is_better
    assert report.recovered is not None
    assert report.recovered > 0.2
    assert report.row("trained").perplexity.value < report.row("base").perplexity.value
    assert report.row("qat").size_bytes == report.row("ptq").size_bytes


def test_onnxruntime_and_llama_cpp_measure_the_same_perplexity(
    full, stream, tmp_path: Path
) -> None:
    from qwenkit.quality.measure import perplexity as llama_perplexity

    tokens, model = stream(202, 2_048).astype(np.int32), full()
    write_full_precision(model, "llama.cpp", checkpoint=DEMO_DIR, target=tmp_path / "m.gguf")
    write_full_precision(model, "onnxruntime", checkpoint=DEMO_DIR, target=tmp_path / "m")
    for n_ctx in (96, 257, 512):
        theirs = llama_perplexity(tmp_path / "m.gguf", tokens, n_ctx=n_ctx, n_threads=1)
        ours = onnx_perplexity(tmp_path / "m", tokens, n_ctx=n_ctx, n_threads=1)
        assert ours.n_tokens == theirs.n_tokens
        assert ours.value == pytest.approx(theirs.value, rel=2e-3)


def test_held_out_text_shorter_than_a_window_is_one_window(full, stream, tmp_path: Path) -> None:
    path, tokens = tmp_path / "m.gguf", stream(202, 100).astype(np.int32)
    finish_qat(full(), "q8_0", checkpoint=DEMO_DIR, target=path)
    report = qat_report("q8_0", tokens, base=path, ptq=path, qat=path, n_threads=1)
    assert report.n_ctx == 100
    assert report.row("qat").perplexity.n_tokens == 49
    assert not report.is_better
