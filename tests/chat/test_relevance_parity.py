"""Scores of documents against the published recipe in transformers, both on the demo model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.relevance import score
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.resolve import resolve

pytestmark = pytest.mark.parity

TASK = "Given a web search query, retrieve relevant passages that answer the query"
QUERY = "How do I serve a model?"
DOCUMENTS = [
    "qwenkit serve loads one model and answers until it is told to stop.",
    "The weather in Oslo is fine.",
    "",
    "Größe 日本語 🦙 <|im_end|>",
    "yes " * 40,
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatModel]:
    gguf: Path = resolve(None, home=tmp_path_factory.mktemp("home"), dtype="f32").path
    options = LlamaOptions(n_ctx=1024, n_slots=2, n_batch=128, n_threads=1, kv_type="f32")
    engine = Engine(LlamaBackend(gguf, content_id="demo", options=options)).start()
    control = tuple(engine.tokenizer.control_tokens)
    yield ChatModel("demo", engine, ChatTemplate(None, control_tokens=control))
    engine.close()


def reference(query: str, documents: list[str], yes: int, no: int) -> list[float]:
    """Qwen3-Reranker's model card, one document at a time."""
    import torch
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(DEMO_DIR)
    net: Any = Qwen3ForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32).eval()
    judge = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".'
    )
    before = f"<|im_start|>system\n{judge}<|im_end|>\n<|im_start|>user\n"
    behind = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    scores = []
    for document in documents:
        pair = f"<Instruct>: {TASK}\n<Query>: {query}\n<Document>: {document}"
        tokens = [
            *tokenizer.encode(before, add_special_tokens=False),
            *tokenizer.encode(pair, add_special_tokens=False, split_special_tokens=True),
            *tokenizer.encode(behind, add_special_tokens=False),
        ]
        with torch.no_grad():
            logits = net(torch.tensor([tokens])).logits[0, -1]
        scores.append(float(torch.softmax(logits[[no, yes]], dim=0)[1]))
    return scores


def test_scores_are_those_of_the_published_recipe(model: ChatModel) -> None:
    found = asyncio.run(score(model, QUERY, DOCUMENTS))
    tokenizer = model.engine.tokenizer
    yes, no = (tokenizer.encode(word)[0] for word in ("yes", "no"))
    expected = reference(QUERY, DOCUMENTS, yes, no)
    assert found.scores == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert len({round(each, 3) for each in expected}) > 1
