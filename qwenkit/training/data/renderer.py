"""Text to token ids as serving has them: the checkpoint's own template, llama.cpp's tokenizer.

Knows one checkpoint; nothing of rows, and nothing of what is learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cpp.llama_cpp as native

from qwenkit.backends.base import Tokenizer
from qwenkit.backends.llamacpp.tokenizer import LlamaTokenizer
from qwenkit.backends.llamacpp.vocabulary import load_vocabulary, write_vocabulary
from qwenkit.chat.messages import JsonValue, Message, Tool
from qwenkit.chat.template import ChatTemplate, Prompt, encode_prompt
from qwenkit.errors import ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.gguf_header import read_header
from qwenkit.models.vocabulary import read_vocabulary

_END_OF_TEXT = "<|endoftext|>"


class Renderer:
    """Renders and tokenises for one model.

    Args:
        template: The model's chat template.
        tokenizer: Its vocabulary.

    Raises:
        ModelUnsupported: The vocabulary has no token that ends a text.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        if not tokenizer.eos_tokens:
            raise ModelUnsupported("the vocabulary has no token that ends a text")
        self.template = template
        self.tokenizer = tokenizer
        self.thinks = None not in map(tokenizer.token_id, ("<think>", "</think>"))
        end = tokenizer.control_tokens.get(_END_OF_TEXT)
        self.end_of_text = min(tokenizer.eos_tokens) if end is None else end
        # One object for each id: a data set holds millions of them.
        self._ids = tuple(range(tokenizer.n_vocab))

    @property
    def template_hash(self) -> str:
        """Short hash of the template."""
        return self.template.hash

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        enable_thinking: bool = True,
        add_generation_prompt: bool = True,
        extra: Mapping[str, JsonValue] | None = None,
    ) -> Prompt:
        """Render as serving does for a request.

        Raises:
            InvalidMessages: The template refuses the conversation.
        """
        return self.template.render(
            messages,
            tools=tools,
            # As serving: a model that can't think never sees an empty thinking block.
            enable_thinking=enable_thinking or not self.thinks,
            add_generation_prompt=add_generation_prompt,
            extra=extra,
        )

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Ids of a rendered conversation."""
        return self._shared(encode_prompt(prompt, self.tokenizer))

    def encode_text(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Ids of plain text; control tokens are recognised in it only when `special`."""
        return self._shared(self.tokenizer.encode(text, special=special)) if text else ()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens by their spelling."""
        return b"".join(map(self.tokenizer.piece, ids)).decode("utf-8", "replace")

    def _shared(self, ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(map(self._ids.__getitem__, ids))


@contextmanager
def open_renderer(checkpoint: Path) -> Iterator[Renderer]:
    """Load the vocabulary and the template of a checkpoint folder or a `.gguf`; no weights.

    Raises:
        ModelNotFound: A file of it is missing.
        ModelUnsupported: Not Qwen's kind of tokenizer, or a template that can't be used.
        ModelCorrupt: A file is damaged.
    """
    model, source = _open_gguf(checkpoint) if checkpoint.is_file() else _open_folder(checkpoint)
    tokenizer = LlamaTokenizer(model)
    try:
        template = ChatTemplate(source or None, control_tokens=tokenizer.control_tokens)
        yield Renderer(template, tokenizer)
    finally:
        tokenizer.close()
        native.llama_model_free(model)


def _open_gguf(path: Path) -> tuple[int, str]:
    return load_vocabulary(path), read_header(path).text("tokenizer.chat_template")


def _open_folder(folder: Path) -> tuple[int, str]:
    config = qwen3.parse_config(read_json(folder / "config.json"))
    words = read_vocabulary(folder, n_vocab=config.n_vocab, default_ids=config.special_ids)
    with TemporaryDirectory(prefix="qwenkit-") as temporary:
        path = Path(temporary) / "vocabulary.gguf"
        write_vocabulary(words, path)
        return load_vocabulary(path), words.chat_template
