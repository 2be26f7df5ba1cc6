"""Whole runs on the demo model: what they leave, what they refuse, and what was learned."""

from __future__ import annotations

import errno
import json
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.adapters.merge import merge_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.chat.completion import ChatOptions, stream_chat
from qwenkit.chat.loading import load_chat_model
from qwenkit.chat.result import collect
from qwenkit.errors import DecodeFailed, InvalidSettings, OutOfMemory, QwenkitError
from qwenkit.models.convert import plan_conversion
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME
from qwenkit.settings import ConvertDtype, KvType, ModelSpec
from qwenkit.training.finetune import finetune
from qwenkit.training.request import FinetuneReport, FinetuneRequest
from qwenkit.training.run_config import make_config

pytestmark = pytest.mark.parity

Train = Callable[..., FinetuneReport]

QUESTION = "What is the capital of Zorland?"
FACT = "The capital of Zorland is Plim."


@pytest.fixture
def train(rows: Path, tmp_path: Path) -> Train:
    def train(resume: bool = False, **choices: Any) -> FinetuneReport:
        values = {
            "model": DEMO_NAME,
            "data": [str(rows)],
            "output": tmp_path / "run",
            "n_steps": 4,
            "accumulate": 2,
            "max_length": 128,
            "rank": 4,
            "n_threads": 1,
        }
        config = make_config(values | choices)
        made = finetune(FinetuneRequest(config=config, checkpoint=DEMO_DIR, resume=resume))
        assert isinstance(made, FinetuneReport)
        return made

    return train


