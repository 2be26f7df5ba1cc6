from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from qwenkit.backends.scripted import ScriptedTokenizer
from qwenkit.chat.constraint import (
    JsonObject,
    JsonSchema,
    NamedTool,
    ResponseFormat,
    ToolChoice,
    answer_grammar,
    blame,
)
from qwenkit.chat.messages import Tool, parse_tools
from qwenkit.engine.grammar import GrammarCompiler, regex
from qwenkit.engine.request import Grammar
from qwenkit.errors import InvalidGrammar, InvalidRequest

TOKENIZER = ScriptedTokenizer()
COMPILER = GrammarCompiler(TOKENIZER)
CALL_TOKEN = TOKENIZER.token_id("<tool_call>")
END = TOKENIZER.control_tokens["<|im_end|>"]
ADD_SCHEMA = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}


def tools(*parameters: dict[str, Any] | None, strict: bool = False) -> Sequence[Tool]:
    names = ["add", 'né "w"', "third"]
    functions = (
        {"name": name, "parameters": schema, "strict": strict}
        for name, schema in zip(names, parameters, strict=False)
    )
    return parse_tools([{"type": "function", "function": function} for function in functions])


TWO = tools(ADD_SCHEMA, None)


def call(name: str = "add", arguments: str = '{"a": 1}') -> str:
    name = json.dumps(name, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'


def accepts(grammar: Grammar | None, text: str) -> bool:
    assert grammar is not None
    matcher = COMPILER.matcher(grammar)
    for token in TOKENIZER.encode(text):
        if not matcher.allows(token):
            return False
        matcher.accept(token)
    return matcher.complete or matcher.allows(END)


def grammar(
    offered: Sequence[Tool] = TWO,
    *,
    choice: ToolChoice = "auto",
    parallel: bool = True,
    response_format: ResponseFormat = None,
    call_token: int | None = CALL_TOKEN,
) -> Grammar | None:
    return answer_grammar(
        tools=offered,
        choice=choice,
        parallel=parallel,
        response_format=response_format,
        call_token=call_token,
    )


@pytest.mark.parametrize("lead", ["", "\n", "\n\n"])
def test_a_required_call_may_follow_the_thinkings_blank_line(lead: str) -> None:
    assert accepts(grammar(choice="required"), lead + call())


@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        call(arguments="{}"),
        call(arguments='{"a": "1"}'),
        call(arguments='{"a":1}'),
        call("other"),
        call() + " Done.",
        call() + "\n\n" + call(),
    ],
)
def test_a_required_call_is_nothing_else(text: str) -> None:
    assert not accepts(grammar(choice="required"), text)


def test_any_offered_tool_can_be_called() -> None:
    assert accepts(grammar(choice="required"), call('né "w"', '{"any": [1, {"x": null}]}'))


@pytest.mark.parametrize("parallel", [True, False])
def test_several_calls_follow_each_other_only_where_they_may(parallel: bool) -> None:
    several = f"{call()}\n{call()}"
    assert accepts(grammar(choice="required", parallel=parallel), several) is parallel


def test_a_named_tool_is_the_only_one() -> None:
    named = grammar(choice=NamedTool("add"))
    assert accepts(named, call())
    assert not accepts(named, call('né "w"', "{}"))


def test_auto_waits_for_the_opening_tag_and_ends_with_the_closing_one() -> None:
    waiting = grammar()
    assert waiting is not None
    assert waiting.trigger == CALL_TOKEN
    assert accepts(waiting, call())
    assert not accepts(waiting, call("other"))
    assert not accepts(waiting, f"{call()}\n")


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_without_tools_any_text_will_do(choice: ToolChoice) -> None:
    assert grammar(TWO if choice == "none" else (), choice=choice) is None


def test_a_vocabulary_without_the_tag_spells_it_out() -> None:
    assert grammar(call_token=None) is None
    spelled = grammar(choice="required", call_token=None)
    assert spelled is not None
    assert '"<tool_call>"' in spelled.lark
    COMPILER.validate(spelled)


