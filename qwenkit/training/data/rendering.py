"""Rows become samples: what stands where, what of it is learned, and what is too long.

Knows rows and turns; no files, and no other row than the one it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from qwenkit.chat.messages import Message
from qwenkit.errors import InvalidData
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.renderer import Renderer
from qwenkit.training.data.rows import (
    Chat,
    ConversationRow,
    LabelRow,
    PreferenceRow,
    PromptRow,
    Row,
    TextRow,
)
from qwenkit.training.data.samples import (
    AnySample,
    LabelSample,
    PreferenceSample,
    PromptSample,
    Sample,
)
from qwenkit.training.data.turns import Turn, ask, make_turn, prepared


@dataclass(slots=True)
class Cuts:
    """What was done about length, counted in samples."""

    n_dropped: int = 0
    n_truncated: int = 0


def make_samples(
    row: Row, place: str, *, renderer: Renderer, options: DataOptions, cuts: Cuts
) -> list[AnySample]:
    """Turn a row into samples of at most `options.max_length` tokens.

    Args:
        row: What to learn.
        place: Its name.
        renderer: The model's template and tokens.
        options: The choices of the run.
        cuts: Counts what is dropped and truncated.

    Raises:
        InvalidData: The row can't be learned from; the message says why.
        InvalidMessages: The template refuses its conversation.
    """
    if isinstance(row, TextRow) and not row.given:
        return list(_pieces(row, place, renderer, options))
    limited = (_limited(sample, options, cuts) for sample in _whole(row, place, renderer, options))
    return [sample for sample in limited if sample is not None]


def _whole(row: Row, place: str, renderer: Renderer, options: DataOptions) -> Iterator[AnySample]:
    match row:
        case ConversationRow():
            yield from _conversation(row, place, renderer, options)
        case TextRow():
            given = _raw(row.given, renderer, options)
            text = (*_raw(row.text, renderer, options), renderer.end_of_text)
            yield Sample(given + text, (False,) * len(given) + (True,) * len(text), place)
        case PreferenceRow():
            turn = _answers(row.prompt, (row.chosen, row.rejected), renderer, options)
            chosen, rejected = turn.completions
            yield PreferenceSample(turn.prompt, chosen, rejected, place)
        case LabelRow():
            turn = _answers(row.prompt, (row.answer,), renderer, options)
            (completion,) = turn.completions
            yield LabelSample(turn.prompt, completion, row.label, place)
        case PromptRow():
            yield _prompt(row, place, renderer, options)
        case _:
            assert_never(row)


def _conversation(
    row: ConversationRow, place: str, renderer: Renderer, options: DataOptions
) -> Iterator[Sample]:
    """One sample for each chain of answers whose prompts continue each other."""
    ids: tuple[int, ...] = ()
    learned: tuple[bool, ...] = ()
    for index in row.learned:
        before = row.chat.with_messages(row.chat.messages[:index])
        turn = make_turn(renderer, before, [row.chat.messages[index]], options)
        (completion,) = turn.completions
        if turn.prompt[: len(ids)] != ids:
            yield Sample(ids, learned, place)
            ids, learned = (), ()
        learned += (False,) * (len(turn.prompt) - len(ids)) + (True,) * len(completion)
        ids = turn.prompt + completion
    yield Sample(ids, learned, place)


def _answers(
    prompt: Chat | str,
    answers: tuple[Message | str, ...],
    renderer: Renderer,
    options: DataOptions,
) -> Turn:
    if isinstance(prompt, Chat):
        messages = [answer for answer in answers if isinstance(answer, Message)]
        return make_turn(renderer, prompt, messages, options)
    texts = [answer for answer in answers if isinstance(answer, str)]
    completions = [(*_raw(text, renderer, options), renderer.end_of_text) for text in texts]
    return Turn(_raw(prompt, renderer, options), tuple(completions))


def _prompt(row: PromptRow, place: str, renderer: Renderer, options: DataOptions) -> PromptSample:
    if isinstance(row.prompt, str):
        message = {"role": "user", "content": row.prompt}
        return PromptSample(_raw(row.prompt, renderer, options), [message], row.fields, place)
    chat = prepared(row.prompt, options)
    switch = chat.enable_thinking
    prompt = ask(
        renderer, chat, enable_thinking=options.thinking == "keep" if switch is None else switch
    )
    messages = [message.as_template_value() for message in chat.messages]
    return PromptSample(renderer.encode(prompt), messages, row.fields, place)


def _pieces(row: TextRow, place: str, renderer: Renderer, options: DataOptions) -> Iterator[Sample]:
    """A text in pieces; each begins with the last token of the one before, to be learned from."""
    ids = (*_raw(row.text, renderer, options), renderer.end_of_text)
    for start in range(0, len(ids) - 1, options.max_length - 1):
        piece = ids[start : start + options.max_length]
        yield Sample(piece, (False, *(True,) * (len(piece) - 1)), place)


def _raw(text: str, renderer: Renderer, options: DataOptions) -> tuple[int, ...]:
    if options.parse_special is None:
        for spelling in renderer.tokenizer.control_tokens:
            if spelling in text:
                raise InvalidData(
                    f"its text spells the control token `{spelling}`: "
                    "say whether that is what it means (--parse-special or --no-parse-special), "
                    "or give `messages`"
                )
    return renderer.encode_text(text, special=bool(options.parse_special))


def _limited(sample: AnySample, options: DataOptions, cuts: Cuts) -> AnySample | None:
    length = _length(sample)
    if length <= options.max_length:
        return sample
    if options.overlong == "drop":
        cuts.n_dropped += 1
        return None
    if options.overlong == "truncate":
        shortened = _truncated(sample, options.max_length)
        cuts.n_truncated += 1
        return shortened
    raise InvalidData(f"it has {length} tokens, and {options.max_length} is the most")


def _length(sample: AnySample) -> int:
    """Tokens of the longest text that is computed at once."""
    if isinstance(sample, PreferenceSample):
        return len(sample.prompt) + max(len(sample.chosen), len(sample.rejected))
    return sample.n_tokens


def _truncated(sample: AnySample, length: int) -> AnySample:
    if isinstance(sample, Sample):
        learned = sample.learned[:length]
        if not any(learned):
            raise InvalidData(f"nothing that is learned is within its first {length} tokens")
        return Sample(sample.ids[:length], learned, sample.place)
    room = length - len(sample.prompt)
    if isinstance(sample, PromptSample) or room < 1:
        raise InvalidData(f"its prompt alone has {len(sample.prompt)} tokens")
    if isinstance(sample, LabelSample):
        return replace(sample, completion=sample.completion[:room])
    return replace(sample, chosen=sample.chosen[:room], rejected=sample.rejected[:room])
