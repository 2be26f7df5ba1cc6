"""How a model with an adapter does on held-out judgements: what it finds likely, and what it says.

Likelihoods are of the judged answers, by `training.evaluate`. What it says is generated without
chance, for each held-out prompt once, and judged by `win_rate`. All models of a round are measured
on the same samples, in the number format that the base is computed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwenkit.extras import import_extra
from qwenkit.improve.win_rate import JudgedPrompt, likeness, score, win_rate
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.answers import AnswerReader, generate_answers, open_reader
from qwenkit.training.base_model import choose_precision, load_base, load_tokenizer
from qwenkit.training.data.samples import LabelSample, PreferenceSample, PreparedData, PromptSample
from qwenkit.training.evaluate import evaluate
from qwenkit.training.processes import join_processes
from qwenkit.training.quiet import quiet
from qwenkit.training.reading import adapter_off, continuation, has_adapter, log_likelihoods
from qwenkit.training.rewards import Answer
from qwenkit.training.run_config import RunConfig
from qwenkit.training.tokenised import old_names

_BATCH_SIZE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """How one model does; None where there was nothing to measure.

    Args:
        n_pairs: Held-out pairs.
        accuracy: Share of the pairs of which it finds the preferred answer the likelier one, by the
            sum over its tokens.
        accuracy_per_token: The same by the mean.
        margin: By how much on average, in nats.
        separation: Of single answers: how often it raises a liked one more than a disliked one,
            over the base, of all such twos; without an adapter 0.5.
        perplexity: Of the preferred or liked answers.
        n_prompts: Held-out prompts that it answered.
        n_contested: Of them those with preferred and rejected answers.
        win_rate: Share of these whose answer is nearer to the preferred than to the rejected ones.
        kept: How like its answers are to liked ones, on average, where none is disliked: what was
            good and should stay.
        cut_off: Share of its answers that had not come to their end.
        mean_tokens: Of its answers, the end included.
    """

    n_pairs: int
    accuracy: float | None
    accuracy_per_token: float | None
    margin: float | None
    separation: float | None
    perplexity: float | None
    n_prompts: int
    n_contested: int
    win_rate: float | None
    kept: float | None
    cut_off: float
    mean_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said to a held-out prompt.

    Args:
        prompt: As the model gets it.
        liked: Answers to it that people preferred or liked.
        disliked: Answers that they rejected or disliked.
        text: The model's, reasoning aside.
        likeness: To the preferred answers, as `win_rate` has it.
        score: Above 0 where it wins; None where the prompt has answers of one kind only.
        is_finished: Whether it came to its end.
    """

    prompt: str
    liked: tuple[str, ...]
    disliked: tuple[str, ...]
    text: str
    likeness: float
    score: float | None
    is_finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model's numbers, and its answers in the order of the held-out prompts."""

    measures: Measures
    said: tuple[Said, ...]

    @property
    def contested(self) -> list[float]:
        """The likenesses where people disliked an answer: elsewhere nothing has to change."""
        return [each.likeness for each in self.said if each.disliked]

    def as_json(self) -> dict[str, Any]:
        """As the step's file has it."""
        return asdict(self)


def read_measured(value: dict[str, Any]) -> Measured:
    """What `as_json` gave."""
    return Measured(
        measures=Measures(**value["measures"]), said=tuple(Said(**each) for each in value["said"])
    )


