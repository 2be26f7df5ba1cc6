"""Runs Optimum's ONNX exporter on a checkpoint, and makes a GenAI folder of what it gives.

Its graph is the traced model: attention in single operations, keys and values copied at every step.
It serves to compare with, and where onnxruntime-genai's builder can't be installed. Knows nothing
of adapters or of where files end up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qwenkit.export.extras import import_extra
from qwenkit.export.graph import load_graph, save_graph
from qwenkit.export.job import GRAPH_NAME, Job
from qwenkit.export.nbits import quantise_graph
from qwenkit.export.quiet import quiet
from qwenkit.models.checkpoint import read_json
from qwenkit.models.info import GENAI_CONFIG

_TASK = "text-generation-with-past"
_SAMPLING = ("do_sample", "temperature", "top_k", "top_p")


def build(job: Job) -> None:
    """Write `model.onnx`, its weights and `genai_config.json`.

    Raises:
        MissingExtra: Optimum's exporter is not installed.
    """
    exporter = import_extra("optimum.exporters.onnx", exporter="optimum")
    ir = import_extra("onnx_ir", exporter="optimum")
    with job.progress("Tracing", total=1, unit="models") as advance:
        _trace(exporter, job)
        advance(1)
    model = load_graph(job.scratch / GRAPH_NAME)
    if job.options.hidden_states:
        _add_hidden_states(ir, model.graph, job.config.n_embd)
    quantise_graph(model.graph, job.options, progress=job.progress)
    if job.options.bits is not None:
        model.opset_imports.setdefault("com.microsoft", 1)
    save_graph(model, job.target, progress=job.progress)
    _write_genai_config(job)


def _trace(exporter: Any, job: Job) -> None:
    import_extra("optimum.utils.logging", exporter="optimum").set_verbosity_error()
    # The tracer warns of every branch that it takes as it comes.
    with quiet():
        exporter.main_export(
            str(job.folder),
            job.scratch,
            task=_TASK,
            dtype="fp32",
            do_validation=False,
            # It would share tied embeddings, and a matrix that is shared can't be quantised.
            no_post_process=True,
            local_files_only=True,
            cache_dir=str(job.scratch),
        )


def _add_hidden_states(ir: Any, graph: Any, n_embd: int) -> None:
    [head] = [node for node in graph if node.name == "/lm_head/MatMul"]
    node = ir.node("Identity", inputs=[head.inputs[0]], name="/hidden_states")
    [output] = node.outputs
    output.name, output.type = "hidden_states", ir.TensorType(ir.DataType.FLOAT)
    output.shape = ir.Shape(["batch_size", "sequence_length", n_embd])
    graph.insert_before(head, node)
    graph.outputs.append(output)


def _write_genai_config(job: Job) -> None:
    config, texts = job.config, _generation(job.folder)
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": GRAPH_NAME,
        "head_size": config.head_dim,
        "hidden_size": config.n_embd,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "position_ids": "position_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.n_kv_heads,
    }
    ids = {f"{kind}_token_id": value for kind, value in config.special_ids.items()}
    model = {
        "type": "qwen3",
        "context_length": job.context.n_ctx,
        "vocab_size": config.n_vocab,
        "decoder": decoder,
        **ids,
        **{key: value for key, value in texts.items() if key.endswith("_token_id")},
    }
    search = {
        "max_length": job.context.n_ctx,
        "past_present_share_buffer": False,
        **{key: texts[key] for key in _SAMPLING if key in texts},
    }
    text = json.dumps({"model": model, "search": search}, indent=4)
    (job.target / GENAI_CONFIG).write_text(text + "\n", encoding="utf-8")


def _generation(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    known = ("eos_token_id", "pad_token_id", *_SAMPLING)
    values = read_json(path) if path.exists() else {}
    return {key: values[key] for key in known if values.get(key) is not None}
