"""One model to one or several smaller ones, and a report of what each lost. What the command does.

The importance matrix is computed once, and all models are measured together, on the same text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from qwenkit.backends.base import IntArray
from qwenkit.errors import InvalidRequest, UsageError
from qwenkit.models.choose import quant_label
from qwenkit.models.info import inspect_model
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.quality.measure import N_CTX, Quality, compare
from qwenkit.quality.texts import read_builtin, read_documents
from qwenkit.quality.tokens import cut, encode
from qwenkit.quantize.activations import BUILTIN, compute_imatrix
from qwenkit.quantize.gguf import QuantizedModel, Wish, check_wish, quantize_gguf
from qwenkit.quantize.imatrix import is_imatrix
from qwenkit.quantize.types import file_type

BUILTIN_NAME = "builtin"
"""What a text of ours is called where a path could stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """How to quantise.

    Args:
        imatrix: Importance data: a text, JSONL in the forms of training, a GGUF importance matrix,
            or `builtin`; None quantises without.
        save_imatrix: Where to keep what was computed.
        overrides: Regular expressions for tensor names with the type they get.
        output_type: Type of the head.
        embedding_type: Type of the token embeddings.
        pure: Give every matrix the recipe's main type.
        allow_requantize: Take a source that is quantised.
        n_threads: CPU threads; 0 is one a core.
        n_gpu_layers: Layers on the GPU where a model is run; -1 is all.
    """

    imatrix: str | None = None
    save_imatrix: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    output_type: str | None = None
    embedding_type: str | None = None
    pure: bool = False
    allow_requantize: bool = False
    n_threads: int = 0
    n_gpu_layers: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """How to measure.

    Args:
        text: A text or JSONL file; None is the built-in evaluation text.
        n_ctx: Tokens of a window; the second half of each is scored.
        n_windows: Most windows to read; None reads the whole text.
    """

    text: Path | None = None
    n_ctx: int = N_CTX
    n_windows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeReport:
    """What was made, and how good it is.

    Args:
        source: The GGUF that it was made from.
        source_type: What most of it is stored as.
        models: What was written, in the order asked for.
        text: What was measured on; empty without a report.
        qualities: The source's first, then each model's; empty without a report.
    """

    source: Path
    source_type: str
    models: tuple[QuantizedModel, ...]
    text: str = ""
    qualities: tuple[Quality, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """What each of `qualities` is called."""
        return (f"source, {self.source_type}", *(model.type for model in self.models))


def quantize(
    source: Path,
    targets: Mapping[str, Path],
    options: QuantizeOptions,
    *,
    report: ReportOptions | None = None,
    progress: ProgressFactory = silent,
) -> QuantizeReport:
    """Quantise a GGUF to each of the types, and measure what it cost.

    Args:
        source: A GGUF; for a split model its first part.
        targets: The file to write for each type.
        options: How.
        report: How to measure; None leaves that out.
        progress: Told how far each part of the work is.

    Raises:
        UsageError: As `quantize_gguf` does; also a text that can't be read.
        ModelError, EngineError: As `quantize_gguf`, `compute_imatrix` and `compare` do.
    """
    # What can be refused is refused before the work, which may take hours.
    for name, target in targets.items():
        wish = _wish(name, options)
        check_wish(source, target, wish, imatrix_follows=options.imatrix is not None)
    tokens = _tokens(source, report) if report else None
    with _imatrix(source, options, progress) as imatrix:
        models = tuple(
            _quantize_one(source, target, _wish(name, options), imatrix, progress)
            for name, target in targets.items()
        )
    kind = inspect_model(source).types[0].type
    if report is None:
        return QuantizeReport(source=source, source_type=kind, models=models)
    qualities = compare(
        source,
        [model.path for model in models],
        tokens,
        n_ctx=report.n_ctx,
        n_windows=report.n_windows,
        n_threads=options.n_threads,
        n_gpu_layers=options.n_gpu_layers,
        progress=progress,
    )
    name = str(report.text) if report.text else "qwenkit's evaluation text"
    return QuantizeReport(
        source=source, source_type=kind, models=models, text=name, qualities=qualities
    )


def plan_targets(types: Sequence[str], output: Path | None, *, name: str) -> dict[str, Path]:
    """The file to write for each type.

    Args:
        types: Names of file types; one that is named twice counts once.
        output: A `.gguf` file, for a single type, or a folder; None is the current folder.
        name: What the model is called; its own quantisation is left out of the files' names.

    Raises:
        UsageError: No such type, or several types and one file.
    """
    names = list(dict.fromkeys(file_type(each).name for each in types))
    if output is not None and output.suffix == ".gguf" and not output.is_dir():
        if len(names) > 1:
            raise UsageError(
                f"`{output}` is one file, and {len(names)} types are wanted",
                hint=f"name a folder: -o {output.with_suffix('')}",
            )
        return {names[0]: output}
    folder = output or Path()
    stem = _stem(name)
    return {each: folder / f"{stem}-{each}.gguf" for each in names}


def check_targets(paths: Sequence[Path], *, replace: bool) -> None:
    """Refuse files that could not be written after the work.

    Args:
        paths: All files that will be written.
        replace: Whether files that are there may be replaced.

    Raises:
        UsageError: Two of them are one, one is there already or is a folder, or nothing can be
            written where it should be.
    """
    for number, path in enumerate(paths):
        if path.absolute() in [other.absolute() for other in paths[:number]]:
            raise UsageError(f"`{path}` is to hold two things", hint="name two files")
        if path.is_dir():
            raise UsageError(f"`{path}` is a folder, and a file is to be written there")
        if path.exists() and not replace:
            raise UsageError(f"`{path}` is there already", hint="replace it with --force")
        existing = next(each for each in path.absolute().parents if each.exists())
        if not existing.is_dir():
            raise UsageError(f"`{path}` can't be written: `{existing}` is no folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UsageError(f"`{path}` can't be written: nothing may be written to `{existing}`")


def parse_overrides(pairs: Sequence[str]) -> dict[str, str]:
    """`PATTERN=TYPE` pairs as a dictionary, in their order.

    Raises:
        InvalidRequest: One has no `=`, or nothing on one side of it, or a pattern has two types.
    """
    overrides: dict[str, str] = {}
    for pair in pairs:
        pattern, _, kind = pair.rpartition("=")
        if not pattern or not kind:
            raise InvalidRequest(
                f"`{pair}` is no override", hint=r"such as --tensor 'attn_v\.weight=q6_k'"
            )
        if overrides.setdefault(pattern, kind) != kind:
            raise InvalidRequest(f"`{pattern}` is given two types, {overrides[pattern]} and {kind}")
    return overrides


def _stem(name: str) -> str:
    plain = name.replace("/", "-").partition(":")[0]
    plain = re.sub(r"[-._]GGUF$", "", plain, flags=re.IGNORECASE)
    label = quant_label(plain)
    return plain[: -len(label) - 1] if label and len(label) < len(plain) else plain


def _tokens(source: Path, report: ReportOptions) -> IntArray:
    """The text to measure on, found long enough."""
    text = read_documents(report.text) if report.text else read_builtin("evaluation")
    tokens = encode(text, source)
    cut(tokens, n_ctx=report.n_ctx, n_windows=report.n_windows)
    return tokens


def _wish(name: str, options: QuantizeOptions) -> Wish:
    return Wish(
        type=name,
        overrides=options.overrides,
        output_type=options.output_type,
        embedding_type=options.embedding_type,
        pure=options.pure,
        allow_requantize=options.allow_requantize,
        n_threads=options.n_threads,
    )


def _quantize_one(
    source: Path,
    target: Path,
    wish: Wish,
    imatrix: Path | None,
    progress: ProgressFactory,
) -> QuantizedModel:
    return quantize_gguf(
        source,
        target,
        type=wish.type,
        imatrix=imatrix,
        overrides=wish.overrides,
        output_type=wish.output_type,
        embedding_type=wish.embedding_type,
        pure=wish.pure,
        allow_requantize=wish.allow_requantize,
        n_threads=wish.n_threads,
        progress=progress,
    )


@contextmanager
def _imatrix(
    source: Path, options: QuantizeOptions, progress: ProgressFactory
) -> Iterator[Path | None]:
    """The importance matrix as a file, computed where that is asked for."""
    if options.imatrix is None:
        if options.save_imatrix is not None:
            raise UsageError("there is no importance matrix to save", hint="--imatrix TEXT")
        yield None
        return
    path = Path(options.imatrix)
    with suppress(RuntimeError):  # `~name` of nobody is a name like any other
        path = path.expanduser()
    if options.imatrix != BUILTIN_NAME and _exists(path) and is_imatrix(path):
        if options.save_imatrix is not None:
            raise UsageError(f"`{path}` is used as it is, so there is no other to save")
        yield path
        return
    ours = options.imatrix == BUILTIN_NAME
    text = read_builtin("calibration") if ours else read_documents(path)
    with TemporaryDirectory() as folder:
        target = options.save_imatrix or Path(folder) / "imatrix.gguf"
        compute_imatrix(
            source,
            target,
            source=text,
            dataset=BUILTIN if ours else path.name,
            n_threads=options.n_threads,
            n_gpu_layers=options.n_gpu_layers,
            progress=progress,
        )
        yield target


def _exists(path: Path) -> bool:
    if not path.is_file():
        raise InvalidRequest(
            f"there is no file `{path}`",
            hint=f"name a text, a .jsonl or a .gguf file, or `{BUILTIN_NAME}`",
        )
    return True
