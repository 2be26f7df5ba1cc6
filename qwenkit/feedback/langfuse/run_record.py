"""What Langfuse is told of a run of a dataset: traces that belong to it, and what they are worth.

Langfuse 4 tells the answers of a run by attributes of their observations; its SDK's experiments set
the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, TypeAlias

from qwenkit.errors import QwenkitError
from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.client import LangfuseClient, Refused
from qwenkit.feedback.langfuse.observations import (
    ENVIRONMENT,
    TRACE_NAME,
    Attribute,
    Labels,
    Observation,
    as_value,
    observe_answer,
    observe_text,
)
from qwenkit.feedback.langfuse.scores import DataType, Score
from qwenkit.feedback.records import Interaction, now

Json: TypeAlias = Mapping[str, Any]

EXPERIMENT_ENVIRONMENT = "sdk-experiment"
"""Keeps runs of datasets apart from what people asked; Langfuse's SDK has the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a dataset.

    Args:
        dataset: The dataset's name.
        name: The run's own.
        model: The model's name.
        description: What is tried.
    """

    dataset: str
    name: str
    model: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer is worth beside the expected one.

    Args:
        similarity: How much of both is the same, 0 to 1; None where none is expected.
        is_exact: Whether all is.
        refused: Scores of it that Langfuse did not take.
    """

    similarity: float | None = None
    is_exact: bool = False
    refused: tuple[Refused, ...] = ()


class RunRecord:
    """Tells Langfuse of the answers of one run. May be shared by threads.

    Args:
        client: The project.
        run: The run.
        labels: What every observation carries.
        dataset_id: The dataset's id in Langfuse.
    """

    def __init__(self, client: LangfuseClient, run: Run, labels: Labels, dataset_id: str) -> None:
        self._client = client
        self._run = run
        self._labels = labels
        self._dataset_id = dataset_id

    def answer(self, item: Json, answer: Interaction, began_ns: int) -> Verdict:
        """Send an answer to an item, and what it is worth."""
        trace_id, root_id = ids.trace_id(answer), ids.root_observation_id(answer.id)
        labels = self._linked(item, trace_id, root_id)
        said = answer.answer.content if answer.answer is not None else ""
        root = self._root(item, trace_id, root_id, labels, began_ns, said)
        generation = observe_answer(answer, labels)
        named = {**generation.attributes, TRACE_NAME: root.name}
        generation = replace(generation, parent_id=root.id, attributes=named)
        self._client.send_observations([root, generation])
        expected = text_of(item.get("expectedOutput"))
        if expected is None:
            return Verdict()
        return self._judge(trace_id, root_id, said.strip(), expected)

    def failure(self, item: Json, answer_id: str, failure: QwenkitError, began_ns: int) -> None:
        """Send that there is no answer, and why."""
        trace_id, root_id = ids.request_trace_id(answer_id), ids.root_observation_id(answer_id)
        labels = self._linked(item, trace_id, root_id)
        root = self._root(item, trace_id, root_id, labels, began_ns, None, failure)
        self._client.send_observations([root])

    def _judge(self, trace_id: str, root_id: str, said: str, expected: str) -> Verdict:
        alike, is_exact = similarity(said, expected), said == expected

        def score(name: str, value: float, data_type: DataType) -> Score:
            return Score(
                id=f"run-{trace_id}-{name}",
                trace_id=trace_id,
                observation_id=root_id,
                name=name,
                data_type=data_type,
                value=value,
                created_at=now(),
                comment=None,
                metadata={"run": self._run.name},
                environment=EXPERIMENT_ENVIRONMENT,
            )

        refused = self._client.send_scores(
            [
                score("similarity", round(alike, 4), "NUMERIC"),
                score("exact_match", int(is_exact), "BOOLEAN"),
            ]
        )
        return Verdict(alike, is_exact, tuple(refused))

    def _root(
        self,
        item: Json,
        trace_id: str,
        root_id: str,
        labels: Labels,
        began_ns: int,
        said: str | None,
        failure: QwenkitError | None = None,
    ) -> Observation:
        return observe_text(
            trace_id=trace_id,
            id=root_id,
            name="dataset run",
            start_ns=began_ns,
            end_ns=time.time_ns(),
            given=item.get("input"),
            said=said,
            labels=labels,
            about={
                "dataset": self._run.dataset,
                "dataset_item_id": str(item["id"]),
                "run": self._run.name,
                "model": self._run.model,
            },
            level=None if failure is None else "ERROR",
            status=None if failure is None else failure.message,
        )

    def _linked(self, item: Json, trace_id: str, root_id: str) -> Labels:
        """Make an answer part of the run; returns what its observations carry for that."""
        link = {
            "runName": self._run.name,
            "runDescription": self._run.description,
            "metadata": {"model": self._run.model},
            "datasetItemId": item["id"],
            "traceId": trace_id,
            "observationId": root_id,
        }
        run_id = self._client.link_run(
            {name: value for name, value in link.items() if value is not None}
        )
        expected = item.get("expectedOutput")
        attributes: dict[str, Attribute | None] = {
            ENVIRONMENT: EXPERIMENT_ENVIRONMENT,
            "langfuse.experiment.id": run_id,
            "langfuse.experiment.name": self._run.name,
            "langfuse.experiment.description": self._run.description,
            "langfuse.experiment.metadata": as_value({"model": self._run.model}),
            "langfuse.experiment.dataset.id": self._dataset_id,
            "langfuse.experiment.item.id": str(item["id"]),
            "langfuse.experiment.item.root_observation_id": root_id,
            "langfuse.experiment.item.expected_output": (
                None if expected is None else as_value(expected)
            ),
        }
        present = {name: value for name, value in attributes.items() if value is not None}
        return replace(self._labels, extra={**self._labels.extra, **present})


def text_of(expected: Any) -> str | None:
    """The text of an expected answer: a text, a message, or messages whose last one counts."""
    match expected:
        case str():
            return expected.strip() or None
        case {"content": str() as content}:
            return content.strip() or None
        case [*_, last]:
            return text_of(last)
    return None


def similarity(one: str, other: str) -> float:
    """How much of two texts is the same, word by word: 0 to 1."""
    return SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()
