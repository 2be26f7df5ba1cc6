"""An exported graph in an onnxruntime session: what goes in and out, checked to be a decoder's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qwenkit.adapters.base import BaseShapes, base_of_onnx
from qwenkit.backends.onnx.facts import OnnxOptions
from qwenkit.backends.onnx.kv import KvShape
from qwenkit.backends.onnx.layout import Layout
from qwenkit.backends.onnx.runtime import onnxruntime, providers
from qwenkit.errors import ModelCorrupt, ModelUnsupported

HIDDEN_STATES = "hidden_states"
FIRST_LOGIT = "first_logit"
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_INTEGERS = "tensor(int64)"


class Graph:
    """The inputs and outputs of a graph.

    Args:
        session: It, loaded.
        layout: What its folder says of it.

    Raises:
        ModelUnsupported: A graph of another kind than is known here.
    """

    def __init__(self, session: Any, layout: Layout) -> None:
        inputs = {node.name: node for node in session.get_inputs()}
        outputs = {node.name: node for node in session.get_outputs()}
        self._tokens = layout.inputs.get("input_ids", "input_ids")
        self._mask = layout.inputs.get("attention_mask", "attention_mask")
        positions = layout.inputs.get("position_ids", "position_ids")
        self._positions = positions if positions in inputs else None
        self.logits = layout.outputs.get("logits", "logits")
        self.past = _cache_names(layout, layout.inputs, "past", "past_key_values")
        self.present = _cache_names(layout, layout.outputs, "present", "present")
        self.optional = {node.name for node in session.get_overridable_initializers()}
        self.head_skips = FIRST_LOGIT in self.optional
        needed = {self._tokens, self._mask, *self.past} | ({self._positions} - {None})
        _require(layout, inputs.keys() == needed, f"its inputs are {sorted(inputs)}")
        _require(layout, {self.logits, *self.present} <= outputs.keys(), "it lacks outputs")
        integers = (self._tokens, self._mask, *((self._positions,) if self._positions else ()))
        _require(layout, all(inputs[n].type == _INTEGERS for n in integers), "its tokens")
        kv_types = {inputs[name].type for name in self.past}
        _require(layout, len(kv_types) == 1 and kv_types <= _DTYPES.keys(), f"its KV is {kv_types}")
        _require(layout, outputs[self.logits].type in _DTYPES, "its logits are of an odd type")
        self.logits_dtype = _DTYPES[outputs[self.logits].type]
        self.kv = KvShape(
            len(self.past), layout.n_kv_heads, layout.head_dim, _DTYPES[kv_types.pop()]
        )
        hidden = outputs[HIDDEN_STATES].type if HIDDEN_STATES in outputs else ""
        self.gives_hidden_states = hidden in _DTYPES
        self.hidden_dtype = _DTYPES.get(hidden, np.float32)

    def bind_inputs(
        self, binding: Any, tokens: npt.NDArray[Any], lengths: npt.NDArray[Any], *, n_quiet: int
    ) -> None:
        """Bind tokens [rows, n] that come behind `lengths` [rows] others.

        Where the head can skip, it leaves out the first `n_quiet` of the tokens, though never all.
        """
        after = lengths[:, None] + tokens.shape[1]
        mask = np.arange(after.max()) < after
        binding.bind_cpu_input(self._tokens, np.ascontiguousarray(tokens, np.int64))
        binding.bind_cpu_input(self._mask, mask.astype(np.int64))
        if self._positions is not None:
            positions = lengths[:, None] + np.arange(tokens.shape[1])
            binding.bind_cpu_input(self._positions, np.ascontiguousarray(positions, np.int64))
        if self.head_skips:
            first = np.array([min(n_quiet, tokens.shape[1] - 1)], np.int64)
            # `bind_cpu_input` knows no inputs that have defaults.
            value = onnxruntime().OrtValue.ortvalue_from_numpy(first)
            binding.bind_ortvalue_input(FIRST_LOGIT, value)


def _cache_names(layout: Layout, names: dict[str, str], when: str, usual: str) -> list[str]:
    """A layer's keys, then its values, for all layers."""
    return [
        names.get(f"{when}_{kind}_names", f"{usual}.%d.{kind}") % layer
        for layer in range(layout.n_layers)
        for kind in ("key", "value")
    ]


def load_session(layout: Layout, options: OnnxOptions) -> Any:
    """Load the graph.

    Raises:
        MissingExtra: onnxruntime is not installed.
        InvalidSettings: It can't use the device.
        ModelCorrupt: It can't read the graph.
    """
    runtime = onnxruntime()
    settings = runtime.SessionOptions()
    settings.log_severity_level = 4  # an error is raised, and need not be on stderr too
    settings.intra_op_num_threads = options.n_threads
    # Threads that wait for the next node in a loop take the cores from whoever serves HTTP.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Shapes change in every step, and a pattern would be kept for each.
    settings.enable_mem_pattern = False
    try:
        return runtime.InferenceSession(
            str(layout.graph), settings, providers=providers(options.device)
        )
    except _load_errors(runtime) as exc:
        raise ModelCorrupt(f"onnxruntime could not load {layout.graph}: {exc}") from exc


def _load_errors(runtime: Any) -> tuple[type[Exception], ...]:
    state = runtime.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile")
    more = ("NotImplemented", "RuntimeException", "EPFail")
    return (RuntimeError, *(getattr(state, name) for name in (*names, *more)))


def lora_base(layout: Layout, graph: Graph) -> BaseShapes | None:
    """The LoRA slots; None where the folder has none.

    Raises:
        ModelUnsupported: The graph lacks slots that the folder's record names.
    """
    if not layout.has_slots:
        return None
    base = base_of_onnx(layout.folder)
    names = {name for slot in base.slots.values() for name in (slot.a, slot.b)}
    _require(layout, names <= graph.optional, "it lacks the LoRA slots that its record names")
    return base


def _require(layout: Layout, condition: bool, what: str) -> None:
    if not condition:
        raise ModelUnsupported(
            f"`{layout.graph}` is a graph of another kind than is known: {what}",
            hint="set ONNX_DECODER=genai",
        )
