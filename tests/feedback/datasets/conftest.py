"""A log that is written as it happens in a test, and its index."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from qwenkit.chat.messages import parse_messages, parse_tools
from qwenkit.chat.template import ChatTemplate
from qwenkit.errors import InvalidMessages
from qwenkit.feedback.datasets.export import export_dataset, iter_rows
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.datasets.report import ExportReport
from qwenkit.feedback.datasets.rows import Row
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Call,
    Comparison,
    Edit,
    Interaction,
    Rating,
    Record,
    RequestOptions,
    TokenCounts,
    encode,
    hash_prompt,
    timestamp,
)

TEMPLATE = ChatTemplate(None, control_tokens=())
BEGIN = datetime(2026, 11, 1, 9, tzinfo=UTC)


@dataclass
class Log:
    """Records in the order in which they came."""

    folder: Path
    records: list[Record] = field(default_factory=list)
    minutes: int = 0
    indexes: list[FeedbackIndex] = field(default_factory=list)

    def answer(
        self,
        content: str | None = "Yes.",
        *,
        prompt: str | list[dict[str, Any]] = "Is tea hot?",
        thread: str | None = None,
        reasoning: str | None = None,
        calls: Sequence[tuple[str, str]] = (),
        tools: Sequence[dict[str, Any]] = (),
        thinking: bool | None = None,
        variables: dict[str, Any] | None = None,
        finish: str = "stop",
        model: str = "demo",
        adapter: str | None = None,
        version: str = "1",
        raw: bool = False,
        day: int = 0,
        template_hash: str = TEMPLATE.hash,
        prompt_hash: str | None = None,
    ) -> str:
        """Say that the model answered; returns the answer's id."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        name = f"chatcmpl-{len(self.records)}"
        text = AnswerText(
            content=content or "",
            reasoning_content=reasoning,
            tool_calls=tuple(
                Call(id=f"call-{name}-{n}", name=tool, arguments=arguments)
                for n, (tool, arguments) in enumerate(calls)
            ),
        )
        rendered = str(prompt) if raw else _rendered(messages, tools, thinking, variables)
        self.records.append(
            Interaction(
                id=name,
                created_at=self._moment(day),
                source="api",
                model=model,
                prompt_hash=prompt_hash or hash_prompt(rendered),
                finish_reason=finish,  # type: ignore[arg-type]
                usage=TokenCounts(prompt=1),
                thread_id=thread,
                adapter=AdapterUsed(name=adapter, version=version) if adapter else None,
                template_hash=template_hash,
                messages=None if raw or content is None else tuple(messages),
                prompt=str(prompt) if raw else None,
                tools=tuple(tools),
                options=RequestOptions(enable_thinking=thinking, template_kwargs=variables),
                answer=None if content is None else text,
            )
        )
        return name

    def rate(
        self,
        answer: str,
        *,
        rater: str = "ann",
        thumb: str | None = None,
        scale: int | None = None,
        better_than: str | None = None,
        worse_than: str | None = None,
        tied_with: str | None = None,
        edited: str | None = None,
        edited_reasoning: str | None = None,
        retracted: bool = False,
        day: int = 0,
    ) -> str:
        """Say what somebody thinks of an answer; returns the rating's id."""
        said = {"better": better_than, "worse": worse_than, "tie": tied_with}
        compared = next(
            (
                Comparison(other_id=other, verdict=verdict)
                for verdict, other in said.items()
                if other
            ),  # type: ignore[arg-type]
            None,
        )
        edit = None if edited is None else Edit(content=edited, reasoning_content=edited_reasoning)
        name = f"rating-{len(self.records)}"
        self.records.append(
            Rating(
                id=name,
                created_at=self._moment(day),
                answer_id=answer,
                source="api",
                rater=rater,
                thumb=thumb,  # type: ignore[arg-type]
                scale=scale,
                compared=compared,
                edited=edit,
                retracted=retracted,
            )
        )
        return name

    def index(self, *, shuffled: random.Random | None = None) -> FeedbackIndex:
        """The index of all that was written, in this order or another."""
        folder = self.folder / f"log-{len(self.indexes)}"
        folder.mkdir(parents=True)
        records = list(self.records)
        if shuffled:
            shuffled.shuffle(records)
        lines = "".join(f"{encode(record)}\n" for record in records)
        (folder / "2026-11-01.jsonl").write_text(lines, encoding="utf-8")
        index = FeedbackIndex(folder)
        self.indexes.append(index)
        assert index.refresh().n_records == len(records)
        return index

    def rows(self, purpose: str, **choices: Any) -> list[Row]:
        """The rows of an export."""
        return list(iter_rows(self.index(), ExportOptions(format=purpose, **choices)))  # type: ignore[arg-type]

    def export(self, purpose: str, name: str = "out", **choices: Any) -> tuple[Path, ExportReport]:
        """An exported folder, or file."""
        out = self.folder / name
        options = ExportOptions(format=purpose, **choices)  # type: ignore[arg-type]
        return out, export_dataset(self.index(), options, out)

    def _moment(self, day: int) -> str:
        self.minutes += 1
        return timestamp(BEGIN + timedelta(days=day, minutes=self.minutes))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An empty log."""
    log = Log(tmp_path)
    yield log
    for index in log.indexes:
        index.close()


@pytest.fixture
def new_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Log]]:
    """Makes empty logs."""
    made: list[Log] = []

    def make() -> Log:
        made.append(Log(tmp_path_factory.mktemp("log")))
        return made[-1]

    yield make
    for log in made:
        for index in log.indexes:
            index.close()


def _rendered(
    messages: list[dict[str, Any]],
    tools: Sequence[dict[str, Any]],
    thinking: bool | None,
    variables: dict[str, Any] | None,
) -> str:
    try:
        return TEMPLATE.render(
            parse_messages(messages),
            tools=parse_tools(tools),
            enable_thinking=thinking is not False,
            extra=variables,
        ).text
    except InvalidMessages:
        return str(messages)
