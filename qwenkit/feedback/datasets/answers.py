"""The different answers to one prompt: what each says, and why it could not be a row. Pure.

Answers that say the same, but for white space around it and the ids of calls, are one: their
ratings count together, and none is set against the other. An edited answer is one more; where an
edit leaves the reasoning out, the original's stays, and an empty one takes it away.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from qwenkit.chat.messages import Message, parse_messages
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.datasets.votes import Votes, age, count_votes
from qwenkit.feedback.query import PromptGroup, RatedAnswer
from qwenkit.feedback.records import AnswerText, Edit, Interaction, Rating

NO_CONTENT = "the log has no content of it"
RAW = "raw text, and the export is of conversations"
CHAT = "a conversation, and the export is of raw text"
CANCELLED = "cancelled before its end"
CUT_OFF = "cut off by a limit"
EMPTY = "an answer without text"
CONTINUED = "its prompt ends in an assistant's message"
UNREADABLE = "a conversation that no template renders"
REASONING = "reasoning where thinking was off"
VARIABLES = "template variables that no table can hold"

_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@dataclass(slots=True)
class Candidate:
    """Something that was said, or could have been, in answer to a prompt.

    Args:
        key: Short hash of what it says; sorts the answers to a prompt.
        text: What it says; None where the log has no content.
        origin: The answer whose conversation stands before it.
        ids: The answers that say so; empty where only an edit does.
        flaw: Why it can be no row; empty when it can.
    """

    key: bytes
    text: AnswerText | None
    origin: Interaction
    ids: list[str] = field(default_factory=list)
    flaw: str = ""

    @property
    def name(self) -> str:
        """The id of the answer that it comes from; of an edit, that of the answer that it mends."""
        return self.origin.id if self.origin.id in self.ids else f"{self.origin.id}#edited"


@dataclass(frozen=True, slots=True)
class Answers:
    """The different answers to one prompt, numbered by their keys, and what people think of them.

    Args:
        candidates: In order.
        votes: By their numbers.
        n_judged: Answers of the log that are judged, or say the same as one that is.
    """

    candidates: tuple[Candidate, ...]
    votes: Votes
    n_judged: int


def gather(group: PromptGroup, options: ExportOptions) -> Answers:
    """Bring the answers to one prompt together with what was said of them."""
    rated = [_by_rater(each, options.filters.rater) for each in group.answers]
    found: dict[bytes, Candidate] = {}
    keys = {each.interaction.id: _add(found, each.interaction, options) for each in rated}
    edits = [
        (_add_edit(found, each.interaction, edit, options), keys[each.interaction.id], rating)
        for each in rated
        for rating, edit in _edits(each)
    ]
    order = {key: number for number, key in enumerate(sorted(found))}
    votes = count_votes(
        ((order[keys[each.interaction.id]], rating) for each in rated for rating in each.ratings),
        {name: order[key] for name, key in keys.items()},
        ((order[edited], order[original], rating) for edited, original, rating in edits),
    )
    judged = votes.judged
    return Answers(
        tuple(found[key] for key in order),
        votes,
        sum(order[key] in judged for key in keys.values()),
    )


def conversation(candidate: Candidate, options: ExportOptions) -> list[dict[str, Any]]:
    """The messages before an answer, in the form that rows have.

    Raises:
        InvalidMessages: It is no conversation.
    """
    messages = parse_messages(candidate.origin.messages or ())
    return [_message(each, options) for each in messages]


def answer_message(text: AnswerText, options: ExportOptions) -> dict[str, Any]:
    """An answer as an assistant's message."""
    message: dict[str, Any] = {"role": "assistant", "content": text.content}
    if options.thinking == "keep" and text.reasoning_content:
        message["reasoning_content"] = text.reasoning_content
    if text.tool_calls:
        message["tool_calls"] = [
            _call(each.id, each.name, each.arguments) for each in text.tool_calls
        ]
    return message


def digest(value: object) -> bytes:
    """Short hash of a JSON value."""
    text = _CANONICAL.encode(value)
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16]


def _by_rater(rated: RatedAnswer, rater: str | None) -> RatedAnswer:
    if rater is None:
        return rated
    mine = tuple(each for each in rated.ratings if each.rater == rater)
    return RatedAnswer(rated.interaction, mine)


