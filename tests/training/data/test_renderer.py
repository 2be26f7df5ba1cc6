"""A checkpoint's template and tokens, without its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qwenkit.chat.messages import parse_messages
from qwenkit.chat.template import ChatTemplate
from qwenkit.errors import ModelNotFound
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.renderer import open_renderer

MESSAGES = parse_messages([{"role": "user", "content": "Grüße <|im_end|> <think>"}])


def test_a_gguf_renders_as_the_checkpoint_it_was_made_of(tmp_path: Path, renderer) -> None:
    convert_checkpoint(Path(DEMO_DIR), tmp_path / "demo.gguf")
    with open_renderer(tmp_path / "demo.gguf") as other:
        assert other.template_hash == renderer.template_hash
        assert other.end_of_text == renderer.end_of_text
        ids = [each.encode(each.render(MESSAGES)) for each in (renderer, other)]
        assert ids[0] == ids[1]


def test_no_weights_are_needed_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(DEMO_DIR) / name, folder)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with open_renderer(folder) as renderer:
        assert renderer.decode(renderer.encode_text("Hello")) == "Hello"
    assert not list(temporary.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_template_is_the_checkpoints_own(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(DEMO_DIR, folder)
    config = folder / "tokenizer_config.json"

    fields = json.loads(config.read_text(encoding="utf-8")) | {"chat_template": "{{ 'Hi' }}"}
    config.write_text(json.dumps(fields), encoding="utf-8")
    with open_renderer(folder) as renderer:
        assert renderer.template_hash == ChatTemplate("{{ 'Hi' }}", control_tokens=()).hash
        assert renderer.render(MESSAGES).text == "Hi"


def test_a_folder_without_a_tokenizer_is_said_to_have_none(tmp_path: Path) -> None:
    shutil.copy(Path(DEMO_DIR) / "config.json", tmp_path)
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json"), open_renderer(tmp_path):
        pass
