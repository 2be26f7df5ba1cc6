"""Text to token ids and back with the vocabulary of a loaded GGUF. Knows nothing of chats."""

from __future__ import annotations

import ctypes
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np

from qwenkit.backends.llamacpp import capi
from qwenkit.errors import EngineStopped

_PIECE_BYTES = 1024


class _Lifetime:
    """Keeps a C object from being freed under those who are using it, on whatever thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_users = 0
        self._ended = False

    def __enter__(self) -> None:
        with self._changed:
            if self._ended:
                raise EngineStopped("the model has been unloaded")
            self._n_users += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._n_users -= 1
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: self._n_users == 0)


class LlamaTokenizer:
    """The vocabulary of a loaded model.

    Args:
        model: A `llama_model` pointer; `close` before it is freed.
    """

    def __init__(self, model: int) -> None:
        self._in_use = _Lifetime()
        self._vocab = native.llama_model_get_vocab(model)
        self.n_vocab: int = native.llama_vocab_n_tokens(self._vocab)
        # Qwen's tokenizer composes characters first; llama.cpp's reading of it leaves that out.
        self._composes = capi.read_metadata(model, "tokenizer.ggml.pre") == "qwen2"
        self._control: dict[str, int] = {}
        self._added: dict[str, int] = {}
        for token in range(self.n_vocab):
            attributes = native.llama_vocab_get_attr(self._vocab, token)
            if attributes & _ADDED:
                self._remember_added(token, attributes)
        self.eos_tokens = self._end_tokens()

    def _remember_added(self, token: int, attributes: int) -> None:
        text = native.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace")
        self._added[text] = token
        if attributes & native.LLAMA_TOKEN_ATTR_CONTROL:
            self._control[text] = token

    def _end_tokens(self) -> frozenset[int]:
        # llama.cpp also ends on any token spelled like another family's end marker, such as the
        # ordinary piece `</s>` of Qwen's vocabulary: an answer about HTML would stop there.
        named = {native.llama_vocab_eos(self._vocab), native.llama_vocab_eot(self._vocab)}
        spelled = {token for text, token in self._control.items() if text.startswith("<|")}
        return frozenset(
            token
            for token in named | spelled
            if token >= 0 and native.llama_vocab_is_eog(self._vocab, token)
        )

    def close(self) -> None:
        """Wait for those who use the vocabulary; whoever comes later gets `EngineStopped`."""
        self._in_use.end()

    @contextmanager
    def native_vocab(self) -> Iterator[Any]:
        """llama.cpp's pointer to the vocabulary, valid inside.

        Raises:
            EngineStopped: The model has been unloaded.
        """
        with self._in_use:
            yield self._vocab

    @property
    def control_tokens(self) -> dict[str, int]:
        """Control tokens by their spelling."""
        return self._control

    @property
    def added_tokens(self) -> dict[str, int]:
        """Control and user-defined tokens by their spelling."""
        return self._added

    def token_id(self, text: str) -> int | None:
        """Id of the added token spelled exactly so, None if there is none."""
        return self._added.get(text)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; control tokens are recognised in it only when `special`.

        No token is added at either end: Qwen3 has no beginning-of-sequence token.

        Raises:
            EngineStopped: The model has been unloaded.
        """
        if self._composes:
            text = unicodedata.normalize("NFC", text)
        data = text.encode("utf-8")
        capacity = len(data) + 8
        ids = np.empty(capacity, np.int32)
        pointer = capi.pointer(ids, ctypes.c_int32)
        with self._in_use:
            n = native.llama_tokenize(
                self._vocab, data, len(data), pointer, capacity, False, special
            )
        tokens: list[int] = ids[:n].tolist()
        return tokens

    def piece(self, token: int, *, special: bool = True) -> bytes:
        """The bytes that a token stands for; a control token has none unless `special`.

        Raises:
            EngineStopped: The model has been unloaded.
        """
        if not 0 <= token < self.n_vocab:  # the library ends the process on one
            raise IndexError(f"token {token} is outside the vocabulary of {self.n_vocab}")
        with self._in_use:
            buffer = ctypes.create_string_buffer(_PIECE_BYTES)
            n = native.llama_token_to_piece(self._vocab, token, buffer, _PIECE_BYTES, 0, special)
            if n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = native.llama_token_to_piece(self._vocab, token, buffer, -n, 0, special)
        return buffer.raw[:n]


_ADDED = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_USER_DEFINED
