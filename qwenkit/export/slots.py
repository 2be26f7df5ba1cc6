"""Places in an exported graph where an adapter's matrices are bound while it runs.

Beside every linear stands `base(x) + (x @ A) @ B`, where A [in, rank] and B [rank, out] are inputs
of the graph whose defaults have rank 0: unbound they add nothing, and adapters of any rank fit.
Scale 1 is B as it is bound; who writes an adapter folds its own scaling into B. Knows how
onnxruntime-genai's builder and Optimum name nodes; works on the graph only, the weights stay in
their file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwenkit.errors import ModelUnsupported
from qwenkit.export.extras import import_extra
from qwenkit.models.qwen3 import Qwen3Config

QUERY, KEY, VALUE = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"


@dataclass(frozen=True, slots=True)
class LoraSlot:
    """One linear that takes an adapter.

    Args:
        module: As the checkpoint spells it, such as `model.layers.0.self_attn.q_proj`.
        a: The graph's input for A, [n_in, rank].
        b: The graph's input for B, [rank, n_out].
    """

    module: str
    a: str
    b: str
    n_in: int
    n_out: int


def slots_of(config: Qwen3Config) -> list[LoraSlot]:
    """A slot for each of the seven linears of every layer."""
    n_query, n_kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    sizes = {
        QUERY: (config.n_embd, n_query),
        KEY: (config.n_embd, n_kv),
        VALUE: (config.n_embd, n_kv),
        "self_attn.o_proj": (n_query, config.n_embd),
        "mlp.gate_proj": (config.n_embd, config.n_ff),
        "mlp.up_proj": (config.n_embd, config.n_ff),
        "mlp.down_proj": (config.n_ff, config.n_embd),
    }
    modules = [
        (f"model.layers.{layer}.{linear}", size)
        for layer in range(config.n_layers)
        for linear, size in sizes.items()
    ]
    return [
        LoraSlot(name, f"{name}.lora_A.weight", f"{name}.lora_B.weight", n_in, n_out)
        for name, (n_in, n_out) in modules
    ]


def add_slots(model: Any, slots: list[LoraSlot], *, elem_type: int) -> None:
    """Put the slots into a graph that the builder made.

    Args:
        model: An onnx.ModelProto; changed in place.
        slots: What `slots_of` gave for the same checkpoint.
        elem_type: ONNX's number for the type that the graph computes in.

    Raises:
        ModelUnsupported: The builder made a graph of another kind than is known here.
    """
    graph = model.graph
    found = _Linears(graph)
    replaced: dict[str, str] = {}
    after: dict[int, list[Any]] = {}
    for slot in slots:
        linear = found.linear(slot.module)
        total = f"{linear.output}/lora"
        replaced[linear.output] = total
        after.setdefault(linear.node, []).extend(_nodes(slot, linear, total))
        _add_inputs(graph, slot, elem_type)
    nodes = []
    for index, node in enumerate(graph.node):
        node.input[:] = [replaced.get(name, name) for name in node.input]
        nodes += [node, *after.get(index, [])]
    del graph.node[:]
    graph.node.extend(nodes)


@dataclass(frozen=True, slots=True)
class _Linear:
    node: int
    input: str
    output: str


class _Linears:
    """Finds a module's linear in the builder's graph."""

    def __init__(self, graph: Any) -> None:
        self._nodes = {node.name: (index, node) for index, node in enumerate(graph.node)}
        self._makers = {name: node for node in graph.node for name in node.output}

    def linear(self, module: str) -> _Linear:
        _, _, layer, linear = module.split(".", 3)
        packed = self._nodes.get(f"/model/layers.{layer}/attn/qkv_proj/Split")
        if packed and linear in (QUERY, KEY, VALUE):
            index, split = packed
            output = split.output[(QUERY, KEY, VALUE).index(linear)]
            return _Linear(index, self._makers[split.input[0]].input[0], output)
        inner = linear.replace(".", "/")
        for stem in (inner.removeprefix("self_"), inner):
            for suffix in ("", "_Q4", "_Q8"):
                if found := self._nodes.get(f"/model/layers.{layer}/{stem}/MatMul{suffix}"):
                    index, node = found
                    return _Linear(index, node.input[0], node.output[0])
        raise ModelUnsupported(
            f"the exporter built a graph without a product for `{module}`, so it takes no slot",
            hint="export with --no-lora",
        )


def _nodes(slot: LoraSlot, linear: _Linear, total: str) -> list[Any]:
    make = import_extra("onnx").helper.make_node
    low, change = f"{slot.module}.lora_A", f"{slot.module}.lora_B"
    return [
        make("MatMul", [linear.input, slot.a], [low], name=low),
        make("MatMul", [low, slot.b], [change], name=change),
        make("Add", [linear.output, change], [total], name=f"{slot.module}.lora_add"),
    ]


def _add_inputs(graph: Any, slot: LoraSlot, elem_type: int) -> None:
    helper = import_extra("onnx").helper
    # A name of its own for each: onnxruntime plans memory as if equal names were equal numbers, and
    # an adapter may leave slots out or have several ranks.
    rank = f"{slot.module}.lora_rank"
    for name, shape, empty in (
        (slot.a, [slot.n_in, rank], [slot.n_in, 0]),
        (slot.b, [rank, slot.n_out], [0, slot.n_out]),
    ):
        graph.input.append(helper.make_tensor_value_info(name, elem_type, shape))
        graph.initializer.append(helper.make_tensor(name, elem_type, empty, []))