@pytest.mark.parametrize(
    ("choice", "offered"), [(NamedTool("other"), TWO), ("required", ()), (NamedTool("add"), ())]
)
def test_a_choice_that_can_not_be_met_is_refused(
    choice: ToolChoice, offered: Sequence[Tool]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grammar(offered, choice=choice)
    assert caught.value.param == "tool_choice"


def test_a_json_object_is_any_object() -> None:
    constrained = grammar((), response_format=JsonObject())
    assert accepts(constrained, '\n\n{"a": [1, {}]}')
    assert not accepts(constrained, "[1]")
    assert not accepts(constrained, "Sure: {}")


def test_a_json_schema_is_kept_to() -> None:
    constrained = grammar((), response_format=JsonSchema({"type": "array", "items": ADD_SCHEMA}))
    assert accepts(constrained, '[{"a": 1}]')
    assert not accepts(constrained, '[{"b": 1}]')


def test_tools_on_offer_stay_callable_beside_a_schema() -> None:
    either = grammar(response_format=JsonObject())
    assert accepts(either, "\n\n" + call())
    assert accepts(either, '{"a": 1}')
    assert not accepts(either, "Hello")


def test_a_required_call_comes_before_a_schema() -> None:
    assert not accepts(grammar(choice="required", response_format=JsonObject()), "{}")


def test_a_grammar_of_the_callers_own_may_follow_the_thinking_s_blank_line() -> None:
    own = grammar(response_format=regex("[0-9]+"))
    assert accepts(own, "42")
    assert accepts(own, "\n\n42")
    assert not accepts(own, "\n\n\n42")
    assert not accepts(own, "x")


UNSUPPORTED = {"type": "object", "properties": {"a": {"not": {"type": "integer"}}}}
INVALID = [
    {"type": "bogus"},
    {"properties": 3},
    {"properties": {"a": {"$ref": "#/$defs/none"}}},
    {"properties": {"a": {"$ref": "http://localhost/x"}}},
    {"properties": {"a": {"type": "string", "pattern": "("}}},
    {"properties": {"a": {"enum": 3}}},
]


def test_what_can_not_be_enforced_is_refused_only_where_strictness_is_asked_for() -> None:
    for strict in (False, True):
        called = grammar(tools(UNSUPPORTED, strict=strict), choice="required")
        formatted = grammar((), response_format=JsonSchema(UNSUPPORTED, strict=strict))
        for made in (called, formatted):
            assert made is not None
            if strict:
                with pytest.raises(InvalidGrammar):
                    COMPILER.validate(made)
            else:
                COMPILER.validate(made)


def blamed(offered: Sequence[Tool], response_format: ResponseFormat) -> str | None:
    made = grammar(offered, response_format=response_format)
    assert made is not None
    with pytest.raises(InvalidGrammar) as caught:
        COMPILER.validate(made)
    error = blame(caught.value, COMPILER.validate, tools=offered, response_format=response_format)
    return error.param


@pytest.mark.parametrize("schema", INVALID)
def test_an_invalid_schema_is_blamed_by_its_place(schema: dict[str, Any]) -> None:
    assert blamed(tools(ADD_SCHEMA, schema), None) == "tools[1].function.parameters"
    assert blamed((), JsonSchema(schema)) == "response_format.json_schema.schema"
    assert blamed(TWO, JsonSchema(schema)) == "response_format.json_schema.schema"


def test_an_invalid_grammar_of_the_callers_own_is_blamed() -> None:
    assert blamed((), regex("(")) == "grammar"


def test_a_schema_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidGrammar):
        grammar((), response_format=JsonSchema({"minimum": float("nan")}))


def test_a_schema_can_not_smuggle_in_grammar() -> None:
    schema = {"enum": ["a\nstart: /.*/", "/", '"']}
    constrained = grammar((), response_format=JsonSchema(schema))
    assert accepts(constrained, '"a\\nstart: /.*/"')
    assert not accepts(constrained, "x")
