"""Tokens a second of a whole run, beside TRL called directly with the same settings.

Paired and alternating, since a machine wanders: each pair gives one ratio, and the median of
them counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

from qwenkit.models.demo import DEMO_DIR, DEMO_NAME
from qwenkit.training.arguments import trainer_arguments
from qwenkit.training.base_model import load_base, load_tokenizer, lora_config
from qwenkit.training.checkpoints import Checkpoints
from qwenkit.training.data.samples import PreparedData, Sample
from qwenkit.training.job import Job
from qwenkit.training.loop import Loop, make_callback
from qwenkit.training.metrics import MetricsLog
from qwenkit.training.processes import Processes
from qwenkit.training.quiet import quiet
from qwenkit.training.run_config import RunConfig, make_config
from qwenkit.training.sft import SftOptions, make_trainer, row_columns
from qwenkit.training.stopping import StopRequest
from qwenkit.training.watching import unwatched

pytestmark = [pytest.mark.parity, pytest.mark.slow]

N_STEPS = 10
N_PAIRS = 5
LENGTH = 256


@pytest.fixture(scope="module")
def data() -> PreparedData:
    chance = Random(0)
    samples = []
    for i in range(400):
        n = chance.randrange(20, LENGTH)
        ids = tuple(chance.randrange(900) for _ in range(n))
        samples.append(Sample(ids, (False,) * (n // 3) + (True,) * (n - n // 3), str(i)))
    return PreparedData(tuple(samples), (), len(samples), "0123456", "abcdef")


def config_of(folder: Path, *, packing: bool) -> RunConfig:
    return make_config(
        {
            "model": DEMO_NAME,
            "data": "none",
            "output": folder,
            "n_steps": N_STEPS,
            "batch_size": 1 if packing else 4,
            "accumulate": 2,
            "max_length": LENGTH,
            "packing": packing,
            "save_every": 0,
        }
    )


def ours(folder: Path, data: PreparedData, config: RunConfig) -> float:
    """Seconds of a run as `finetune` makes it, with all that happens around its steps."""
    import torch

    device = torch.device("cpu")
    work = folder / "checkpoints" / ".work"
    job = Job(
        model=load_base(DEMO_DIR, config.lora, precision="fp32", device=device),
        checkpoint=DEMO_DIR,
        peft_config=lora_config(config.lora),
        tokenizer=load_tokenizer(DEMO_DIR),
        train=data,
        held_out=None,
        max_length=LENGTH,
        packing=config.loop.packing,
        arguments=trainer_arguments(config, precision="fp32", device=device, work=work),
        callbacks=[],
    )
    trainer = make_trainer(job, SftOptions())
    metrics = MetricsLog(folder / "metrics.jsonl")
    loop = Loop(
        options=config.loop,
        processes=Processes(0, 1, device),
        checkpoints=Checkpoints(folder / "checkpoints", keep=1),
        metrics=metrics,
        stop=StopRequest(),
        watch=unwatched,
        look=lambda _: None,
        tokens_per_step=1.0,
        scales_loss=False,
        again="",
    )
    trainer.add_callback(make_callback(loop))
    seconds = timed(trainer)
    metrics.close()
    return seconds


def theirs(folder: Path, data: PreparedData, config: RunConfig) -> float:
    """Seconds of TRL's trainer on the same rows, with its own collator and no callback of ours."""
    import datasets
    import torch
    import trl

    device = torch.device("cpu")
    arguments = trainer_arguments(config, precision="fp32", device=device, work=folder)
    length = LENGTH if config.loop.packing else None
    trainer = trl.SFTTrainer(
        model=load_base(DEMO_DIR, config.lora, precision="fp32", device=device),
        args=trl.SFTConfig(
            **arguments,
            max_length=None,
            padding_free=config.loop.packing,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=datasets.Dataset.from_dict(row_columns(data, length=length)),
        processing_class=load_tokenizer(DEMO_DIR),
        peft_config=lora_config(config.lora),
    )
    return timed(trainer)


def timed(trainer: Any) -> float:
    import transformers

    trainer.remove_callback(transformers.PrinterCallback)
    began = time.perf_counter()
    trainer.train()
    return time.perf_counter() - began


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_a_run_is_within_five_percent_of_trl_called_directly(
    packing: bool, data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    torch.set_num_threads(1)
    sides: list[Callable[..., float]] = [ours, theirs]
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    with quiet():
        for pair in range(-1, N_PAIRS):
            for side in sides if pair % 2 else reversed(sides):
                folder = tmp_path / f"{side.__name__}{pair}"
                folder.mkdir()
                seconds = side(folder, data, config_of(folder, packing=packing))
                if pair >= 0:  # the first pair warms up
                    found[side.__name__].append(seconds)
    ratio = median(a / b for a, b in zip(found["ours"], found["theirs"], strict=True))
    with capsys.disabled():
        medians = {name: f"{median(each):.2f} s" for name, each in found.items()}
        print(f"\n{medians} for {N_STEPS} steps; median ratio {ratio:.3f}")
    assert ratio < 1.05
