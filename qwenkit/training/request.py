"""What a run is asked for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwenkit.training.evaluate import Evaluation, Verdict
from qwenkit.training.finish import Finished
from qwenkit.training.qat_run import QatOutcome
from qwenkit.training.run_config import RunConfig
from qwenkit.training.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRequest:
    """What to train.

    Args:
        config: All choices.
        checkpoint: The base: a folder of safetensors with its tokenizer.
        resume: Go on with the run that is in the output folder.
    """

    config: RunConfig
    checkpoint: Path
    resume: bool = False

    @property
    def again(self) -> str:
        """The command that goes on with the run."""
        return RunFolder(self.config.run.output).again


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneReport:
    """What came of a run.

    Args:
        output: The run's folder.
        n_steps: Changes of the weights.
        n_samples: Samples that were learned from.
        n_tokens: Tokens that one pass over them holds.
        seconds: What the steps of this session took.
        tokens_per_s: Tokens a second in them; None where that is not known.
        first_loss: The loss of the first line of metrics.
        last_loss: Of the last.
        before: Of the held-out data, without what was learned; None without such data.
        after: The same with it.
        verdict: Whether it became worse.
        finished: The adapters, or the model.
        qat: The quantised model, and what it is worth; None without `--qat`.
        resumed_from: Step that this session began at; None for one from the start.
    """

    output: Path
    n_steps: int
    n_samples: int
    n_tokens: int
    seconds: float
    tokens_per_s: float | None
    first_loss: float | None
    last_loss: float | None
    before: Evaluation | None
    after: Evaluation | None
    verdict: Verdict | None
    finished: Finished
    qat: QatOutcome | None
    resumed_from: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A run that was asked to stop, and did after a step.

    Args:
        output: The run's folder.
        step: Changes of the weights so far.
        n_steps: Of the whole run.
        again: The command that goes on with it.
    """

    output: Path
    step: int
    n_steps: int
    again: str
