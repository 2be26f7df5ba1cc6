"""`python -m qwenkit.training.demo`: trains the demo model, examines it, writes its checkpoint."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qwenkit.errors import QwenkitError
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.demo import corpus, exam
from qwenkit.training.demo.checkpoint import read_checkpoint, round_to_fp16, write_checkpoint
from qwenkit.training.demo.tokenizer import strip_added, train_tokenizer
from qwenkit.training.demo.train import Progress, Recipe, train

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_N_SHORT: Final = 5000
_N_LONG: Final = 400


def main() -> int:
    """Run the recipe, or with `--check` only the exam of a checkpoint that is there."""
    arguments = _parser().parse_args()
    try:
        if arguments.check:
            model, tokenizer = read_checkpoint(arguments.out)
        else:
            recipe = replace(Recipe(), n_steps=arguments.steps, n_threads=arguments.threads)
            tokenizer = train_tokenizer(_tokenizer_texts(recipe.seed))
            trained = train(recipe, tokenizer=tokenizer, report=_Meter())
            model = round_to_fp16(trained)
            write_checkpoint(arguments.out, model=model, tokenizer=tokenizer)
        _examine(model, tokenizer, mistakes=arguments.mistakes)
    except QwenkitError as exc:
        print(f"{exc.message}\nhint: {exc.hint}" if exc.hint else exc.message, file=sys.stderr)
        return exc.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Recipe()
    parser = argparse.ArgumentParser(prog="python -m qwenkit.training.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=DEMO_DIR, help="the checkpoint's folder")
    parser.add_argument("--steps", type=int, default=defaults.n_steps, help="optimiser steps")
    parser.add_argument("--threads", type=int, default=defaults.n_threads, help="CPU threads")
    parser.add_argument("--check", action="store_true", help="only examine the checkpoint")
    parser.add_argument("--mistakes", type=int, default=0, help="wrong answers to show per paper")
    return parser


def _tokenizer_texts(seed: int) -> Iterator[str]:
    scenes = chain(
        islice(corpus.short_scenes(seed=seed), _N_SHORT),
        islice(corpus.long_scenes(seed=seed), _N_LONG),
    )
    for sample in chain.from_iterable(scenes):
        yield strip_added(sample.shared + sample.prompt + sample.completion)


class _Meter:
    """Shows how a run goes, on stderr."""

    _EVERY: Final = 20

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._loss = 0.0

    def __call__(self, progress: Progress) -> None:
        self._loss += progress.loss / self._EVERY
        if progress.step % self._EVERY:
            return
        elapsed_s = time.monotonic() - self._start
        left_s = elapsed_s * (progress.n_steps / progress.step - 1)
        print(
            f"step {progress.step}/{progress.n_steps}  loss {self._loss:.3f}  "
            f"{progress.n_tokens / elapsed_s:.0f} tokens/s  {left_s / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )
        self._loss = 0.0


def _examine(model: Any, tokenizer: Tokenizer, *, mistakes: int) -> None:
    print(f"{'paper':32} {'right':>12} {'well formed':>12}")
    for paper in exam.papers():
        mark = exam.sit(paper, model=model, tokenizer=tokenizer)
        right, formed = f"{mark.n_right}/{mark.n}", f"{mark.n_well_formed}/{mark.n}"
        print(f"{mark.name:32} {right:>12} {formed:>12}", flush=True)
        for prompt, expected, given in mark.mistakes[:mistakes]:
            print(f"  asked    {prompt!r}\n  expected {expected!r}\n  given    {given!r}")


if __name__ == "__main__":
    sys.exit(main())
