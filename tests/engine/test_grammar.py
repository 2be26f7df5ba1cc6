"""Output in the language of a grammar, and grammars that are refused."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import jsonschema
import numpy as np
import pytest

from qwenkit.backends.scripted import ScriptedTokenizer
from qwenkit.engine import grammar
from qwenkit.engine.grammar import GrammarCompiler
from qwenkit.engine.request import Grammar
from qwenkit.errors import InvalidGrammar

TOKENIZER = ScriptedTokenizer()
N_VOCAB = TOKENIZER.n_vocab
EOS = min(TOKENIZER.eos_tokens)
CLOSERS = [*b'"}],:', EOS]


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(TOKENIZER)


def write(compiler: GrammarCompiler, made: Grammar, seed: int, limit: int = 600) -> str:
    """A random text of the grammar's language, made as the engine makes it: draw, mask, accept."""
    rng = np.random.default_rng(seed)
    matcher = compiler.matcher(made)
    text = b""
    for step in range(limit):
        row = rng.standard_normal(N_VOCAB).astype(np.float32)
        row[CLOSERS] += 0.02 * step  # or it would never come to an end
        token = int(row.argmax())
        if not matcher.allows(token):
            matcher.mask(row)
            token = int(row.argmax())
            assert matcher.allows(token)
        if token in TOKENIZER.eos_tokens:
            return text.decode()
        matcher.accept(token)
        text += TOKENIZER.piece(token)
        if matcher.complete:
            return text.decode()
    raise AssertionError(f"no end: {text!r}")


def accepts(compiler: GrammarCompiler, made: Grammar, text: str) -> bool:
    """Whether a text, and then its end, is in the grammar's language."""
    matcher = compiler.matcher(made)
    for byte in text.encode():
        if not matcher.allows(byte):
            return False
        matcher.accept(byte)
    return matcher.complete or matcher.allows(EOS)


SCHEMAS: list[Any] = [
    {"type": "integer", "minimum": -3, "maximum": 120},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"enum": ["a", 1, None, {"b": [True]}]},
    {"const": {"é": "🦙"}},
    {"anyOf": [{"type": "null"}, {"type": "number"}]},
    {"type": "string", "maxLength": 8},
    {"type": "string", "pattern": "^[a-c]{2,3}$"},
    {"type": "string", "format": "date"},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 5},
            "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 3},
            "point": {"$ref": "#/$defs/point"},
        },
        "required": ["name", "point"],
        "additionalProperties": False,
        "$defs": {
            "point": {
                "type": "object",
                "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                "required": ["x", "y"],
                "additionalProperties": False,
            }
        },
    },
    {},
    True,
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_drawn_is_valid_against_the_schema(
    compiler: GrammarCompiler, schema: Any, seed: int
) -> None:
    value = json.loads(write(compiler, grammar.json_schema(schema), seed))
    jsonschema.validate(value, schema)


@pytest.mark.parametrize("seed", range(5))
def test_a_json_object_is_an_object(compiler: GrammarCompiler, seed: int) -> None:
    assert isinstance(json.loads(write(compiler, grammar.json_object(), seed)), dict)


def test_a_schema_allows_the_usual_ways_to_space_json(compiler: GrammarCompiler) -> None:
    made = grammar.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}})
    value = {"a": 1}
    for text in (json.dumps(value), json.dumps(value, indent=2), '{"a":1}'):
        assert accepts(compiler, made, text)


def test_white_space_can_not_go_on_for_ever(compiler: GrammarCompiler) -> None:
    for schema in ({"type": "object"}, {"type": "object", "x-guidance": {}}):
        made = grammar.json_schema(schema)
        for blank in " \n\t":
            matcher = compiler.matcher(made)
            matcher.accept(ord("{"))
            n = 0
            while matcher.allows(ord(blank)):
                matcher.accept(ord(blank))
                n += 1
                assert n < 100


