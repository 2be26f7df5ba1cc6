"""A model's answers to prompts, as reward functions judge them.

Knows tokens, the tags of a chat, and how transformers generates; no rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwenkit.chat.events import ReasoningDelta, TextDelta
from qwenkit.chat.parser import StreamParser
from qwenkit.extras import import_extra
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.data.samples import PromptSample
from qwenkit.training.reading import batches, only_reading, padded, without_peft
from qwenkit.training.rewards import Answer

_OPENS_REASONING = "<think>"


class AnswerReader:
    """Reads what a model generated.

    Args:
        tokenizer: transformers' tokenizer.
        eos_tokens: Tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, eos_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._eos_tokens = eos_tokens

    @property
    def eos_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._eos_tokens

    def read(self, sample: PromptSample, ids: Sequence[int]) -> Answer:
        """One answer; tool calls are part of its text.

        Args:
            sample: The prompt.
            ids: All that was generated, the end token included where there is one.
        """
        is_finished = bool(ids) and ids[-1] in self._eos_tokens
        text, reasoning = self._split(sample, ids[:-1] if is_finished else ids)
        return Answer(
            text=text,
            reasoning=reasoning,
            raw=self._decode(ids),
            ids=tuple(ids),
            is_finished=is_finished,
            prompt=sample.prompt,
            messages=sample.messages,
            fields=sample.fields,
            place=sample.place,
        )

    def text(self, ids: Sequence[int]) -> str:
        """Tokens as text, tags included."""
        return self._decode(ids)

    def _split(self, sample: PromptSample, ids: Sequence[int]) -> tuple[str, str]:
        parser = StreamParser(
            inside_reasoning=self._decode(sample.prompt[-2:]).rstrip().endswith(_OPENS_REASONING),
            parse_tools=False,
        )
        deltas = [*parser.feed(self._decode(ids)), *parser.flush()]
        text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
        reasoning = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
        return text, reasoning

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def open_reader(model: Any, tokenizer: Any) -> AnswerReader:
    """Reads a model's answers, which end where the model or the tokenizer declares an end."""
    declared = model.generation_config.eos_token_id
    several = declared if isinstance(declared, list) else [declared]
    ends = frozenset(token for token in (*several, tokenizer.eos_token_id) if token is not None)
    return AnswerReader(tokenizer, ends)


def generate_answers(
    model: Any,
    samples: Sequence[PromptSample],
    reader: AnswerReader,
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: ProgressFactory = silent,
) -> list[Answer]:
    """Answers without chance: each token is the likeliest.

    Args:
        model: A causal language model, with or without an adapter.
        samples: What is answered.
        reader: Reads what was generated.
        max_new_tokens: Most tokens of an answer.
        batch_size: Prompts in one pass.
        progress: Counts answers.
    """
    transformers = import_extra("transformers", extra="train")
    causal = without_peft(model)
    config = transformers.GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(reader.eos_tokens),
        pad_token_id=causal.config.get_text_config().pad_token_id or 0,
    )
    found: dict[int, Answer] = {}
    total = len(samples)
    with only_reading(model), progress("answering", total=total, unit="answers") as advance:
        for batch in batches([sample.n_tokens for sample in samples], batch_size):
            ids, seen = padded(causal, [samples[i].prompt for i in batch], on_the_left=True)
            written = causal.generate(input_ids=ids, attention_mask=seen, generation_config=config)
            for i, row in zip(batch, written[:, ids.shape[1] :].tolist(), strict=True):
                found[i] = reader.read(samples[i], _until_the_end(row, reader.eos_tokens))
            advance(len(batch))
    return [found[i] for i in range(total)]


def _until_the_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    n = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[:n]
