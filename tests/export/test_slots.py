"""The places where adapters are bound."""

from __future__ import annotations

from qwenkit.adapters.base import base_of_checkpoint
from qwenkit.export.slots import slots_of
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR


def test_every_linear_of_every_layer_has_a_slot_of_its_size() -> None:
    config = qwen3.parse_config(read_json(DEMO_DIR / "config.json"))
    slots = slots_of(config)
    layers = base_of_checkpoint(DEMO_DIR).layers
    assert len(slots) == 7 * config.n_layers
    assert all(layers[slot.module] == (slot.n_out, slot.n_in) for slot in slots)
    assert len({name for slot in slots for name in (slot.a, slot.b)}) == 2 * len(slots)
