"""One GGUF to another with fewer bits: planned, checked, then written whole or not at all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwenkit.backends.llamacpp.sizing import usable_cores
from qwenkit.errors import EngineError, UsageError
from qwenkit.models.atomic import atomic_file, require_space
from qwenkit.models.gguf_check import check_gguf
from qwenkit.models.gguf_header import GgufHeader, GgufTensor, read_header, split_parts
from qwenkit.models.progress import Advance, ProgressFactory, silent
from qwenkit.quantize import plan as planning
from qwenkit.quantize.imatrix import read_imatrix
from qwenkit.quantize.plan import Fallback, Plan
from qwenkit.quantize.process import run_job
from qwenkit.quantize.types import file_type, tensor_type
from qwenkit.quantize.worker import Job

_METADATA_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """A GGUF that was written.

    Args:
        path: The file.
        type: Its recipe.
        size_bytes: Of the file.
        source_bytes: Of what it was made from.
        bits_per_weight: Of all its tensors together.
        n_tensors: Tensors by the type they are stored as, the most frequent first.
        fallbacks: Matrices that the recipe's type does not fit.
        with_imatrix: Whether it was quantised by an importance matrix.
        seconds: Time it took.
    """

    path: Path
    type: str
    size_bytes: int
    source_bytes: int
    bits_per_weight: float
    n_tensors: Mapping[str, int]
    fallbacks: tuple[Fallback, ...] = field(default=())
    with_imatrix: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a file is to become.

    Args:
        type: One of `FILE_TYPES`, such as `Q4_K_M`.
        overrides: Regular expressions that find tensor names, with the type they get; the first
            that matches counts. They are ECMAScript's, as in `llama-quantize`.
        output_type: Type of the head.
        embedding_type: Type of the token embeddings.
        pure: Give every matrix the recipe's main type.
        allow_requantize: Take a source that is quantised.
        n_threads: CPU threads; 0 is one a core.
    """

    type: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    output_type: str | None = None
    embedding_type: str | None = None
    pure: bool = False
    allow_requantize: bool = False
    n_threads: int = 0


def quantize_gguf(
    source: Path,
    target: Path,
    *,
    type: str,  # noqa: A002  the field's word
    imatrix: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    output_type: str | None = None,
    embedding_type: str | None = None,
    pure: bool = False,
    allow_requantize: bool = False,
    n_threads: int = 0,
    progress: ProgressFactory = silent,
) -> QuantizedModel:
    """Quantise a GGUF model with llama.cpp's own quantiser.

    It works in a process of its own, so that Ctrl-C ends it at once.

    Args:
        source: A GGUF; for a split model its first part.
        target: File to write; it appears whole or not at all.
        type: One of `FILE_TYPES`, such as `Q4_K_M`.
        imatrix: An importance matrix in GGUF form.
        overrides, output_type, embedding_type, pure, allow_requantize, n_threads: As in `Wish`.
        progress: Told the bytes of the source that are done.

    Raises:
        UsageError: No such type, an override that matches nothing, a type that needs an importance
            matrix, or too little space on the disk.
        ModelError: The source is damaged, or quantised already.
        EngineError: llama.cpp failed.
    """
    started = time.monotonic()
    wish = Wish(
        type=type,
        overrides=overrides or {},
        output_type=output_type,
        embedding_type=embedding_type,
        pure=pure,
        allow_requantize=allow_requantize,
        n_threads=n_threads,
    )
    recipe = file_type(type)
    headers = _read_source(source, target)
    matrix = read_imatrix(imatrix) if imatrix else None
    job = _job(source, wish, imatrix)
    plan = _plan(job, headers, wish)
    planning.check_plan(plan, recipe, matrix)
    _require_space(target, plan, headers)
    with atomic_file(target) as partial:
        _write(replace(job, target=str(partial)), plan, f"Quantising to {recipe.name}", progress)
        made = _check(partial, plan)
    return QuantizedModel(
        path=target,
        type=recipe.name,
        size_bytes=made.size_bytes,
        source_bytes=sum(header.size_bytes for header in headers),
        bits_per_weight=8 * plan.n_bytes / sum(tensor.n_elements for tensor in made.tensors),
        n_tensors=dict(Counter(tensor.type.name for tensor in made.tensors).most_common()),
        fallbacks=plan.fallbacks,
        with_imatrix=matrix is not None,
        seconds=time.monotonic() - started,
    )