class Examiner:
    """Measures models that share a base, which is loaded when it is first needed.

    Args:
        config: The choices of the training: number format and threads.
        checkpoint: The base.
        held_out: Judged answers, as the method learns from them.
        labels: Single answers that weren't learned from either, liked where nothing was set
            against them; what a model says to their prompts is looked at besides.
        max_new_tokens: Most tokens of a generated answer.
        progress: Counts texts and answers.
    """

    def __init__(
        self,
        config: RunConfig,
        checkpoint: Path,
        held_out: PreparedData,
        *,
        labels: PreparedData | None,
        max_new_tokens: int,
        progress: ProgressFactory = silent,
    ) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._held_out = held_out
        self._judged = (*held_out.samples, *(labels.samples if labels is not None else ()))
        self._max_new_tokens = max_new_tokens
        self._progress = progress
        self._loaded: tuple[Any, AnswerReader] | None = None

    def examine(self, adapter: Path | None) -> Measured:
        """Measure the base with an adapter, given as a PEFT folder, or as it is."""
        with quiet():
            base, reader = self._base()
            judged = judged_prompts(self._judged, reader)
            with _with_adapter(base, adapter) as model:
                found = evaluate(
                    model, self._held_out, batch_size=_BATCH_SIZE, progress=self._progress
                )
                answers = self._answers(model, judged, reader)
                separation = self._separation(model)
        said = tuple(_said(answer, of) for answer, of in zip(answers, judged, strict=True))
        return Measured(
            measures=Measures(
                n_pairs=found.n_pairs,
                accuracy=found.accuracy,
                accuracy_per_token=found.accuracy_per_token,
                margin=found.margin,
                separation=separation,
                perplexity=found.perplexity,
                n_prompts=len(judged),
                n_contested=sum(each.has_both for each in judged),
                win_rate=win_rate([each.score for each in said if each.score is not None]),
                kept=_kept(said),
                cut_off=sum(not each.is_finished for each in said) / len(said),
                mean_tokens=sum(len(answer.ids) for answer in answers) / len(answers),
            ),
            said=said,
        )

    def _base(self) -> tuple[Any, AnswerReader]:
        if self._loaded is None:
            config, device = self._config, join_processes().device
            if config.loop.n_threads is not None:
                import_extra("torch", extra="train").set_num_threads(config.loop.n_threads)
            precision = choose_precision(config.loop.precision, device)
            model = load_base(self._checkpoint, config.lora, precision=precision, device=device)
            if not config.lora.qlora:
                model = model.to(device)
            tokenizer = load_tokenizer(self._checkpoint)
            self._loaded = model.eval(), open_reader(model, tokenizer)
        return self._loaded

    def _answers(
        self, model: Any, judged: Sequence[JudgedPrompt], reader: AnswerReader
    ) -> list[Answer]:
        prompts = [_prompt_sample(each.prompt) for each in judged]
        return generate_answers(
            model,
            prompts,
            reader,
            max_new_tokens=self._max_new_tokens,
            batch_size=_BATCH_SIZE,
            progress=self._progress,
        )

    def _separation(self, model: Any) -> float | None:
        samples = [each for each in self._held_out.samples if isinstance(each, LabelSample)]
        if not {True, False} <= {sample.label for sample in samples}:
            return None
        texts = [continuation(sample.prompt, sample.completion) for sample in samples]
        gains = [0.0] * len(texts)
        if has_adapter(model):
            now = log_likelihoods(model, texts, batch_size=_BATCH_SIZE, progress=self._progress)
            with adapter_off(model):
                base = log_likelihoods(
                    model, texts, batch_size=_BATCH_SIZE, progress=self._progress
                )
            gains = [one - other for one, other in zip(now, base, strict=True)]
        return separation(gains, [sample.label for sample in samples])


def separation(gains: Sequence[float], labels: Sequence[bool]) -> float:
    """How often a liked answer gained more than a disliked one, of all such twos; a tie is half.

    It is the area under the ROC curve. Both kinds of labels have to be there.
    """
    liked, disliked = (
        [gain for gain, label in zip(gains, labels, strict=True) if label is wanted]
        for wanted in (True, False)
    )
    won = sum((a > b) + 0.5 * (a == b) for a in liked for b in disliked)
    return won / (len(liked) * len(disliked))


def judged_prompts(samples: Sequence[object], reader: AnswerReader) -> list[JudgedPrompt]:
    """Held-out samples by their prompts, the answers as text without their reasoning."""
    found: dict[tuple[int, ...], tuple[list[str], list[str]]] = {}
    for sample in samples:
        match sample:
            case PreferenceSample(prompt, chosen, rejected):
                sides = [(chosen, True), (rejected, False)]
            case LabelSample(prompt, completion, label):
                sides = [(completion, label)]
            case _:
                continue
        liked, disliked = found.setdefault(prompt, ([], []))
        for ids, is_liked in sides:
            text = reader.read(_prompt_sample(prompt), ids).text.strip()
            (liked if is_liked else disliked).append(text)
    return [
        JudgedPrompt(
            prompt=prompt,
            text=reader.text(prompt),
            liked=tuple(dict.fromkeys(liked)),
            disliked=tuple(dict.fromkeys(disliked)),
        )
        for prompt, (liked, disliked) in found.items()
    ]


@contextmanager
def _with_adapter(base: Any, adapter: Path | None) -> Iterator[Any]:
    """The base with an adapter; afterwards the base is as it was."""
    if adapter is None:
        yield base
        return
    peft = import_extra("peft", extra="train")
    with old_names():
        model = peft.PeftModel.from_pretrained(base, str(adapter)).eval()
    try:
        yield model
    finally:
        model.unload()


def _kept(said: Sequence[Said]) -> float | None:
    alone = [each.likeness for each in said if each.liked and not each.disliked]
    return sum(alone) / len(alone) if alone else None


def _prompt_sample(prompt: tuple[int, ...]) -> PromptSample:
    return PromptSample(prompt, [], {}, "held out")


def _said(answer: Answer, judged: JudgedPrompt) -> Said:
    text = answer.text.strip()
    return Said(
        prompt=judged.text,
        liked=judged.liked,
        disliked=judged.disliked,
        text=text,
        likeness=likeness(text, judged),
        score=score(text, judged) if judged.has_both else None,
        is_finished=answer.is_finished,
    )
