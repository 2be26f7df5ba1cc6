"""From what a user calls a model to the files that a backend loads.

Fetches and converts on the way when that is needed, once. Knows the places where models are kept;
takes plain values and reads no settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from qwenkit.errors import InvalidSettings, ModelNotFound, ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.atomic import exclusive
from qwenkit.models.checkpoint import read_json
from qwenkit.models.choose import choose_checkpoint, choose_gguf, choose_onnx, quant_label
from qwenkit.models.convert import convert_checkpoint, plan_conversion
from qwenkit.models.fingerprint import fingerprint
from qwenkit.models.gguf_header import SPLIT_NAME, split_parts
from qwenkit.models.hub import Hub, HubId, Listing, parse_hub_id
from qwenkit.models.info import GENAI_CONFIG
from qwenkit.models.progress import ProgressFactory, silent

ModelFormat: TypeAlias = Literal["gguf", "onnx", "safetensors"]

CONVERTED = "converted"
EXPORTED = "exported"
MODELS = "models"
# Part of the key of converted weights: a new number converts everything again.
CONVERTER_VERSION = "1"
_BACKEND_OF = {"gguf": "llama.cpp", "onnx": "onnx"}
_CHECKPOINT_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "*.safetensors",
    "*.safetensors.index.json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """A model that is on this disk in the form its backend needs.

    Args:
        path: What to load: a GGUF file (the first part of a split one) or an ONNX folder; or what
            to export for the backend `onnx`, a folder of safetensors.
        paths: All files of a GGUF model in order, or the folder.
        name: What clients call it, such as `Qwen3-8B-GGUF:Q4_K_M`.
        source: What MODEL_PATH would call it: a path, a Hub id, or the demo model's name.
        format: What `path` is.
        is_demo: Whether it is the embedded demo model.
        content_id: Short hash that identifies the weights.
        checkpoint: The folder of safetensors that `path` was made from or is, if any.
    """

    path: Path
    paths: tuple[Path, ...]
    name: str
    source: str
    format: ModelFormat
    is_demo: bool = False
    content_id: str
    checkpoint: Path | None = None


def resolve(
    model: str | None,
    *,
    home: Path,
    backend: str = "llama.cpp",
    dtype: str = "auto",
    hub_token: str | None = None,
    offline: bool = False,
    hub_endpoint: str | None = None,
    hub_cache: Path | None = None,
    progress: ProgressFactory = silent,
) -> ResolvedModel:
    """Find a model, fetch it, convert it, whatever is needed.

    For the backend `onnx` safetensors are found and fetched; exporting them is left to the caller.

    Args:
        model: A Hub id (`owner/name`, `owner/name:QUANT`, `owner/name/file.gguf`), a folder of
            safetensors, a `.gguf` file or a folder with one, an ONNX GenAI folder, the name of a
            file in `home/models`, or None for the demo model.
        home: Where converted weights are kept.
        backend: `llama.cpp` or `onnx`; the model must suit it.
        dtype: Number format to convert safetensors to.
        hub_token: For gated and private repositories.
        offline: Use only what is there.
        hub_endpoint: Another Hub than huggingface.co.
        hub_cache: Another folder for downloads than huggingface_hub's own.
        progress: Told the bytes downloaded and converted.

    Raises:
        ModelError: Not found, damaged, not supported, or not to be had from the Hub.
        InvalidSettings: The model doesn't suit the backend, or the disk is full.
    """
    hub = Hub(token=hub_token, offline=offline, endpoint=hub_endpoint, cache=hub_cache)
    finder = _Finder(home.expanduser(), backend, dtype, hub, progress)
    return finder.find(model)


def resolve_checkpoint(
    model: str | None,
    *,
    home: Path,
    hub_token: str | None = None,
    offline: bool = False,
    hub_endpoint: str | None = None,
    hub_cache: Path | None = None,
    progress: ProgressFactory = silent,
) -> Path:
    """Find a model's safetensors, fetch them where need be, and convert nothing.

    Args:
        model: A Hub id, a folder, the name of a folder in `home/models`, or None for the demo
            model. The other arguments are those of `resolve`.

    Returns:
        The folder that holds `config.json` and the weights.

    Raises:
        ModelError: Not found, not safetensors, or not to be had from the Hub.
    """
    hub = Hub(token=hub_token, offline=offline, endpoint=hub_endpoint, cache=hub_cache)
    return _Finder(home.expanduser(), "onnx", "auto", hub, progress).find_checkpoint(model)


@dataclass(frozen=True, slots=True)
class _Finder:
    home: Path
    backend: str
    dtype: str
    hub: Hub
    progress: ProgressFactory

    def find(self, model: str | None) -> ResolvedModel:
        from qwenkit.models.demo import DEMO_DIR, DEMO_NAME

        if not model or model == DEMO_NAME:
            found = self._checkpoint(DEMO_DIR, name=DEMO_NAME, source=DEMO_NAME)
            return replace(found, is_demo=True)
        if path := self._path(model):
            return self._local(path, source=model)
        return self._from_hub(_hub_id(model), source=model)

    def find_checkpoint(self, model: str | None) -> Path:
        from qwenkit.models.demo import DEMO_DIR, DEMO_NAME

        if not model or model == DEMO_NAME:
            return DEMO_DIR
        if path := self._path(model):
            if not _is_checkpoint(path):
                raise ModelUnsupported(f"`{path}` is no folder of safetensors with a config.json")
            return path
        listing = self.hub.list_files(_hub_id(model))
        if not _has_checkpoint(listing):
            raise ModelUnsupported(f"`{model}` holds no safetensors with a config.json")
        return self._fetch_checkpoint(listing)

    def _path(self, model: str) -> Path | None:
        places = (Path(model).expanduser(), self.home / MODELS / model)
        return next((path for path in places if path.exists()), None)

    def _local(self, path: Path, *, source: str) -> ResolvedModel:
        if path.suffix == ".gguf" and path.is_file():
            return self._gguf(split_parts(path), name=_model_name(path), source=source)
        if not path.is_dir():
            raise ModelUnsupported(
                f"`{path}` is neither a folder nor a .gguf file",
                hint="for safetensors name the folder that holds config.json",
            )
        if (path / GENAI_CONFIG).exists():
            return self._onnx(path, name=path.resolve().name, source=source)
        if _is_checkpoint(path):
            return self._checkpoint(path, name=path.resolve().name, source=source)
        return self._folder_of_gguf(path, source=source)

    def _folder_of_gguf(self, folder: Path, *, source: str) -> ResolvedModel:
        firsts = sorted({split_parts(path)[0] for path in folder.glob("*.gguf")})
        if len(firsts) == 1:
            return self._gguf(split_parts(firsts[0]), name=_model_name(firsts[0]), source=source)
        if firsts:
            raise ModelUnsupported(
                f"`{folder}` holds {len(firsts)} GGUF models", hint=f"name one, such as {firsts[0]}"
            )
        if (folder / "adapter_config.json").exists():
            raise ModelUnsupported(
                f"`{folder}` holds an adapter and no model", hint="name it in LORA_PATHS"
            )
        raise ModelNotFound(
            f"`{folder}` holds no model: no .gguf, no {GENAI_CONFIG}, "
            "no config.json with safetensors"
        )

    def _from_hub(self, hub_id: HubId, *, source: str) -> ResolvedModel:
        listing = self.hub.list_files(hub_id)
        names = {name.rpartition("/")[2] for name in listing.sizes}
        has_checkpoint = _has_checkpoint(listing)
        if hub_id.quant or hub_id.path.endswith(".gguf"):
            return self._gguf_from_hub(listing, source=source)
        if GENAI_CONFIG in names and (hub_id.path or self.backend == "onnx" or not has_checkpoint):
            return self._onnx_from_hub(listing, source=source)
        if has_checkpoint:
            return self._checkpoint_from_hub(listing, source=source)
        return self._gguf_from_hub(listing, source=source)

    def _gguf_from_hub(self, listing: Listing, *, source: str) -> ResolvedModel:
        self._require(source, "gguf")
        files = choose_gguf(listing.id, listing.sizes)
        paths = self.hub.download(listing, files, progress=self.progress)
        label = quant_label(files[0])
        name = f"{listing.id.name}:{label}" if label else listing.id.name
        return self._gguf(paths, name=name, source=source)

    def _onnx_from_hub(self, listing: Listing, *, source: str) -> ResolvedModel:
        self._require(source, "onnx")
        files = choose_onnx(listing.id, listing.sizes)
        paths = self.hub.download(listing, files, progress=self.progress)
        return self._onnx(paths[0].parent, name=listing.id.name, source=source)

    def _checkpoint_from_hub(self, listing: Listing, *, source: str) -> ResolvedModel:
        folder = self._fetch_checkpoint(listing)
        return self._checkpoint(folder, name=listing.id.name, source=source)

    def _fetch_checkpoint(self, listing: Listing) -> Path:
        # What can't be converted is refused before gigabytes are fetched.
        [config] = self.hub.download(listing, ["config.json"])
        qwen3.parse_config(read_json(config))
        self.hub.download(listing, choose_checkpoint(listing.sizes), progress=self.progress)
        return config.parent

    def _gguf(self, paths: list[Path], *, name: str, source: str) -> ResolvedModel:
        self._require(source, "gguf")
        return ResolvedModel(
            path=paths[0],
            paths=tuple(paths),
            name=name,
            source=source,
            format="gguf",
            content_id=fingerprint(path for path in paths if path.exists()),
        )

    def _onnx(self, folder: Path, *, name: str, source: str) -> ResolvedModel:
        self._require(source, "onnx")
        return ResolvedModel(
            path=folder,
            paths=(folder,),
            name=name,
            source=source,
            format="onnx",
            content_id=fingerprint(path for path in folder.iterdir() if path.is_file()),
        )

    def _checkpoint(self, folder: Path, *, name: str, source: str) -> ResolvedModel:
        if self.backend == "onnx":
            return ResolvedModel(
                path=folder,
                paths=(folder,),
                name=name,
                source=source,
                format="safetensors",
                content_id=fingerprint(_checkpoint_files(folder)),
                checkpoint=folder,
            )
        key = fingerprint(_checkpoint_files(folder), self.dtype, CONVERTER_VERSION)
        stem = re.sub(r"[^\w.-]", "-", name)
        target = self.home / CONVERTED / f"{stem}-{key}" / f"{stem}.gguf"
        if not target.exists():
            plan_conversion(folder, dtype=self.dtype)
            with exclusive(target.parent):
                self._convert(folder, target, name)
        found = self._gguf([target], name=name, source=source)
        return replace(found, content_id=key, checkpoint=folder)

    def _convert(self, folder: Path, target: Path, name: str) -> None:
        # Another process may have made it while this one waited.
        if not target.exists():
            convert_checkpoint(folder, target, dtype=self.dtype, name=name, progress=self.progress)

    def _require(self, source: str, found: Literal["gguf", "onnx"]) -> None:
        needed = _BACKEND_OF[found]
        if self.backend == needed:
            return
        hints = {
            "gguf": f"set RUNTIME_BACKEND={needed}, or name the model's safetensors",
            "onnx": f"set RUNTIME_BACKEND={needed}",
        }
        raise InvalidSettings(
            f"{source} is for the backend `{needed}`, and `{self.backend}` is chosen",
            hint=hints[found],
        )


def _hub_id(model: str) -> HubId:
    hub_id = parse_hub_id(model)
    if hub_id is None or _first_folder(model).is_dir():
        raise _no_such_path(model, hub_id)
    return hub_id


def _is_checkpoint(path: Path) -> bool:
    return (path / "config.json").exists() and any(path.glob("*.safetensors"))


def _has_checkpoint(listing: Listing) -> bool:
    names = listing.sizes
    return "config.json" in names and any(name.endswith(".safetensors") for name in names)


def _no_such_path(model: str, hub_id: HubId | None) -> ModelNotFound:
    hint = "a Hub id is spelled owner/name or owner/name:QUANT"
    if hub_id is not None:
        hint = f"`{_first_folder(model)}` is a folder here, so this is not taken for a Hub id"
    return ModelNotFound(f"there is no file or folder `{model}`", hint=hint)


def _first_folder(model: str) -> Path:
    return Path(model.partition("/")[0])


def _model_name(path: Path) -> str:
    match = SPLIT_NAME.match(path.name)
    return match["stem"] if match else path.stem


def _checkpoint_files(folder: Path) -> Iterable[Path]:
    return [path for pattern in _CHECKPOINT_FILES for path in folder.glob(pattern)]
