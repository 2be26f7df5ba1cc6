"""Drawing a token from a row of logits."""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.backends.base import FloatArray
from qwenkit.engine import sampling
from qwenkit.engine.request import SamplingParams
from qwenkit.engine.sampling import Sampler, likeliest, log_probabilities
from qwenkit.errors import DecodeFailed, InvalidRequest

WIDE = 20_000  # wide enough for rows to be narrowed


def random_row(seed: int, n_vocab: int = WIDE) -> FloatArray:
    rng = np.random.default_rng(seed)
    row = (rng.standard_normal(n_vocab) * 3).astype(np.float32)
    row[rng.random(n_vocab) < 0.2] = -np.inf
    row[rng.integers(n_vocab)] = 9
    return row


def sampler(n_vocab: int = WIDE, *, seen: Sequence[int] = (), **params: object) -> Sampler:
    made = Sampler(SamplingParams(**params), n_vocab=n_vocab, n_ctx=4096)  # type: ignore[arg-type]
    made.accept(seen)
    return made


def adjusted(row: FloatArray, params: SamplingParams, seen: Sequence[int]) -> FloatArray:
    """Biases and penalties by their definition, one token after the other."""
    out = row.astype(np.float64)
    for token, bias in params.logit_bias:
        out[token] = out[token] + bias if bias > -100 else -np.inf
    newest = seen[-params.repeat_last_n :] if params.repeat_last_n > 0 else seen
    if params.penalises:
        for token, count in Counter(newest).items():
            logit = out[token]
            logit = logit / params.repeat_penalty if logit > 0 else logit * params.repeat_penalty
            out[token] = logit - count * params.frequency_penalty - params.presence_penalty
    return out


def tokens_and_biases() -> st.SearchStrategy[tuple[tuple[int, float], ...]]:
    pair = st.tuples(st.integers(0, WIDE - 1), st.floats(-100, 20, width=32))
    return st.lists(pair, max_size=5, unique_by=lambda p: p[0]).map(tuple)


@given(
    seed=st.integers(0, 10**6),
    logit_bias=tokens_and_biases(),
    presence=st.floats(-2, 2, width=32),
    frequency=st.floats(-2, 2, width=32),
    repeat=st.floats(0.5, 2, width=32),
    last_n=st.sampled_from([-1, 0, 5, 64]),
    n_seen=st.integers(0, 80),
)
@settings(max_examples=150, deadline=None)
def test_greedy_takes_the_best_token_after_every_penalty_and_bias(
    seed: int,
    logit_bias: tuple[tuple[int, float], ...],
    presence: float,
    frequency: float,
    repeat: float,
    last_n: int,
    n_seen: int,
) -> None:
    row = random_row(seed)
    rng = np.random.default_rng(seed)
    best = np.argsort(row)[-40:]
    seen = rng.choice(best, n_seen).tolist()
    params = SamplingParams(
        temperature=0,
        presence_penalty=presence,
        frequency_penalty=frequency,
        repeat_penalty=repeat,
        repeat_last_n=last_n,
        logit_bias=logit_bias,
    )
    made = Sampler(params, n_vocab=WIDE, n_ctx=4096)
    made.accept(seen)
    expected = adjusted(row, params, seen)
    assert expected[made.draw(row)] == pytest.approx(expected.max(), abs=1e-4)


