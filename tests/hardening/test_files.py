"""Files that somebody broke on purpose: weights, adapters, their configs and their templates.

Whatever is in a file, reading it ends with what it says or with an error that names the file, soon
and in little memory.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from qwenkit.adapters.base import base_of_checkpoint
from qwenkit.adapters.gguf_adapter import write_gguf_adapter
from qwenkit.adapters.lora import Lora
from qwenkit.adapters.onnx_adapter import write_onnx_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.chat.messages import parse_messages
from qwenkit.chat.template import ChatTemplate
from qwenkit.errors import QwenkitError
from qwenkit.models.checkpoint import open_checkpoint
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.gguf_check import check_gguf
from qwenkit.models.gguf_header import read_header

from .mutations import changed
from .stage import write_adapter

QUICK, LONG = 60, 20_000
MOST_BYTES = 64 * 2**20
HEAD_BYTES = 6000
"""Where headers are: most bytes after them are numbers that may be anything."""
HELLO = parse_messages([{"role": "user", "content": "hi"}])
NUMBERS = (0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # numbers that overflow float16
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # patterns of doubtful brackets
]


@pytest.fixture(scope="module")
def peft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("peft") / "adapter", 0)


@pytest.fixture(scope="module")
def lora(peft: Path) -> Lora:
    return read_adapter(peft)


def broken(content: bytes, dice: random.Random) -> bytes:
    """The bytes with a few of them changed, most likely near the beginning."""
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(min(len(content), HEAD_BYTES) if dice.random() < 0.9 else len(content))
        match dice.randrange(5):
            case 0:
                content = content[:at] or b"\x00"
            case 1:
                content = content[:at] + bytes([dice.randrange(256)]) + content[at + 1 :]
            case 2:
                number = struct.pack("<Q", dice.choice(NUMBERS))
                content = content[:at] + number + content[at + 8 :]
            case 3:
                content = content[:at] + content[at // 2 : at] + content[at:]
            case _:
                content = content[:at] + content[at + dice.randrange(1, 64) :] or b"\x00"
    return content


def survive(
    original: bytes, target: Path, read: Callable[[Path], object], n: int, seed: int = 0
) -> tuple[int, int]:
    """Read n broken versions of a file; how many could be read and how many were refused."""
    dice, n_read, n_refused = random.Random(seed), 0, 0
    tracemalloc.start()
    try:
        for _ in range(n):
            target.write_bytes(broken(original, dice))
            tracemalloc.reset_peak()
            try:
                read(target)
                n_read += 1
            except QwenkitError:
                n_refused += 1
            assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    return n_read, n_refused


def many(quick: int = QUICK) -> pytest.MarkDecorator:
    """Few of them usually, many where minutes are fine."""
    return pytest.mark.parametrize("n", [quick, pytest.param(LONG, marks=pytest.mark.slow)])


@many()
def test_a_broken_gguf_adapter_is_read_or_refused(lora: Lora, tmp_path: Path, n: int) -> None:
    path = tmp_path / "adapter.gguf"
    write_gguf_adapter(lora, path)
    assert min(survive(path.read_bytes(), path, read_adapter, n)) > 0


@many()
def test_a_broken_onnx_adapter_is_read_or_refused(lora: Lora, tmp_path: Path, n: int) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "adapter.onnx_adapter"
    write_onnx_adapter(lora, path, base_of_checkpoint(DEMO_DIR))
    assert min(survive(path.read_bytes(), path, read_adapter, n)) > 0


@many()
def test_broken_safetensors_of_an_adapter_are_read_or_refused(
    peft: Path, tmp_path: Path, n: int
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(peft, folder)
    weights = folder / "adapter_model.safetensors"
    counts = survive(weights.read_bytes(), weights, lambda _: read_adapter(folder), n)
    assert min(counts) > 0


@many()
def test_a_changed_config_of_an_adapter_is_taken_or_refused(
    peft: Path, tmp_path: Path, n: int
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(peft, folder)
    path = folder / "adapter_config.json"
    config, dice, n_refused = json.loads(path.read_text(encoding="utf-8")), random.Random(0), 0
    for _ in range(n):
        path.write_text(json.dumps(changed(config, dice)), encoding="utf-8")
        try:
            read_adapter(folder)
        except QwenkitError:
            n_refused += 1
    assert n_refused > 0


@many()
def test_a_broken_gguf_model_is_read_or_refused(lora: Lora, tmp_path: Path, n: int) -> None:
    path = tmp_path / "model.gguf"
    write_gguf_adapter(lora, path)
    read, refused = survive(path.read_bytes(), path, read_header, n)
    assert min(read, refused) > 0
    survive(path.read_bytes() or b"GGUF", path, check_gguf, n // 10)


@many(30)
def test_a_broken_checkpoint_is_read_or_refused(tmp_path: Path, n: int) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in DEMO_DIR.iterdir():
        (folder / file.name).symlink_to(file)
    config = folder / "config.json"
    original = config.read_bytes()
    config.unlink()
    survive(original, config, lambda _: open_checkpoint(folder), n)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ ('{0.__class__.__init__.__globals__}').format(messages) }}",
        "{{ ('{0.__class__}' | format_map({'0': messages})) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends '/etc/passwd' %}",
        "{{ messages | attr('__class__') }}",
        "{{ messages | map(attribute='__class__') | list }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(a=1) }}",
        "{{ 'a' * 10**12 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{% for a in range(10**12) %}{% endfor %}",
        "{{ 'a'.ljust(10**12) }}",
        "{{ '%1000000000000d' | format(1) }}",
        "{{ '{:1000000000000}'.format('a') }}",
        "{{ '%1000000000000d' % 1 }}",
        "{{ 'a' | center(10**9) }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    ],
)
def test_a_models_template_reaches_nothing_and_takes_nothing(template: str) -> None:
    tracemalloc.start()
    try:
        prompt = ChatTemplate(template, control_tokens=()).render(HELLO)
    except QwenkitError:
        return
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES
    for leak in ("root:", "uid=", "<module", "class", "function"):
        assert leak not in prompt.text
