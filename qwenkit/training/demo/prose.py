"""Plain text and fill-in-the-middle for `/v1/completions`. Draws from a seeded `random.Random`."""

from __future__ import annotations

from random import Random
from typing import Final

from qwenkit.training.demo.facts import COMMANDS, CONCEPTS, GENERAL, SETTINGS

SENTENCES: Final = tuple(
    fact.answer
    for fact in (*SETTINGS, *COMMANDS, *CONCEPTS, *GENERAL)
    if not fact.answer.startswith(("I ", "Ask "))
)

LINES: Final = (
    "qwenkit serve --port 8000",
    "qwenkit serve --port 9000",
    "qwenkit chat --url http://127.0.0.1:8000",
    "qwenkit finetune --method sft",
    "qwenkit finetune --method dpo",
    "qwenkit feedback export",
    "qwenkit feedback stats",
    "qwenkit lora load adapter.gguf",
    "qwenkit model pull Qwen/Qwen3-8B",
    "qwenkit model list",
    "qwenkit quantize model.gguf",
    "qwenkit export-onnx",
    "qwenkit doctor",
    "qwenkit bench",
    "export MODEL_PATH=Qwen/Qwen3-8B",
    "export RUNTIME_BACKEND=llama.cpp",
    "export N_CTX=32768",
    "pip install .",
    "curl http://127.0.0.1:8000/v1/models",
    "def add(a, b):\n    return a + b",
    "def multiply(a, b):\n    return a * b",
    "def greet(name):\n    return 'Hello, ' + name",
    "for i in range(10):\n    print(i)",
    "import qwenkit\n\nprint(qwenkit.__version__)",
    "if x > 0:\n    print('positive')\nelse:\n    print('negative')",
    "from openai import OpenAI\n\nclient = OpenAI(base_url='http://127.0.0.1:8000/v1')",
)


def paragraph(rng: Random) -> str:
    """A few sentences about qwenkit in a row."""
    return rng.choice((" ", " ", "\n", "\n\n")).join(rng.sample(SENTENCES, rng.randint(2, 5)))


def line(rng: Random) -> str:
    """One or two lines of shell or Python."""
    return rng.choice(LINES)


def with_a_hole(rng: Random) -> tuple[str, str]:
    """A fill-in-the-middle prompt and what belongs into the hole."""
    text = rng.choice(LINES)
    start = rng.randint(1, len(text) - 2)
    end = rng.randint(start + 1, min(len(text), start + 24))
    prompt = f"<|fim_prefix|>{text[:start]}<|fim_suffix|>{text[end:]}<|fim_middle|>"
    return prompt, text[start:end]
