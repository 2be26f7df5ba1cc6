"""The end of a run that learned on a grid: the model on exactly that grid, and what it is worth.

A comparison is fair with a model that was taught the same in full precision: another run's adapter,
made of the same data. Without one the base is what is quantised after training.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.models.progress import ProgressFactory
from qwenkit.quality.tokens import MIN_WINDOW
from qwenkit.training import base_model
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.finish import serve_command
from qwenkit.training.options import LoraOptions
from qwenkit.training.qat.finish import QatArtefact, finish_qat, write_full_precision
from qwenkit.training.qat.plot import write_report
from qwenkit.training.qat.report import QatReport, held_out_tokens, qat_report
from qwenkit.training.qat.scheme import find_scheme
from qwenkit.training.run_config import RunOptions
from qwenkit.training.run_folder import RunFolder

_COMPARED = ".compared-"


@dataclass(frozen=True, slots=True, kw_only=True)
class QatOutcome:
    """What came of learning on a grid.

    Args:
        artefact: The quantised model.
        report: Its perplexity beside others'; None without held-out data.
        commands: How to use it.
    """

    artefact: QatArtefact
    report: QatReport | None
    commands: tuple[str, ...]


def check_qat(run: RunOptions) -> None:
    """Refuse a grid that there is none of, and a run to compare with that left no adapter.

    Raises:
        InvalidSettings: One of them was named, or a run without any grid.
    """
    baseline = run.qat_baseline
    if run.qat is not None:
        find_scheme(run.qat)
    elif baseline is not None:
        raise InvalidSettings("qat_baseline means nothing without a grid", hint="--qat SCHEME")
    if baseline is not None and not RunFolder(baseline).adapter.is_dir():
        raise InvalidSettings(
            f"`{baseline}` holds no adapter to compare with",
            hint="name the --output of a finished LoRA run on the same data, without --qat",
        )


def check_held_out(held_out: PreparedData | None) -> None:
    """Refuse held-out data that is too little to measure on, before anything is trained.

    Raises:
        InvalidSettings: It is.
        InvalidData: It holds no answers.
    """
    if held_out is None:
        return
    n_tokens = len(held_out_tokens(held_out))
    if n_tokens < MIN_WINDOW:
        raise InvalidSettings(
            f"the held-out data has {n_tokens} tokens, and measuring a grid takes {MIN_WINDOW}",
            hint="hold more out, or leave out --eval",
        )


def finish_qat_run(
    model: Any,
    scheme: str,
    *,
    checkpoint: Path,
    folder: RunFolder,
    held_out: PreparedData | None,
    baseline: Path | None,
    progress: ProgressFactory,
) -> QatOutcome:
    """Write the model on its grid, and measure it on held-out data where there is some.

    Args:
        model: As it was trained.
        scheme: Its grid.
        checkpoint: The base.
        folder: The run's.
        held_out: What to measure on.
        baseline: A run that was taught the same in full precision.
        progress: Told the bytes written and the windows read.

    Raises:
        InvalidRequest: The held-out data doesn't fill a window.
        ModelUnsupported: Weights too large for the grid's scales.
    """
    is_gguf = find_scheme(scheme).runtime == "llama.cpp"
    target = folder.path / (f"model-{scheme}.gguf" if is_gguf else f"model-{scheme}")
    artefact = finish_qat(model, scheme, checkpoint=checkpoint, target=target, progress=progress)
    serve = serve_command(str(target))
    commands = (serve if is_gguf else f"RUNTIME_BACKEND=onnx {serve}",)
    if held_out is None:
        return QatOutcome(artefact=artefact, report=None, commands=commands)
    with _others(artefact, checkpoint, baseline, progress) as others:
        report = qat_report(
            scheme,
            held_out_tokens(held_out),
            base=others["base"],
            ptq=others["ptq"],
            qat=target,
            trained=others.get("trained"),
            progress=progress,
        )
    # The others are gone by now.
    rows = tuple(row if row.part == "qat" else replace(row, path=None) for row in report.rows)
    report = replace(report, rows=rows)
    write_report(report, folder.path)
    return QatOutcome(artefact=artefact, report=report, commands=commands)


@contextmanager
def _others(
    artefact: QatArtefact, checkpoint: Path, baseline: Path | None, progress: ProgressFactory
) -> Iterator[dict[str, Path]]:
    """The models to compare with, which are only there for the comparison."""
    suffix = ".gguf" if artefact.runtime == "llama.cpp" else ""
    for left in artefact.path.parent.glob(f"{_COMPARED}*"):
        shutil.rmtree(left)  # by a run that was killed here
    with TemporaryDirectory(dir=artefact.path.parent, prefix=_COMPARED) as temporary:
        paths = {
            name: Path(temporary, f"{name}{suffix}")
            for name in ("base", "ptq", *(["trained"] if baseline else []))
        }
        model = _load(checkpoint)

        def write(name: str) -> None:
            write_full_precision(
                model,
                artefact.runtime,
                checkpoint=checkpoint,
                target=paths[name],
                progress=progress,
            )

        write("base")
        if baseline is not None:
            peft = import_extra("peft", extra="train")
            model = peft.PeftModel.from_pretrained(model, RunFolder(baseline).adapter)
            write("trained")
        finish_qat(
            model,
            str(artefact.scheme),
            checkpoint=checkpoint,
            target=paths["ptq"],
            progress=progress,
        )
        yield paths


def _load(checkpoint: Path) -> Any:
    torch = import_extra("torch", extra="train")
    return base_model.load_base(
        checkpoint, LoraOptions(), precision="fp32", device=torch.device("cpu")
    )