KNOBS: list[dict[str, object]] = [
    {"top_k": 20, "top_p": 0.95},
    {"top_k": 5, "temperature": 0.3},
    {"top_k": 40, "min_p": 0.05, "temperature": 2.0},
    {"top_k": 60, "typical_p": 0.8},
    {"top_k": 30, "xtc_probability": 0.7, "xtc_threshold": 0.05},
    {"top_k": 20, "presence_penalty": 1.5, "frequency_penalty": -1.0},
    {"top_k": 20, "repeat_penalty": 1.3, "repeat_last_n": 10},
    {"top_k": 3, "logit_bias": ((1, 30.0), (2, -100.0), (3, 5.0))},
]


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_a_narrowed_row_gives_the_draws_of_the_whole_row(
    knobs: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [random_row(seed) for seed in range(60)]
    seen = [int(row.argmax()) for row in rows[:30]]

    def draws(made: Sampler) -> list[int]:
        drawn = []
        for row in rows:
            drawn.append(made.draw(row))
            made.accept(drawn[-1:])
        return drawn

    narrow = sampler(seen=seen, seed=7, **knobs)
    assert len(narrow._candidates(rows[0])) < 200
    narrowed = draws(narrow)
    monkeypatch.setattr(sampling, "MAX_NARROWED", 0)
    whole = sampler(seen=seen, seed=7, **knobs)
    assert len(whole._candidates(rows[0])) > 10_000
    assert draws(whole) == narrowed
    assert len(set(narrowed)) > 10


@pytest.mark.parametrize("params", [{"top_n_sigma": 1.0, "top_k": 20}, {"top_p": 0.5}, {}], ids=str)
def test_what_depends_on_every_token_sees_every_token(params: dict[str, float]) -> None:
    row = random_row(1)
    assert len(sampler(**params)._candidates(row)) == np.isfinite(row).sum()


@given(
    st.lists(st.floats(-50, 50, width=32) | st.just(-np.inf), min_size=1, max_size=400),
    st.integers(1, 450),
)
def test_the_likeliest_hold_the_k_best_and_nothing_impossible(values: list[float], k: int) -> None:
    check_likeliest(np.array(values, np.float32), k)


@pytest.mark.parametrize("k", [1, 2, 20, 100, 1000])
@pytest.mark.parametrize("n_finite", [0, 1, 30, 5000, WIDE])
def test_the_likeliest_of_a_wide_row_hold_the_k_best(k: int, n_finite: int) -> None:
    rng = np.random.default_rng(n_finite)
    row = np.full(WIDE, -np.inf, np.float32)
    # Rounded, so that there are ties.
    row[rng.choice(WIDE, n_finite, replace=False)] = np.round(rng.standard_normal(n_finite), 2)
    check_likeliest(row, k)


def check_likeliest(row: FloatArray, k: int) -> None:
    ids = likeliest(row, k)
    finite = np.sort(row[row > -np.inf])[::-1]
    assert len(set(ids.tolist())) == len(ids) >= min(k, len(finite))
    assert np.array_equal(np.sort(row[ids])[::-1][:k], finite[:k])
    assert np.isfinite(row[ids]).all()


def frequencies(made: Sampler, row: FloatArray, n: int = 3000) -> FloatArray:
    counts = np.bincount([made.draw(row) for _ in range(n)], minlength=len(row))
    return (counts / n).astype(np.float32)


def softmax(row: FloatArray) -> FloatArray:
    exps = np.exp(row - row.max())
    return np.asarray(exps / exps.sum(), np.float32)


ROW = np.log(np.array([0.5, 0.25, 0.15, 0.07, 0.03], np.float32))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [0.5, 0.25, 0.15, 0.07, 0.03]),
        ({"temperature": 0.5}, softmax(ROW * 2)),
        ({"temperature": 4.0}, softmax(ROW / 4)),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_k": 99}, [0.5, 0.25, 0.15, 0.07, 0.03]),
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_p": 0.0}, [1, 0, 0, 0, 0]),
        ({"min_p": 0.2}, [5 / 9, 2.5 / 9, 1.5 / 9, 0, 0]),
        ({"min_p": 1.0}, [1, 0, 0, 0, 0]),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.2}, [0, 0.5, 0.3, 0.14, 0.06]),
        ({"logit_bias": ((0, -100.0),)}, [0, 0.5, 0.3, 0.14, 0.06]),
        ({"logit_bias": ((4, 50.0),)}, [0, 0, 0, 0, 1]),
    ],
    ids=str,
)
def test_each_knob_shapes_the_distribution_as_it_says(
    params: dict[str, object], expected: Sequence[float]
) -> None:
    made = sampler(5, seed=3, **params)
    assert frequencies(made, ROW) == pytest.approx(np.array(expected), abs=0.03)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"presence_penalty": 1.0}, [2.0, 1.0, 1.0]),
        ({"frequency_penalty": 0.5}, [1.5, 1.5, 1.0]),
        ({"repeat_penalty": 2.0}, [1.5, 1.0, 1.0]),
        ({"presence_penalty": 1.0, "repeat_last_n": 1}, [3.0, 1.0, 1.0]),
        ({"presence_penalty": 1.0, "repeat_last_n": 0}, [3.0, 2.0, 1.0]),
    ],
    ids=str,
)
def test_penalties_lower_what_was_seen(params: dict[str, float], expected: list[float]) -> None:
    row = np.array([3, 2, 1], np.float32)
    made = sampler(3, seen=[0, 0, 0, 1], seed=1, **params)
    assert frequencies(made, row) == pytest.approx(softmax(np.array(expected)), abs=0.04)


def test_the_same_seed_draws_the_same_tokens_and_another_one_others() -> None:
    row = random_row(0)

    def draws(seed: int, choice: int = 0) -> list[int]:
        params = SamplingParams(seed=seed, temperature=3.0)
        made = Sampler(params, n_vocab=WIDE, n_ctx=64, choice=choice)
        return [made.draw(row) for _ in range(20)]

    assert draws(5) == draws(5)
    assert draws(5) != draws(6)
    assert draws(5, choice=1) == draws(6)
    assert draws(-1) == draws(-1)
    assert draws(2**80) == draws(2**80)


