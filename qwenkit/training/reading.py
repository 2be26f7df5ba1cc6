"""What a torch model makes of given texts: how likely they are, or the score of a reward model.

Texts go through in batches of similar length, longest first. The output layer, whose logits are by
far the largest thing in sight, runs on the tokens that are asked for only, a few at a time. Knows
models as transformers and PEFT make them; nothing of samples, and nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from qwenkit.extras import import_extra
from qwenkit.models.progress import ProgressFactory, silent

MAX_LOGITS = 1 << 25
"""Logits that exist at one time: 128 MiB of them."""


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens, and for each whether it is asked for; the first never is."""

    ids: tuple[int, ...] = field(repr=False)
    learned: tuple[bool, ...] = field(repr=False)

    @property
    def n_learned(self) -> int:
        """Tokens that are asked for."""
        return sum(self.learned)


def continuation(prompt: tuple[int, ...], answer: tuple[int, ...]) -> Text:
    """A text of which the answer is asked for."""
    return Text((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))


def log_likelihoods(
    model: Any,
    texts: Sequence[Text],
    *,
    batch_size: int,
    max_logits: int = MAX_LOGITS,
    progress: ProgressFactory = silent,
    description: str = "evaluating",
) -> list[float]:
    """For each text the sum of the natural log-probabilities of its tokens that are asked for.

    Args:
        model: A causal language model, with or without an adapter.
        texts: What is read.
        batch_size: Texts in one pass.
        max_logits: Logits that exist at one time.
        progress: Counts texts.
        description: What the progress bar says.
    """
    torch = import_extra("torch", extra="train")
    causal = without_peft(model)
    found = [0.0] * len(texts)
    with only_reading(model), progress(description, total=len(texts), unit="texts") as advance:
        for batch in batches([len(text.ids) for text in texts], batch_size):
            ids, seen = padded(causal, [texts[i].ids for i in batch])
            learned, _ = padded(causal, [texts[i].learned for i in batch])
            asked = (learned * seen)[:, 1:].bool()
            hidden = causal.base_model(
                input_ids=ids, attention_mask=seen, use_cache=False
            ).last_hidden_state[:, :-1]
            by_token = torch.zeros(asked.shape, dtype=torch.float64, device=asked.device)
            by_token[asked] = _log_probs(
                causal.get_output_embeddings(), hidden[asked], ids[:, 1:][asked], max_logits
            ).double()
            for i, value in zip(batch, by_token.sum(-1).tolist(), strict=True):
                found[i] = value
            advance(len(batch))
    return found


def scores(
    model: Any,
    texts: Sequence[Sequence[int]],
    *,
    batch_size: int,
    progress: ProgressFactory = silent,
    description: str = "judging",
) -> list[float]:
    """What a reward model gives each text, given as token ids.

    Args:
        model: A model with a head of one number, with or without an adapter.
        texts: What is read.
        batch_size: Texts in one pass.
        progress: Counts texts.
        description: What the progress bar says.
    """
    found = [0.0] * len(texts)
    with only_reading(model), progress(description, total=len(texts), unit="texts") as advance:
        for batch in batches([len(text) for text in texts], batch_size):
            ids, seen = padded(without_peft(model), [texts[i] for i in batch])
            given = model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, 0]
            for i, value in zip(batch, given.double().tolist(), strict=True):
                found[i] = value
            advance(len(batch))
    return found


def adapter_off(model: Any) -> AbstractContextManager[object]:
    """Within it, a model with an adapter is its base."""
    off: AbstractContextManager[object] = model.disable_adapter()
    return off


def has_adapter(model: Any) -> bool:
    """Whether it is a model of PEFT's."""
    return hasattr(model, "disable_adapter") and hasattr(model, "get_base_model")


def is_reward_model(model: Any) -> bool:
    """Whether it gives texts a score, and no next token."""
    return hasattr(without_peft(model), "score")


def _log_probs(head: Any, hidden: Any, targets: Any, max_logits: int) -> Any:
    """Log-probability of each target, in float32.

    Args:
        head: The output layer.
        hidden: What it reads, `[n, width]`.
        targets: Token ids, `[n]`.
        max_logits: Logits that exist at one time.
    """
    torch = import_extra("torch", extra="train")
    n = max(1, max_logits // head.weight.shape[0])
    found = []
    for some, wanted in zip(hidden.split(n), targets.split(n), strict=True):
        logits = head(some).float()
        of_targets = logits.gather(-1, wanted[:, None]).squeeze(-1)
        found.append(of_targets - logits.logsumexp(-1))
    return torch.cat(found)


def batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Places of the texts that go through together, from the lengths of all.

    The longest come first, so that memory runs out at once or never.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]


def padded(
    causal: Any, rows: Sequence[Sequence[int]], *, on_the_left: bool = False
) -> tuple[Any, Any]:
    """Rows as one tensor, filled up on the right or the left, and where they are not filled up."""
    torch = import_extra("torch", extra="train")
    width = max(map(len, rows))
    filler = causal.config.get_text_config().pad_token_id or 0
    device = causal.device

    def filled(row: list[int], value: int) -> list[int]:
        gap = [value] * (width - len(row))
        return gap + row if on_the_left else row + gap

    ids = [filled([*map(int, row)], filler) for row in rows]
    seen = [filled([1] * len(row), 0) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(seen, device=device)


def without_peft(model: Any) -> Any:
    """The model of transformers, which holds PEFT's layers where there are any."""
    return model.get_base_model() if has_adapter(model) else model


@contextmanager
def only_reading(model: Any) -> Iterator[None]:
    """Within it nothing is learned or dropped out; afterwards the model is as it was."""
    torch = import_extra("torch", extra="train")
    was_training = model.training
    model.eval()
    dtype = without_peft(model).dtype
    half = dtype in (torch.float16, torch.bfloat16)
    casting = torch.autocast(without_peft(model).device.type, dtype) if half else nullcontext()
    try:
        with torch.no_grad(), casting:
            yield
    finally:
        model.train(was_training)
