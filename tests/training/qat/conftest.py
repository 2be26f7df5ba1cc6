"""Demo models to train on a grid, and text for them to learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qwenkit.models.demo import DEMO_DIR

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MakeModel = Callable[..., Any]
Stream = Callable[..., np.ndarray]
Teach = Callable[..., None]


@pytest.fixture
def full() -> MakeModel:
    """Makes the demo model in float32, or in another type."""
    import torch
    from transformers import Qwen3ForCausalLM

    torch.set_num_threads(1)

    def make(dtype: Any = torch.float32, **config: Any) -> Any:
        return Qwen3ForCausalLM.from_pretrained(DEMO_DIR, dtype=dtype, **config)

    return make


@pytest.fixture
def lora(full: MakeModel) -> MakeModel:
    """Makes the demo model with a LoRA that changes something; options are LoraConfig's."""
    import torch
    from peft import LoraConfig, get_peft_model

    def make(*, dtype: Any = torch.float32, std: float = 0.02, **options: Any) -> Any:
        torch.manual_seed(0)
        chosen = {"r": 8, "lora_alpha": 16, "target_modules": LINEARS} | options
        model = get_peft_model(full(dtype), LoraConfig(task_type="CAUSAL_LM", **chosen))
        for name, parameter in model.named_parameters():
            if ".lora_B." in name and std:
                torch.nn.init.normal_(parameter, std=std)
        return model

    return make


@pytest.fixture(scope="session")
def stream() -> Stream:
    """Gives tokens of the demo's kind of text, without end and different for each seed."""
    from tokenizers import Tokenizer

    from qwenkit.training.demo.corpus import short_scenes

    tokenizer = Tokenizer.from_file(str(DEMO_DIR / "tokenizer.json"))

    def draw(seed: int, n_tokens: int) -> np.ndarray:
        tokens: list[int] = []
        for scene in short_scenes(seed=seed):
            for sample in scene:
                text = sample.shared + sample.prompt + sample.completion
                tokens += tokenizer.encode(text).ids
            if len(tokens) >= n_tokens:
                break
        return np.array(tokens[:n_tokens], np.int64)

    return draw


@pytest.fixture(scope="session")
def teach() -> Teach:
    """Trains on `[steps, rows, tokens]`, as any loop would."""
    import torch

    def train(model: Any, batches: np.ndarray, *, learning_rate: float = 5e-4) -> None:
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learning, learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
        model.train()
        for batch in torch.from_numpy(batches):
            model(batch, labels=batch).loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        model.eval()

    return train
