"""The tokenizer of an ONNX folder: llama.cpp's, from a GGUF that holds a vocabulary and no weights.

So text becomes the same tokens on both runtimes, and what works on llama.cpp's vocabulary works
here too.
"""

from __future__ import annotations

from pathlib import Path

import llama_cpp.llama_cpp as native

from qwenkit.backends.llamacpp.tokenizer import LlamaTokenizer
from qwenkit.backends.llamacpp.vocabulary import load_vocabulary, write_vocabulary
from qwenkit.backends.onnx.layout import Layout
from qwenkit.models.atomic import exclusive
from qwenkit.models.fingerprint import fingerprint
from qwenkit.models.vocabulary import Vocabulary, read_vocabulary

VOCABULARIES = "vocabularies"
# Part of the key of written vocabularies: a new number writes every one again.
_WRITER_VERSION = "1"
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class LoadedVocabulary:
    """A vocabulary that llama.cpp holds.

    Args:
        layout: Whose tokenizer.
        home: Vocabularies are kept in `home/vocabularies`.

    Raises:
        ModelNotFound: The folder has no `tokenizer.json`.
        ModelUnsupported: Not Qwen's kind of tokenizer.
        ModelCorrupt: It is damaged, or doesn't fit the model.
    """

    def __init__(self, layout: Layout, *, home: Path) -> None:
        words = read_vocabulary(
            layout.folder, n_vocab=layout.n_vocab, default_ids=layout.special_ids
        )
        self.chat_template = words.chat_template or None
        self._model = load_vocabulary(
            _written(layout, words, home.expanduser() / VOCABULARIES),
            hint="delete the file; it is written again",
        )
        self.tokenizer = LlamaTokenizer(self._model)

    def close(self) -> None:
        """Free it."""
        self.tokenizer.close()
        native.llama_model_free(self._model)


def _written(layout: Layout, words: Vocabulary, folder: Path) -> Path:
    files = [path for name in _FILES if (path := layout.folder / name).exists()]
    key = fingerprint(files, str(layout.n_vocab), str(layout.special_ids), _WRITER_VERSION)
    target = folder / f"{key}.gguf"
    if not target.exists():
        with exclusive(folder):
            write_vocabulary(words, target)
    return target