PATTERNS = [
    "[0-9]{3}-[a-z]+",
    "a/b",
    r"a\/b",
    "(yes|no)!?",
    "é+🦙",
    "a\nb",
    r"\d\.\d",
    "[/]x",
    r"\\/",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_drawn_matches_the_regular_expression(
    compiler: GrammarCompiler, pattern: str, seed: int
) -> None:
    assert re.fullmatch(pattern, write(compiler, grammar.regex(pattern), seed))


OPTIONS = ["yes", "no", 'a"b\\', "\n", "é🦙", "/", "%json", "yesterday"]


@pytest.mark.parametrize("option", OPTIONS)
def test_each_choice_is_allowed_and_nothing_beside_them(
    compiler: GrammarCompiler, option: str
) -> None:
    made = grammar.choice(OPTIONS)
    assert accepts(compiler, made, option)
    assert not accepts(compiler, made, option + "x")


@pytest.mark.parametrize("seed", range(10))
def test_one_of_the_choices_is_drawn(compiler: GrammarCompiler, seed: int) -> None:
    assert write(compiler, grammar.choice(OPTIONS), seed) in OPTIONS


GBNF = r"""
root ::= item ("," item){0,2} # a comment
item ::= [a-c]+ | number
number ::= "-"? [0-9]{1,3}
"""


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_drawn_is_in_the_language_of_the_gbnf(
    compiler: GrammarCompiler, seed: int
) -> None:
    item = r"([a-c]+|-?[0-9]{1,3})"
    assert re.fullmatch(f"{item}(,{item}){{0,2}}", write(compiler, grammar.gbnf(GBNF), seed))


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED: dict[str, Any] = {
    "an unknown type": lambda: grammar.json_schema({"type": "nothing"}),
    "a remote reference": lambda: grammar.json_schema({"$ref": "http://example.com/x"}),
    "a missing reference": lambda: grammar.json_schema({"$ref": "#/$defs/none"}),
    "nothing is valid": lambda: grammar.json_schema(
        {"type": "integer", "minimum": 2, "maximum": 1}
    ),
    "the false schema": lambda: grammar.json_schema(False),
    "no JSON": lambda: grammar.json_schema({"const": {1, 2}}),
    "not a number": lambda: grammar.json_schema({"const": float("nan")}),
    "a lone surrogate": lambda: grammar.json_schema({"const": "\ud800"}),
    "a bad pattern": lambda: grammar.json_schema({"type": "string", "pattern": "("}),
    "a bad regex": lambda: grammar.regex("("),
    "a surrogate regex": lambda: grammar.regex("\ud800"),
    "no choices": lambda: grammar.choice([]),
    "a surrogate choice": lambda: grammar.choice(["\ud800"]),
    "an empty gbnf": lambda: grammar.gbnf(""),
    "a gbnf without a root": lambda: grammar.gbnf('start ::= "a"'),
    "an open class": lambda: grammar.gbnf("root ::= ["),
    "an unknown rule": lambda: grammar.gbnf("root ::= none"),
    "a bad lark": lambda: grammar.lark("start: nothing_of_that_name"),
}
HOSTILE: dict[str, Any] = {
    "a gbnf nested too deep": lambda: grammar.gbnf("root ::= " + "(" * 5000 + '"a"' + ")" * 5000),
    "a schema nested too deep": lambda: grammar.json_schema(nested(900)),
    "more choices than fit": lambda: grammar.choice([f"{i:06}" for i in range(60_000)]),
    "an enum too large": lambda: grammar.json_schema({"enum": [f"v{i}" for i in range(10**5)]}),
    "too many properties": lambda: grammar.json_schema(
        {"properties": {f"property number {i}": {"type": "string"} for i in range(20_000)}}
    ),
}


@pytest.mark.parametrize("bad", [*REFUSED, *HOSTILE])
def test_a_grammar_that_can_not_be_used_is_refused_in_time(
    compiler: GrammarCompiler, bad: str
) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidGrammar):
        compiler.validate((REFUSED | HOSTILE)[bad]())
    assert time.perf_counter() - began < 5


EXPENSIVE: dict[str, Grammar] = {
    "nested repetitions": grammar.regex("((a{1,100}){1,100}){1,100}"),
    "a large automaton": grammar.regex("(.*a.{20})*"),
    "a huge repetition": grammar.gbnf('root ::= "a"{1,100000000}'),
    "a huge minimum": grammar.json_schema({"type": "array", "minItems": 10**9}),
    "an ambiguous rule": grammar.gbnf('root ::= s\ns ::= s s s | "a" | s s'),
    "left recursion": grammar.gbnf('root ::= root "a" | "b"'),
    "a schema of itself": grammar.json_schema({"$ref": "#"}),
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_every_step_through_an_expensive_grammar_ends_in_time(
    compiler: GrammarCompiler, name: str
) -> None:
    rng = np.random.default_rng(0)
    slowest = 0.0
    try:
        matcher = compiler.matcher(EXPENSIVE[name])
        for _ in range(200):
            began = time.perf_counter()
            row = rng.standard_normal(N_VOCAB).astype(np.float32)
            row[sorted(TOKENIZER.eos_tokens)] = -50
            matcher.mask(row)
            matcher.accept(int(row.argmax()))
            slowest = max(slowest, time.perf_counter() - began)
            if matcher.complete:
                break
    except InvalidGrammar:  # one of llguidance's own limits
        pass
    assert slowest < 1


def test_matchers_of_one_grammar_do_not_disturb_each_other(compiler: GrammarCompiler) -> None:
    new_matcher = compiler.prepare(grammar.choice(["ab", "ac"]))
    first, second = new_matcher(), new_matcher()
    first.accept(ord("a"))
    assert second.allows(ord("a"))
    assert not second.allows(ord("b"))
    assert first.allows(ord("c"))


def test_a_prepared_grammar_needs_no_compiling_however_many_came_after_it() -> None:
    compiler = GrammarCompiler(TOKENIZER)
    began = time.perf_counter()
    new_matcher = compiler.prepare(grammar.choice([f"{i:06}" for i in range(12_000)]))
    compiling_s = time.perf_counter() - began
    for i in range(70):
        compiler.prepare(grammar.choice([str(i)]))
    began = time.perf_counter()
    assert new_matcher().allows(ord("0"))
    assert time.perf_counter() - began < compiling_s / 3


def test_a_grammar_that_compiles_long_holds_up_none_that_is_ready() -> None:
    compiler = GrammarCompiler(TOKENIZER)
    ready = grammar.choice(["yes"])
    compiler.prepare(ready)
    slow = grammar.choice([f"{i:06}" for i in range(20_000)])
    thread = threading.Thread(target=compiler.validate, args=(slow,))
    thread.start()
    n_ready = 0
    while thread.is_alive():
        compiler.matcher(ready)
        n_ready += 1
    thread.join()
    assert n_ready > 3


def test_a_token_that_may_not_come_is_an_error_and_so_is_every_one_after_it(
    compiler: GrammarCompiler,
) -> None:
    matcher = compiler.matcher(grammar.choice(["ab"]))
    with pytest.raises(InvalidGrammar):
        matcher.accept(ord("b"))
    assert not matcher.allows(ord("a"))
    with pytest.raises(InvalidGrammar):
        matcher.mask(np.zeros(N_VOCAB, np.float32))


def test_a_grammar_of_the_empty_text_ends_at_once(compiler: GrammarCompiler) -> None:
    assert write(compiler, grammar.choice([""]), seed=0) == ""
