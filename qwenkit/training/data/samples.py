"""What a model is taught with: token ids, and which of them it must learn. Knows no files, no text.

`place` names the row that a sample was made of, as `train.jsonl:17`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from qwenkit.chat.messages import JsonValue


@dataclass(frozen=True, slots=True)
class Sample:
    """A text to imitate.

    Args:
        ids: Its tokens.
        learned: For each token whether it is a target; the first never is.
        place: Its row.
    """

    ids: tuple[int, ...] = field(repr=False)
    learned: tuple[bool, ...] = field(repr=False)
    place: str

    @property
    def n_tokens(self) -> int:
        """Its length."""
        return len(self.ids)

    @property
    def n_learned(self) -> int:
        """Tokens that are targets."""
        return sum(self.learned)


@dataclass(frozen=True, slots=True)
class PreferenceSample:
    """Two answers to one prompt, the better one known.

    Args:
        prompt: Tokens of the prompt, as serving has it.
        chosen: Tokens of the better answer, its end token included.
        rejected: Tokens of the other.
        place: Its row.
    """

    prompt: tuple[int, ...] = field(repr=False)
    chosen: tuple[int, ...] = field(repr=False)
    rejected: tuple[int, ...] = field(repr=False)
    place: str

    @property
    def n_tokens(self) -> int:
        """Length of both texts together, each with the prompt in front."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def n_learned(self) -> int:
        """Tokens that are targets."""
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class LabelSample:
    """An answer that somebody liked, or did not.

    Args:
        prompt: Tokens of the prompt, as serving has it.
        completion: Tokens of the answer, its end token included.
        label: Whether it is liked.
        place: Its row.
    """

    prompt: tuple[int, ...] = field(repr=False)
    completion: tuple[int, ...] = field(repr=False)
    label: bool
    place: str

    @property
    def n_tokens(self) -> int:
        """Its length."""
        return len(self.prompt) + len(self.completion)

    @property
    def n_learned(self) -> int:
        """Tokens that are targets."""
        return len(self.completion)


@dataclass(frozen=True, slots=True)
class PromptSample:
    """A prompt that the model answers itself.

    Args:
        prompt: Its tokens, as serving has them.
        messages: The conversation, each message as templates take it.
        fields: The row's other fields, such as a reference answer.
        place: Its row.
    """

    prompt: tuple[int, ...] = field(repr=False)
    messages: JsonValue = field(repr=False)
    fields: Mapping[str, JsonValue] = field(repr=False)
    place: str

    @property
    def n_tokens(self) -> int:
        """Its length."""
        return len(self.prompt)

    @property
    def n_learned(self) -> int:
        """None: what is learned is still to be generated."""
        return 0


AnySample: TypeAlias = Sample | PreferenceSample | LabelSample | PromptSample


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used.

    Args:
        place: The row, as `train.jsonl:17`.
        reason: What is wrong with it.
    """

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class PreparedData:
    """All samples of a run, in the order of their rows.

    Args:
        samples: All of one kind: `Sample` for sft, `PreferenceSample` for dpo, orpo and reward,
            `LabelSample` for kto, `PromptSample` for grpo.
        skipped: The first thousand bad rows that were passed over.
        n_rows: Rows that were read, whatever became of them.
        template_hash: Of the chat template that rendered them.
        fingerprint: Short hash of all samples.
        n_skipped: Bad rows that were passed over.
        n_dropped: Samples that were left out for their length.
        n_truncated: Samples of which the end was cut off.
    """

    samples: tuple[AnySample, ...] = field(repr=False)
    skipped: tuple[BadRow, ...]
    n_rows: int
    template_hash: str
    fingerprint: str
    n_skipped: int = 0
    n_dropped: int = 0
    n_truncated: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of all samples."""
        return sum(sample.n_tokens for sample in self.samples)

    @property
    def n_learned(self) -> int:
        """Tokens that are targets."""
        return sum(sample.n_learned for sample in self.samples)
