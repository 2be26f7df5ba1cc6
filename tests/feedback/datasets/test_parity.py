"""Exports as `datasets` and TRL read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenkit.feedback.datasets.columns import Variables, arrow_schema, card_features, columns
from qwenkit.feedback.datasets.options import FORMATS, ExportOptions
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.prepare import prepare_data
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.sources import without_nulls

pytestmark = pytest.mark.parity

TOOL = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": '{"a": 1}'}}


@pytest.fixture
def mixed(log: Any) -> Any:
    """Answers with and without tools, reasoning, calls and the switch; the first have nothing."""
    for n in range(12):
        plain = n < 6
        talk = [{"role": "user", "content": f"Question {n}"}]
        if not plain:
            talk += [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [CALL],
                    "reasoning_content": "?",
                },
                {"role": "tool", "tool_call_id": "c", "name": "clock", "content": "12:00"},
            ]
        for content, thumb in (("Yes.", "up"), ("No.", "down")):
            answer = log.answer(
                content,
                prompt=talk,
                thread=f"t{n}",
                reasoning=None if plain else "Hm.",
                tools=() if plain else [TOOL],
                calls=() if plain else [("clock", "{}")],
                thinking=None if plain else True,
                variables={"polite": True} if n % 2 else None,
            )
            log.rate(answer, thumb=thumb)
    return log


def loaded(path: Path, cache: Path, config: str | None = None) -> Any:
    import datasets

    return datasets.load_dataset(str(path), config, cache_dir=str(cache))


@pytest.mark.parametrize("files", ["jsonl", "parquet"])
@pytest.mark.parametrize("purpose", FORMATS)
def test_datasets_loads_a_folder_with_the_rows_as_they_are(
    mixed: Any, tmp_path: Path, purpose: str, files: str
) -> None:
    out, report = mixed.export(purpose, files=files, validation_share=0.4)
    found = loaded(out, tmp_path / "cache")
    assert {split: len(rows) for split, rows in found.items()} == report.by_split
    expected = mixed.rows(purpose, validation_share=0.4)
    for split, rows in found.items():
        wanted = [without_nulls(row.data) for row in expected if row.split == split]
        assert [without_nulls(row) for row in rows] == wanted


@pytest.mark.parametrize("files", ["jsonl", "parquet"])
def test_datasets_loads_the_prompts_of_ppo(mixed: Any, tmp_path: Path, files: str) -> None:
    out, _ = mixed.export("ppo", files=files, validation_share=0.4)
    prompts = loaded(out, tmp_path / "cache", "prompts")
    assert sum(map(len, prompts.values())) == 12
    assert prompts["train"].column_names == ["prompt", "tools", "chat_template_kwargs"]


def test_datasets_loads_what_begins_with_many_rows_of_less(log: Any, tmp_path: Path) -> None:
    """Without the card's types the first ten megabytes would decide on them."""
    for n in range(24):
        late = n >= 20
        answer = log.answer(
            "Yes." if late else "Long. " * 100_000,
            prompt=f"Question {n}",
            prompt_hash=f"{n:064}",
            reasoning="Hm." if late else None,
            tools=[TOOL] if late else (),
            thinking=True if late else None,
        )
        log.rate(answer, thumb="up")
    out, _ = log.export("kto", validation_share=0)
    assert (out / "data/train.jsonl").stat().st_size > 10 << 20
    (rows,) = loaded(out, tmp_path / "cache").values()
    assert rows[23]["completion"][0]["reasoning_content"] == "Hm."
    assert rows[0]["completion"][0]["reasoning_content"] is None


@pytest.mark.parametrize("purpose", ["dpo", "kto", "sft", "reward"])
def test_finetune_learns_the_same_from_both_kinds_of_files(mixed: Any, purpose: Any) -> None:
    fingerprints = set()
    with open_renderer(Path(DEMO_DIR)) as renderer:
        for files in ("jsonl", "parquet"):
            out, _ = mixed.export(purpose, files, files=files)
            data = prepare_data(
                [str(out / "data")], method=purpose, renderer=renderer, options=DataOptions()
            )
            assert data.n_skipped == 0
            fingerprints.add(data.fingerprint)
    assert len(fingerprints) == 1


@pytest.mark.parametrize("purpose", FORMATS)
@pytest.mark.parametrize("prompts", ["chat", "raw"])
def test_the_cards_types_are_those_of_parquet(purpose: Any, prompts: Any) -> None:
    import datasets

    types = columns(ExportOptions(format=purpose, prompts=prompts), Variables())
    by_card = datasets.Features._from_yaml_list(
        yaml.safe_load(yaml.safe_dump(card_features(types)))
    )
    assert by_card == datasets.Features.from_arrow_schema(arrow_schema(types))


@pytest.mark.parametrize("files", ["jsonl", "parquet"])
def test_trl_renders_a_preference_as_training_does(mixed: Any, tmp_path: Path, files: str) -> None:
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template, is_conversational

    tokenizer = AutoTokenizer.from_pretrained(str(DEMO_DIR))
    out, _ = mixed.export("dpo", files=files, validation_share=0)
    (rows,) = loaded(out, tmp_path / "cache").values()
    with open_renderer(Path(DEMO_DIR)) as renderer:
        data = prepare_data(
            [str(out / "data")], method="dpo", renderer=renderer, options=DataOptions()
        )
        for row, sample in zip(rows, data.samples, strict=True):
            assert is_conversational(row)
            given = without_nulls(row)
            tools = json.loads(given["tools"])
            texts = apply_chat_template(
                {name: given[name] for name in ("prompt", "chosen", "rejected")},
                tokenizer,
                tools=tools or None,
                **given["chat_template_kwargs"],
            )
            assert texts["prompt"] == renderer.decode(sample.prompt)
            assert texts["chosen"].removesuffix("\n") == renderer.decode(sample.chosen)
