"""From what a user names to the file a runtime loads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.gguf_adapter import write_gguf_adapter
from qwenkit.adapters.prepare import PreparedAdapter, prepare_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported, InvalidSettings, ModelCorrupt, ModelNotFound

Prepare = Callable[[Path], PreparedAdapter]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def prepare(home: Path, demo: BaseShapes) -> Prepare:
    """Prepares for llama.cpp with the demo model."""
    return lambda source: prepare_adapter(source, format="gguf", base=demo, home=home)


def test_a_peft_folder_becomes_a_file_under_the_home(
    adapter: Path, prepare: Prepare, home: Path
) -> None:
    made = prepare(adapter)
    assert made.path.parent == home / "adapters"
    assert made.path.name.startswith(made.version)
    assert made.source == adapter
    assert (made.rank, made.alpha, made.targets) == (4, 8.0, ("q_proj", "v_proj"))
    assert made.n_params == 4 * (4 * (256 + 256) + 4 * (256 + 128))
    assert made.size_bytes == made.path.stat().st_size
    assert [path.name for path in (home / "adapters").iterdir()] == [made.path.name]


def test_the_same_content_is_converted_once(
    adapter: Path, prepare: Prepare, tmp_path: Path
) -> None:
    first = prepare(adapter)
    written_at = first.path.stat().st_mtime_ns
    copy = shutil.copytree(adapter, tmp_path / "elsewhere")
    second = prepare(copy)
    assert (second.path, second.version) == (first.path, first.version)
    assert second.path.stat().st_mtime_ns == written_at
    assert second.source == copy


def test_other_content_in_the_same_place_is_another_version(
    adapter: Path, prepare: Prepare, lora: SimpleNamespace
) -> None:
    first = prepare(adapter)
    lora.write(adapter, seed=1)
    second = prepare(adapter)
    assert second.version != first.version
    assert second.path != first.path


def test_many_at_once_make_one_file(adapter: Path, prepare: Prepare, home: Path) -> None:
    made: list[PreparedAdapter] = []
    threads = [threading.Thread(target=lambda: made.append(prepare(adapter))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len({each.path for each in made}) == 1
    assert len(list((home / "adapters").iterdir())) == 1


def test_many_processes_at_once_make_one_file(adapter: Path, home: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from qwenkit.adapters.base import base_of_checkpoint\n"
        "from qwenkit.adapters.prepare import prepare_adapter\n"
        "from qwenkit.models.demo import DEMO_DIR\n"
        "source, home = map(Path, sys.argv[1:])\n"
        "base = base_of_checkpoint(DEMO_DIR)\n"
        "print(prepare_adapter(source, format='gguf', base=base, home=home).path)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, adapter, home], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    shown = {process.communicate(timeout=60)[0].strip() for process in running}
    assert len(shown) == 1
    assert [str(path) for path in (home / "adapters").iterdir()] == list(shown)


def test_a_file_of_the_runtimes_own_format_stays_where_it_is(
    adapter: Path, prepare: Prepare, home: Path, tmp_path: Path
) -> None:
    write_gguf_adapter(read_adapter(adapter), tmp_path / "mine.gguf")
    made = prepare(tmp_path / "mine.gguf")
    assert made.path == made.source == tmp_path / "mine.gguf"
    assert not home.exists()


def test_a_failed_conversion_leaves_nothing(
    adapter: Path, home: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    with pytest.raises(InvalidSettings, match="exported model"):
        prepare_adapter(adapter, format="onnx", base=demo, home=home)
    assert not list(home.rglob("*.onnx_adapter"))


def test_nothing_that_does_not_fit_is_written(
    prepare: Prepare, home: Path, tmp_path: Path, lora: SimpleNamespace
) -> None:
    wide = BaseShapes("wide", {"model.layers.0.self_attn.q_proj": (512, 512)})
    with pytest.raises(AdapterUnsupported, match=r"\[512, 512\]"):
        prepare(lora.write(tmp_path / "wide", base=wide))
    truncated = lora.write(tmp_path / "short")
    weights = truncated / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelCorrupt):
        prepare(truncated)
    with pytest.raises(ModelNotFound):
        prepare(tmp_path / "nothing")
    assert not home.exists()