def test_without_a_seed_no_two_samplers_draw_alike() -> None:
    row = random_row(0)
    first, second = sampler(temperature=3.0), sampler(temperature=3.0)
    assert [first.draw(row) for _ in range(9)] != [second.draw(row) for _ in range(9)]


EVERY_KIND: list[dict[str, object]] = [
    {"temperature": 0},
    {"temperature": 0, "repeat_penalty": 1.1},
    {},
    {"top_k": 5, "top_p": 0.9},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"typical_p": 0.5},
    {"xtc_probability": 1.0},
    {"top_n_sigma": 1.0},
]


@pytest.mark.parametrize("value", [-np.inf, np.nan])
@pytest.mark.parametrize("params", EVERY_KIND, ids=str)
def test_a_row_without_a_possible_token_is_an_error_and_not_a_crash(
    params: dict[str, object], value: float
) -> None:
    row = np.full(100, value, np.float32)
    with pytest.raises(DecodeFailed):
        sampler(100, seen=[1, 2], **params).draw(row)


@pytest.mark.parametrize("params", EVERY_KIND, ids=str)
def test_the_only_possible_token_is_drawn(params: dict[str, object]) -> None:
    row = np.full(5000, -np.inf, np.float32)
    row[4321] = -80
    assert sampler(5000, seen=[4321], **params).draw(row) == 4321


@pytest.mark.parametrize("params", EVERY_KIND, ids=str)
def test_a_vocabulary_of_one_token_can_be_drawn_from(params: dict[str, object]) -> None:
    assert sampler(1, **params).draw(np.zeros(1, np.float32)) == 0


@pytest.mark.parametrize("params", [{"temperature": 0}, {"seed": 1}, {"top_k": 2}], ids=str)
def test_a_row_whose_every_token_is_banned_is_an_error(params: dict[str, object]) -> None:
    banned = tuple((token, -100.0) for token in range(5))
    with pytest.raises(DecodeFailed):
        sampler(5, logit_bias=banned, **params).draw(ROW)


def test_a_banned_token_is_never_drawn_however_likely() -> None:
    row = np.zeros(5000, np.float32)
    row[7] = 1000
    made = sampler(5000, top_k=2, seed=1, logit_bias=((7, -100.0),))
    assert 7 not in [made.draw(row) for _ in range(200)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 101),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_k", 2**31),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("min_p", -0.5),
        ("typical_p", 2),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("repeat_penalty", 0),
        ("repeat_last_n", -2),
        ("dry_multiplier", -1),
        ("dry_base", 0.5),
        ("dry_allowed_length", -1),
        ("xtc_probability", 1.5),
        ("xtc_threshold", math.nan),
        ("top_n_sigma", -1),
        ("logit_bias", ((1, math.nan),)),
        ("logit_bias", ((1, math.inf),)),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    assert caught.value.param == name


@pytest.mark.parametrize("token", [-1, 5])
def test_a_bias_on_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampler(5, logit_bias=((token, 1.0),))
    assert caught.value.param == "logit_bias"


def test_dry_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampler(5, dry_multiplier=0.8)
    assert caught.value.param == "dry_multiplier"


def test_a_sampler_frees_its_chain_once_closed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    free = sampling.native.llama_sampler_free
    monkeypatch.setattr(
        sampling.native, "llama_sampler_free", lambda chain: (freed.append(1), free(chain))
    )
    closed, forgotten = sampler(5), sampler(5)
    closed.close()
    closed.close()
    del closed, forgotten
    gc.collect()
    assert len(freed) == 2


@pytest.mark.parametrize("n_top", [0, 1, 5])
def test_log_probabilities_are_the_logarithms_of_the_softmax(n_top: int) -> None:
    row = random_row(3)
    token = int(np.flatnonzero(np.isfinite(row))[5])
    result = log_probabilities(row, token, n_top=n_top, piece=lambda i: str(i).encode())
    probabilities = softmax(row.astype(np.float64).astype(np.float32))
    assert result.chosen.token == token
    assert result.chosen.logprob == pytest.approx(math.log(probabilities[token]), abs=1e-3)
    best = np.argsort(-row, kind="stable")[:n_top].tolist()
    assert [entry.token for entry in result.top] == best
    assert [entry.bytes for entry in result.top] == [str(i).encode() for i in best]


def test_more_alternatives_than_possible_tokens_are_as_many_as_there_are() -> None:
    row = np.full(50, -np.inf, np.float32)
    row[[3, 4]] = [1, 2]
    result = log_probabilities(row, 3, n_top=20, piece=lambda _: b"")
    assert [entry.token for entry in result.top] == [4, 3]
