"""Reads what both kinds of completion share: sampling, stops, lengths, grammars. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from qwenkit.chat.constraint import JsonSchema
from qwenkit.engine import grammar
from qwenkit.engine.request import Grammar, SamplingParams
from qwenkit.errors import InvalidRequest
from qwenkit.server.openai.schema import GenerationBody

MAX_BIAS = 100.0
_NUMBERS = tuple(
    field.name for field in fields(SamplingParams) if field.name not in ("logit_bias", "seed")
)


def named_sampling(body: GenerationBody, *, n_vocab: int) -> dict[str, Any]:
    """The fields of `SamplingParams` that a body names.

    Raises:
        InvalidRequest: `logit_bias` or `seed` is wrong.
    """
    named = {name: _given(body, name) for name in _NUMBERS}
    named = {name: value for name, value in named.items() if value is not None}
    if body.logit_bias:
        named["logit_bias"] = _biases(body.logit_bias, n_vocab)
    if body.seed is not None and body.seed != -1:
        named["seed"] = body.seed % 2**63
    return named


def _biases(given: dict[str, float], n_vocab: int) -> tuple[tuple[int, float], ...]:
    return tuple((_bias_token(key, n_vocab), _bias(key, bias)) for key, bias in given.items())


def _bias_token(key: str, n_vocab: int) -> int:
    # Nine digits are more than any vocabulary; int() of thousands of them would raise.
    if not (key.isascii() and key.isdecimal() and len(key) <= 9 and int(key) < n_vocab):
        raise InvalidRequest(
            f"logit_bias names {key[:40]!r}; a token id from 0 to {n_vocab - 1} is needed",
            param="logit_bias",
        )
    return int(key)


def _bias(key: str, bias: float) -> float:
    if not -MAX_BIAS <= bias <= MAX_BIAS:
        raise InvalidRequest(
            f"logit_bias of {key} is {bias}; it must be from {-MAX_BIAS:g} to {MAX_BIAS:g}",
            param="logit_bias",
        )
    return bias


def n_choices(body: GenerationBody) -> int:
    """How many answers a body asks for."""
    return 1 if body.n is None else body.n


def refuse_several(n: int) -> None:
    """Refuse more than one answer, where tools run between its rounds.

    Raises:
        InvalidRequest: There are several.
    """
    if n > 1:
        raise InvalidRequest("with tools of MCP servers n must be 1", param="n")


def stops(body: GenerationBody) -> tuple[str, ...]:
    """The stop strings of a body."""
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


def max_tokens(body: GenerationBody) -> int | None:
    """The longest answer that a body asks for."""
    value: int | None = _given(body, "max_tokens")
    unlimited = value == -1 and _spelling(body, "max_tokens") == "n_predict"
    return None if unlimited else value


def wants_usage(body: GenerationBody) -> bool:
    """Whether a stream ends with the token counts.

    Raises:
        InvalidRequest: Stream options without a stream.
    """
    if body.stream_options is None:
        return False
    if not body.stream:
        raise InvalidRequest("stream_options needs stream", param="stream_options")
    return bool(body.stream_options.include_usage)


def named_form(body: GenerationBody) -> Grammar | JsonSchema | None:
    """What a body says its answer must look like, outside of OpenAI's own field.

    Raises:
        InvalidRequest: There are several.
        InvalidGrammar: It can't be read.
    """
    given = [name for name in _FORMS if getattr(body, name) is not None]
    if len(given) > 1:
        raise InvalidRequest(f"{given[0]} and {given[1]} exclude each other", param=given[1])
    if not given:
        return None
    with spelled_as(body):
        return _FORMS[given[0]](getattr(body, given[0]))


def _lenient_schema(schema: dict[str, Any] | bool) -> JsonSchema:
    return JsonSchema(schema, strict=False)


@contextmanager
def spelled_as(body: GenerationBody) -> Iterator[None]:
    """Lets an error inside name a field as the body spells it."""
    try:
        yield
    except InvalidRequest as exc:
        exc.param = _spelling(body, exc.param) if exc.param else None
        raise


def _given(body: GenerationBody, name: str) -> Any:
    return getattr(body, _spelling(body, name), None)


def _spelling(body: GenerationBody, name: str) -> str:
    spellings = _SPELLINGS.get(name, (name,))
    return next((each for each in spellings if getattr(body, each, None) is not None), name)


_FORMS: dict[str, Callable[[Any], Grammar | JsonSchema]] = {
    "grammar": grammar.gbnf,
    "guided_grammar": grammar.gbnf,
    "guided_regex": grammar.regex,
    "guided_choice": grammar.choice,
    "json_schema": _lenient_schema,
    "guided_json": _lenient_schema,
}
# What a field may also be called; the first one that a body names counts.
_SPELLINGS = {
    "max_tokens": ("max_completion_tokens", "max_tokens", "n_predict"),
    "n": ("n_cmpl", "n"),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
    "top_logprobs": ("top_logprobs", "logprobs"),
    "messages": ("messages", "prompt"),
    "prompt": ("prompt", "messages"),
    "grammar": tuple(_FORMS),
    "response_format.json_schema.schema": ("json_schema", "guided_json"),
}
