"""Draws a token from a row of logits. Knows no sequence, no grammar and no backend.

The chain is llama.cpp's, in its order, whichever backend computed the row. It runs over an array of
candidates, and building that array from a vocabulary of 152k tokens costs more than the sampling
itself; so a row is first narrowed to a set that provably holds the k likeliest tokens after every
penalty and bias, and the chain sees only those.
"""

from __future__ import annotations

import ctypes
import math
import secrets
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np

from qwenkit.backends.base import FloatArray, IntArray
from qwenkit.backends.llamacpp import capi
from qwenkit.engine.request import Logprobs, SamplingParams, TokenLogprob
from qwenkit.errors import DecodeFailed, InvalidRequest

# Over this many candidates narrowing saves nothing.
MAX_NARROWED = 1024
_BLOCKS = 64
_DRY_BREAKERS = (b"\n", b":", b'"', b"*")
_RANDOM_SEED = 0xFFFFFFFF  # llama.cpp reads this one as "choose a seed"


class Sampler:
    """Draws one sequence's tokens.

    Args:
        params: How.
        n_vocab: Width of a row.
        n_ctx: Tokens of context; no more than these can have been seen.
        choice: Index of the choice; offsets the seed.
        vocab: llama.cpp's vocabulary pointer, which only the DRY penalty needs.

    Raises:
        InvalidRequest: A biased token is outside the vocabulary, or DRY without a vocabulary.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        n_vocab: int,
        n_ctx: int,
        choice: int = 0,
        vocab: Any = None,
    ) -> None:
        for token, _ in params.logit_bias:
            if not 0 <= token < n_vocab:
                raise InvalidRequest(
                    f"logit_bias names token {token}; the vocabulary has {n_vocab}",
                    param="logit_bias",
                )
        if params.dry_multiplier and vocab is None:
            raise InvalidRequest("this runtime has no DRY penalty", param="dry_multiplier")
        self._params = params
        self.window = n_ctx if params.repeat_last_n < 0 else min(params.repeat_last_n, n_ctx)
        self._biased = [token for token, _ in params.logit_bias]
        plain_argmax = params.greedy and not (
            params.logit_bias or params.penalises or params.dry_multiplier
        )
        self._seen = _Window(self.window if params.penalises else 0)
        self._chain = None
        if not plain_argmax:
            self._chain = _new_chain(_samplers(params, n_vocab, self.window, choice, vocab))
        self._free_chain = weakref.finalize(self, _free, self._chain)
        self._free_chain.atexit = False

    def accept(self, tokens: Iterable[int]) -> None:
        """Count tokens as seen: the prompt's once, then each token that was drawn."""
        if self._chain is None:
            return
        for token in tokens:
            self._seen.push(token)
            capi.sampler_accept(self._chain, token)

    def draw(self, row: FloatArray) -> int:
        """Draw a token; `row` is `[n_vocab]`, impossible tokens at -inf.

        Raises:
            DecodeFailed: No token is possible.
        """
        if self._chain is None:
            token = int(row.argmax())
            return _possible(token, row[token])
        candidates = self._candidates(row)
        if not len(candidates):  # the library ends the process on an empty array
            raise _no_token_is_possible()
        data = np.zeros(len(candidates), capi.TOKEN_DATA)
        data["id"] = candidates
        data["logit"] = row[candidates]
        array = native.llama_token_data_array(
            ctypes.cast(data.ctypes.data, native.llama_token_data_p), len(data), -1, False
        )
        capi.sampler_apply(self._chain, ctypes.addressof(array))
        chosen = array.data[array.selected]
        return _possible(chosen.id, chosen.logit)

    def close(self) -> None:
        """Free the chain now; otherwise it goes with the sampler."""
        self._free_chain()
        self._chain = None

    def _candidates(self, row: FloatArray) -> IntArray:
        params = self._params
        k = 1 if params.greedy else params.top_k
        adjusted = {*self._biased, *self._seen.tokens}
        n = k + len(adjusted)
        whole_row = k == 0 or n > MAX_NARROWED or params.dry_multiplier or params.top_n_sigma
        if whole_row:
            return np.flatnonzero(row > -np.inf).astype(np.int32)
        # A token that nothing adjusts is among the k best only if it is among the n best as it is.
        best = likeliest(row, n)
        return np.union1d(best, [t for t in adjusted if row[t] > -np.inf]).astype(np.int32)


