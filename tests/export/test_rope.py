"""Contexts and how they are stretched."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.export.rope import Context, plan_context, rope_tables, stretched_config
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR

CONFIG = read_json(DEMO_DIR / "config.json")
DEMO = qwen3.parse_config(CONFIG)
QWEN3_8B = replace(DEMO, n_ctx=40960)
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}


def test_without_a_wish_the_checkpoint_decides() -> None:
    assert plan_context(QWEN3_8B, None) == Context(40960)
    scaled = replace(DEMO, n_ctx=16384, rope_scaling=YARN)
    assert plan_context(scaled, None) == Context(16384, YARN)


@pytest.mark.parametrize(
    ("n_ctx", "factor"),
    [(1024, 1), (32768, 1), (32769, 2), (40960, 2), (65536, 2), (65537, 3), (131072, 4)],
)
def test_the_factor_is_the_least_whole_one_over_32768(n_ctx: int, factor: int) -> None:
    context = plan_context(QWEN3_8B, n_ctx)
    assert (context.n_ctx, context.yarn_factor) == (n_ctx, factor)
    if factor > 1:
        assert context.scaling["original_max_position_embeddings"] == 32768


def test_a_checkpoint_that_is_stretched_already_keeps_its_factor_within_its_context() -> None:
    scaled = replace(DEMO, n_ctx=16384, rope_scaling=YARN | {"beta_fast": 24})
    assert plan_context(scaled, 2048).yarn_factor == 4
    further = plan_context(scaled, 20_000)
    assert (further.yarn_factor, further.scaling["beta_fast"]) == (5, 24)


def test_what_a_checkpoint_s_own_factor_reaches_is_left_as_it_says() -> None:
    card = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    card |= {"attention_factor": 1.0}
    stretched = replace(DEMO, n_ctx=40960, rope_scaling=card)
    assert plan_context(stretched, 131_072) == Context(131_072, card)
    further = plan_context(replace(stretched, rope_scaling=card | {"truncate": False}), 131_073)
    assert further.scaling["factor"] == 5
    assert further.scaling["truncate"] is False
    assert "attention_factor" not in further.scaling


def test_the_theta_of_a_configuration_by_kinds_of_layer_is_kept() -> None:
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    config = {key: value for key, value in CONFIG.items() if key != "rope_theta"}
    config |= {"rope_parameters": {"full_attention": rope}}
    read = qwen3.parse_config(stretched_config(config, Context(4096)))
    assert read.rope_theta == 500_000.0


def test_linear_scaling_is_kept_and_is_not_called_yarn() -> None:
    scaled = replace(DEMO, n_ctx=8192, rope_scaling={"type": "linear", "factor": 2.0})
    context = plan_context(scaled, 4096)
    assert (context.scaling["factor"], context.yarn_factor) == (2.0, 1.0)


def test_linear_scaling_is_not_taken_further_by_yarn() -> None:
    scaled = replace(DEMO, n_ctx=8192, rope_scaling={"type": "linear", "factor": 2.0})
    with pytest.raises(InvalidSettings, match="linear"):
        plan_context(scaled, 8193)


@pytest.mark.parametrize(
    "spelling", [{}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}], ids=[4, 5]
)
def test_the_stretched_configuration_reads_back_in_both_spellings_of_transformers(
    spelling: dict[str, Any],
) -> None:
    config = CONFIG | spelling
    context = plan_context(qwen3.parse_config(config), 10_000)
    read = qwen3.parse_config(stretched_config(config, context))
    assert (read.n_ctx, read.rope_theta, read.rope_scaling["factor"]) == (10_000, 1e6, 3.0)
    assert read.rope_scaling["original_max_position_embeddings"] == 4096
    assert plan_context(read, None).yarn_factor == context.yarn_factor


def test_a_context_that_needs_no_stretching_takes_none_of_it_along() -> None:
    config = stretched_config(CONFIG, plan_context(DEMO, 512))
    assert qwen3.parse_config(config).rope_scaling == {}


def test_tables_start_unturned_and_turn_by_one_radian_a_position() -> None:
    cos, sin = rope_tables(DEMO, Context(10_000))
    assert cos.shape == sin.shape == (10_000, 32)
    assert cos.dtype == np.float32
    assert (cos[0] == 1).all()
    assert (sin[0] == 0).all()
    np.testing.assert_allclose(cos[:, 0], np.cos(np.arange(10_000)), atol=1e-6)


def test_yarn_leaves_quick_turns_and_slows_long_ones_by_its_factor() -> None:
    plain = np.arctan2(
        *(table[1].astype(np.float64) for table in reversed(rope_tables(DEMO, Context(2))))
    )
    cos, sin = (table.astype(np.float64) for table in rope_tables(DEMO, Context(2, YARN)))
    magnitude = np.hypot(cos[1], sin[1])
    np.testing.assert_allclose(magnitude, 0.1 * math.log(4) + 1, rtol=1e-6)
    slower = plain[:20] / np.arctan2(sin[1], cos[1])[:20]
    assert slower[0] == pytest.approx(1)
    assert slower[-1] == pytest.approx(4, rel=1e-3)
    assert (np.diff(slower) > -1e-3).all()
