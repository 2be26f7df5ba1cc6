"""The ways to teach a model, by the names that commands and reports use. Knows nothing else."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Method: TypeAlias = Literal["sft", "dpo", "kto", "orpo", "reward", "grpo"]
"""`sft` imitates answers; `dpo` and `orpo` prefer one answer to another, `kto` good answers to bad
ones; `reward` trains a judge; `grpo` rewards what the model itself comes up with."""

METHODS: tuple[Method, ...] = get_args(Method)
