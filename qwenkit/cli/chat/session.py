"""A conversation: its turns, its options, and how it is kept in a file. Pure but for `save`."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qwenkit.chat.messages import check_text
from qwenkit.cli.chat.answer import Answer
from qwenkit.errors import UsageError

STOPPED = "(stopped here)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """How answers are generated; None leaves it to the model or the server.

    Args:
        thinking: Whether the model thinks before it answers.
        temperature: 0 always takes the likeliest token.
        top_p: Nucleus sampling.
        max_tokens: Most tokens of an answer.
        seed: Makes the draws repeatable.
    """

    thinking: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    def as_request(self) -> dict[str, Any]:
        """The options that are set, as fields of a request to an OpenAI-compatible server."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        thinking = given.pop("thinking", None)
        if thinking is not None:
            given["chat_template_kwargs"] = {"enable_thinking": thinking}
        return given


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what came of it.

    Args:
        question: As the reader typed it.
        answer: What the model said last.
        rounds: Before that, what it called and what came of it, as messages in OpenAI's form.
    """

    question: str
    answer: Answer
    rounds: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class Session:
    """A conversation that grows turn by turn.

    Args:
        system: What the model is told before everything else.
        options: How answers are generated.
        turns: Finished turns, oldest first.
        saved: The file it was saved to, which may be written again.
        thread_id: Tells it from other conversations in the log.
    """

    system: str = ""
    options: AnswerOptions = field(default_factory=AnswerOptions)
    turns: list[Turn] = field(default_factory=list)
    saved: Path | None = None
    thread_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def clear(self) -> None:
        """Begin another conversation; the system message and the options stay."""
        self.turns.clear()
        self.saved = None
        self.thread_id = str(uuid.uuid4())

    def ask(self, question: str) -> list[dict[str, Any]]:
        """The messages that put a question after what was said so far.

        Raises:
            InvalidMessages: The question holds something that is no text.
        """
        check_text(question, "the message")
        return [*self.messages(), {"role": "user", "content": question}]

    def messages(self) -> list[dict[str, Any]]:
        """The conversation in OpenAI's form. Past reasoning is left out, as Qwen3 wants it."""
        messages: list[dict[str, Any]] = []
        if self.system:
            messages.append({"role": "system", "content": self.system})
        for turn in self.turns:
            messages += [{"role": "user", "content": turn.question}, *turn.rounds]
            if turn.answer.text:
                messages.append({"role": "assistant", "content": turn.answer.text})
        return messages

    def save(self, path: Path, *, model: str) -> None:
        """Write the conversation to a file: JSON for `.json`, else Markdown.

        Raises:
            UsageError: The file exists and is not this conversation's, or can't be written.
        """
        text = self.as_json(model) if path.suffix == ".json" else self.as_markdown(model)
        try:
            with path.open("w" if path == self.saved else "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as exc:
            raise UsageError(f"`{path}` exists already", hint="/save under another name") from exc
        except OSError as exc:
            raise UsageError(f"`{path}` can't be written: {exc.strerror}") from exc
        self.saved = path

    def as_json(self, model: str) -> str:
        """The conversation as a JSON document."""
        turns = [{"question": turn.question, **turn_as_json(turn, model)} for turn in self.turns]
        document = {"model": model, "system": self.system or None, "turns": turns}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def as_markdown(self, model: str) -> str:
        """The conversation as a Markdown document."""
        parts = [f"# A conversation with {model}"]
        if self.system:
            parts.append(f"**System:** {self.system}")
        for turn in self.turns:
            parts.append(f"## {_heading(turn.question)}")
            parts += [f"```\n{_told(message)}\n```" for message in turn.rounds]
            parts += _markdown_answer(turn.answer)
        return "\n\n".join(parts) + "\n"


def turn_as_json(turn: Turn, model: str) -> dict[str, Any]:
    """What came of a question, as plain values."""
    rounds = {"rounds": list(turn.rounds)} if turn.rounds else {}
    return turn.answer.as_json(model) | rounds


def _told(message: dict[str, Any]) -> str:
    """A message of a round of calls in plain words."""
    if message["role"] == "tool":
        return f"{message['name']}: {message['content']}"
    calls = (each["function"] for each in message["tool_calls"])
    return "\n".join(f"→ {each['name']} {each['arguments']}" for each in calls)


def _heading(question: str) -> str:
    first, *rest = question.split("\n")
    return "\n\n".join([first, "\n".join(rest)]) if rest else first


def _markdown_answer(answer: Answer) -> list[str]:
    parts = []
    if answer.reasoning.strip():
        quoted = answer.reasoning.strip().replace("\n", "\n> ")
        parts.append(f"> {quoted}")
    if answer.text.strip():
        parts.append(answer.text.strip())
    parts += [f"`{call.name}({call.arguments})`" for call in answer.calls]
    return parts if answer.complete else [*parts, f"*{STOPPED}*"]
