"""What an export can be asked for, and which of it goes together. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwenkit.errors import InvalidSettings

Precision: TypeAlias = Literal["fp32", "fp16", "int8", "int4"]
Provider: TypeAlias = Literal["cpu", "cuda"]
Exporter: TypeAlias = Literal["builder", "optimum"]
IoType: TypeAlias = Literal["float32", "float16"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")
PROVIDERS: tuple[Provider, ...] = ("cpu", "cuda")
EXPORTERS: tuple[Exporter, ...] = ("builder", "optimum")
BLOCK_SIZES = (16, 32, 64, 128, 256)
BITS = {"int8": 8, "int4": 4}
# What onnxruntime's MatMulNBits computes in: 4 is int8, where the processor is quickest.
_ACCURACY_LEVELS = {"cpu": 4, "cuda": 0}
_MAX_ACCURACY_LEVEL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a checkpoint is exported.

    Args:
        precision: Number format of the matrices.
        provider: The execution provider that will run the graph.
        block_size: Weights that share a scale; int8 and int4 only.
        symmetric: Whether blocks are centred on 0, without a zero point; int8 and int4 only.
        accuracy_level: What the quantised products are computed in: 0 leaves it to the provider,
            1 is fp32, 2 fp16, 3 bf16, 4 int8; None takes 4 on the CPU and 0 on CUDA.
        n_ctx: Tokens of context; beyond the model's native ones YaRN stretches it. None keeps
            what the checkpoint says.
        lora: Whether adapters can be bound at run time.
        hidden_states: Whether the graph also gives the last hidden states, for embeddings.
        exporter: What makes the graph.
    """

    precision: Precision = "int4"
    provider: Provider = "cpu"
    block_size: int = 32
    symmetric: bool = True
    accuracy_level: int | None = None
    n_ctx: int | None = None
    lora: bool = True
    hidden_states: bool = True
    exporter: Exporter = "builder"

    @property
    def bits(self) -> int | None:
        """Bits of a quantised weight; None for floats."""
        return BITS.get(self.precision)

    @property
    def level(self) -> int:
        """The accuracy level that applies."""
        return (
            _ACCURACY_LEVELS[self.provider]
            if self.accuracy_level is None
            else (self.accuracy_level)
        )

    @property
    def io_dtype(self) -> IoType:
        """What the graph computes in outside of quantised matrices."""
        return "float16" if self.provider == "cuda" else "float32"


def check_options(options: ExportOptions) -> None:
    """Refuse what can't be.

    Raises:
        InvalidSettings: A value doesn't exist, or two don't go together.
    """
    _one_of("precision", options.precision, PRECISIONS)
    _one_of("provider", options.provider, PROVIDERS)
    _one_of("exporter", options.exporter, EXPORTERS)
    _one_of("block size", options.block_size, BLOCK_SIZES)
    if not 0 <= options.level <= _MAX_ACCURACY_LEVEL:
        raise InvalidSettings(f"there is no accuracy level {options.level}", hint="0 to 4")
    if options.n_ctx is not None and options.n_ctx < 1:
        raise InvalidSettings(f"a context of {options.n_ctx} tokens can't be")
    if options.exporter == "optimum" and options.provider != "cpu":
        raise InvalidSettings(
            "Optimum's exporter makes graphs for the CPU only", hint="leave --exporter out for CUDA"
        )
    if options.provider == "cpu" and options.precision == "fp16":
        raise InvalidSettings(
            "fp16 gains nothing on the CPU: onnxruntime computes it in fp32, in as much memory",
            hint="choose int8 or fp32, or --provider cuda",
        )
    if options.provider == "cuda" and options.precision == "fp32":
        raise InvalidSettings(
            "onnxruntime has no fp32 kernel on CUDA for Qwen3's attention",
            hint="choose fp16, or --provider cpu",
        )


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise InvalidSettings(
            f"there is no {name} {value}", hint=f"one of {', '.join(map(str, known))}"
        )
