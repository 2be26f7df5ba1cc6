"""All choices of a run under one flat list of names, as flags and YAML files give them.

Each name is a field of one of the dataclasses that a run takes its choices from; which method is
trained decides which of the methods' own names there are. Knows no file format and no flag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from qwenkit.errors import InvalidSettings
from qwenkit.training.data.options import DataOptions
from qwenkit.training.methods import METHODS, Method
from qwenkit.training.options import LoopOptions, LoraOptions
from qwenkit.training.trainers import OPTIONS, MethodOptions

Trainer: TypeAlias = Literal["peft", "llama.cpp"]

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is trained on what, and where it goes.

    Args:
        model: The base: a folder of safetensors, a Hub id, or the demo's name.
        data: Files, folders or Hub datasets to learn from.
        output: The run's folder; it must not be there.
        method: What is learned from the data.
        trainer: `peft` trains by torch, on a CPU or on GPUs; `llama.cpp` by its own training code.
        eval: Data to measure on, before and after and between; or the share of `data` to hold out
            for it, as a number between 0 and 1.
        margin: How much worse the held-out data may become before the adapter is flagged.
        qat: Grid to train on, so that the model quantises to it without loss.
        qat_baseline: Folder of a run on the same data in full precision, which the report on the
            grid then compares with.
    """

    model: str
    data: tuple[str, ...]
    output: Path
    method: Method = "sft"
    trainer: Trainer = "peft"
    eval: str | float | None = None
    margin: float = 0.05
    qat: str | None = None
    qat_baseline: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise InvalidSettings(f"margin is {self.margin}, it should be a share of 0 or more")

    @property
    def held_out_share(self) -> float | None:
        """The share of the data to hold out; None where other data is named, or none."""
        try:
            share = float(self.eval or "nothing")
        except ValueError:
            return None
        if not 0 < share < 1:
            raise InvalidSettings(
                f"a share of {self.eval} can't be held out", hint="--eval 0.05, or name data"
            )
        return share


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeOptions:
    """What llama.cpp's trainer can be told besides.

    Args:
        optimizer: `adamw`, or `sgd`, which needs half the memory and a far higher learning rate.
        project_every: Steps between projections onto the rank; None is once an epoch.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    project_every: int | None = None


OwnOptions: TypeAlias = MethodOptions | NativeOptions

COMMON: tuple[type[Any], ...] = (RunOptions, DataOptions, LoraOptions, LoopOptions)
"""Where the names that all methods share come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All choices of a run.

    Args:
        run: What is trained on what.
        data: How rows become samples.
        lora: What is trained.
        loop: How long, how fast, how precisely.
        own: The method's own, or the trainer's.
    """

    run: RunOptions
    data: DataOptions
    lora: LoraOptions
    loop: LoopOptions
    own: OwnOptions

    @property
    def learning_rate(self) -> float:
        """The highest learning rate."""
        return self.loop.peak_learning_rate(self.run.method, full=self.lora.full)

    @property
    def batch_size(self) -> int:
        """What one process computes at once."""
        return self.loop.batch(self.run.method)

    @property
    def accumulate(self) -> int:
        """Such batches before the weights change."""
        return self.loop.batches(self.run.method)

    def changed(self) -> frozenset[str]:
        """The names of what is not as it is by default."""
        run = self.run
        needed = {"model": run.model, "data": run.data, "output": run.output}
        default = make_config(needed | {"method": run.method, "trainer": run.trainer}).choices()
        return frozenset(name for name, value in self.choices().items() if value != default[name])

    def choices(self) -> dict[str, Any]:
        """All of them by name, but for where the run goes."""
        parts = (self.run, self.data, self.lora, self.loop, self.own)
        found = {name: value for part in parts for name, value in asdict(part).items()}
        del found["output"]
        return found


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Check choices and fill up with defaults.

    Args:
        values: By their names; a number may be spelled as text, a list of one as the one.

    Raises:
        InvalidSettings: A name is unknown or of another method, a value is not what it should be,
            or one is missing.
    """
    method = values.get("method", "sft")
    if method not in METHODS:
        raise InvalidSettings(f"there is no method `{method}`", hint=f"one of {', '.join(METHODS)}")
    is_native = values.get("trainer") == "llama.cpp"
    own: type[OwnOptions] = NativeOptions if is_native else OPTIONS[method]
    for name in values:
        _check_name(name, method, own)
    for name in ("model", "data", "output"):
        if not values.get(name):
            raise InvalidSettings(f"no `{name}` is given", hint="qwenkit finetune --help")
    return RunConfig(
        run=_part(RunOptions, values),
        data=_part(DataOptions, values),
        lora=_part(LoraOptions, values),
        loop=_part(LoopOptions, values),
        own=_part(own, values),
    )


def names_of(*parts: type[Any]) -> tuple[str, ...]:
    """The names that dataclasses of choices have."""
    return tuple(field.name for part in parts for field in fields(part))


def _check_name(name: str, method: Method, own: type[OwnOptions]) -> None:
    known = names_of(*COMMON, own)
    if name in known:
        return
    others = [each for each, part in OPTIONS.items() if name in names_of(part)]
    if name in names_of(NativeOptions):
        raise InvalidSettings(f"`{name}` is a choice of --trainer llama.cpp")
    if others:
        raise InvalidSettings(
            f"`{name}` is a choice of {' and '.join(others)}, and the method is {method}"
        )
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
    raise InvalidSettings(f"there is no choice `{name}`", hint=hint)


def _part(kind: type[Options], values: Mapping[str, Any]) -> Options:
    chosen = {name: values[name] for name in names_of(kind) if name in values}
    for field in fields(kind):  # type: ignore[arg-type]
        if str(field.type).startswith("tuple") and isinstance(chosen.get(field.name), str):
            chosen[field.name] = _several(field.name, chosen[field.name])
    try:
        return TypeAdapter(kind).validate_python(chosen)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        name = first["loc"][0] if first["loc"] else "?"
        if first["type"] == "missing":
            raise InvalidSettings(
                f"no `{name}` is given", hint=f"--set {name}=…, or `{name}` in the file of --config"
            ) from exc
        given = chosen.get(str(name))
        raise InvalidSettings(f"`{name}` is {given!r}: {_lower(first['msg'])}") from exc


def _several(name: str, text: str) -> list[str]:
    """Names of matrices stand with commas between them; elsewhere a comma may be part of a name."""
    return [word.strip() for word in text.split(",")] if name == "targets" else [text]


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
