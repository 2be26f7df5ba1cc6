"""Shows what `qwenkit finetune --dry-run` found out. Knows how to show it, and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qwenkit.cli import console

if TYPE_CHECKING:
    from qwenkit.training.data.cost import Duration, Memory
    from qwenkit.training.data.survey import Batches, Example, Lengths, Survey

_BAR_WIDTH = 40
_MEASURES = {
    "probe": "from a short run",
    "matmul": "from the rate of a matrix product",
}
_STYLES = {"given": "dim", "learned": "bold green", "chosen": "bold green", "rejected": "bold red"}
_MARKS = {"learned": "«»", "chosen": "«»", "rejected": "⟦⟧"}
_LEGEND = "marked: what is learned; in red, or ⟦⟧: what is learned to be avoided"


def show_dry_run(survey: Survey, *, json: bool) -> None:
    """Show a survey on stdout.

    Args:
        survey: What there is to show.
        json: As JSON instead of tables.
    """
    if json:
        console.print_json(dry_run_json(survey))
        return
    console.table("Data", ["", ""], list(_data_rows(survey)))
    _show_bad_rows(survey)
    _show_lengths(survey.lengths)
    console.table("One pass", ["", "Rows", "Tokens", "No padding"], list(_pass_rows(survey)))
    if survey.memory is not None:
        console.table("Memory of a step", ["", ""], list(_memory_rows(survey.memory)))
    console.table("Run", ["", ""], list(_run_rows(survey)))
    _show_example(survey.example)


def dry_run_json(survey: Survey) -> dict[str, Any]:
    """A survey as `--json` gives it."""
    shown: dict[str, Any] = console.plain(survey)
    if survey.memory is not None:
        shown["memory"]["total_bytes"] = survey.memory.total_bytes
    return shown


def _data_rows(survey: Survey) -> Iterator[tuple[str, str]]:
    yield "Method", survey.method
    yield "Rows", f"{survey.n_rows:,}"
    yield "Samples", f"{survey.n_samples:,}"
    for name, n in (
        ("Bad rows passed over", survey.n_skipped),
        ("Left out as too long", survey.n_dropped),
        ("Cut off", survey.n_truncated),
    ):
        if n:
            yield name, f"{n:,}"
    yield "Tokens", f"{survey.n_tokens:,}"
    yield "Learned", f"{survey.n_learned:,} ({survey.n_learned / survey.n_tokens:.0%})"
    if survey.n_unthinking:
        yield "Answer at once", f"{survey.n_unthinking:,} learn an empty thinking block"
    yield "Template", survey.template_hash


def _show_bad_rows(survey: Survey) -> None:
    if survey.bad_rows:
        rows = [(bad.place, bad.reason) for bad in survey.bad_rows]
        console.table("The first bad rows", ["Row", "Reason"], rows)


def _show_lengths(lengths: Lengths) -> None:
    console.table(
        "Tokens of a text",
        ["Shortest", "Mean", "Median", "90 %", "99 %", "Longest"],
        [
            (
                lengths.shortest,
                lengths.mean,
                lengths.median,
                lengths.p90,
                lengths.p99,
                lengths.longest,
            )
        ],
    )
    most = max(bucket.n_texts for bucket in lengths.histogram)
    rows = [
        (f"to {bucket.n_tokens:,}", bucket.n_texts, "█" * round(_BAR_WIDTH * bucket.n_texts / most))
        for bucket in lengths.histogram
    ]
    console.table("", ["Tokens", "Texts", ""], rows)


def _pass_rows(survey: Survey) -> Iterator[tuple[str, int, str, str]]:
    yield _pass_row("padded", survey.padded)
    if survey.packed is not None:
        yield _pass_row("packed", survey.packed)


def _pass_row(name: str, batches: Batches) -> tuple[str, int, str, str]:
    return name, batches.n_rows, f"{batches.n_tokens:,}", f"{batches.efficiency:.1%}"


def _memory_rows(memory: Memory) -> Iterator[tuple[str, str]]:
    yield "Weights", console.size(memory.weights_bytes)
    if memory.trained_bytes:
        yield "Adapter", console.size(memory.trained_bytes)
    yield "Gradients", console.size(memory.gradients_bytes)
    yield "Optimizer", console.size(memory.optimizer_bytes)
    yield "Activations", console.size(memory.activations_bytes)
    yield "Logits", console.size(memory.logits_bytes)
    yield "In all", f"{console.size(memory.total_bytes)}, and what torch takes by itself"


def _run_rows(survey: Survey) -> Iterator[tuple[str, str]]:
    yield "Steps", f"{survey.n_steps:,}"
    if survey.duration is not None:
        yield "Time", _spoken(survey.duration)


def _spoken(duration: Duration) -> str:
    least, most = duration.seconds / duration.factor, duration.seconds * duration.factor
    measured = _MEASURES[duration.measured_by]
    return f"about {_time(duration.seconds)}; {_time(least)} to {_time(most)} ({measured})"


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _show_example(example: Example) -> None:
    console.line(f"{example.place}, as the model sees it ({_LEGEND})", style="bold")
    spans = [(span.text, _STYLES[span.kind], _MARKS.get(span.kind, "")) for span in example.spans]
    console.spans(spans)
