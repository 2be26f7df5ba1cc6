"""Takes out of records what must not be kept: by built-in patterns, and by those of a file.

All text is covered: messages, tools' definitions, arguments and results, answers, comments, edits.
Who rated and who asked is no text but a name: one that matches is replaced as a whole, by
something that still tells two people apart. Ids and hashes stay.

The built-in patterns can't run away: every repeat in them is bounded. Those of a file run in RE2,
whose time grows with the text's length only, and which refuses what would make it otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from qwenkit.errors import InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.feedback.patterns import BUILT_IN
from qwenkit.feedback.records import (
    AnswerText,
    Call,
    Edit,
    Interaction,
    JsonValue,
    Rating,
    Record,
    RequestOptions,
    ToolRun,
)

Rewrite: TypeAlias = Callable[[str], str]
REPLACEMENT = "[redacted]"


@dataclass(frozen=True, slots=True)
class Redactor:
    """Replaces what matches, in all text of a record.

    Args:
        rewrites: Each replaces the matches of one pattern; in this order.
    """

    rewrites: tuple[Rewrite, ...] = ()

    def __call__(self, record: Record) -> Record:
        """A record without what matches."""
        if not self.rewrites:
            return record
        match record:
            case Interaction():
                return self._interaction(record)
            case Rating():
                return self._rating(record)
            case ToolRun():
                return self._tool_run(record)

    def text(self, text: str) -> str:
        """A text without what matches."""
        for rewrite in self.rewrites:
            text = rewrite(text)
        return text

    def name(self, name: str) -> str:
        """A person's name, or what stands for it where it matches; the same for the same name."""
        if self.text(name) == name:
            return name
        return (
            f"person-{hashlib.blake2b(name.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"
        )

    def _interaction(self, record: Interaction) -> Interaction:
        return replace(
            record,
            user=self._maybe(self.name, record.user),
            messages=self._maybe(self._value, record.messages),
            prompt=self._maybe(self.text, record.prompt),
            tools=self._value(record.tools),
            options=self._options(record.options),
            answer=self._maybe(self._answer, record.answer),
        )

    def _rating(self, record: Rating) -> Rating:
        return replace(
            record,
            rater=self.name(record.rater),
            comment=self._maybe(self.text, record.comment),
            edited=self._maybe(self._edit, record.edited),
        )

    def _tool_run(self, record: ToolRun) -> ToolRun:
        return replace(
            record,
            arguments=self._maybe(self._json_text, record.arguments),
            result=self._maybe(self._json_text, record.result),
        )

    def _options(self, options: RequestOptions) -> RequestOptions:
        return replace(
            options,
            tool_choice=self._value(options.tool_choice),
            response_format=self._value(options.response_format),
            template_kwargs=self._value(options.template_kwargs),
            stop=self._value(options.stop),
        )

    def _answer(self, answer: AnswerText) -> AnswerText:
        return replace(
            answer,
            content=self._json_text(answer.content),
            reasoning_content=self._maybe(self.text, answer.reasoning_content),
            tool_calls=tuple(map(self._call, answer.tool_calls)),
        )

    def _call(self, call: Call) -> Call:
        return replace(call, arguments=self._json_text(call.arguments))

    def _edit(self, edit: Edit) -> Edit:
        return replace(
            edit,
            content=self._json_text(edit.content),
            reasoning_content=self._maybe(self.text, edit.reasoning_content),
        )

    def _maybe(self, rewrite: Callable[[Any], Any], value: Any) -> Any:
        return None if value is None else rewrite(value)

    def _value(self, value: JsonValue) -> JsonValue:
        """A JSON value without what matches, in its keys as well."""
        if isinstance(value, str):
            return self._json_text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self._member(key, item) for key, item in value.items()}
        if isinstance(value, Sequence):
            items = map(self._value, value)
            return tuple(items) if isinstance(value, tuple) else list(items)
        return self._number(value)

    def _member(self, key: str, item: JsonValue) -> JsonValue:
        """A value in the light of its name, which tells that `hunter2` is a password."""
        value = self._value(item)
        if isinstance(value, bool) or not isinstance(value, str | int) or _may_be_json(str(value)):
            return value
        named, left = f"{key}: ", str(value)
        told = self.text(named + left)
        if told == named + left or not told.startswith(named):
            return value
        return told.removeprefix(named)

    def _number(self, value: JsonValue) -> JsonValue:
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        text = str(value)
        return value if self.text(text) == text else self.text(text)

    def _json_text(self, text: str) -> str:
        """A text without what matches; one that is JSON is looked at as what it says.

        In the text itself a `\\n` would hide the word behind it, and a `\\u0040` an address.
        """
        if not _may_be_json(text):
            return self.text(text)
        try:
            value = json.loads(text)
            redacted = self._value(value)
        except (ValueError, RecursionError):
            return self.text(text)
        # Of a name that comes twice only the last value is read: the first is told by the text.
        if redacted == value and self.text(text) == text:
            return text
        return json.dumps(redacted, ensure_ascii=False)


def _may_be_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))


def redactor(names: Iterable[str] = (), *, file: Path | None = None) -> Redactor:
    """A redactor of built-in patterns, and of a file with one regular expression a line.

    Empty lines and lines that begin with # are left out.

    Raises:
        InvalidSettings: There is no such pattern, or the file has one that can't be used.
        MissingExtra: There is a file, and RE2 is not installed.
    """
    wanted = set(names)
    unknown = sorted(wanted - set(BUILT_IN))
    if unknown:
        raise InvalidSettings(
            f"LOG_REDACT has no pattern {unknown[0]!r}", hint=f"it has {', '.join(BUILT_IN)}"
        )
    own = () if file is None else tuple(_read(file))
    return Redactor((*(rewrite for name, rewrite in BUILT_IN.items() if name in wanted), *own))


def _read(file: Path) -> Iterable[Rewrite]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSettings(f"LOG_REDACT_FILE `{file}` can't be read: {exc}") from exc
    for number, line in enumerate(lines, start=1):
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            yield _compiled(pattern, f"line {number} of `{file}`")


def _compiled(pattern: str, place: str) -> Rewrite:
    re2 = import_extra("re2", extra="redact")
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as exc:
        raise InvalidSettings(
            f"{place} is no regular expression that RE2 takes: {_said(exc)}",
            hint="RE2 has no look-around and no back-references; "
            "see https://github.com/google/re2/wiki/Syntax",
        ) from exc
    if compiled.search("") is not None:
        raise InvalidSettings(
            f"{place} matches the empty text", hint="let it match what must not be kept"
        )
    return lambda text: compiled.sub(REPLACEMENT, text)


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
