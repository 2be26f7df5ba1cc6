"""Trains a model by torch: from rows to a run folder that holds adapters in every format. One call.

data → folder → base → evaluate → train → evaluate → finish. Every process of a run goes this way;
the first one writes and talks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qwenkit.errors import InvalidSettings, OutOfMemory, QwenkitError
from qwenkit.extras import import_extra
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.processes import Processes, join_processes
from qwenkit.training.quiet import quiet
from qwenkit.training.request import FinetuneReport, FinetuneRequest, Stopped
from qwenkit.training.run_config import RunConfig
from qwenkit.training.run_folder import RunFolder
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
            session = _open_session(
                processes,
                lambda: Session(request, processes, progress=progress, watch=watch, tell=tell),
            )
            if session is None:
                return None
            with RunFolder(request.config.run.output).interruption_told(tell):
                return session.run()


def _open_session(processes: Processes, make: Callable[[], Session]) -> Session | None:
    """Make a session; where it fails in all processes, only the first one says why.

    Returns:
        None in the others.
    """
    try:
        session = make()
    except QwenkitError:
        is_told_elsewhere = not processes.any(False) and not processes.is_main
        if is_told_elsewhere:
            return None
        raise
    processes.any(True)
    return session


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
    least = 2 if config.run.method == "kto" else 1
    steps = {
        "a smaller --batch-size with more --accumulate": config.batch_size > least,
        "--gradient-checkpointing": config.loop.gradient_checkpointing is False,
        "a smaller --max-length": True,
        "LoRA instead of --full": config.lora.full,
        "--qlora": not (config.lora.qlora or config.lora.full),
    }
    return ", ".join(step for step, helps in steps.items() if helps)
