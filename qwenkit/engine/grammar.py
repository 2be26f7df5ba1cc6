"""Constrains output to a JSON schema, a regular expression, GBNF or Lark, by llguidance.

Every kind is turned into one Lark text; a `Matcher` then says which tokens may come next. The
sampler draws freely and only a token that is refused costs a mask over the vocabulary: drawing
again among the allowed ones gives exactly the distribution that masking first would have given.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import llguidance
import numpy as np
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from qwenkit.backends.base import FloatArray, Tokenizer
from qwenkit.engine.request import Grammar
from qwenkit.errors import InvalidGrammar

_MAX_CACHED = 64
# Without a bound a model that likes white space could go on with it for ever.
_WHITE_SPACE = r"(| |\n{1,2}[ \t]{0,32})"
_SILENT = 0


def json_schema(schema: Mapping[str, Any] | bool, *, after: str = "") -> Grammar:
    """Output that is one JSON value valid against the schema.

    Args:
        schema: JSON Schema, as far as llguidance supports it.
        after: Lark expression for what may precede the value, such as `/\\s*/`.
    """
    if isinstance(schema, Mapping):
        schema = {"x-guidance": {"whitespace_pattern": _WHITE_SPACE}, **schema}
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidGrammar(f"the schema is not JSON: {exc}", param="response_format") from exc
    return lark(f"start: {after} value\nvalue: %json {text}\n")


def json_object(*, after: str = "") -> Grammar:
    """Output that is any JSON object."""
    return json_schema({"type": "object"}, after=after)


def regex(pattern: str) -> Grammar:
    """Output that matches a regular expression (Rust's syntax) from end to end."""
    escaped = pattern.replace("/", "\\/")
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
    except (GbnfToLarkError, ValueError, KeyError, IndexError, RecursionError) as exc:
        raise InvalidGrammar(f"the GBNF grammar can't be read: {exc}", param="grammar") from exc


def lark(text: str, trigger: int | None = None) -> Grammar:
    """Output in the language of a Lark grammar in llguidance's dialect; `start` is its start."""
    return Grammar(text, trigger)


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
            InvalidGrammar: No token may come next.
        """
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=self._n_vocab).view(bool)
        if not allowed.any():
            raise InvalidGrammar(
                f"the grammar allows no token here: {self._inner.get_error()}", param="grammar"
            )
        row[~allowed] = -np.inf

    def accept(self, token: int) -> None:
        """Go on past a token.

        Raises:
            InvalidGrammar: The grammar met a limit or does not allow it.
        """
        if not self._inner.consume_token(token):
            raise InvalidGrammar(self._inner.get_error(), param="grammar")

    @property
    def complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._inner.is_stopped())


class GrammarCompiler:
    """Compiles grammars for one vocabulary; keeps the newest ones. Safe from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def validate(self, grammar: Grammar) -> None:
        """Raise `InvalidGrammar` if the grammar doesn't compile."""
        self.matcher(grammar)

    def matcher(self, grammar: Grammar) -> Matcher:
        """A fresh matcher at the grammar's start.

        Raises:
            InvalidGrammar: It doesn't compile; the message says where.
        """
        with self._lock:
            compiled = self._compiled.pop(grammar.lark, None) or self._compile(grammar.lark)
            self._compiled[grammar.lark] = compiled
            if len(self._compiled) > _MAX_CACHED:
                self._compiled.popitem(last=False)
            return Matcher(compiled.deep_copy(), self._tokenizer.n_vocab)

    def _compile(self, text: str) -> llguidance.LLMatcher:
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
