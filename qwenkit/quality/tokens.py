"""Documents to the tokens that one model reads, cut into windows. Knows its GGUF's vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

import llama_cpp.llama_cpp as native
import numpy as np

from qwenkit.backends.base import IntArray
from qwenkit.backends.llamacpp.tokenizer import LlamaTokenizer
from qwenkit.backends.llamacpp.vocabulary import load_vocabulary
from qwenkit.chat.template import ChatTemplate, encode_prompt
from qwenkit.errors import InvalidRequest
from qwenkit.models.gguf_header import GgufHeader, read_header
from qwenkit.quality.texts import Document, Text

Source: TypeAlias = str | Sequence[Document] | IntArray
"""Plain text, documents, or token ids."""

SEPARATOR = "<|endoftext|>"
MIN_WINDOW = 16


def encode(source: Source, model: Path) -> IntArray:
    """The tokens of a text as the model in a GGUF file reads it.

    Several documents are separated by the token that separates them in training. Conversations are
    rendered by the model's own chat template, Qwen3's where it has none.

    Raises:
        ModelError: The file has no vocabulary that llama.cpp can load.
        InvalidMessages: The template refuses a conversation.
    """
    if isinstance(source, np.ndarray):
        return source.astype(np.int32)
    documents = (Text(source),) if isinstance(source, str) else source
    header = read_header(model)
    with _tokenizer(model) as tokenizer:
        return _encode_all(documents, tokenizer, header)


def cut(tokens: IntArray, *, n_ctx: int, n_windows: int | None = None) -> IntArray:
    """Whole windows `[n_windows, n_ctx]` of a text, from its beginning; the rest is left out.

    Raises:
        InvalidRequest: The text does not fill one window, or windows of that size make no sense.
    """
    if n_ctx < MIN_WINDOW:
        raise InvalidRequest(f"a window of {n_ctx} tokens; the least is {MIN_WINDOW}")
    if n_windows is not None and n_windows < 1:
        raise InvalidRequest(f"{n_windows} windows measure nothing")
    n = len(tokens) // n_ctx
    if n == 0:
        raise InvalidRequest(
            f"the text has {len(tokens)} tokens and one window takes {n_ctx}",
            hint="give a longer text, or a shorter window",
        )
    n = n if n_windows is None else min(n, n_windows)
    return tokens[: n * n_ctx].reshape(n, n_ctx)


@contextmanager
def _tokenizer(model: Path) -> Iterator[LlamaTokenizer]:
    loaded = load_vocabulary(model, hint=f"qwenkit model info {model}")
    try:
        with closing(LlamaTokenizer(loaded)) as tokenizer:
            yield tokenizer
    finally:
        native.llama_model_free(loaded)


def _encode_all(
    documents: Sequence[Document], tokenizer: LlamaTokenizer, header: GgufHeader
) -> IntArray:
    template = ChatTemplate(
        header.text("tokenizer.chat_template") or None, control_tokens=tokenizer.control_tokens
    )
    separator = tokenizer.token_id(SEPARATOR)
    tokens: list[int] = []
    for number, document in enumerate(documents):
        if number and separator is not None:
            tokens.append(separator)
        if isinstance(document, Text):
            tokens.extend(tokenizer.encode(document.text))
        else:
            prompt = template.render(
                document.messages, tools=document.tools, add_generation_prompt=False
            )
            tokens.extend(encode_prompt(prompt, tokenizer))
    return np.array(tokens, np.int32)
