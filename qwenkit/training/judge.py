"""Judges answers by a reward model of our own: a PEFT folder that `--method reward` made.

It stands on the very weights of the model that is being taught, so there is no second copy of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwenkit.adapters.peft import CONFIG_NAME
from qwenkit.errors import AdapterUnsupported, ModelNotFound
from qwenkit.extras import import_extra
from qwenkit.models.checkpoint import read_json
from qwenkit.training.reading import scores
from qwenkit.training.reward import HEAD, add_head
from qwenkit.training.rewards import Answer, ScoreAll
from qwenkit.training.tokenised import old_names


def load_judge(folder: Path, base: Any, *, batch_size: int, shares: bool = True) -> ScoreAll:
    """A reward model that gives answers their scores.

    Args:
        folder: Its adapter.
        base: The causal language model that it was trained on, without an adapter.
        batch_size: Answers in one pass.
        shares: Whether the base's weights stay as they are, so that they can be used in place.

    Raises:
        ModelNotFound: There is no adapter.
        AdapterUnsupported: It is no reward model.
    """
    model = load_reward_model(folder, _same_weights(base) if shares else copy.deepcopy(base))

    def score(answers: Sequence[Answer]) -> list[float | None]:
        # The trainer moves the weights to its device, and only those that are shared move along.
        model.to(base.device)
        texts = [(*answer.prompt, *answer.ids) for answer in answers]
        return list(scores(model, texts, batch_size=batch_size))

    return score


def load_reward_model(folder: Path, base: Any) -> Any:
    """A reward model around a base's layers, which get its adapter.

    Args:
        folder: The adapter.
        base: The causal language model that it was trained on; not to be used otherwise.

    Raises:
        ModelNotFound: There is no adapter.
        AdapterUnsupported: It is no reward model.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ModelNotFound(
            f"there is no adapter in {folder}",
            hint="name the adapter folder of a run with --method reward",
        )
    if HEAD not in (read_json(path).get("modules_to_save") or ()):
        raise AdapterUnsupported(
            f"{folder} is no reward model: it has no head that gives a score",
            hint="train one with qwenkit finetune --method reward",
        )
    peft = import_extra("peft", extra="train")
    with old_names():
        return peft.PeftModel.from_pretrained(add_head(base, seed=0), str(folder)).eval()


def _same_weights(base: Any) -> Any:
    """A model of its own that holds the same tensors."""
    tensors = (*base.parameters(), *base.buffers())
    return copy.deepcopy(base, {id(tensor): tensor for tensor in tensors})
