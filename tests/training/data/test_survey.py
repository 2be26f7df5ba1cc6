"""What a dry run finds out about data."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.cost import Plan, Speed
from qwenkit.training.data.survey import make_survey

DEMO = qwen3.parse_config(read_json(Path(DEMO_DIR) / "config.json"))
ROWS = [{"prompt": "a", "completion": "word " * n} for n in range(1, 40)]
PAIR = {"prompt": "a", "chosen": "good", "rejected": "a longer bad answer"}


@pytest.fixture
def survey(prepare, renderer):
    """Surveys rows with the demo model."""

    def survey(*rows, method="sft", plan=None, **options):
        data = prepare(*rows, method=method)
        return make_survey(data, method=method, renderer=renderer, plan=plan or Plan(), **options)

    return survey


def test_lengths_are_those_of_the_samples(survey, prepare) -> None:
    found, data = survey(*ROWS), prepare(*ROWS)
    lengths = sorted(len(sample.ids) for sample in data.samples)
    assert (found.lengths.shortest, found.lengths.longest) == (lengths[0], lengths[-1])
    assert found.lengths.median == lengths[19]
    assert found.lengths.mean == pytest.approx(sum(lengths) / 39)
    assert sum(bucket.n_texts for bucket in found.lengths.histogram) == 39
    bounds = [bucket.n_tokens for bucket in found.lengths.histogram]
    assert all(later == 2 * earlier for earlier, later in pairwise(bounds))
    assert bounds[0] >= lengths[0] > bounds[0] / 2
    assert bounds[-1] >= lengths[-1]
    assert (found.n_tokens, found.n_learned) == (data.n_tokens, data.n_learned)


def test_packing_computes_less_than_padding(survey) -> None:
    found = survey(*ROWS, plan=Plan(batch_size=4, row_length=128))
    assert found.packed.n_tokens < found.padded.n_tokens
    assert found.packed.efficiency > 0.9 > found.padded.efficiency
    assert found.packed.n_rows < found.padded.n_rows == 39
    # torch computes a masked row whole.
    assert found.packed.n_pairs == found.packed.n_rows * 128**2


def test_preferences_are_two_texts_and_are_not_packed(survey) -> None:
    found = survey(PAIR, PAIR, method="dpo", plan=Plan(batch_size=2, row_length=64))
    assert found.packed is None
    assert found.lengths.n_texts == 4
    assert found.padded.n_tokens == 4 * found.lengths.longest
    assert found.padded.efficiency < 1


@pytest.mark.parametrize(
    ("plan", "n_steps"),
    [
        (Plan(batch_size=4), 10),
        (Plan(batch_size=4, accumulate=4, n_epochs=2), 6),
        (Plan(batch_size=100, n_epochs=0.1), 1),
        (Plan(n_steps=7), 7),
    ],
)
def test_steps_are_counted_by_batches_epochs_and_what_is_asked(survey, plan, n_steps) -> None:
    assert survey(*ROWS, plan=plan).n_steps == n_steps


def test_the_example_shows_what_is_learned(survey) -> None:
    spans = survey({"prompt": "Hello", "completion": "World"}).example.spans
    assert [(span.kind, span.text) for span in spans] == [
        ("given", "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"),
        ("learned", "<think>\n\n</think>\n\nWorld<|im_end|>"),
    ]
    kinds = [span.kind for span in survey(PAIR, method="dpo").example.spans]
    assert kinds == ["given", "chosen", "rejected"]


def test_answers_that_teach_not_to_think_are_counted(survey, prepare, renderer) -> None:
    rows = [
        {"prompt": "a", "completion": "A"},
        {"prompt": "b", "completion": "<think>\nhm\n</think>\n\nB"},
    ]
    assert survey(*rows).n_unthinking == 1
    assert survey(PAIR, method="dpo").n_unthinking == 2
    data = prepare(*rows, empty_thinking="given")
    given = make_survey(data, method="sft", renderer=renderer, plan=Plan())
    assert given.n_unthinking == 0


def test_cost_is_estimated_as_far_as_model_and_machine_are_known(survey) -> None:
    assert survey(*ROWS).memory is None
    found = survey(*ROWS, config=DEMO)
    assert found.memory.total_bytes > found.memory.weights_bytes > 4 * 2_800_000
    assert found.duration is None
    slow, fast = (
        survey(*ROWS, config=DEMO, speed=Speed(tokens_per_s=rate)).duration.seconds
        for rate in (10.0, 100.0)
    )
    assert slow == pytest.approx(10 * fast)


def test_the_time_is_that_of_the_rows_there_are_and_not_of_whole_batches(survey) -> None:
    plan = Plan(batch_size=32, accumulate=4, n_epochs=2)
    found = survey(*ROWS, plan=plan, config=DEMO, speed=Speed(tokens_per_s=10.0))
    assert found.n_steps == 2
    assert found.duration.seconds == pytest.approx(2 * found.padded.n_tokens / 10.0)


def test_more_epochs_take_longer_in_proportion(survey) -> None:
    once, thrice = (
        survey(*ROWS, plan=Plan(n_epochs=n), config=DEMO, speed=Speed(tokens_per_s=10.0)).duration
        for n in (1, 3)
    )
    assert thrice.seconds == pytest.approx(3 * once.seconds)
