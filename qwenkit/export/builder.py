"""Runs onnxruntime-genai's model builder on a checkpoint: its graph, our tables, our quantising.

The builder's own class does the work. What it prints is kept from stdout, three of its methods are
replaced, and every replacement says why. Knows nothing of adapters or of where files end up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qwenkit.export.extras import import_extra
from qwenkit.export.graph import save_graph
from qwenkit.export.job import Job
from qwenkit.export.nbits import quantise_graph
from qwenkit.export.options import ExportOptions
from qwenkit.export.quiet import quiet
from qwenkit.export.rope import rope_tables
from qwenkit.models.checkpoint import read_json
from qwenkit.models.info import GENAI_CONFIG


def build(job: Job) -> None:
    """Write `model.onnx`, its weights and `genai_config.json`.

    Raises:
        MissingExtra: The builder, or something that it imports, is not installed.
    """
    import_extra("onnxruntime_genai")
    torch = import_extra("torch")
    with quiet(), torch.no_grad():
        genai = import_extra("onnxruntime_genai.models.builder")
        provider, precision = job.options.provider, job.options.precision
        extra = genai.parse_extra_options(
            None,
            str(job.folder),
            str(job.target),
            precision,
            provider,
            str(job.scratch),
            builder_options(job.options, tied=job.config.tied),
        )
        details = extra.pop("hf_details")
        extra.pop("_effective_builder_config")
        model = _builder_class(genai, job)(
            details["hf_config"],
            genai.set_io_dtype(precision, provider, extra),
            genai.set_onnx_dtype(precision, extra),
            provider,
            str(job.scratch),
            extra,
        )
        with job.progress("Reading", total=job.config.n_layers, unit="layers") as advance:
            model.advance = advance
            model.make_model(str(job.folder))
        model.save_model(str(job.target))
        model.make_genai_config(details["hf_config"], {}, str(job.target))
    _forget_made_up_bos(job)


def builder_options(options: ExportOptions, *, tied: bool) -> list[str]:
    """The builder's options, as its command line takes them."""
    values = {
        "hf_token": False,
        "include_hidden_states": options.hidden_states,
        "shared_embeddings": tied,
        # Fused, the norms of queries and keys run on CUDA only, and the graph can be checked only
        # where there is a GPU.
        "fuse_qk_norm_gqa": False,
        "block_size": options.block_size,
        "is_symmetric": options.symmetric,
        "accuracy_level": options.level,
    }
    return [f"{name}={str(value).lower()}" for name, value in values.items()]


def _forget_made_up_bos(job: Job) -> None:
    # Where a checkpoint names no first token the builder writes 1, which is a letter.
    if "bos" in job.config.special_ids:
        return
    path = job.target / GENAI_CONFIG
    genai = read_json(path)
    genai["model"].pop("bos_token_id", None)
    path.write_text(json.dumps(genai, indent=4) + "\n", encoding="utf-8")


def _builder_class(genai: Any, job: Job) -> Any:
    torch, bits = import_extra("torch"), job.options.bits

    class Builder(genai.Qwen3Model):  # type: ignore[misc]
        advance: Any

        def make_layer(self, layer_id: int, layer: Any) -> None:
            super().make_layer(layer_id, layer)
            self.advance(1)

        # The builder's YaRN is not transformers'.
        def make_rotary_embedding_caches_from_scratch(self) -> tuple[Any, Any]:
            cos, sin = rope_tables(job.config, job.context)
            return torch.from_numpy(cos), torch.from_numpy(sin)

        # The builder looks 4-bit rows up only; onnxruntime's CPU kernel takes 8-bit ones too.
        def make_tied_embeddings_init(self, config: Any) -> None:
            super().make_tied_embeddings_init(config)
            if bits == 8 and job.config.tied and job.options.provider == "cpu":
                self.tied_quantized_embeddings = True

        # The builder names no scales for asymmetric blocks, and then the graph doesn't load.
        def make_tied_quantized_embedding_input_names(self) -> tuple[int | None, str, str, str]:
            weight = "lm_head.MatMul.weight"
            zeros = "" if job.options.symmetric else f"{weight}_zero_points"
            return bits, f"{weight}_Q{bits}", f"{weight}_scales", zeros

        # The builder's pass holds all matrices as floats at once, and draws bars of its own.
        def save_model(self, out_dir: str) -> None:
            self.stamp_build_metadata(self.model)
            quantise_graph(self.graph, job.options, progress=job.progress)
            save_graph(self.model, Path(out_dir), progress=job.progress)

    return Builder
