"""The demo model and samples for it, as a training run has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.prepare import prepare_data
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.job import Job
from qwenkit.training.methods import Method

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., PreparedData]:
    """Rows as samples of a method, rendered and tokenised for the demo model."""

    def prepare(method: Method, rows: Sequence[Any], **options: Any) -> PreparedData:
        path = tmp_path / f"{method}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        with open_renderer(DEMO_DIR) as renderer:
            return prepare_data(
                [str(path)], method=method, renderer=renderer, options=DataOptions(**options)
            )

    return prepare


@pytest.fixture
def load_base() -> Callable[[], Any]:
    """The demo model in float32, a new one each time."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)

    def load_base() -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)

    return load_base


@pytest.fixture
def make_job(tmp_path: Path, load_base: Callable[[], Any]) -> Callable[..., Job]:
    """A short run on the demo model, deterministic, that saves and reports nothing."""
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")

    def make_job(
        train: PreparedData,
        *,
        held_out: PreparedData | None = None,
        full: bool = False,
        dropout: float = 0.0,
        prepare: Callable[[Any], None] | None = None,
        **arguments: Any,
    ) -> Job:
        lora = peft.LoraConfig(
            r=8,
            lora_alpha=16,
            lora_dropout=dropout,
            target_modules=list(TARGETS),
            task_type="CAUSAL_LM",
        )
        return Job(
            model=load_base(),
            checkpoint=DEMO_DIR,
            peft_config=None if full else lora,
            tokenizer=transformers.AutoTokenizer.from_pretrained(DEMO_DIR),
            train=train,
            held_out=held_out,
            max_length=512,
            packing=False,
            arguments=_arguments(tmp_path / "run") | arguments,
            callbacks=[],
            prepare=prepare,
        )

    return make_job


def _arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 8,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "activation_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "seed": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
