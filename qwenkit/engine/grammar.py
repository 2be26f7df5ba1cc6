"""Constrains output to a JSON schema, a regular expression, GBNF or Lark, by llguidance.

Every kind is turned into one Lark text; a `Matcher` then says which tokens may come next. The
sampler draws freely and only a token that is refused costs a mask over the vocabulary and another
draw. Without truncation (top_k, top_p, …) that is exactly the distribution of masking first; with
it, an allowed token that survived beside refused ones is a little likelier.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llguidance
import numpy as np
from llguidance.gbnf_to_lark import gbnf_to_lark

from qwenkit.backends.base import FloatArray, Tokenizer
from qwenkit.engine.request import Grammar
from qwenkit.errors import InvalidGrammar

_MAX_CACHED = 64
# Some grammars take a time to compile that grows with the square of their length: at this one, a
# second; at three times as much, ten.
_MAX_CHARS = 256 * 1024
# A regular expression stands between slashes on one line; what is escaped already stays so.
_UNSAFE_IN_LARK = re.compile(r"\\.|/|\n", re.DOTALL)
_LARK_SAFE = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}
# Without a bound a model that likes white space could go on with it for ever.
_WHITE_SPACE = r"(| |\n{1,2}[ \t]{0,32})"
_SILENT = 0


def json_schema(schema: Mapping[str, Any] | bool, *, after: str = "") -> Grammar:
    """Output that is one JSON value valid against the schema.

    Args:
        schema: JSON Schema, as far as llguidance supports it.
        after: Lark expression for what may precede the value, such as `/\\s*/`.
    """
    return lark(f"start: {after} value\nvalue: {json_rule(schema)}\n")


def json_rule(
    schema: Mapping[str, Any] | bool, *, compact: bool = False, lenient: bool = False
) -> str:
    """A Lark expression for one JSON value that is valid against the schema.

    Args:
        schema: JSON Schema.
        compact: Spaced as `json.dumps` does it, and no other way.
        lenient: Ignore keywords that can't be enforced instead of refusing them.

    Raises:
        InvalidGrammar: The schema is no JSON.
    """
    options: dict[str, Any] = {"lenient": lenient}
    if compact:
        options |= {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    else:
        options["whitespace_pattern"] = _WHITE_SPACE
    if isinstance(schema, Mapping):
        schema = {**schema, "x-guidance": options}
    try:
        return "%json " + json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidGrammar(f"the schema is no JSON: {exc}", param="response_format") from exc


def json_object(*, after: str = "") -> Grammar:
    """Output that is any JSON object."""
    return json_schema({"type": "object"}, after=after)


def regex(pattern: str) -> Grammar:
    """Output that matches a regular expression (Rust's syntax) from end to end."""
    escaped = _UNSAFE_IN_LARK.sub(lambda found: _LARK_SAFE.get(found[0], found[0]), pattern)
    return lark(f"start: TEXT\nTEXT: /{escaped}/\n")


def choice(options: Sequence[str]) -> Grammar:
    """Output that is one of the options, exactly."""
    if not options:
        raise InvalidGrammar("a choice needs at least one option", param="guided_choice")
    return lark("start: " + " | ".join(json.dumps(option) for option in options) + "\n")


def gbnf(text: str) -> Grammar:
    """Output in the language of a GBNF grammar, as llama.cpp writes them; `root` is its start."""
    try:
        return lark(gbnf_to_lark(text))
    except Exception as exc:  # it raises bare ones for grammars without a root
        raise InvalidGrammar(f"the GBNF grammar can't be read: {exc}", param="grammar") from exc


def lark(text: str, trigger: int | None = None) -> Grammar:
    """Output in the language of a Lark grammar in llguidance's dialect; `start` is its start."""
    return Grammar(text, trigger)


def compiles(grammar: Grammar) -> bool:
    """Whether a grammar is sound, whatever the vocabulary."""
    if len(grammar.lark) > _MAX_CHARS:
        return False
    return not llguidance.LLMatcher.validate_grammar(grammar.lark)


class Matcher:
    """Follows one sequence through a grammar."""

    def __init__(self, inner: llguidance.LLMatcher, n_vocab: int) -> None:
        self._inner = inner
        self._n_vocab = n_vocab

    def allows(self, token: int) -> bool:
        """Whether the token may come next."""
        return bool(self._inner.validate_tokens([token]) == 1)

    def mask(self, row: FloatArray) -> None:
        """Set the logits of all tokens that may not come next to -inf.

        Raises:
            InvalidGrammar: The grammar met a limit.
        """
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=self._n_vocab).view(bool)
        self._check()  # after an error the bits allow the end of the text, which is not due
        row[~allowed] = -np.inf

    def accept(self, token: int) -> None:
        """Go on past a token.

        Raises:
            InvalidGrammar: The grammar met a limit or does not allow it.
        """
        self._inner.consume_token(token)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._inner.is_stopped())

    def _check(self) -> None:
        if self._inner.is_error():
            raise InvalidGrammar(_first_line(self._inner.get_error()), param="grammar")


class GrammarCompiler:
    """Compiles grammars for one vocabulary; keeps the newest ones. Safe from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()
        self._lock = threading.Lock()
        self._reading_vocabulary = threading.Lock()

    def validate(self, grammar: Grammar) -> None:
        """Raise `InvalidGrammar` if the grammar doesn't compile."""
        self.prepare(grammar)

    def matcher(self, grammar: Grammar) -> Matcher:
        """A fresh matcher at the grammar's start; see `prepare`."""
        return self.prepare(grammar)()

    def prepare(self, grammar: Grammar) -> Callable[[], Matcher]:
        """Compile a grammar; what is returned makes fresh matchers of it in no time.

        Raises:
            InvalidGrammar: It doesn't compile; the message says where.
        """
        with self._lock:
            compiled = self._compiled.pop(grammar.lark, None)
        # Outside the lock: whoever needs a grammar that is ready must not wait for this one.
        compiled = compiled or self._compile(grammar.lark)
        with self._lock:
            self._compiled[grammar.lark] = compiled
            if len(self._compiled) > _MAX_CACHED:
                self._compiled.popitem(last=False)
        return lambda: Matcher(compiled.deep_copy(), self._tokenizer.n_vocab)

    def _compile(self, text: str) -> llguidance.LLMatcher:
        if len(text) > _MAX_CHARS:
            raise InvalidGrammar(
                f"the grammar is {len(text)} characters long, the longest is {_MAX_CHARS}",
                param="grammar",
            )
        with self._reading_vocabulary:
            if self._vocabulary is None:
                self._vocabulary = _vocabulary(self._tokenizer)
        matcher = llguidance.LLMatcher(self._vocabulary, text, log_level=_SILENT)
        if matcher.is_error():
            raise InvalidGrammar(_first_line(matcher.get_error()), param="grammar")
        return matcher


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0] if lines else "the grammar doesn't compile"


class _Vocabulary:
    """A tokenizer as `llguidance.TokenizerWrapper` wants to see it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.piece(token) for token in range(tokenizer.n_vocab)]
        self.eos_token_id = min(tokenizer.eos_tokens)
        self.bos_token_id = None
        self.special_token_ids = sorted(tokenizer.added_tokens.values())

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


def _vocabulary(tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(_Vocabulary(tokenizer)),
        n_vocab=tokenizer.n_vocab,
        eos_token=sorted(tokenizer.eos_tokens),
    )
