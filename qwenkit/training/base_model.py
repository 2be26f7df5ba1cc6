"""What training starts from: the base in the number format of its device, and the LoRA's shape."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qwenkit.adapters.base import base_of_checkpoint, check_fit
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.training.data.cost import Precision
from qwenkit.training.options import LoraOptions, PrecisionChoice


def choose_precision(choice: PrecisionChoice, device: Any) -> Precision:
    """The number format that a device computes in.

    Args:
        choice: What was asked for.
        device: As torch names it.

    Raises:
        InvalidSettings: The device can't.
    """
    is_cuda = device.type == "cuda"
    if choice == "auto":
        if not is_cuda:
            return "fp32"
        return "bf16" if _has_bf16() else "fp16"
    if choice == "fp16" and not is_cuda:
        raise InvalidSettings(
            f"fp16 needs a CUDA GPU, and this trains on `{device}`",
            hint="--precision auto takes what the device is best at",
        )
    if choice == "bf16" and is_cuda and not _has_bf16():
        raise InvalidSettings("this GPU can't compute in bf16", hint="--precision fp16")
    return choice


def check_qlora(device: Any) -> None:
    """Refuse to quantise where that can't be.

    Raises:
        InvalidSettings: No CUDA GPU, or no bitsandbytes.
    """
    if device.type != "cuda":
        raise InvalidSettings(
            f"QLoRA needs a CUDA GPU, and this trains on `{device}`",
            hint="leave out --qlora: a LoRA in bf16 or fp32 trains anywhere",
        )
    if find_spec("bitsandbytes") is None:
        raise InvalidSettings(
            "QLoRA needs `bitsandbytes`, which is not installed", hint="pip install bitsandbytes"
        )


def load_base(checkpoint: Path, options: LoraOptions, *, precision: Precision, device: Any) -> Any:
    """The base as transformers loads it.

    Frozen weights are held in the format that is computed in. Trained ones stay in 32 bits: small
    changes would be lost otherwise; autocast rounds them where they are used.
    """
    transformers = import_extra("transformers", extra="train")
    torch = import_extra("torch", extra="train")
    compute = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    quantised = {}
    if options.qlora:
        quantised = {
            "quantization_config": transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=compute,
            ),
            "device_map": {"": device},
        }
    return transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint,
        dtype=torch.float32 if options.full else compute,
        attn_implementation="sdpa",
        local_files_only=True,
        use_safetensors=True,
        **quantised,
    )


def check_dora(model: Any, options: LoraOptions) -> None:
    """Refuse matrices whose rows have no direction for DoRA to learn.

    Raises:
        InvalidSettings: A row that would be trained is all zeros.
    """
    if not options.dora:
        return
    for name, weight in model.named_parameters():
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if kind in options.targets and not weight.any(dim=1).all():
            others = [each for each in options.targets if each != kind]
            raise InvalidSettings(
                f"`{name}` has rows of zeros, which have no direction for DoRA to learn",
                hint=f"leave the matrix out: --targets {','.join(others)}",
            )


def load_tokenizer(checkpoint: Path) -> Any:
    """transformers' tokenizer of the base; TRL asks it for the padding token."""
    transformers = import_extra("transformers", extra="train")
    return transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)


def lora_config(options: LoraOptions) -> Any | None:
    """What PEFT attaches; None for full training."""
    if options.full:
        return None
    if options.start is not None:
        return _shape_of(options.start)
    return import_extra("peft", extra="train").LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
        use_rslora=options.rslora,
        use_dora=options.dora,
        bias="none",
        task_type="CAUSAL_LM",
    )


def check_start(folder: Path, checkpoint: Path) -> None:
    """Refuse an adapter that can't be gone on from.

    Args:
        folder: PEFT's.
        checkpoint: The base.

    Raises:
        InvalidSettings: It is no PEFT folder.
        ModelError: It is not there, damaged, of another kind, or made for another base.
    """
    if folder.is_file():
        raise InvalidSettings(
            f"`{folder}` is a file, and training goes on from a PEFT folder",
            hint="name the `adapter` folder of the run that made it",
        )
    check_fit(read_adapter(folder), base_of_checkpoint(checkpoint))


def _shape_of(folder: Path) -> Any:
    """The shape of an adapter, to be trained again."""
    config = import_extra("peft", extra="train").LoraConfig.from_pretrained(str(folder))
    config.inference_mode = False
    return config


def _has_bf16() -> bool:
    torch = import_extra("torch", extra="train")
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
