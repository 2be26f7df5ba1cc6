"""The models that are at hand on this machine, and what each takes on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from qwenkit.errors import ModelNotFound
from qwenkit.models.choose import choose_gguf
from qwenkit.models.gguf_header import split_parts
from qwenkit.models.hub import CachedRepo, Hub, parse_hub_id
from qwenkit.models.info import GENAI_CONFIG, Format
from qwenkit.models.resolve import CONVERTED, EXPORTED, MODELS


@dataclass(frozen=True, slots=True)
class LocalModel:
    """One model on this disk.

    Args:
        model: What to set MODEL_PATH to.
        place: Why it is here.
        format: What it is.
        path: Where it is.
        size_bytes: What it takes on the disk.
    """

    model: str
    place: Literal["demo", "models", "converted", "exported", "hub"]
    format: Format
    path: Path
    size_bytes: int


def list_models(home: Path, *, hub: Hub | None = None) -> list[LocalModel]:
    """List the demo model, `home/models`, converted and exported weights, and the Hub cache."""
    home = home.expanduser()
    return [
        *_demo(),
        *_own(home / MODELS),
        *_converted(home / CONVERTED),
        *_exported(home / EXPORTED),
        *_from_hub((hub or Hub()).cached_repos()),
    ]


def local_path(model: str, home: Path, *, hub: Hub | None = None) -> Path:
    """Where a model lies that is at hand, whatever the user calls it; nothing is fetched or made.

    Raises:
        ModelError: It is not on this machine.
    """
    from qwenkit.models.demo import DEMO_DIR, DEMO_NAME

    own = home.expanduser() / MODELS / model
    for path in (Path(model).expanduser(), own, *([DEMO_DIR] if model == DEMO_NAME else [])):
        if path.exists():
            return path
    hub_id = parse_hub_id(model)
    if hub_id is None:
        raise ModelNotFound(f"there is no file or folder `{model}`", hint="qwenkit model list")
    listing = replace(hub or Hub(), offline=True).list_files(hub_id)
    if "config.json" in listing.local and not hub_id.quant and not hub_id.path:
        return listing.local["config.json"].parent
    return listing.local[choose_gguf(hub_id, listing.sizes)[0]]


def _demo() -> list[LocalModel]:
    from qwenkit.models.demo import DEMO_DIR, DEMO_NAME

    if not DEMO_DIR.is_dir():
        return []
    size = _folder_size(DEMO_DIR)
    return [LocalModel(DEMO_NAME, "demo", "safetensors", DEMO_DIR, size)]


def _own(folder: Path) -> list[LocalModel]:
    models = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and (kind := _folder_format(path)):
            models.append(LocalModel(path.name, "models", kind, path, _folder_size(path)))
        elif path.suffix == ".gguf" and split_parts(path)[0] == path:
            size = sum(part.stat().st_size for part in split_parts(path) if part.exists())
            models.append(LocalModel(path.name, "models", "gguf", path, size))
    return models


def _converted(folder: Path) -> list[LocalModel]:
    return [
        LocalModel(str(path), "converted", "gguf", path, path.stat().st_size)
        for path in sorted(folder.glob("*/*.gguf"))
    ]


def _exported(folder: Path) -> list[LocalModel]:
    return [
        LocalModel(
            str(config.parent), "exported", "onnx", config.parent, _folder_size(config.parent)
        )
        for config in sorted(folder.glob(f"*/{GENAI_CONFIG}"))
    ]


def _from_hub(repos: Iterable[CachedRepo]) -> list[LocalModel]:
    return [
        LocalModel(repo.repo, "hub", kind, repo.path, repo.size_bytes)
        for repo in repos
        if (kind := _format_of(repo.files))
    ]


def _folder_format(folder: Path) -> Format | None:
    return _format_of(path.name for path in folder.iterdir())


def _format_of(names: Iterable[str]) -> Format | None:
    files = set(names)
    if GENAI_CONFIG in files:
        return "onnx"
    if any(name.endswith(".safetensors") for name in files) and "config.json" in files:
        return "safetensors"
    return "gguf" if any(name.endswith(".gguf") for name in files) else None


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
