"""What goes into the engine and what comes out. Knows tokens and text; no messages, no HTTP.

GenerationRequest ─▶ Engine.stream ─▶ PromptReady, Token, Token, …, Finished, …, RequestDone
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from qwenkit.backends.base import AdapterUse, LoadedAdapter
from qwenkit.errors import InvalidRequest

MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 16
MAX_ADAPTER_SCALE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is drawn from the logits. The defaults draw from the model's own distribution.

    Args:
        temperature: 0 is greedy; up to 100.
        top_k: Keep the k likeliest tokens; 0 keeps all.
        top_p: Keep the likeliest tokens that hold this much probability, 0 to 1 (nucleus sampling).
        min_p: Drop tokens less likely than this share of the likeliest one, 0 to 1.
        typical_p: Locally typical sampling, 0 to 1; 1 is off.
        presence_penalty: Taken off the logit of every token already seen, -2 to 2.
        frequency_penalty: Taken off for each time it was seen, -2 to 2.
        repeat_penalty: Divides positive logits (multiplies negative ones) of seen tokens; 1 is off.
        repeat_last_n: How many of the newest tokens count as seen; 0 is off, -1 the whole context.
        dry_multiplier: Strength of the DRY penalty on repeated passages; 0 is off.
        dry_base: Growth of that penalty with the passage's length.
        dry_allowed_length: Length up to which a repetition is free.
        xtc_probability: Chance of dropping the likeliest tokens (XTC); 0 is off.
        xtc_threshold: Tokens at least this likely can be dropped by XTC.
        top_n_sigma: Keep tokens within n standard deviations of the best logit; 0 is off.
        logit_bias: Pairs of token id and a number added to its logit; -100 and below bans it.
        seed: Fixes the random draws; None draws a fresh seed.

    Raises:
        InvalidRequest: A value is NaN, infinite or out of its range; `param` names it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    top_n_sigma: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (low <= value <= high):  # also false for NaN
                raise InvalidRequest(
                    f"{name} is {value}; it must be from {low:g} to {high:g}", param=name
                )
        if any(not math.isfinite(bias) for _, bias in self.logit_bias):
            raise InvalidRequest(
                "logit_bias has a value that is no finite number", param="logit_bias"
            )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0.0 or self.top_k == 1

    @property
    def penalises(self) -> bool:
        """Whether tokens already seen change the logits."""
        return self.repeat_last_n != 0 and (
            self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.repeat_penalty != 1.0
        )


_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repeat_penalty": (0.01, 100.0),
    "repeat_last_n": (-1, 2**31 - 1),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (1.0, 100.0),
    "dry_allowed_length": (0, 2**31 - 1),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "top_n_sigma": (0.0, 1000.0),
}


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the output may look like, as a Lark grammar in llguidance's dialect.

    Made by `engine.grammar` from a JSON schema, a regular expression, GBNF or Lark.

    Args:
        lark: The grammar's text.
        trigger: Id of the token that arms it and that its text begins with; it disarms when the
            grammar is complete and can be armed again. None: armed from the first token outside
            the thinking block, and the answer ends where the grammar does.
    """

    lark: str
    trigger: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """The model's thinking block: how to see it, and when to end it.

    Args:
        open: Token id of `<think>`.
        close: Token id of `</think>`.
        inside: Whether the prompt ends inside an open block.
        expected: Whether the model may still open one as its first token (the prompt neither
            opened nor closed it).
        budget: Most thinking tokens before the block is ended by force; None is no limit.
        ending: Token ids that end it by force; `close` is among them.
    """

    open: int
    close: int
    inside: bool = False
    expected: bool = True
    budget: int | None = None
    ending: tuple[int, ...] = ()


class AdapterVersion:
    """One content of an adapter in an engine's memory; freed when nothing refers to it any more.

    Args:
        version: Short hash of the content.
        loaded: As the backend loaded it.
        owner: The engine's loop that it was loaded by.
    """

    def __init__(self, version: str, loaded: LoadedAdapter, owner: object) -> None:
        self.version = version
        self.loaded = loaded
        self.owner = owner


