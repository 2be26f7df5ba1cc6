"""What a session has done, as a picture and as a report."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from qwenkit.training.data.samples import PreparedData
from qwenkit.training.evaluate import Evaluation, Verdict, compare
from qwenkit.training.finish import Finished
from qwenkit.training.loop import Loop
from qwenkit.training.loss_plot import plot_loss
from qwenkit.training.metrics import read_metrics
from qwenkit.training.qat_run import QatOutcome
from qwenkit.training.request import FinetuneReport, FinetuneRequest, Stopped
from qwenkit.training.run_folder import RunFolder, write_json


@dataclass(slots=True)
class Learned:
    """What a session has done.

    Args:
        loop: What happened around its steps.
        first_step: The step that it began at.
        seconds: What the steps took.
        before: Of the held-out data, before anything was learned.
        after: After the last step; None where the session stopped before.
    """

    loop: Loop
    first_step: int
    seconds: float
    before: Evaluation | None
    after: Evaluation | None = None


def draw_metrics(request: FinetuneRequest, folder: RunFolder, *, n_samples: int) -> None:
    """Draw what was measured so far."""
    records = read_metrics(folder.metrics)
    run = request.config.run
    if any("loss" in record for record in records):
        title = f"{run.method} on {run.model}, {n_samples:,} samples"
        plot_loss(records, folder.picture, title=title)


def make_report(
    request: FinetuneRequest,
    folder: RunFolder,
    learned: Learned,
    *,
    train: PreparedData,
    finished: Finished,
    qat: QatOutcome | None,
) -> FinetuneReport:
    """Say what came of a run that has come to its end, here and in its folder."""
    records = read_metrics(folder.metrics)
    losses = [record["loss"] for record in records if "loss" in record]
    n_steps = int(max((record["step"] for record in records), default=0))
    n_taken, tokens = n_steps - learned.first_step, learned.loop.tokens_per_step
    report = FinetuneReport(
        output=folder.path,
        n_steps=n_steps,
        n_samples=len(train.samples),
        n_tokens=train.n_tokens,
        seconds=learned.seconds,
        tokens_per_s=n_taken * tokens / learned.seconds if n_taken and tokens else None,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        before=learned.before,
        after=learned.after,
        verdict=_verdict(request, learned),
        finished=finished,
        qat=qat,
        resumed_from=learned.first_step or None,
    )
    write_json(folder.report, asdict(report))
    return report


def stopped(request: FinetuneRequest, learned: Learned) -> Stopped:
    """Say where a run stopped, and how it goes on."""
    return Stopped(
        output=request.config.run.output,
        step=learned.loop.step,
        n_steps=learned.loop.n_steps,
        again=request.again,
    )


def _verdict(request: FinetuneRequest, learned: Learned) -> Verdict | None:
    if learned.before is None or learned.after is None:
        return None
    return compare(learned.before, learned.after, margin=request.config.run.margin)
