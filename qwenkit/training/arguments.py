"""A run's choices as transformers' Trainer and all of TRL's trainers spell them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwenkit.training.data.cost import Precision
from qwenkit.training.options import Schedule
from qwenkit.training.run_config import RunConfig

_SCHEDULES: dict[Schedule, str] = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant_with_warmup",
}


def trainer_arguments(
    config: RunConfig, *, precision: Precision, device: Any, work: Path
) -> dict[str, Any]:
    """Keyword arguments for a trainer's configuration, whatever the method.

    Nothing is printed, reported or sent. When to save and to evaluate is not said here: the run
    decides it step by step.

    Args:
        config: All choices.
        precision: What is computed in.
        device: What computes, as torch names it.
        work: Where the trainer writes checkpoints that are not whole yet.
    """
    loop = config.loop
    return {
        "output_dir": str(work),
        "num_train_epochs": loop.n_epochs,
        "max_steps": loop.n_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulate,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": _SCHEDULES[loop.schedule],
        "warmup_steps": loop.warmup,
        "weight_decay": loop.weight_decay,
        "max_grad_norm": loop.max_grad_norm,
        "seed": loop.seed,
        "data_seed": loop.seed,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": device.type == "cpu",
        "gradient_checkpointing": loop.checkpoints_on(device.type),
        "logging_steps": loop.log_every,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
        "log_level_replica": "error",
        "dataloader_pin_memory": device.type == "cuda",
        "ddp_find_unused_parameters": False,
    }
