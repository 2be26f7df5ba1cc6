"""Trains a model by torch: from rows to a run folder that holds adapters in every format. One call.

data → folder → base → evaluate → train → evaluate → finish. Every process of a run goes this way;
the first one writes and talks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qwenkit.errors import InvalidSettings, OutOfMemory
from qwenkit.extras import import_extra
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.processes import join_processes
from qwenkit.training.quiet import quiet
from qwenkit.training.request import FinetuneReport, FinetuneRequest, Stopped
from qwenkit.training.run_config import RunConfig
from qwenkit.training.session import Session
from qwenkit.training.watching import Watch, unwatched


def finetune(
    request: FinetuneRequest,
    *,
    progress: ProgressFactory = silent,
    watch: Watch = unwatched,
    tell: Callable[[str], None] = lambda _: None,
) -> FinetuneReport | Stopped | None:
    """Train, and leave a run folder.

    Args:
        request: What to train.
        progress: Told of reading, evaluating and writing.
        watch: Shows the steps.
        tell: Told what a person should know at once.

    Returns:
        What came of it; None in every process of several but the first.

    Raises:
        InvalidSettings: Choices contradict each other, the data or the device; the folder is there
            already; what is resumed is another run; or the disk is full.
        InvalidData: Rows can't be learned from.
        MissingExtra: The training packages are not installed.
        ModelError: The base can't be trained.
        OutOfMemory: The device has too little.
        DecodeFailed: Training went astray.
    """
    with quiet():
        processes = join_processes()
        if not processes.is_main:
            progress, watch, tell = silent, unwatched, lambda _: None
        with _failures_named(request), processes:
            return Session(request, processes, progress=progress, watch=watch, tell=tell).run()


@contextmanager
def _failures_named(request: FinetuneRequest) -> Iterator[None]:
    torch = import_extra("torch", extra="train")
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as exc:
        raise OutOfMemory("training does not fit the memory", hint=_leaner(request.config)) from exc
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        raise InvalidSettings(
            f"the disk of `{request.config.run.output}` is full",
            hint=f"free some space, then go on: {request.again}",
        ) from exc


def _leaner(config: RunConfig) -> str:
    """What would take less memory, the cheapest first."""
    steps = {
        "--batch-size 1 with more --accumulate": config.loop.batch_size > 1,
        "--gradient-checkpointing": config.loop.gradient_checkpointing is False,
        "a smaller --max-length": True,
        "LoRA instead of --full": config.lora.full,
        "--qlora": not (config.lora.qlora or config.lora.full),
    }
    return ", ".join(step for step, helps in steps.items() if helps)
