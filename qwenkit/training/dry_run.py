"""Looks at a run without beginning it: its data, and what memory and time it would take."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qwenkit.extras import import_extra
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.base_model import choose_precision
from qwenkit.training.data.cost import Plan, Precision, Speed, measure_matmul
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.survey import Survey, make_survey
from qwenkit.training.inputs import read_inputs
from qwenkit.training.run_config import RunConfig

_GPU_SIZE = 8192


def survey_run(
    config: RunConfig, checkpoint: Path, *, progress: ProgressFactory = silent
) -> Survey:
    """Prepare a run's data and estimate the rest.

    Without torch the estimate is for this machine's CPU.

    Args:
        config: All choices.
        checkpoint: The base: a folder of safetensors with its tokenizer.
        progress: Counts rows.

    Raises:
        InvalidData: Rows can't be learned from.
        InvalidSettings: Choices contradict each other or the data.
        ModelError: The base can't be used.
    """
    train, _ = read_inputs(config, checkpoint, progress=progress)
    device = _device()
    precision = choose_precision(config.loop.precision, device) if device else "fp32"
    is_gpu = device is not None and device.type == "cuda"
    with open_renderer(checkpoint) as renderer:
        return make_survey(
            train,
            method=config.run.method,
            renderer=renderer,
            plan=plan_of(config, precision=precision, device="cuda" if is_gpu else "cpu"),
            config=qwen3.parse_config(read_json(checkpoint / "config.json")),
            speed=_gpu_speed(device, precision) if is_gpu else measure_matmul(),
        )


def plan_of(config: RunConfig, *, precision: Precision, device: str) -> Plan:
    """What a run's cost depends on."""
    lora, loop = config.lora, config.loop
    packs = loop.packing and config.run.method == "sft"
    return Plan(
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        n_epochs=loop.n_epochs,
        n_steps=loop.n_steps,
        row_length=config.data.max_length if packs else None,
        precision=precision,
        rank=None if lora.full else lora.rank,
        targets=lora.targets,
        dropout=lora.dropout > 0,
        qlora=lora.qlora,
        gradient_checkpointing=loop.checkpoints_on(device),
    )


def _device() -> Any | None:
    """What torch would train on; None without torch."""
    if find_spec("torch") is None:
        return None
    torch = import_extra("torch", extra="train")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _gpu_speed(device: Any, precision: Precision) -> Speed:
    torch = import_extra("torch", extra="train")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    square = torch.ones(_GPU_SIZE, _GPU_SIZE, dtype=dtype, device=device)

    def product() -> None:
        torch.matmul(square, square)
        torch.cuda.synchronize(device)

    return measure_matmul(product, n_flops=2.0 * _GPU_SIZE**3)