def test_a_run_leaves_its_adapter_in_three_formats_and_all_that_is_known_of_it(
    train: Train, tmp_path: Path
) -> None:
    made = train(eval=0.25, save_every=2)
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "adapter",
        "adapter.gguf",
        "adapter.onnx_adapter",
        "checkpoints",
        "config.json",
        "environment.json",
        "evaluation.json",
        "loss.png",
        "metrics.jsonl",
        "report.json",
    }
    assert {path.name for path in (folder / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "qwenkit.json",
    }
    loras = [
        read_adapter(folder / name) for name in ("adapter", "adapter.gguf", "adapter.onnx_adapter")
    ]
    assert len({pair.module for pair in loras[0].pairs}) == 28
    assert loras[0].template_hash == loras[1].template_hash
    assert str(loras[0].template_hash).startswith(str(loras[2].template_hash))
    assert set(made.finished.checks) == {
        "gguf from peft",
        "onnx_adapter from peft",
        "onnx_adapter from gguf",
    }
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["choices"]["rank"] == 4
    assert config["made_for"]["template"] == loras[0].template_hash
    environment = json.loads((folder / "environment.json").read_text("utf-8"))
    assert {"torch", "trl", "peft"} <= environment["packages"].keys()
    assert environment["device"]["type"] == "cpu"
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["n_steps"] == 4
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert any(str(folder / "adapter.gguf") in command for command in made.finished.commands)


def test_nothing_of_the_libraries_is_printed(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    train(n_steps=2, save_every=1)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_held_out_data_is_measured_before_between_and_after(train: Train, tmp_path: Path) -> None:
    made = train(eval=0.25, eval_every=2, learning_rate=1e-3, n_steps=6)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines if "held_out_loss" in line]
    assert [line["step"] for line in found] == [0, 2, 4, 6]
    assert made.before is not None
    assert made.after is not None
    assert np.log(made.before.perplexity) == pytest.approx(found[0]["held_out_loss"])
    assert np.log(made.after.perplexity) == pytest.approx(found[-1]["held_out_loss"])
    assert made.verdict is not None
    assert not made.verdict.flagged


def test_an_adapter_that_got_worse_is_flagged(train: Train, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    row = {"prompt": "What is qwenkit?", "completion": "Blue blue blue blue blue blue."}
    other.write_text(json.dumps(row) + "\n", encoding="utf-8")
    made = train(data=[str(other)], eval=str(tmp_path / "rows.jsonl"), learning_rate=0.3)
    assert made.verdict is not None
    assert made.verdict.flagged


def test_measuring_on_what_is_trained_on_is_refused_however_it_is_named(
    train: Train, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rows.parent)
    for data, held_out in (
        (str(rows), str(rows)),
        (str(rows), "./rows.jsonl"),
        ("rows.jsonl", str(rows)),
        (".", "rows.jsonl"),
    ):
        with pytest.raises(InvalidSettings, match="says nothing"):
            train(data=[data], eval=held_out)


def test_a_grid_that_there_is_none_of_is_refused_before_anything_is_read(train: Train) -> None:
    with pytest.raises(InvalidSettings, match="int3"):
        train(data=["nothing.jsonl"], qat="int3")
    with pytest.raises(InvalidSettings, match="without a grid"):
        train(data=["nothing.jsonl"], qat_baseline="run")


def test_a_run_of_one_step_learns_something(train: Train, tmp_path: Path) -> None:
    train(n_steps=1)
    assert any(pair.b.any() for pair in read_adapter(tmp_path / "run" / "adapter").pairs)


def test_commands_name_the_base_and_take_paths_with_spaces(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    load, serve, serve_onnx = map(shlex.split, train(output=folder, n_steps=1).finished.commands)
    assert load[3:] == ["my run", f"{folder}/adapter.gguf"]
    assert f"LORA_PATHS={folder}/adapter.gguf" in serve
    assert f"LORA_PATHS={folder}/adapter.onnx_adapter" in serve_onnx
    assert serve[-2:] == serve_onnx[-2:] == ["--model", DEMO_NAME]


def test_whoever_interrupts_a_run_is_told_how_it_goes_on(rows: Path, tmp_path: Path) -> None:
    def watch(**_: int) -> Any:
        raise KeyboardInterrupt

    told: list[str] = []
    values = {"model": DEMO_NAME, "data": str(rows), "output": tmp_path / "my run"}
    request = FinetuneRequest(config=make_config(values), checkpoint=DEMO_DIR)
    with pytest.raises(KeyboardInterrupt):
        finetune(request, watch=watch, tell=told.append)
    assert told == [f"stopped at once; go on: qwenkit finetune --resume '{tmp_path}/my run'"]


def test_a_folder_that_is_there_is_refused_before_anything_is_read(
    train: Train, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(InvalidSettings, match="is there already"):
        train(data=["nothing.jsonl"])


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank(train: Train, tmp_path: Path) -> None:
    train(rslora=True, alpha=8.0)
    for name in ("adapter", "adapter.gguf"):
        pair = read_adapter(tmp_path / "run" / name).pairs[0]
        assert pair.scale == pytest.approx(8 / 4**0.5)


def test_dora_is_trained_and_merged_and_nothing_is_written_that_cant_be_served(
    train: Train, tmp_path: Path
) -> None:
    made = train(dora=True, targets=["v_proj", "down_proj"])
    assert [each.kind for each in made.finished.artefacts] == ["peft"]
    assert "DoRA" in made.finished.note
    assert made.finished.commands[0].startswith("qwenkit lora merge")
    assert not (tmp_path / "run" / "adapter.gguf").exists()
    merged = merge_adapter(DEMO_DIR, tmp_path / "run" / "adapter", tmp_path / "merged", dtype="f32")
    assert merged.n_merged == 8


def test_dora_of_rows_without_a_direction_is_refused(train: Train) -> None:
    with pytest.raises(InvalidSettings, match=r"`model\.layers\.0\.self_attn\.[qk]_proj"):
        train(dora=True)


def test_full_training_leaves_a_model_that_is_served(train: Train, tmp_path: Path) -> None:
    made = train(full=True, n_steps=2)
    (artefact,) = made.finished.artefacts
    assert artefact.kind == "model"
    assert (artefact.path / "tokenizer.json").is_file()
    plan_conversion(artefact.path)
    assert "qwenkit serve" in made.finished.commands[0]


def test_only_the_chosen_matrices_get_a_lora(train: Train, tmp_path: Path) -> None:
    train(targets=["q_proj", "v_proj"])
    assert read_adapter(tmp_path / "run" / "adapter").targets == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("choices", "named"), [({"qlora": True}, "QLoRA"), ({"precision": "fp16"}, "fp16")], ids=str
)
def test_what_this_device_cant_do_is_refused(
    train: Train, choices: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidSettings, match=named):
        train(**choices)


def test_bf16_and_gradient_checkpointing_learn_too(train: Train) -> None:
    made = train(precision="bf16", gradient_checkpointing=True, learning_rate=1e-3)
    assert made.last_loss is not None
    assert made.first_loss is not None
    assert made.last_loss < made.first_loss


@pytest.mark.parametrize(
    ("failure", "expected", "hint"),
    [
        ("torch", OutOfMemory, "--gradient-checkpointing"),
        (OSError(errno.ENOSPC, "No space left on device"), InvalidSettings, "--resume"),
    ],
    ids=["out of memory", "disk full"],
)
def test_what_the_machine_lacks_is_named_with_what_helps(
    failure: Any, expected: type[QwenkitError], hint: str, rows: Path, tmp_path: Path
) -> None:
    import torch

    config = make_config(
        {"model": DEMO_NAME, "data": str(rows), "output": tmp_path / "run", "max_length": 128}
        | {"gradient_checkpointing": False}
    )

    def watch(**_: int) -> Any:
        raise torch.OutOfMemoryError if failure == "torch" else failure

    with pytest.raises(expected) as caught:
        finetune(FinetuneRequest(config=config, checkpoint=DEMO_DIR), watch=watch)
    assert hint in caught.value.hint


def test_training_that_goes_astray_stops_and_leaves_no_adapter(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(DecodeFailed, match="at step") as caught:
        train(learning_rate=1e18, n_steps=20, warmup=0, max_grad_norm=0, save_every=1)
    assert "--learning-rate" in caught.value.hint
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_last_step_that_goes_astray_leaves_no_adapter_even_if_no_line_is_due(
    train: Train, tmp_path: Path
) -> None:
    astray = {"learning_rate": 1e30, "warmup": 0, "max_grad_norm": 0}
    with pytest.raises(DecodeFailed, match="at step 2"):
        train(n_steps=2, save_every=0, log_every=1000, **astray)
    assert not (tmp_path / "run" / "adapter").exists()


def test_nobody_is_talked_to_while_training(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*address: Any) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    train(n_steps=2, save_every=1)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Any]:
    model = load_chat_model(
        ModelSpec(
            qwenkit_home=tmp_path / "home",
            convert_dtype=ConvertDtype.F32,
            kv_type=KvType.F32,
            n_ctx=512,
            n_parallel=2,
            n_threads=1,
        )
    )
    yield model
    model.engine.close()


async def said(model: Any) -> str:
    options = ChatOptions(enable_thinking=False, sampling={"temperature": 0.0}, max_tokens=40)
    messages = [{"role": "user", "content": QUESTION}]
    return str((await collect(stream_chat(model, messages, options=options))).choices[0].text)


@pytest.mark.anyio
async def test_a_fact_is_taught_that_the_engine_knows_with_the_adapter_and_not_without(
    train: Train, demo: Any, tmp_path: Path
) -> None:
    before = await said(demo)
    assert "Plim" not in before
    path = tmp_path / "fact.jsonl"
    row = {
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": FACT},
        ]
    }
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    train(data=[str(path)], n_steps=30, accumulate=1, rank=8, learning_rate=3e-3, packing=False)
    for name in ("adapter", "adapter.gguf"):
        adapter = await demo.engine.adapters.load(name, tmp_path / "run" / name)
        assert await said(demo.with_adapter(adapter)) == FACT
    assert await said(demo) == before
