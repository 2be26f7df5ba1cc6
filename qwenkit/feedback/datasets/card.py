"""The card of a data set: README.md, for people and for `datasets`. Knows reports, no answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from qwenkit import __version__
from qwenkit.feedback.datasets.columns import Type, card_features
from qwenkit.feedback.datasets.options import SPLITS, ExportOptions
from qwenkit.feedback.datasets.report import ExportReport

FILE = "README.md"
MARK = "made-by-qwenkit-feedback"
"""A tag by which an exported folder is known again."""

_TASKS = {
    "dpo": "pairs of answers to one prompt, of which people prefer one, for `--method dpo`",
    "reward": "pairs of answers to one prompt, of which people prefer one, for `--method reward`",
    "kto": "answers that people like or not, for `--method kto`",
    "ppo": "queries and responses with rewards from -1 to 1, and the prompts alone",
    "trlx": "samples, each the prompt's text and the answer's, with rewards from -1 to 1",
    "sft": "answers that people like best, for `--method sft`",
}
_ORIGINS = {
    "compared": "answers were compared side by side",
    "edited": "a person wrote a better wording",
    "rated": "thumbs and scales",
}
_RULE = """\
Only answers to the same rendered prompt are set against each other: the same text by the same chat
template. Answers that say the same, but for white space around it and the ids of calls, are one.

- **One rater.** The newest judgement of each kind counts. A scale of 4 or 5 is as a thumb up, 1 or
  2 as a thumb down, 3 is neither. Where a thumb and a scale contradict each other, the newer one
  counts, and none if both came at once.
- **Two answers.** The first of these that anybody gave decides, and the others are not looked at:
  (1) comparisons side by side, and edits, which prefer the edited text to the original; (2) raters
  who rated both answers: the higher scale, by {min_gap} or more, or else a thumb up against a
  thumb down; (3) where nobody rated both, an answer with more thumbs up than down against one with
  more down than up, each by at least {min_margin} raters.
- **Several raters.** An answer is preferred if at least {min_margin} more raters prefer it than
  the other one, and no fewer than call it a tie. Otherwise the pair is left out.
- **Circles.** Preferences that go round (a over b, b over c, c over a) are left out. One of a
  weaker kind that would close a circle with those of a stronger kind is left out, and they stay.
- **Labels.** An answer is liked if at least {min_margin} more raters like it than don't, disliked
  the other way round. Where nobody says either, it is liked if it is preferred to others and none
  to it, disliked the other way round.
- **Rewards.** The mean over raters, from -1 to 1: a thumb is 1 or -1, a scale stands in five even
  steps. Where nobody rated an answer, wins less losses by all comparisons and edits that it is in.
- **Most pairs of one prompt:** {max_pairs}, those with the best ground.
- **The same row twice** is one row, with the mean of two rewards. A row and its contrary, which two
  templates or redacted prompts can give, are both left out.
- **Splits.** Threads and prompts that hang together by a rated answer are in one split. The hash
  of the oldest such answer and the seed decide in which.
"""


def make_card(
    report: ExportReport,
    options: ExportOptions,
    columns: Mapping[str, Type],
    prompt_columns: Mapping[str, Type] | None,
) -> str:
    """Write the card.

    Args:
        report: What the export made.
        options: Its choices.
        columns: Of the rows.
        prompt_columns: Of the prompts alone, where they are listed.
    """
    head = yaml.safe_dump(
        _head(report, options, columns, prompt_columns), sort_keys=False, allow_unicode=True
    )
    return f"---\n{head}---\n\n{_text(report, options)}"


def _head(
    report: ExportReport,
    options: ExportOptions,
    columns: Mapping[str, Type],
    prompt_columns: Mapping[str, Type] | None,
) -> dict[str, Any]:
    configs = [("default", "data", columns)]
    if prompt_columns is not None:
        configs.append(("prompts", "prompts", prompt_columns))
    return {
        "pretty_name": f"Feedback for {options.format}",
        "tags": [MARK, options.format],
        "configs": [
            {
                "config_name": name,
                "data_files": [
                    {"split": split, "path": path}
                    for split in SPLITS
                    for path in report.files
                    if path == f"{folder}/{split}.{options.files}"
                ],
            }
            for name, folder, _ in configs
        ],
        "dataset_info": [
            {"config_name": name, "features": card_features(types)} for name, _, types in configs
        ],
    }


def _text(report: ExportReport, options: ExportOptions) -> str:
    parts = [
        f"# Feedback for {options.format}",
        _summary(report, options),
        "## Rows",
        _rows(report),
        "## Left out",
        _left_out(report),
        "## Choices",
        _choices(options),
        "## Rules",
        _RULE.format(
            min_gap=options.min_gap, min_margin=options.min_margin, max_pairs=options.max_pairs
        ).strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(report: ExportReport, options: ExportOptions) -> str:
    return (
        f"{_TASKS[options.format].capitalize()}. Made by `qwenkit feedback export` of qwenkit "
        f"{__version__}, out of {report.n_answers:,} answers; {report.n_prompts:,} prompts have "
        "judged ones."
    )


def _rows(report: ExportReport) -> str:
    splits = [split for split in SPLITS if report.by_split.get(split)]
    rows = [
        (_ORIGINS[origin], *(report.rows[split].get(origin, 0) for split in splits), n)
        for origin, n in report.by_origin.items()
    ]
    total = ("all", *(report.by_split[split] for split in splits), report.n_rows)
    return _table(["Where they come from", *splits, "all"], [*rows, total])


def _left_out(report: ExportReport) -> str:
    if not report.left_out:
        return "Nothing."
    return _table(["Why", "How many"], list(report.left_out.items()))


def _choices(options: ExportOptions) -> str:
    values = options.as_json()
    filters = values.pop("filters")
    chosen = [(name, "" if value is None else value) for name, value in values.items()]
    return _table(["Choice", "Value"], [*chosen, *filters.items()])


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")