@dataclass(frozen=True, slots=True)
class ActiveAdapter:
    """An adapter as one request uses it.

    Args:
        adapter: What is loaded.
        scale: Multiplies what it changes; 1 is the strength it was trained with.

    Raises:
        InvalidRequest: The scale is NaN or out of its range.
    """

    adapter: AdapterVersion
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not -MAX_ADAPTER_SCALE <= self.scale <= MAX_ADAPTER_SCALE:  # also true for NaN
            raise InvalidRequest(
                f"the adapter's scale is {self.scale}; it must be from {-MAX_ADAPTER_SCALE:g} "
                f"to {MAX_ADAPTER_SCALE:g}",
                param="lora_scale",
            )

    @property
    def namespace(self) -> str:
        """What tells states computed with it from all others."""
        return f"{self.adapter.version}*{self.scale!r}"

    @property
    def use(self) -> AdapterUse:
        """As the backend takes it."""
        return AdapterUse(self.adapter.loaded, self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt and what to make of it.

    Args:
        prompt: Token ids, at least one.
        max_tokens: Most tokens to generate for each choice; None is up to the context's end; 0
            only computes the prompt (with `prompt_logprobs`, or to warm the prefix cache).
        sampling: How tokens are drawn; choice i of several uses seed + i.
        n: Choices generated from the one prompt.
        stop: Strings that end a choice; they are not part of its text. Like `stop_tokens`, they
            don't count inside the thinking block.
        stop_tokens: Token ids that end a choice beside the model's own end-of-text tokens.
        ignore_eos: Go on after the model's own end-of-text tokens.
        logprobs: How many alternatives to report with each token's log-probability; 0 is the
            token's own only, None nothing. Of the model's distribution, before sampling.
        logprobs_of: Ids whose log-probabilities are reported beside those; needs `logprobs`.
        prompt_logprobs: Report the prompt's tokens too, in `PromptReady`.
        grammar: Constrains the output.
        thinking: How this model thinks; None when it doesn't.
        adapter: The LoRA adapter to compute with; None is the model as it is.
    """

    prompt: tuple[int, ...]
    max_tokens: int | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    stop: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None
    logprobs_of: tuple[int, ...] = ()
    prompt_logprobs: bool = False
    grammar: Grammar | None = None
    thinking: Thinking | None = None
    adapter: ActiveAdapter | None = None

    @property
    def namespace(self) -> str:
        """What its computed state depends on beside tokens."""
        return self.adapter.namespace if self.adapter is not None else ""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InvalidRequest("the prompt is empty", param="prompt")
        if not 1 <= self.n <= MAX_CHOICES:
            raise InvalidRequest(f"n is {self.n}; it must be from 1 to {MAX_CHOICES}", param="n")
        if self.max_tokens is not None and self.max_tokens < 0:
            raise InvalidRequest(
                f"max_tokens is {self.max_tokens}; it must not be negative", param="max_tokens"
            )
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise InvalidRequest(
                f"top_logprobs is {self.logprobs}; it must be from 0 to {MAX_TOP_LOGPROBS}",
                param="top_logprobs",
            )
        if any(not text for text in self.stop):
            raise InvalidRequest("a stop string is empty", param="stop")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its log-probability (natural logarithm) and its bytes."""

    token: int
    logprob: float
    bytes: bytes


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The log-probability of a chosen token and of its likeliest alternatives, best first.

    Args:
        chosen: The token.
        top: The alternatives.
        asked: The tokens that the request named, in its order.
    """

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()
    asked: tuple[TokenLogprob, ...] = ()


class FinishReason(StrEnum):
    """Why a choice ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class PromptReady:
    """The prompt is computed; tokens follow.

    Args:
        n_prompt: Tokens in the prompt.
        n_cached: Of them, tokens whose state was reused.
        logprobs: Of the prompt's tokens when asked for; the first has none.
    """

    n_prompt: int
    n_cached: int
    logprobs: tuple[Logprobs | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token of one choice.

    Args:
        choice: Index of the choice, 0 to n-1.
        id: The token's id.
        text: Text that became certain with it: empty while a character or a possible stop string
            is incomplete, and then more than this token's own.
        logprobs: When asked for.
    """

    choice: int
    id: int
    text: str
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A choice has ended.

    Args:
        choice: Index of the choice.
        reason: Why.
        text: Text that was held back as a possible stop string and turned out to be none.
        n_tokens: Tokens generated, end-of-text included.
        stop: The stop string that ended it, if one did.
        n_thinking: Of the generated tokens, those inside the thinking block.
    """

    choice: int
    reason: FinishReason
    text: str
    n_tokens: int
    stop: str | None = None
    n_thinking: int = 0


@dataclass(frozen=True, slots=True)
class RequestDone:
    """Every choice has ended; the last event of a stream.

    Args:
        queue_s: Seconds from submission to the first prefill step.
        prefill_s: Seconds from there until the prompt was computed.
        decode_s: Seconds from there to the end.
    """

    queue_s: float
    prefill_s: float
    decode_s: float


Event = PromptReady | Token | Finished | RequestDone
