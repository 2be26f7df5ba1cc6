"""What a round is asked for, what it talks to, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from pydantic import TypeAdapter

from qwenkit.feedback.query import Query
from qwenkit.improve.check import Check
from qwenkit.improve.decide import Decision
from qwenkit.improve.measure import Measures
from qwenkit.improve.options import ImproveOptions
from qwenkit.improve.ratings import Ratings
from qwenkit.improve.win_rate import HeadToHead
from qwenkit.models.checkpoint import read_json
from qwenkit.training.data.survey import Survey

Outcome: TypeAlias = Literal["improved", "not_better", "not_enough", "ready"]
"""What came of it; `ready` is of a dry run with enough to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedAdapter:
    """An adapter of a running server.

    Args:
        version: Short hash of what it does.
        path: Where it came from, on the server's machine.
    """

    version: str
    path: Path


class Server(Protocol):
    """A running server that adapters are loaded into."""

    def served(self, name: str) -> ServedAdapter | None:
        """What it serves under a name now."""

    def load(self, name: str, path: Path) -> ServedAdapter:
        """Load an adapter under a name, in the place of what it stands for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveRequest:
    """What a round is asked for.

    Args:
        name: What the adapter is called.
        model: What the base is called: a folder, a Hub id, or the demo's name.
        checkpoint: The base: a folder of safetensors with its tokenizer.
        log: Folder of the feedback log.
        home: Folder of this adapter's rounds.
        options: The choices of the round.
        training: The training's own, as `make_config` takes them.
        query: Which answers are looked at.
        current: The adapter to compare with, wherever it is; None takes what the server has under
            the name, or else what the newest round that was better made.
    """

    name: str
    model: str
    checkpoint: Path
    log: Path
    home: Path
    options: ImproveOptions = field(default_factory=ImproveOptions)
    training: Mapping[str, Any] = field(default_factory=dict)
    query: Query = field(default_factory=Query)
    current: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRef:
    """An adapter.

    Args:
        version: Short hash of what it does.
        path: Where it is.
    """

    version: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training said.

    Args:
        n_steps: Changes of the weights.
        n_samples: Samples that were learned from.
        seconds: What the steps of its last session took.
        first_loss: Of the first line of metrics.
        last_loss: Of the last.
        choices: Every choice of the run.
    """

    n_steps: int
    n_samples: int
    seconds: float
    first_loss: float | None
    last_loss: float | None
    choices: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """How the two adapters compare on held-out judgements.

    Args:
        n_held_out: Samples that were measured on.
        n_left_out: Rows of them that could not be used.
        before: The current adapter, or the base where there is none.
        after: The new one.
        head_to_head: Their answers to the same prompts.
        decision: Whether the new one is better.
    """

    n_held_out: int
    n_left_out: int
    before: Measures
    after: Measures
    head_to_head: HeadToHead
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveReport:
    """What came of a round.

    Args:
        outcome: In a word.
        name: What the adapter is called.
        round: Its number; None where none was begun.
        folder: Of the round.
        repeated: Whether nothing was new, so that this is what the round said that came before.
        ratings: The judgements.
        check: Whether there was enough to learn from.
        current: What the new adapter was compared with; None is the base.
        adapter: The new one.
        training: What training said.
        evaluation: How the two compare.
        loaded: What the server has under the name since; None where nothing was loaded.
        picture: A picture of the comparison.
        seconds: What each step took when it was done.
        commands: What to do next.
    """

    outcome: Outcome
    name: str
    ratings: Ratings
    check: Check
    current: AdapterRef | None
    round: int | None = None
    folder: Path | None = None
    repeated: bool = False
    adapter: AdapterRef | None = None
    training: Trained | None = None
    evaluation: Evaluated | None = None
    loaded: ServedAdapter | None = None
    picture: Path | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a round would learn from, and what it would take.

    Args:
        outcome: Whether there is enough.
        name: What the adapter would be called.
        ratings: The judgements.
        check: Whether they are enough, and what is missing.
        current: What the new adapter would be compared with; None is the base.
        survey: Of the training: data, memory and time; None where there is too little.
    """

    outcome: Outcome
    name: str
    ratings: Ratings
    check: Check
    current: AdapterRef | None
    survey: Survey | None


def read_report(path: Path) -> ImproveReport:
    """A report as a round's folder has it.

    Raises:
        ModelCorrupt: The file is damaged.
    """
    return TypeAdapter(ImproveReport).validate_python(read_json(path))
