"""Training by llama.cpp from samples to adapters, on the demo model."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf.quants import dequantize

from qwenkit.adapters.base import gguf_name
from qwenkit.adapters.gguf_adapter import read_gguf_adapter, write_gguf_adapter
from qwenkit.adapters.lora import make_lora
from qwenkit.adapters.read import read_adapter
from qwenkit.backends.base import AdapterUse, Rows
from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.errors import (
    AdapterUnsupported,
    DecodeFailed,
    InvalidSettings,
    ModelUnsupported,
    OutOfMemory,
)
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.gguf_header import read_header
from qwenkit.models.resolve import ResolvedModel, resolve
from qwenkit.training.data.samples import PreferenceSample, PreparedData, Sample
from qwenkit.training.native.memory import require_memory
from qwenkit.training.native.request import NativeRequest

from .conftest import Train

STEPS_AN_EPOCH = 3
PROBE = np.random.default_rng(3).integers(0, 900, 96).astype(np.int32)


def logits_of(path: Path, adapter: Path | None = None) -> np.ndarray:
    options = LlamaOptions(n_ctx=256, n_slots=1, n_batch=256, n_threads=1, kv_type="f32")
    backend = LlamaBackend(path, content_id="", options=options)
    try:
        use = AdapterUse(backend.load_adapter(adapter), 1.0) if adapter else None
        n = len(PROBE)
        slots, wanted = np.zeros(n, np.int32), np.zeros(n, np.int8)
        wanted[-16:] = 1
        rows = Rows(PROBE, np.arange(n, dtype=np.int32), slots, wanted, use)
        return backend.decode(rows).copy()
    finally:
        backend.close()


def matrices_of(path: Path) -> dict[str, np.ndarray]:
    header = read_header(path)
    data = np.memmap(path, np.uint8, mode="r", offset=header.data_offset)
    return {
        tensor.name: dequantize(
            data[tensor.offset : tensor.offset + tensor.n_bytes], tensor.type
        ).reshape(tensor.shape)
        for tensor in header.tensors
    }


def changes_of(adapter: Path) -> dict[str, np.ndarray]:
    return {
        gguf_name(pair.module) or "": pair.scale * (pair.b @ pair.a)
        for pair in read_gguf_adapter(adapter).pairs
    }


def test_training_lowers_the_loss_also_of_samples_that_it_never_saw(
    train: Train, untaught: PreparedData
) -> None:
    report = train(held_out=untaught, n_epochs=4)
    losses = [epoch.loss for epoch in report.epochs]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2
    before, after = report.held_out_loss_before, report.epochs[-1].held_out_loss
    assert before is not None
    assert after is not None
    assert after < before / 2
    assert report.n_steps == 4 * STEPS_AN_EPOCH
    assert report.tokens_per_s > 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_adapter_on_the_base_gives_the_trained_models_logits(
    train: Train, model: ResolvedModel, tmp_path: Path, optimizer: str
) -> None:
    trained = tmp_path / "trained.gguf"
    rate = 3e-4 if optimizer == "adamw" else 0.1
    report = train(save_model=trained, optimizer=optimizer, learning_rate=rate)
    wanted = logits_of(trained)
    np.testing.assert_allclose(logits_of(model.path, report.adapter), wanted, atol=1e-3)
    assert np.abs(logits_of(model.path) - wanted).max() > 0.5


def test_what_the_adapter_lacks_of_an_unprojected_model_is_the_share_that_was_reported_lost(
    train: Train, model: ResolvedModel, tmp_path: Path
) -> None:
    full, projected = tmp_path / "full.gguf", tmp_path / "projected.gguf"
    report = train(
        n_epochs=1, save_unprojected=full, save_model=projected, schedule="constant", rank=4
    )
    base, left = matrices_of(model.path), matrices_of(full)
    adapter = changes_of(report.adapter)
    lost = total = 0.0
    for matrix in report.matrices:
        name = gguf_name(matrix.module) or ""
        change = (left[name] - base[name]).astype(np.float64)
        here = np.square(change - adapter[name]).sum() / np.square(change).sum()
        assert here == pytest.approx(1 - matrix.share, abs=1e-4)
        assert np.linalg.norm(change) == pytest.approx(matrix.norm, rel=1e-4)
        lost += np.square(change - adapter[name]).sum()
        total += np.square(change).sum()
    assert lost / total == pytest.approx(1 - report.share, abs=1e-4)
    assert 0.1 < report.share < 0.95
    assert np.abs(logits_of(full) - logits_of(projected)).max() > 0.1


def test_only_the_targets_are_changed(train: Train, model: ResolvedModel, tmp_path: Path) -> None:
    trained = tmp_path / "trained.gguf"
    report = train(n_steps=2, targets=("q_proj", "down_proj"), save_model=trained)
    assert read_adapter(report.adapter).targets == ("down_proj", "q_proj")
    before, after = matrices_of(model.path), matrices_of(trained)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {
        f"blk.{i}.{kind}.weight" for i in range(4) for kind in ("attn_q", "ffn_down")
    }


def test_both_forms_of_the_adapter_are_one_and_name_the_template(
    train: Train, taught: PreparedData
) -> None:
    report = train(n_steps=2)
    gguf, peft = read_adapter(report.adapter), read_adapter(report.peft_folder)
    assert gguf.template_hash == peft.template_hash == taught.template_hash
    assert [pair.module for pair in gguf.pairs] == [pair.module for pair in peft.pairs]
    for one, other in zip(gguf.pairs, peft.pairs, strict=True):
        assert one.scale == other.scale == 1
        np.testing.assert_array_equal(one.a, other.a)
        np.testing.assert_array_equal(one.b, other.b)


def test_one_seed_gives_one_adapter_and_another_seed_another(train: Train, tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        return train(n_steps=3, seed=seed, output=tmp_path / name).adapter.read_bytes()

    first = made("a", 1)
    assert made("a", 1) == first
    assert made("b", 2) != first


def test_a_projection_in_mid_epoch_keeps_more_of_the_change(train: Train) -> None:
    seldom = train(n_epochs=1, schedule="constant")
    often = train(n_epochs=1, schedule="constant", project_every=1)
    assert often.share > seldom.share


@pytest.mark.parametrize(("batch_size", "project_every"), [(1, None), (2, 2)])
def test_a_run_that_was_interrupted_ends_with_the_bytes_of_one_that_was_not(
    train: Train, tmp_path: Path, batch_size: int, project_every: int | None
) -> None:
    fields = {"n_epochs": 3, "batch_size": batch_size, "project_every": project_every}
    whole = train(output=tmp_path / "whole" / "run", save_every=1, **fields)

    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == 4 and "loss" in record:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(output=tmp_path / "cut" / "run", save_every=1, on_record=interrupt, **fields)
    assert not (tmp_path / "cut" / "run" / "adapter.gguf").exists()
    seen: list[dict[str, float]] = []
    resumed = train(
        output=tmp_path / "cut" / "run", save_every=1, resume=True, on_record=seen.append, **fields
    )
    assert resumed.resumed_from == 3
    assert resumed.adapter.read_bytes() == whole.adapter.read_bytes()
    assert resumed.records == whole.records == tuple(seen)
    assert resumed.epochs == whole.epochs
    assert resumed.matrices == whole.matrices


def test_a_run_that_had_ended_is_reported_again(train: Train) -> None:
    first = train(n_steps=4)
    again = train(n_steps=4, resume=True)
    assert again.resumed_from == again.n_steps == 4
    assert (again.share, again.matrices) == (first.share, first.matrices)
    np.testing.assert_allclose(
        changes_of(again.adapter)["blk.0.attn_q.weight"],
        changes_of(first.adapter)["blk.0.attn_q.weight"],
        atol=1e-6,
    )


def test_only_the_newest_checkpoints_are_kept_and_none_where_none_are_wanted(
    train: Train, tmp_path: Path
) -> None:
    train(n_steps=4, save_every=1, keep_checkpoints=2)
    folders = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert folders == ["step-00000003", "step-00000004"]
    train(n_steps=1, save_every=0, output=tmp_path / "none")
    assert not (tmp_path / "none" / "checkpoints").exists()


def test_a_checkpoint_of_another_run_is_not_gone_on_with(train: Train) -> None:
    train(n_steps=2)
    with pytest.raises(InvalidSettings, match="another model, data or settings"):
        train(n_steps=2, learning_rate=1e-5, resume=True)


def test_a_killed_run_leaves_nothing_half_written_and_can_be_gone_on_with(
    train: Train, model: ResolvedModel, taught: PreparedData, tmp_path: Path
) -> None:
    fields = {"n_epochs": 3, "save_every": 2}
    whole = train(output=tmp_path / "whole" / "run", **fields)
    request = NativeRequest(
        model=model,
        train=taught,
        output=tmp_path / "killed" / "run",
        n_ctx=256,
        rank=8,
        learning_rate=3e-4,
        n_threads=1,
        **fields,
    )
    script = (
        "import pickle, signal, sys\n"
        "from qwenkit.training.native.train import train_native\n"
        "request = pickle.load(sys.stdin.buffer)\n"
        "def tell(record):\n"
        "    print(record['step'], flush=True)\n"
        "    if record['step'] == 5:\n"
        "        signal.pause()\n"
        "train_native(request, on_record=tell)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps(request))
        process.stdin.close()
        for line in process.stdout:
            if int(line) == 5:
                process.kill()
    assert process.returncode == -9
    output = tmp_path / "killed" / "run"
    assert {path.name for path in output.iterdir()} == {"checkpoints"}
    resumed = train(output=output, resume=True, **fields)
    assert resumed.resumed_from == 4
    assert resumed.adapter.read_bytes() == whole.adapter.read_bytes()
    assert not list(output.rglob("*.partial"))


def test_training_goes_on_from_an_adapter_and_keeps_what_it_was(
    train: Train, tmp_path: Path
) -> None:
    first = train(n_epochs=2)
    barely = train(n_steps=1, learning_rate=1e-12, start=first.adapter, output=tmp_path / "barely")
    before, after = changes_of(first.adapter), changes_of(barely.adapter)
    for name, change in before.items():
        np.testing.assert_allclose(after[name], change, atol=1e-6)
    further = train(n_epochs=2, start=first.peft_folder, output=tmp_path / "further")
    assert further.epochs[0].loss < first.epochs[0].loss


def test_an_adapter_of_matrices_that_are_not_trained_is_refused(
    train: Train, tmp_path: Path
) -> None:
    first = train(n_steps=1, targets=("q_proj",))
    with pytest.raises(AdapterUnsupported, match="q_proj"):
        train(n_steps=1, targets=("v_proj",), start=first.adapter, output=tmp_path / "b")


def test_numbers_that_overflow_end_training_with_an_error(train: Train, tmp_path: Path) -> None:
    first = train(n_steps=1, rank=1, targets=("q_proj",))
    huge = [
        replace(pair, b=np.full_like(pair.b, 1e25), a=np.full_like(pair.a, 1e12))
        for pair in read_adapter(first.adapter).pairs
    ]
    write_gguf_adapter(make_lora(tmp_path, huge, 1.0), tmp_path / "huge.gguf")
    with pytest.raises(DecodeFailed, match="astray"):
        train(n_steps=1, start=tmp_path / "huge.gguf", output=tmp_path / "b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_ctx": 300}, "multiples of 256"),
        ({"n_ctx": 0}, "multiples of 256"),
        ({"n_ctx": 8192}, "longer than the model's context"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": 129}, "k_proj"),
        ({"targets": ("lm_head",)}, "lm_head"),
        ({"targets": ()}, "can't be trained"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup": 1.0}, "warmup"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_threads": 100_000}, "n_threads"),
    ],
)
def test_what_would_end_the_process_is_refused_before(
    train: Train, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message):
        train(**fields)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (Sample((1,) * 257, (False,) + (True,) * 256, "a.jsonl:3"), "a.jsonl:3 has 257 tokens"),
        (Sample((1, 1024), (False, True), "a.jsonl:4"), "a.jsonl:4 .* vocabulary of 1024"),
        (Sample((1, -1), (False, True), "a.jsonl:5"), "a.jsonl:5 .* vocabulary of 1024"),
        (Sample((1, 2), (True, False), "a.jsonl:6"), "no token to learn"),
        (PreferenceSample((1,), (2,), (3,), "a.jsonl:7"), "imitation only"),
    ],
)
def test_data_that_llama_cpp_cannot_be_given_is_refused(
    train: Train, sample: Sample | PreferenceSample, message: str
) -> None:
    data = PreparedData((sample,), (), 1, "0" * 16, "print")
    with pytest.raises(InvalidSettings, match=message):
        train(train=data)


def test_a_model_that_is_not_float32_is_refused_with_the_way_out(
    train: Train, tmp_path: Path
) -> None:
    convert_checkpoint(DEMO_DIR, tmp_path / "q8.gguf", dtype="q8_0")
    quantised = resolve(str(tmp_path / "q8.gguf"), home=tmp_path)
    with pytest.raises(ModelUnsupported, match="Q8_0") as caught:
        train(model=quantised)
    assert "safetensors" in caught.value.hint


def test_too_little_memory_is_said_before_it_is_taken() -> None:
    require_memory(10**9, 10**9, n_ctx=256)
    with pytest.raises(OutOfMemory, match=r"2\.0 GB .* 1\.0 GB"):
        require_memory(2 * 10**9, 10**9, n_ctx=256)