class _Window:
    """The distinct tokens among the newest n."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._order: deque[int] = deque()
        self._counts: Counter[int] = Counter()

    @property
    def tokens(self) -> Iterable[int]:
        return self._counts.keys()

    def push(self, token: int) -> None:
        if self._n == 0:
            return
        self._order.append(token)
        self._counts[token] += 1
        if len(self._order) > self._n:
            oldest = self._order.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]


def likeliest(row: FloatArray, k: int) -> IntArray:
    """Ids of at least the k best logits of a row, ties included, unordered; never one at -inf.

    The k-th largest of the column maxima of the row folded into a matrix is a bound that at least
    k logits reach: two passes over the row that the CPU vectorises, instead of a partial sort.
    """
    width = len(row) // _BLOCKS
    if k * 2 > width:
        return _likeliest_of_few(row, k)
    maxima = row[: width * _BLOCKS].reshape(_BLOCKS, width).max(axis=0)
    bound = np.partition(maxima, width - k)[width - k]
    if bound == -np.inf:
        return np.flatnonzero(row > bound).astype(np.int32)
    return np.flatnonzero(row >= bound).astype(np.int32)


def _likeliest_of_few(row: FloatArray, k: int) -> IntArray:
    k = min(k, len(row))
    bound = np.partition(row, len(row) - k)[len(row) - k]
    return np.flatnonzero((row >= bound) & (row > -np.inf)).astype(np.int32)


def log_probabilities(
    row: FloatArray,
    token: int,
    *,
    n_top: int,
    piece: Callable[[int], bytes],
    asked: Sequence[int] = (),
) -> Logprobs:
    """Log-probabilities of a token, of the `n_top` likeliest and of some more, before sampling."""
    peak = float(row.max())
    log_total = peak + math.log(float(np.exp(row - peak).sum()))

    def entry(index: int) -> TokenLogprob:
        return TokenLogprob(index, float(row[index]) - log_total, piece(index))

    top: Sequence[int] = ()
    if n_top:
        ids = likeliest(row, n_top)
        top = ids[np.argsort(-row[ids], kind="stable")][:n_top].tolist()
    return Logprobs(entry(token), tuple(map(entry, top)), tuple(map(entry, asked)))


def _possible(token: int, logit: float) -> int:
    if logit > -math.inf:
        return token
    raise _no_token_is_possible()


def _no_token_is_possible() -> DecodeFailed:
    return DecodeFailed(
        "no token is possible here: the grammar, the biases and ignore_eos exclude them all"
    )


def _free(chain: Any) -> None:
    if chain is not None:
        native.llama_sampler_free(chain)


def _new_chain(samplers: Iterable[Any]) -> Any:
    chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
    for sampler in samplers:
        native.llama_sampler_chain_add(chain, sampler)
    return chain


def _samplers(
    params: SamplingParams, n_vocab: int, window: int, choice: int, vocab: Any
) -> Iterable[Any]:
    if params.logit_bias:
        biases = (native.llama_logit_bias * len(params.logit_bias))(
            *((token, bias if bias > -100 else -math.inf) for token, bias in params.logit_bias)
        )
        yield native.llama_sampler_init_logit_bias(n_vocab, len(biases), biases)
    if params.penalises:
        yield native.llama_sampler_init_penalties(
            n_vocab,
            window,
            params.repeat_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        )
    if params.dry_multiplier:
        breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
        yield native.llama_sampler_init_dry(
            vocab,
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            window,
            breakers,
            len(breakers),
        )
    if params.greedy:
        yield native.llama_sampler_init_greedy()
    else:
        yield from _random_samplers(params, choice)


def _random_samplers(params: SamplingParams, choice: int) -> Iterable[Any]:
    if params.top_n_sigma:
        yield native.llama_sampler_init_top_n_sigma(params.top_n_sigma)
    if params.top_k:
        yield native.llama_sampler_init_top_k(params.top_k)
    if params.typical_p < 1:
        yield native.llama_sampler_init_typical(params.typical_p, 1)
    if params.top_p < 1:
        yield native.llama_sampler_init_top_p(params.top_p, 1)
    if params.min_p > 0:
        yield native.llama_sampler_init_min_p(params.min_p, 1)
    if params.xtc_probability:
        yield native.llama_sampler_init_xtc(
            params.xtc_probability, params.xtc_threshold, 1, _seed(params, choice)
        )
    yield native.llama_sampler_init_temp(params.temperature)
    yield native.llama_sampler_init_dist(_seed(params, choice))


def _seed(params: SamplingParams, choice: int) -> int:
    if params.seed is None:
        return secrets.randbelow(_RANDOM_SEED)
    return (params.seed + choice) % _RANDOM_SEED
