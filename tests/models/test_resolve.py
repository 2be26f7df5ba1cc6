"""From what a user writes to the files a backend loads."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gguf import GGUFWriter

from qwenkit.errors import (
    DownloadFailed,
    InvalidSettings,
    ModelCorrupt,
    ModelNotFound,
    ModelUnsupported,
)
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME
from qwenkit.models.gguf_check import check_gguf
from qwenkit.models.progress import Advance
from qwenkit.models.resolve import ResolvedModel, resolve, resolve_checkpoint


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class CountedProgress:
    """A progress factory that remembers what it was asked to show."""

    def __init__(self) -> None:
        self.descriptions: list[str] = []

    @contextmanager
    def __call__(
        self, description: str, *, total: int | None, unit: str = "B"
    ) -> Iterator[Advance]:
        self.descriptions.append(description)
        yield lambda _: None


def onnx_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "genai_config.json").write_text("{}", encoding="utf-8")
    (folder / "model.onnx").write_bytes(b"graph")
    return folder


def empty_gguf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "qwen3")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_checkpoint_is_converted_once_and_named_after_its_folder(
    checkpoint: Path, home: Path
) -> None:
    progress = CountedProgress()
    first = resolve(str(checkpoint), home=home, progress=progress)
    again = resolve(str(checkpoint), home=home, progress=progress)
    assert first == again
    assert progress.descriptions == ["Converting tiny-qwen3"]
    assert (first.name, first.format, first.is_demo) == ("tiny-qwen3", "gguf", False)
    assert first.checkpoint == checkpoint
    assert first.path.is_relative_to(home)
    assert first.paths == (first.path,)
    assert check_gguf(first.path).text("general.name") == "tiny-qwen3"


def test_a_copied_checkpoint_is_the_same_model_and_a_changed_one_is_not(
    checkpoint: Path, tmp_path: Path, home: Path
) -> None:
    first = resolve(str(checkpoint), home=home)
    copy = tmp_path / "elsewhere" / checkpoint.name
    shutil.copytree(checkpoint, copy)
    assert resolve(str(copy), home=home).path == first.path
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 5}), encoding="utf-8")
    changed = resolve(str(copy), home=home)
    assert changed.content_id != first.content_id
    assert check_gguf(changed.path).number("qwen3.rope.freq_base") == 5


def test_each_dtype_is_converted_for_itself(checkpoint: Path, home: Path) -> None:
    models = {d: resolve(str(checkpoint), home=home, dtype=d) for d in ("auto", "f16", "q8_0")}
    assert len({model.path for model in models.values()}) == 3
    assert len({model.content_id for model in models.values()}) == 3


def test_a_checkpoint_that_can_not_be_converted_leaves_no_trace(
    tmp_path: Path, tiny: SimpleNamespace, home: Path
) -> None:
    tiny.write(tmp_path / "m", config={"attention_bias": True})
    with pytest.raises(ModelUnsupported):
        resolve(str(tmp_path / "m"), home=home)
    assert not home.exists()


def test_an_interrupted_conversion_leaves_no_trace(checkpoint: Path, home: Path) -> None:
    @contextmanager
    def progress(*_: object, **__: object) -> Iterator[Advance]:
        def advance(_: int) -> None:
            raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        resolve(str(checkpoint), home=home, progress=progress)
    assert [path for path in home.rglob("*") if path.name != "converted"] == []
    assert resolve(str(checkpoint), home=home).path.exists()


def test_two_at_once_convert_once(checkpoint: Path, home: Path) -> None:
    progress, gate = CountedProgress(), threading.Barrier(4)
    found: list[ResolvedModel] = []

    def work() -> None:
        gate.wait()
        found.append(resolve(str(checkpoint), home=home, progress=progress))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(progress.descriptions) == 1


def test_without_a_name_the_demo_model_is_meant(home: Path) -> None:
    found = resolve(None, home=home)
    assert (found.name, found.source, found.is_demo) == ("qwenkit-demo", "qwenkit-demo", True)
    assert found == resolve("", home=home) == resolve("qwenkit-demo", home=home)
    check_gguf(found.path)


def test_a_gguf_file_is_taken_as_it_is(tmp_path: Path, home: Path) -> None:
    path = empty_gguf(tmp_path / "Some-Q4_K_M.gguf")
    found = resolve(str(path), home=home)
    assert (found.path, found.name, found.source) == (path, "Some-Q4_K_M", str(path))
    assert not home.exists()
    assert resolve(str(tmp_path), home=home).path == path


def test_a_later_part_of_a_split_file_stands_for_the_first(tmp_path: Path, home: Path) -> None:
    parts = [empty_gguf(tmp_path / f"m-{i:05d}-of-00003.gguf") for i in (1, 2, 3)]
    for given in (*parts, tmp_path):
        found = resolve(str(given), home=home)
        assert (found.path, found.paths, found.name) == (parts[0], tuple(parts), "m")


def test_weights_of_the_same_bytes_have_the_same_content_id(tmp_path: Path, home: Path) -> None:
    a, b = empty_gguf(tmp_path / "a.gguf"), empty_gguf(tmp_path / "b.gguf")
    first, second = resolve(str(a), home=home), resolve(str(b), home=home)
    assert first.content_id == second.content_id
    b.write_bytes(b.read_bytes() + b"\0")
    assert resolve(str(b), home=home).content_id != first.content_id


def test_a_name_in_the_homes_models_is_enough(home: Path) -> None:
    path = empty_gguf(home / "models" / "mine.gguf")
    assert resolve("mine.gguf", home=home).path == path


def test_an_onnx_folder_is_for_the_onnx_backend_alone(tmp_path: Path, home: Path) -> None:
    folder = onnx_folder(tmp_path / "exported")
    found = resolve(str(folder), home=home, backend="onnx")
    assert (found.path, found.format, found.name) == (folder, "onnx", "exported")
    with pytest.raises(InvalidSettings, match="backend `onnx`") as caught:
        resolve(str(folder), home=home)
    assert "RUNTIME_BACKEND=onnx" in caught.value.hint


def test_a_gguf_file_is_for_llama_cpp_alone(tmp_path: Path, home: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"llama\.cpp") as caught:
        resolve(str(empty_gguf(tmp_path / "m.gguf")), home=home, backend="onnx")
    assert "safetensors" in caught.value.hint
    assert not home.exists()


def test_safetensors_are_found_for_the_onnx_backend_and_left_as_they_are(
    checkpoint: Path, tmp_path: Path, home: Path
) -> None:
    found = resolve(str(checkpoint), home=home, backend="onnx")
    assert (found.format, found.path, found.checkpoint) == ("safetensors", checkpoint, checkpoint)
    assert found.name == checkpoint.name
    copy = tmp_path / "elsewhere"
    shutil.copytree(checkpoint, copy)
    assert resolve(str(copy), home=home, backend="onnx").content_id == found.content_id
    demo = resolve(None, home=home, backend="onnx")
    assert (demo.format, demo.is_demo, demo.name) == ("safetensors", True, "qwenkit-demo")
    assert not home.exists()


def test_a_checkpoint_is_fetched_for_the_onnx_backend(
    fake_hub: Any, tmp_path: Path, tiny: SimpleNamespace, home: Path
) -> None:
    tiny.write(tmp_path / "m")
    files = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    fake_hub.files["Qwen/Tiny"] = files
    found = from_hub("Qwen/Tiny", fake_hub, home, backend="onnx")
    assert (found.format, found.name) == ("safetensors", "Tiny")
    assert {path.name for path in found.path.iterdir()} == files.keys()


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "nowhere.gguf", "a/b.gguf"])
def test_a_path_that_is_not_there_says_so(model: str, home: Path) -> None:
    with pytest.raises(ModelNotFound, match=model) as caught:
        resolve(model, home=home, offline=True)
    assert "owner/name" in caught.value.hint


def test_a_missing_path_in_a_folder_that_is_there_is_no_hub_id(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="models/tiny") as caught:
        resolve("models/tiny", home=home)
    assert "Hub id" in caught.value.hint


def test_what_is_no_model_says_what_it_lacks(tmp_path: Path, home: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "two").mkdir()
    empty_gguf(tmp_path / "two" / "a.gguf")
    empty_gguf(tmp_path / "two" / "b.gguf")
    for name, error, words in [
        ("adapter", ModelUnsupported, "adapter"),
        ("notes.txt", ModelUnsupported, "neither"),
        ("two", ModelUnsupported, "2 GGUF"),
        (".", ModelNotFound, "no config.json"),
    ]:
        with pytest.raises(error, match=words):
            resolve(str(tmp_path / name), home=home)


def test_a_truncated_shard_is_named(tmp_path: Path, tiny: SimpleNamespace, home: Path) -> None:
    tiny.write(tmp_path / "m", n_shards=2)
    shard = tmp_path / "m" / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ModelCorrupt, match="00002-of-00002"):
        resolve(str(tmp_path / "m"), home=home)
    assert not home.exists()


def from_hub(model: str, fake_hub: Any, home: Path, **options: Any) -> ResolvedModel:
    return resolve(model, home=home, hub_endpoint=fake_hub.url, hub_cache=fake_hub.cache, **options)


def gguf_bytes(tmp_path: Path) -> bytes:
    return empty_gguf(tmp_path / "source.gguf").read_bytes()


def test_a_quantisation_is_fetched_from_the_hub(fake_hub: Any, tmp_path: Path, home: Path) -> None:
    data = gguf_bytes(tmp_path)
    fake_hub.files["Qwen/Qwen3-8B-GGUF"] = {
        "README.md": b"",
        "Qwen3-8B-Q4_K_M.gguf": data,
        "Qwen3-8B-Q8_0.gguf": data,
    }
    found = from_hub("Qwen/Qwen3-8B-GGUF", fake_hub, home)
    assert found.name == "Qwen3-8B-GGUF:Q4_K_M"
    assert found.path.name == "Qwen3-8B-Q4_K_M.gguf"
    named = from_hub("Qwen/Qwen3-8B-GGUF:q8_0", fake_hub, home)
    assert named.name == "Qwen3-8B-GGUF:Q8_0"
    assert from_hub("Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q8_0.gguf", fake_hub, home).path == named.path
    downloads = {path.rpartition("/")[2] for m, path in fake_hub.requests if "/resolve/" in path}
    assert downloads == {"Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q8_0.gguf"}


def test_all_parts_of_a_split_model_are_fetched(fake_hub: Any, tmp_path: Path, home: Path) -> None:
    names = [f"BF16/m-BF16-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]
    fake_hub.files["a/b"] = dict.fromkeys(names, gguf_bytes(tmp_path))
    found = from_hub("a/b:BF16", fake_hub, home)
    assert [path.name for path in found.paths] == [name[5:] for name in names]
    assert found.path == found.paths[0]
    assert all(path.exists() for path in found.paths)


def test_a_checkpoint_is_fetched_and_converted(
    fake_hub: Any, tmp_path: Path, tiny: SimpleNamespace, home: Path
) -> None:
    tiny.write(tmp_path / "m", n_shards=2)
    files = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    fake_hub.files["Qwen/Tiny"] = files | {"README.md": b"", "pytorch_model.bin": b""}
    progress = CountedProgress()
    found = from_hub("Qwen/Tiny", fake_hub, home, progress=progress)
    assert found.name == "Tiny"
    assert found.checkpoint is not None
    assert {path.name for path in found.checkpoint.iterdir()} == files.keys()
    check_gguf(found.path)
    assert progress.descriptions == ["Downloading Qwen/Tiny", "Converting Tiny"]
    assert from_hub("Qwen/Tiny", fake_hub, home, offline=True) == found


def test_an_unsupported_checkpoint_is_refused_before_its_weights_are_fetched(
    fake_hub: Any, home: Path
) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    fake_hub.files["a/llama"] = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": b"x" * 1000,
    }
    with pytest.raises(ModelUnsupported, match="LlamaForCausalLM"):
        from_hub("a/llama", fake_hub, home)
    assert not any("safetensors" in path for _, path in fake_hub.requests)


def test_an_onnx_repository_is_fetched_by_folder(fake_hub: Any, home: Path) -> None:
    fake_hub.files["a/onnx"] = {
        "cpu/genai_config.json": b"{}",
        "cpu/model.onnx": b"graph",
        "cuda/genai_config.json": b"{}",
    }
    found = from_hub("a/onnx/cpu", fake_hub, home, backend="onnx")
    assert {path.name for path in found.path.iterdir()} == {"genai_config.json", "model.onnx"}
    with pytest.raises(ModelUnsupported, match="2 ONNX"):
        from_hub("a/onnx", fake_hub, home, backend="onnx")
    with pytest.raises(InvalidSettings):
        from_hub("a/onnx/cpu", fake_hub, home)


def test_a_missing_quantisation_lists_those_there_are(
    fake_hub: Any, tmp_path: Path, home: Path
) -> None:
    fake_hub.files["a/b"] = {"m-Q8_0.gguf": b"", "m-Q4_0.gguf": b""}
    with pytest.raises(ModelNotFound, match="Q2_K") as caught:
        from_hub("a/b:Q2_K", fake_hub, home)
    assert caught.value.hint == "there are: Q4_0, Q8_0"


def test_a_model_that_is_not_cached_is_not_served_offline(fake_hub: Any, home: Path) -> None:
    with pytest.raises(DownloadFailed):
        from_hub("a/b", fake_hub, home, offline=True)
    assert fake_hub.requests == []


def test_a_checkpoint_is_found_without_being_converted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    own = home / "models" / "mine"
    shutil.copytree(DEMO_DIR, own)
    assert resolve_checkpoint(None, home=home) == DEMO_DIR
    assert resolve_checkpoint(DEMO_NAME, home=home) == DEMO_DIR
    assert resolve_checkpoint("mine", home=home) == own
    assert resolve_checkpoint(str(own), home=home) == own
    assert not (home / "converted").exists()


def test_a_checkpoint_must_be_safetensors_with_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for model, error in {
        str(tmp_path / "m.gguf"): ModelUnsupported,
        str(tmp_path): ModelUnsupported,
        str(tmp_path / "nowhere"): ModelNotFound,
    }.items():
        with pytest.raises(error):
            resolve_checkpoint(model, home=tmp_path / "home")


def test_a_checkpoint_is_fetched_from_the_hub_as_it_is(
    fake_hub: Any, tmp_path: Path, tiny: SimpleNamespace, home: Path
) -> None:
    tiny.write(tmp_path / "tiny")
    names = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    fake_hub.files["Qwen/Tiny"] = names
    fake_hub.files["Qwen/Tiny-GGUF"] = {"tiny-q8_0.gguf": b"GGUF"}
    places = {"hub_endpoint": fake_hub.url, "hub_cache": fake_hub.cache}
    found = resolve_checkpoint("Qwen/Tiny", home=home, **places)
    assert {path.name for path in found.iterdir()} == set(names)
    with pytest.raises(ModelUnsupported):
        resolve_checkpoint("Qwen/Tiny-GGUF", home=home, **places)
