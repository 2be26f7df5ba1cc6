"""What a page takes for given, by name: files that its reader has, and who has asked what before.

All of it is made for the demo model, which stands in for every model that a page names: it lies
under that name where qwenkit looks before it asks the Hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from qwenkit.adapters.base import base_of_checkpoint
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.records import (
    AnswerText,
    Interaction,
    Rating,
    RequestOptions,
    TokenCounts,
    hash_prompt,
    timestamp,
)
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME

COMPOSE = Path(__file__).parents[2] / "compose"
CHECKPOINTS = ("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-Reranker-0.6B")
GGUF_FILES = (
    "Qwen/Qwen3-8B-GGUF:Q4_K_M",
    "Qwen/Qwen3-8B-GGUF:Q5_K_M",
    "Qwen/Qwen3-0.6B-GGUF:Q8_0",
)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 16
SUBJECTS = (
    *("the moon", "France", "cooking rice", "football", "cats", "history", "Mars", "bread"),
    *("dinosaurs", "music", "the ocean", "chess", "black holes", "gardening", "volcanoes"),
    *("coffee", "trains", "dogs", "birds", "paintings"),
)
FRAMES = ("What is {}?", "Tell me about {}", "Why is {} important?", "Explain {}")
BETTER = "That is beyond a demo model like me. Serve Qwen3-8B with MODEL_PATH for real questions."
WORSE = "I am too small to answer that. I know a little about qwenkit."
GOOD = {
    "Tell me about ONNX": "ONNX is an open model format. qwenkit runs it with ONNX Runtime GenAI.",
    "Define context length": "It is the number of tokens that a model can see at once.",
    "What does fine-tuning mean?": "It trains a model a little more on your own examples.",
}


def put(names: Iterable[str], folder: Path) -> None:
    """Put things of these names into a folder."""
    for name in names:
        GIVEN[name](folder)


def put_models(models: Path, *, gguf: Path) -> None:
    """Put the demo model where `MODEL_PATH` finds it under the names of the real ones."""
    for name in CHECKPOINTS:
        _link_files(models / name, DEMO_DIR.iterdir())
    for name in GGUF_FILES:
        file = name.rpartition("/")[2].replace("-GGUF:", "-") + ".gguf"
        (models / name).mkdir(parents=True)
        (models / name / file).symlink_to(gguf)


def _link_files(folder: Path, files: Iterable[Path]) -> None:
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).symlink_to(file)


def _checkpoint(folder: Path) -> None:
    _link_files(folder / "Qwen3-8B", DEMO_DIR.iterdir())


def _compose(folder: Path) -> None:
    copytree(COMPOSE, folder / "compose", ignore=ignore_patterns(".env", "secrets"))


def _adapter(folder: Path) -> None:
    write_adapter(folder / "my-adapter", seed=1)


def _adapters(folder: Path) -> None:
    write_adapter(folder / "adapters" / "poet", seed=2)
    write_adapter(folder / "more" / "satirist", seed=3)


def write_adapter(folder: Path, *, seed: int) -> None:
    """A PEFT adapter of the demo model with small random numbers."""
    rng = np.random.default_rng(seed)
    tensors = {}
    layers = base_of_checkpoint(DEMO_DIR).layers
    for module in filter(_is_target, layers):
        n_out, n_in = layers[module]
        prefix = f"base_model.model.{module}"
        tensors[f"{prefix}.lora_A.weight"] = rng.standard_normal((RANK, n_in), np.float32) / n_in
        tensors[f"{prefix}.lora_B.weight"] = rng.standard_normal((n_out, RANK), np.float32) / RANK
    config = {
        "base_model_name_or_path": DEMO_NAME,
        "bias": "none",
        "lora_alpha": RANK,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": list(TARGETS),
        "task_type": "CAUSAL_LM",
    }
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")


def _is_target(module: str) -> bool:
    return module.endswith(TARGETS)


def _conversations(folder: Path) -> None:
    _write_rows(folder / "conversations.jsonl", [*map(_conversation, _questions()[::2])])


def _train(folder: Path) -> None:
    rows = [*map(_conversation, _questions())]
    _write_rows(folder / "train.jsonl", rows[::4])
    _write_rows(folder / "held-out.jsonl", rows[2::4])


def _questions() -> list[str]:
    return [frame.format(subject) for frame in FRAMES for subject in SUBJECTS]


def _conversation(question: str) -> dict[str, Any]:
    return {"messages": [_user(question), {"role": "assistant", "content": BETTER}]}


def _pairs(folder: Path) -> None:
    rows = [
        {"prompt": f"What is {subject}?", "chosen": BETTER, "rejected": WORSE}
        for subject in SUBJECTS
    ]
    _write_rows(folder / "pairs.jsonl", rows)


def _sums(folder: Path) -> None:
    rows = [{"prompt": f"What is {n} + {n}?", "answer": str(n + n)} for n in range(16)]
    _write_rows(folder / "sums.jsonl", rows)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _rated_answers(folder: Path) -> None:
    log = FeedbackLog(folder / "logs" / "feedback")
    said = [(f"What is {subject}?", text) for subject in SUBJECTS for text in (BETTER, WORSE)]
    for n, (question, text) in enumerate([*said, *GOOD.items()]):
        _rate(log, n, question, text)


def _rate(log: FeedbackLog, n: int, question: str, text: str) -> None:
    moment = timestamp(datetime(2026, 11, 2, tzinfo=UTC) + timedelta(seconds=n))
    log.interaction(
        Interaction(
            id=f"chatcmpl-{n}",
            created_at=moment,
            source="api",
            model=DEMO_NAME,
            prompt_hash=hash_prompt(question),
            finish_reason="stop",
            usage=TokenCounts(prompt=20, completion=20),
            thread_id=question,
            messages=(_user(question),),
            options=RequestOptions(enable_thinking=False),
            answer=AnswerText(content=text),
        )
    )
    log.rating(
        Rating(
            id=f"rating-{n}",
            created_at=moment,
            answer_id=f"chatcmpl-{n}",
            source="api",
            rater="ada",
            thumb="down" if text == WORSE else "up",
        )
    )


GIVEN: Final[dict[str, Callable[[Path], None]]] = {
    "adapter": _adapter,
    "adapters": _adapters,
    "checkpoint": _checkpoint,
    "compose": _compose,
    "conversations": _conversations,
    "pairs": _pairs,
    "rated-answers": _rated_answers,
    "sums": _sums,
    "train": _train,
}
"""What may stand in a page's remark `given`."""
