"""The list of what is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import DownloadFailed, ModelNotFound
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME
from qwenkit.models.hub import Hub, HubId
from qwenkit.models.library import list_models, local_path
from qwenkit.models.resolve import resolve


def test_every_place_is_listed_with_its_size(
    fake_hub: Any, checkpoint: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    converted = resolve(str(checkpoint), home=home)
    (home / "models" / "folder").mkdir(parents=True)
    (home / "models" / "folder" / "config.json").write_bytes(b"{}")
    (home / "models" / "folder" / "model.safetensors").write_bytes(b"123")
    for part in (1, 2):
        (home / "models" / f"big-{part:05d}-of-00002.gguf").write_bytes(b"12345")
    (home / "models" / "notes.txt").touch()
    fake_hub.files |= {"a/gguf": {"m-Q8_0.gguf": b"1234567"}, "a/text": {"README.md": b"hi"}}
    hub = Hub(endpoint=fake_hub.url, cache=fake_hub.cache)
    resolve("a/gguf", home=home, hub_endpoint=fake_hub.url, hub_cache=fake_hub.cache)
    listed = [m for m in list_models(home, hub=hub) if m.place != "demo"]
    assert [(m.model, m.place, m.format, m.size_bytes) for m in listed] == [
        ("big-00001-of-00002.gguf", "models", "gguf", 10),
        ("folder", "models", "safetensors", 5),
        (str(converted.path), "converted", "gguf", converted.path.stat().st_size),
        ("a/gguf", "hub", "gguf", 7),
    ]


def test_the_demo_model_is_always_listed(tmp_path: Path) -> None:
    [demo] = list_models(tmp_path, hub=Hub(cache=tmp_path / "none"))
    assert (demo.model, demo.place, demo.path) == (DEMO_NAME, "demo", DEMO_DIR)
    assert 0 < demo.size_bytes < 20_000_000


def test_a_model_is_found_by_each_of_its_names(fake_hub: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    (home / "models" / "m.gguf").touch()
    hub = Hub(endpoint=fake_hub.url, cache=fake_hub.cache)
    fake_hub.files["a/b"] = {"m-Q8_0.gguf": b"1234567"}
    [fetched] = hub.download(hub.list_files(HubId("a/b")), ["m-Q8_0.gguf"])
    assert local_path("m.gguf", home, hub=hub) == home / "models" / "m.gguf"
    assert local_path(str(tmp_path), home, hub=hub) == tmp_path
    assert local_path(DEMO_NAME, home, hub=hub) == DEMO_DIR
    assert local_path("a/b", home, hub=hub) == local_path("a/b:Q8_0", home, hub=hub) == fetched
    with pytest.raises(ModelNotFound):
        local_path("nothing", home, hub=hub)
    with pytest.raises(DownloadFailed):
        local_path("a/other", home, hub=hub)