def check_wish(source: Path, target: Path, wish: Wish, *, imatrix_follows: bool) -> None:
    """Raise what `quantize_gguf` would, as far as that can be known before the work.

    Args:
        source: A GGUF; for a split model its first part.
        target: The file that will be written.
        wish: What it is to become.
        imatrix_follows: Whether an importance matrix of all layers will be there by then.
    """
    headers = _read_source(source, target)
    plan = _plan(_job(source, wish, None), headers, wish)
    planning.check_plan(plan, file_type(wish.type), None, imatrix_follows=imatrix_follows)
    _require_space(target, plan, headers)


def _job(source: Path, wish: Wish, imatrix: Path | None) -> Job:
    overrides = ((pattern, tensor_type(name)) for pattern, name in wish.overrides.items())
    return Job(
        source=str(source),
        target="",
        file_type=file_type(wish.type).code,
        imatrix=str(imatrix or ""),
        imatrix_name=imatrix.name if imatrix else "",
        overrides=tuple((pattern, int(kind)) for pattern, kind in overrides),
        output_type=_code(wish.output_type),
        embedding_type=_code(wish.embedding_type),
        pure=wish.pure,
        allow_requantize=wish.allow_requantize,
        n_threads=wish.n_threads or usable_cores(),
    )


def _read_source(source: Path, target: Path) -> list[GgufHeader]:
    check_gguf(source)
    parts = split_parts(source)
    if any(target.exists() and target.samefile(part) for part in parts):
        raise UsageError(f"`{target}` is the source itself", hint="write to another file with -o")
    return [read_header(part) for part in parts]


def _code(name: str | None) -> int | None:
    return None if name is None else int(tensor_type(name))


def _plan(job: Job, headers: list[GgufHeader], wish: Wish) -> Plan:
    tensors = [tensor for header in headers for tensor in header.tensors]
    planning.check_source(tensors, job.source, allow_requantize=wish.allow_requantize)
    planning.check_overrides(wish.overrides, file_type(wish.type), _matrices(tensors))
    return planning.read_plan(run_job(replace(job, dry_run=True)), tensors)


def _matrices(tensors: list[GgufTensor]) -> list[str]:
    return [tensor.name for tensor in tensors if len(tensor.shape) > 1]


def _require_space(target: Path, plan: Plan, headers: list[GgufHeader]) -> None:
    n_bytes = plan.n_bytes + _METADATA_BYTES + sum(header.data_offset for header in headers)
    require_space(target.parent, n_bytes, purpose=f"writing `{target}`")


def _write(job: Job, plan: Plan, description: str, progress: ProgressFactory) -> None:
    total = sum(tensor.n_bytes for tensor in plan.tensors)
    with progress(description, total=total) as advance:
        run_job(job, _follow(plan, advance))


def _follow(plan: Plan, advance: Advance) -> Callable[[str], None]:
    """A listener that says how far it is: llama.cpp names each tensor as it begins with it."""
    sizes = {tensor.name: tensor.n_bytes for tensor in plan.tensors}
    n_before = 0

    def on_text(text: str) -> None:
        nonlocal n_before
        if found := planning.TENSOR.search(text):
            advance(n_before)
            n_before = sizes[found["name"]]

    return on_text


def _check(path: Path, plan: Plan) -> GgufHeader:
    """Read what was written and see that it is what was planned."""
    header = check_gguf(path)
    written = {tensor.name: tensor.type for tensor in header.tensors}
    if written != dict(plan.types):
        odd = next(name for name in plan.types if written.get(name) is not plan.types[name])
        raise EngineError(f"llama.cpp wrote `{odd}` otherwise than it planned")
    return header
