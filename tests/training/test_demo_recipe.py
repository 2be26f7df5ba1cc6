"""The demo model's recipe: what its text promises, how it is packed, and that a run repeats."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from random import Random
from typing import Any

import jsonschema
import pytest

from qwenkit.chat.messages import Role
from qwenkit.errors import MissingExtra
from qwenkit.training.demo import corpus, packing, prose, small_talk, tools
from qwenkit.training.demo.dialogue import Dialogue, Mode
from qwenkit.training.demo.extras import import_torch
from qwenkit.training.demo.facts import FACTS
from qwenkit.training.demo.packing import NO_SEGMENT, Piece, Row, Scene, pack
from qwenkit.training.demo.tokenizer import ADDED_TOKENS, FIRST_ADDED_ID, VOCAB_SIZE

EMPTY_BLOCK = "<think>\n\n</think>\n\n"


def drawn_conversations(n: int) -> Iterator[Dialogue]:
    rng = Random(5)
    for _ in range(n):
        yield from tools.conversations(rng, n=4, n_tools=rng.randint(1, 4))


def drawn_samples(n: int) -> list[corpus.Sample]:
    scenes = chain(
        islice(corpus.short_scenes(seed=11), n), islice(corpus.long_scenes(seed=11), n // 5)
    )
    return list(chain.from_iterable(scenes))


def test_no_question_belongs_to_two_facts() -> None:
    owners: dict[str, str] = {}
    for fact in FACTS:
        for question in fact.questions:
            assert owners.setdefault(question.lower().rstrip("?"), fact.topic) == fact.topic


def test_there_are_over_fifty_facts_and_each_is_asked_in_several_ways() -> None:
    assert len(FACTS) > 50
    assert all(len(set(fact.seen)) >= 3 for fact in FACTS)


def test_the_phrasing_kept_for_the_exam_is_never_taught() -> None:
    taught = {question.lower() for fact in FACTS for question in fact.seen}
    assert not [fact.unseen for fact in FACTS if fact.unseen.lower() in taught]


def test_the_same_seed_gives_the_same_text_and_another_seed_another() -> None:
    def text(seed: int) -> list[corpus.Scene]:
        return list(islice(corpus.short_scenes(seed=seed), 20)) + list(
            islice(corpus.long_scenes(seed=seed), 5)
        )

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_a_thinking_answer_opens_the_block_reasons_and_closes_it() -> None:
    rng = Random(3)
    dialogues = (small_talk.single(rng) for _ in range(300))
    completions = [corpus.sample(d).completion for d in dialogues if d.mode is Mode.THINK]
    assert len(completions) > 50
    for completion in completions:
        thought, _, answer = completion.removeprefix("<think>\n").partition("\n</think>\n\n")
        assert completion.startswith("<think>\n")
        assert thought.strip()
        assert answer.endswith("<|im_end|>")
        assert answer != "<|im_end|>"


def test_the_soft_switch_makes_the_model_itself_write_an_empty_block() -> None:
    rng = Random(4)
    dialogues = [d for d in (small_talk.single(rng) for _ in range(300)) if d.mode is Mode.SOFT_OFF]
    assert len(dialogues) > 10
    for dialogue in dialogues:
        sample = corpus.sample(dialogue)
        assert "/no_think" in dialogue.messages[-2].content
        assert sample.prompt.endswith("<|im_start|>assistant\n")
        assert sample.completion.startswith(EMPTY_BLOCK)


def test_with_the_hard_switch_the_prompt_holds_the_empty_block_and_the_answer_none() -> None:
    rng = Random(4)
    dialogues = [d for d in (small_talk.single(rng) for _ in range(300)) if d.mode is Mode.HARD_OFF]
    assert len(dialogues) > 50
    for dialogue in dialogues:
        sample = corpus.sample(dialogue)
        assert sample.prompt.endswith(EMPTY_BLOCK)
        assert "think>" not in sample.completion


def test_every_sample_ends_where_a_model_must_stop() -> None:
    for sample in drawn_samples(300):
        assert sample.completion.endswith(("<|im_end|>", "<|endoftext|>"))
        assert sample.completion.count("<|im_end|>") + sample.completion.count("<|endoftext|>") == 1


def test_samples_of_a_scene_share_their_system_block_to_the_letter() -> None:
    offers = (scene for scene in corpus.long_scenes(seed=2) if scene[0].shared)
    for scene in islice(offers, 30):
        assert len({sample.shared for sample in scene}) == 1
        assert scene[0].shared.endswith("<|im_end|>\n")
        assert all(sample.prompt.startswith("<|im_start|>user\n") for sample in scene)


def test_every_call_names_an_offered_tool_and_fits_its_schema_in_the_schemas_order() -> None:
    n_calls = 0
    for dialogue in drawn_conversations(150):
        offered = {tool.name: tool for tool in dialogue.tools}
        for call in dialogue.messages[-1].tool_calls:
            parameters = offered[call.name].parameters
            jsonschema.validate(call.arguments, {**parameters, "additionalProperties": False})
            declared = [key for key in parameters["properties"] if key in call.arguments]
            assert list(call.arguments) == declared
            n_calls += 1
    assert n_calls > 150


def test_every_number_of_a_call_stands_in_the_question() -> None:
    n_numbers = 0
    for dialogue in drawn_conversations(150):
        question = dialogue.messages[-2].content
        for call in dialogue.messages[-1].tool_calls:
            for value in call.arguments.values():
                if isinstance(value, int | float):
                    assert str(value) in question
                    n_numbers += 1
    assert n_numbers > 100


def test_results_of_tools_are_copied_into_the_answer() -> None:
    n_results = 0
    for dialogue in drawn_conversations(150):
        before, last = dialogue.messages[-2], dialogue.messages[-1]
        if before.role is not Role.TOOL or before.content.startswith("Error"):
            continue
        found = [before.content]
        if before.content.startswith("{"):
            found = [str(value) for value in json.loads(before.content).values()]
        assert all(value in last.content for value in found)
        n_results += 1
    assert n_results > 50


def test_a_drill_can_be_solved_by_copying_alone() -> None:
    drills = [
        sample
        for scene in islice(corpus.short_scenes(seed=6), 300)
        for sample in scene
        if sample.prompt and not sample.prompt.startswith("<|")
    ]
    assert len(drills) > 10
    for drill in drills:
        n_times, rest = divmod(len(drill.completion) - len("<|endoftext|>"), len(drill.prompt))
        assert (drill.completion, rest) == (drill.prompt * n_times + "<|endoftext|>", 0)


def test_a_hole_is_filled_with_what_was_cut_out() -> None:
    rng = Random(9)
    for _ in range(100):
        prompt, middle = prose.with_a_hole(rng)
        before, after = prompt.removeprefix("<|fim_prefix|>").split("<|fim_suffix|>")
        assert before + middle + after.removesuffix("<|fim_middle|>") in prose.LINES


def random_scenes(rng: Random, n: int) -> list[Scene]:
    def ids(low: int, high: int) -> list[int]:
        return [rng.randint(1, 99) for _ in range(rng.randint(low, high))]

    return [
        Scene(
            ids(5, 12) if rng.random() < 0.5 else [],
            [Piece(ids(1, 6), ids(1, 6)) for _ in range(rng.randint(1, 4))],
        )
        for _ in range(n)
    ]


def visible_text(row: Row, index: int) -> list[int]:
    """What the token at `index` may see, itself included."""
    allowed = {row.segments[index], row.parents[index]} - {NO_SEGMENT}
    return [row.ids[i] for i in range(index + 1) if row.segments[i] in allowed]


def segment_of(row: Row, number: int) -> list[int]:
    """The indices of a segment."""
    return [i for i, segment in enumerate(row.segments) if segment == number]


def learned_tokens(row: Row) -> list[int]:
    """What is learned outside the shared beginnings."""
    shared = set(row.parents) - {NO_SEGMENT}
    return [row.ids[i] for i in range(len(row)) if row.learned[i] and row.segments[i] not in shared]


@pytest.mark.parametrize("seed", range(5))
def test_a_learned_token_sees_its_shared_beginning_and_its_own_sample_alone(seed: int) -> None:
    scenes = random_scenes(Random(seed), 60)
    expected = {
        tuple(scene.shared + piece.prompt + piece.completion)
        for scene in scenes
        for piece in scene.pieces
    }
    rows = list(pack(scenes, length=40, pad_id=0))
    assert rows
    for row in rows:
        ends = [
            i
            for i, learned in enumerate(row.learned)
            if learned and (i + 1 == len(row) or row.segments[i + 1] != row.segments[i])
        ]
        for end in ends:
            seen = visible_text(row, end)
            assert tuple(seen) in expected
            assert row.positions[end] == len(seen) - 1


@pytest.mark.parametrize("seed", range(5))
def test_rows_have_one_length_and_learn_every_completion_but_the_unfinished_rows(seed: int) -> None:
    scenes = random_scenes(Random(seed), 60)
    rows = list(pack(scenes, length=40, pad_id=0))
    learned = [token for row in rows for token in learned_tokens(row)]
    completions = [token for scene in scenes for p in scene.pieces for token in p.completion]
    assert {len(row) for row in rows} == {40}
    assert learned == completions[: len(learned)]
    assert len(learned) > 100


def test_a_shared_beginning_is_stored_once_a_row_and_not_learned() -> None:
    scene = Scene([5, 6, 7, 8], [Piece([1], [2, 3])] * 4)
    row, *_ = pack([scene] * 4, length=16, pad_id=0)
    assert row.ids == [5, 6, 7, 8] + [1, 2, 3] * 4
    assert row.learned == [False] * 4 + [False, True, True] * 4


def test_a_piece_longer_than_a_row_is_left_out() -> None:
    long, short = Piece([1] * 30, [2] * 20), Piece([3] * 5, [4] * 5)
    row, *_ = pack([Scene([], [long, short])] + [Scene([], [short])] * 4, length=40, pad_id=0)
    assert 1 not in row.ids
    assert row.ids.count(4) == 20


def test_text_without_a_prompt_is_learned_from_its_second_token() -> None:
    scene = Scene([], [Piece([], [7, 8, 9])])
    (row, *_) = pack([scene] * 9, length=12, pad_id=0)
    assert row.learned[:3] == [False, True, True]


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra) as caught:
        import_torch()
    assert caught.value.extra == "train"
    assert caught.value.exit_code == 3


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from qwenkit.training.demo.tokenizer import strip_added, train_tokenizer

    return train_tokenizer(
        strip_added(s.shared + s.prompt + s.completion) for s in drawn_samples(800)
    )


@pytest.mark.parity
def test_the_vocabulary_ends_with_qwen3s_added_tokens_in_their_order(tokenizer: Any) -> None:
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    added = tokenizer.get_added_tokens_decoder()
    assert [(added[i].content, added[i].special) for i in sorted(added)] == list(ADDED_TOKENS)
    assert sorted(added) == list(range(FIRST_ADDED_ID, VOCAB_SIZE))


@pytest.mark.parity
@pytest.mark.parametrize(
    "text", ["12 * 345", "Zoë's naïve café", "日本語 🦙\r\n\t x", "a\x00\x7f", "  \n\n "]
)
def test_any_text_comes_back_from_its_tokens(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parity
def test_digits_are_tokens_of_their_own(tokenizer: Any) -> None:
    assert tokenizer.encode("4711").tokens == ["4", "7", "1", "1"]


@pytest.mark.parity
def test_a_packed_row_gives_the_loss_of_its_samples_one_by_one(tokenizer: Any) -> None:
    import torch
    import transformers

    from qwenkit.training.demo.shape import CONFIG
    from qwenkit.training.demo.train import encode_scene, loss_of

    torch.manual_seed(1)
    config = {k: v for k, v in CONFIG.items() if k != "torch_dtype"} | {"num_hidden_layers": 2}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**config)).eval()
    scenes = (encode_scene(scene, tokenizer) for scene in corpus.long_scenes(seed=8))
    row = next(packing.pack(scenes, length=768, pad_id=0))
    expected = 0.0
    with torch.inference_mode():
        for number in range(row.n_segments):
            own = segment_of(row, number)
            before = segment_of(row, row.parents[own[0]]) if row.parents[own[0]] >= 0 else []
            ids = torch.tensor([[row.ids[i] for i in before + own]])
            losses = torch.nn.functional.cross_entropy(
                model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none"
            )
            learned = torch.tensor([row.learned[i] for i in before + own])[1:]
            expected += losses[learned][-sum(row.learned[i] for i in own) :].sum().item()
        packed, n_packed = loss_of(model, [row])
    assert n_packed == sum(row.learned) > 100
    assert packed.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parity
def test_an_untrained_model_already_continues_a_repetition() -> None:
    import torch
    import transformers

    from qwenkit.training.demo.initial import initialise
    from qwenkit.training.demo.shape import CONFIG

    torch.manual_seed(2)
    config = {k: v for k, v in CONFIG.items() if k != "torch_dtype"}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**config)).eval()
    initialise(model)
    once = torch.randperm(VOCAB_SIZE)[:60]
    twice = torch.cat([once, once])[None]
    with torch.inference_mode():
        guessed = model(input_ids=twice).logits[0, 60:-1].argmax(dim=-1)
    assert (guessed == once[1:]).float().mean() > 0.9


@pytest.mark.parity
def test_a_run_repeats_to_the_bit(tokenizer: Any) -> None:
    import torch

    from qwenkit.training.demo.train import Progress, Recipe, train

    recipe = replace(Recipe(), n_steps=3, short=(128, 2), long=(640, 1))
    losses: list[list[float]] = [[], []]

    def run(into: list[float]) -> dict[str, Any]:
        def report(progress: Progress) -> None:
            into.append(progress.loss)

        weights: dict[str, Any] = train(recipe, tokenizer=tokenizer, report=report).state_dict()
        return weights

    first, second = run(losses[0]), run(losses[1])
    assert losses[0] == losses[1]
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parity
def test_muon_moves_a_matrix_by_its_rate_in_every_direction() -> None:
    import torch

    from qwenkit.training.demo.muon import orthogonalise

    torch.manual_seed(0)
    for shape in ((64, 256), (256, 64), (96, 96)):
        singular = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert singular.max() < 1.3
        assert singular.median() > 0.6
