"""llama.cpp's gradients against torch's, in float32 on the demo model."""

from __future__ import annotations

import numpy as np
import pytest

from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.resolve import ResolvedModel
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.native.base import gguf_names, open_base
from qwenkit.training.native.request import LINEARS, samples_of
from qwenkit.training.native.windows import make_windows

from .conftest import Train
from .test_context import RATE, open_lab

# peft and transformers warn about each other.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]


def test_a_window_of_several_samples_has_torchs_gradients(
    model: ResolvedModel, taught: PreparedData
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    samples = samples_of(taught)[:4]
    [window] = make_windows(samples, n_ctx=256, n_vocab=1024)
    with open_lab(model, "sgd") as lab:
        change = lab.change([window])
    reference = AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    total = torch.zeros(())
    for sample in samples:
        ids = torch.tensor([sample.ids])
        log_probs = reference(ids).logits[0, :-1].log_softmax(-1)
        right = log_probs.gather(-1, ids[0, 1:, None])[:, 0]
        total = total - right[torch.tensor(sample.learned[1:])].sum()
    (total / window.n_learned).backward()
    gradients = {name: p.grad for name, p in reference.named_parameters()}
    for name, module in gguf_names(open_base(model), LINEARS).items():
        wanted = gradients[f"{module}.weight"].numpy()
        error = np.linalg.norm(change[name] / -RATE - wanted) / np.linalg.norm(wanted)
        assert error < 1e-3, f"{name}: {error}"


def test_peft_loads_the_folder_and_computes_what_the_trained_model_does(train: Train) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from qwenkit.adapters.read import read_adapter

    report = train(n_steps=2)
    base = AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, report.peft_folder).merge_and_unload()
    weights = dict(merged.named_parameters())
    original = dict(
        AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32).named_parameters()
    )
    for pair in read_adapter(report.adapter).pairs:
        name = f"{pair.module}.weight"
        change = (weights[name] - original[name]).detach().numpy()
        np.testing.assert_allclose(change, pair.scale * (pair.b @ pair.a), atol=1e-6)
