"""What an answer may look like, as a grammar: tool calls, JSON, or both. Knows no prompts.

Every grammar begins where the thinking has ended, so it allows the blank line that follows there.
Tool calls are written exactly as the template writes them into the history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qwenkit.chat.hermes import CLOSE, OPEN
from qwenkit.chat.messages import JsonValue, Tool
from qwenkit.engine.grammar import compiles, json_rule, lark
from qwenkit.engine.request import Grammar
from qwenkit.errors import InvalidGrammar, InvalidRequest


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The one tool that must be called."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class JsonObject:
    """The answer is a JSON object."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is JSON that fits a schema.

    Args:
        schema: The JSON schema.
        strict: Refuse schemas with keywords that can't be enforced; otherwise those are ignored.
    """

    schema: Mapping[str, JsonValue] | bool
    strict: bool = True


ResponseFormat = JsonObject | JsonSchema | Grammar | None
"""None is free text; a grammar of the caller's own constrains the text and excludes tool calls."""

_SCHEMA_PARAM = "response_format.json_schema.schema"
_GRAMMAR_PARAM = "grammar"


def answer_grammar(
    *,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = "auto",
    parallel: bool = True,
    response_format: ResponseFormat = None,
    call_token: int | None = None,
) -> Grammar | None:
    """The grammar of an answer; None when any text will do.

    Args:
        tools: Tools on offer.
        choice: Which may or must be called.
        parallel: Whether several calls may follow each other.
        response_format: What the text must be. A call that must be made comes before it.
        call_token: Id of `<tool_call>`, None when the vocabulary spells it out.

    Raises:
        InvalidRequest: The choice asks for a tool that isn't offered.
        InvalidGrammar: A schema is no JSON.
    """
    offered = callable_tools(tools, choice)
    if isinstance(choice, NamedTool) or choice == "required":
        return lark(_calls_only(offered, parallel, call_token))
    if isinstance(response_format, Grammar):
        return _after_thinking(response_format)
    if response_format is not None:
        return lark(_json_or_calls(response_format, offered, parallel, call_token))
    if offered and call_token is not None:
        return lark("start: call\n" + _call_rules(offered, call_token), call_token)
    return None


def callable_tools(tools: Sequence[Tool], choice: ToolChoice) -> Sequence[Tool]:
    """The tools that a choice lets the model call.

    Raises:
        InvalidRequest: The choice asks for a tool that isn't offered.
    """
    if choice == "none":
        return ()
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.name == choice.name]
        if not tools:
            raise InvalidRequest(f"no tool is named {choice.name!r}", param="tool_choice")
    elif choice == "required" and not tools:
        raise InvalidRequest("a tool call is required and no tool is offered", param="tool_choice")
    return tools


def can_be_held_to(parameters: Mapping[str, JsonValue]) -> bool:
    """Whether calls can be held to a schema of arguments; without that no answer can offer it."""
    try:
        return compiles(lark(f"start: {_arguments(Tool('', parameters, {}))}\n"))
    except InvalidGrammar:
        return False


def blame(
    error: InvalidGrammar,
    validate: Callable[[Grammar], None],
    *,
    tools: Sequence[Tool],
    response_format: ResponseFormat,
) -> InvalidGrammar:
    """The error, with the part of the request in `param` whose grammar doesn't compile."""
    for param, grammar in _parts(tools, response_format):
        try:
            validate(grammar)
        except InvalidGrammar as exc:
            return InvalidGrammar(exc.message, param=param, hint=exc.hint)
    return error


def _parts(tools: Sequence[Tool], response_format: ResponseFormat) -> Iterator[tuple[str, Grammar]]:
    for i, tool in enumerate(tools):
        yield f"tools[{i}].function.parameters", lark(f"start: {_arguments(tool)}\n")
    if isinstance(response_format, Grammar):
        yield _GRAMMAR_PARAM, response_format
    elif response_format is not None:
        yield _SCHEMA_PARAM, lark(f"start: {_json(response_format)}\n")


def _calls_only(tools: Sequence[Tool], parallel: bool, call_token: int | None) -> str:
    return f"start: LEAD? {_several(parallel)}\n" + _LEAD + _call_rules(tools, call_token)


def _json_or_calls(
    response_format: JsonObject | JsonSchema,
    tools: Sequence[Tool],
    parallel: bool,
    call_token: int | None,
) -> str:
    value = f"value: {_json(response_format)}\n"
    if not tools:
        return f"start: LEAD? value\n{_LEAD}{value}"
    answer = f"start: LEAD? (value | {_several(parallel)})\n"
    return answer + _LEAD + value + _call_rules(tools, call_token)


_LEAD = "LEAD: /\\n{1,2}/\n"
_START = re.compile(r"^start\s*:", re.MULTILINE)


def _after_thinking(grammar: Grammar) -> Grammar:
    """The caller's own grammar, which knows nothing of the blank line behind the thinking."""
    return lark(_START.sub("start: LEAD? answer\nanswer:", grammar.lark, count=1) + "\n" + _LEAD)


def _several(parallel: bool) -> str:
    return 'call ("\\n" call)*' if parallel else "call"


def _call_rules(tools: Sequence[Tool], call_token: int | None) -> str:
    opening, closing = (OPEN, CLOSE) if call_token is not None else (f'"{OPEN}"', f'"{CLOSE}"')
    names = " | ".join(f"call_{i}" for i in range(len(tools)))
    rules = [f"call: {opening} ({names}) {closing}\n"]
    for i, tool in enumerate(tools):
        head = f'\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
        rules.append(f'call_{i}: {json.dumps(head, ensure_ascii=False)} arguments_{i} "}}\\n"\n')
        rules.append(f"arguments_{i}: {_arguments(tool)}\n")
    return "".join(rules)


def _arguments(tool: Tool) -> str:
    schema = {"type": "object", **tool.parameters}
    # As Python's `json.dumps` and so the template spaces it.
    return json_rule(schema, compact=True, lenient=not tool.strict)


def _json(response_format: JsonObject | JsonSchema) -> str:
    if isinstance(response_format, JsonObject):
        return json_rule({"type": "object"})
    return json_rule(response_format.schema, lenient=not response_format.strict)
