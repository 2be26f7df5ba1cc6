"""What somebody wants exported: the choices of one export, and what they are called."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from qwenkit.chat.template import ChatTemplate
from qwenkit.errors import InvalidSettings
from qwenkit.feedback.query import Query

Format: TypeAlias = Literal["dpo", "kto", "ppo", "trlx", "sft", "reward"]
"""What rows are for: pairs for `dpo` and `reward`, labels for `kto`, rewards for `ppo` and `trlx`,
answers to imitate for `sft`."""
FileType: TypeAlias = Literal["jsonl", "parquet"]
Split: TypeAlias = Literal["train", "validation"]

FORMATS: tuple[Format, ...] = get_args(Format)
FILE_TYPES: tuple[FileType, ...] = get_args(FileType)
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The choices of one export.

    Args:
        format: What the rows are for.
        thinking: `keep` has answers' reasoning in `reasoning_content`; `strip` takes it out of
            answers and of the conversation before them, as `finetune --thinking strip` does.
        prompts: Conversations (`/v1/chat/completions`, the agent, the terminal), or raw texts
            (`/v1/completions`, for `finetune --strings raw`). One data set holds one kind.
        files: JSON lines or Parquet.
        validation_share: Share of the rows that is held out, about; threads and prompts stay whole.
        seed: Decides which are held out, and which pairs of a prompt go where it has too many.
        filters: Which answers are looked at; with a rater, only that rater's judgements count.
        unfinished: Whether answers that were cancelled or cut off by a limit become rows.
        min_gap: Points of the scale by which one answer must be ahead of the other for one rater.
        min_margin: Raters by which the preference for one answer must be ahead.
        max_pairs: Most pairs of one prompt; the best founded stay.
        template: Writes the texts of `trlx`; None is Qwen3's format.
    """

    format: Format
    thinking: Literal["keep", "strip"] = "keep"
    prompts: Literal["chat", "raw"] = "chat"
    files: FileType = "jsonl"
    validation_share: float = 0.1
    seed: int = 0
    filters: Query = field(default_factory=Query)
    unfinished: bool = False
    min_gap: int = 1
    min_margin: int = 1
    max_pairs: int = 16
    template: ChatTemplate | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InvalidSettings(
                f"there is no format `{self.format}`", hint=f"one of {', '.join(FORMATS)}"
            )
        if not 0 <= self.validation_share < 1:
            raise InvalidSettings(
                f"a validation share of {self.validation_share} is not from 0 to less than 1"
            )
        for name, most in (("min_gap", 4), ("min_margin", None), ("max_pairs", None)):
            value = getattr(self, name)
            if value < 1 or (most is not None and value > most):
                raise InvalidSettings(f"{name} is {value}, which no rating can meet")

    def as_json(self) -> dict[str, Any]:
        """As the card and reports show them: filters that are not set are left out."""
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        value["template"] = None if self.template is None else self.template.hash
        value["filters"] = {
            name: each
            for name, each in asdict(self.filters).items()
            if each is not None and name not in ("limit", "cursor")
        }
        return value