def _edits(rated: RatedAnswer) -> list[tuple[Rating, Edit]]:
    """Each rater's newest edit of an answer."""
    if rated.interaction.answer is None:
        return []
    newest: dict[str, tuple[Rating, Edit]] = {}
    for rating in sorted(rated.ratings, key=age):
        if rating.edited is not None:
            newest[rating.rater] = rating, rating.edited
    return list(newest.values())


def _add(found: dict[bytes, Candidate], interaction: Interaction, options: ExportOptions) -> bytes:
    """Count an answer among those that say the same; gives their key."""
    text = interaction.answer
    flaw = _unfinished(interaction, options) or _flaw(interaction, text, options)
    key = digest(interaction.id if text is None else _says(text, options))
    candidate = _merge(found, Candidate(key, text, interaction, flaw=flaw))
    candidate.ids.append(interaction.id)
    return candidate.key


def _add_edit(
    found: dict[bytes, Candidate], interaction: Interaction, edit: Edit, options: ExportOptions
) -> bytes:
    text = _edited(interaction, edit)
    key = digest(_says(text, options))
    old = found.get(key)
    if old is None or interaction.id not in old.ids:  # an edit that changes nothing mends nothing
        _merge(found, Candidate(key, text, interaction, flaw=_flaw(interaction, text, options)))
    return key


def _merge(found: dict[bytes, Candidate], new: Candidate) -> Candidate:
    """The candidate that says the same, with the better of both as its origin."""
    old = found.setdefault(new.key, new)
    if _preferred(new) < _preferred(old):
        old.text, old.origin, old.flaw = new.text, new.origin, new.flaw
    return old


def _preferred(candidate: Candidate) -> tuple[bool, str, str, str]:
    origin = candidate.origin
    return bool(candidate.flaw), origin.created_at, origin.id, candidate.flaw


def _flaw(interaction: Interaction, text: AnswerText | None, options: ExportOptions) -> str:
    if text is None:
        return NO_CONTENT
    return _flaw_of_prompt(interaction, options) or _flaw_of_answer(interaction, text, options)


def _flaw_of_prompt(interaction: Interaction, options: ExportOptions) -> str:
    if interaction.messages is None:
        if interaction.prompt is None:
            return NO_CONTENT
        return "" if options.prompts == "raw" else RAW
    if options.prompts == "raw":
        return CHAT
    if interaction.messages and interaction.messages[-1].get("role") == "assistant":
        return CONTINUED
    variables = (interaction.options.template_kwargs or {}).values()
    return (
        "" if all(isinstance(each, bool | int | float | str) for each in variables) else VARIABLES
    )


def _flaw_of_answer(interaction: Interaction, text: AnswerText, options: ExportOptions) -> str:
    if not text.content.strip() and not text.tool_calls:
        return EMPTY
    off = interaction.options.enable_thinking is False
    return REASONING if off and options.thinking == "keep" and text.reasoning_content else ""


def _unfinished(interaction: Interaction, options: ExportOptions) -> str:
    if options.unfinished:
        return ""
    return {"cancelled": CANCELLED, "length": CUT_OFF}.get(interaction.finish_reason, "")


def _says(text: AnswerText, options: ExportOptions) -> list[Any]:
    """What tells answers apart."""
    reasoning = text.reasoning_content if options.thinking == "keep" else None
    calls = [[each.name, _parsed(each.arguments)] for each in text.tool_calls]
    return [text.content.strip(), (reasoning or "").strip(), calls]


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _edited(interaction: Interaction, edit: Edit) -> AnswerText:
    reasoning = edit.reasoning_content
    if reasoning is None and interaction.answer is not None:
        reasoning = interaction.answer.reasoning_content
    return AnswerText(content=edit.content, reasoning_content=reasoning)


def _message(message: Message, options: ExportOptions) -> dict[str, Any]:
    value: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.reasoning and options.thinking == "keep":
        value["reasoning_content"] = message.reasoning
    if message.tool_calls:
        value["tool_calls"] = [
            _call(each.id, each.name, _json_text(each.arguments)) for each in message.tool_calls
        ]
    optional = {"tool_call_id": message.tool_call_id, "name": message.name}
    return {**value, **{name: each for name, each in optional.items() if each is not None}}


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _json_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
