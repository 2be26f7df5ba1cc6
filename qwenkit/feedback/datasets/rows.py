"""Rows of each format, as `qwenkit finetune` and TRL read them. Knows no rules and no files.

    dpo, reward   prompt, chosen, rejected
    kto           prompt, completion, label
    sft           prompt, completion
    ppo           query, response, reward; and for itself, once each, the prompt alone
    trlx          sample (the prompt's text and the answer's), reward

A conversation's parts are lists of messages; beside them stand `tools` as JSON text, since tables
have no type for JSON schemas, and `chat_template_kwargs`. Raw text comes as strings, and alone.
Every row ends with where it comes from: `origin`, `answers` and `ratings` by their ids, and
`prompt_hash`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from qwenkit.chat.template import ChatTemplate
from qwenkit.feedback.datasets.answers import Candidate, answer_message, conversation
from qwenkit.feedback.datasets.options import ExportOptions, Split
from qwenkit.feedback.datasets.texts import sample_texts
from qwenkit.feedback.records import AnswerText, Interaction


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data set.

    Args:
        split: The part of the data that it belongs to.
        origin: The kind of judgement that it comes from.
        data: Its fields, all of JSON's types.
    """

    split: Split
    origin: str
    data: Mapping[str, Any]

    def line(self) -> str:
        """Its fields as a line of JSON, without the newline."""
        return json_line(self.data)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row comes from.

    Args:
        origin: The kind of judgement.
        answers: Ids of the answers in it.
        ratings: Ids of the judgements.
    """

    origin: str
    answers: tuple[str, ...]
    ratings: tuple[str, ...]

    def columns(self, prompt_hash: str) -> dict[str, Any]:
        """The columns that say so."""
        return {
            "origin": self.origin,
            "answers": list(self.answers),
            "ratings": list(self.ratings),
            "prompt_hash": prompt_hash,
        }


def json_line(value: Mapping[str, Any]) -> str:
    """An object as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def given(candidate: Candidate, options: ExportOptions, name: str = "prompt") -> dict[str, Any]:
    """What stands before an answer: the prompt under a name, and what it is rendered with.

    Raises:
        InvalidMessages: It is no conversation.
    """
    origin = candidate.origin
    if options.prompts == "raw":
        return {name: origin.prompt}
    return {
        name: conversation(candidate, options),
        "tools": json.dumps(list(origin.tools), ensure_ascii=False, separators=(",", ":")),
        "chat_template_kwargs": _variables(origin, options),
    }


def answered(candidate: Candidate, options: ExportOptions) -> str | list[dict[str, Any]]:
    """An answer as rows have it."""
    text = candidate.text or AnswerText(content="")
    if options.prompts == "raw":
        return text.content
    return [answer_message(text, options)]


def sampled(candidate: Candidate, options: ExportOptions) -> tuple[str, str] | str:
    """The prompt's and the answer's plain text, or the reason why there are none.

    Raises:
        InvalidMessages: The template refuses the conversation.
    """
    text = candidate.text or AnswerText(content="")
    if options.prompts == "raw":
        return candidate.origin.prompt or "", text.content
    return sample_texts(
        options.template or _qwen3(),
        candidate.origin,
        conversation(candidate, replace(options, thinking="keep")),
        answer_message(text, options),
        _variables(candidate.origin, options),
    )


def _variables(origin: Interaction, options: ExportOptions) -> dict[str, Any]:
    """What the template is told.

    Where reasoning is stripped, thinking that was on is left to the trainer: an answer without its
    reasoning is no answer to a prompt that asks for it.
    """
    switch = origin.options.enable_thinking
    variables = dict(origin.options.template_kwargs or {})
    if switch is False or (switch and options.thinking == "keep"):
        variables["enable_thinking"] = switch
    return variables


@cache
def _qwen3() -> ChatTemplate:
    return ChatTemplate(None, control_tokens=())
