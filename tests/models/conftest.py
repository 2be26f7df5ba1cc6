"""Small random Qwen3 checkpoints, written with numpy alone."""

from __future__ import annotations

import ctypes
import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED = {
    "<|endoftext|>": True,
    "<|im_start|>": True,
    "<|im_end|>": True,
    "<tool_call>": False,
    "</tool_call>": False,
    "<|fim_prefix|>": False,
    "<think>": False,
    "</think>": False,
}
WORDS = ["Ġhello", "Ġworld", "Ġthe", "12", "hello", "ĊĊ", "ä½łå¥½"]
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "max_window_layers": 2,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 320,
}

Tensors = dict[str, np.ndarray]


def byte_letters() -> list[str]:
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    for extra, byte in enumerate(b for b in range(256) if b not in table):
        table[byte] = chr(256 + extra)
    return [table[byte] for byte in range(256)]


def tokenizer_json() -> dict[str, Any]:
    pieces, merges = byte_letters(), []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append([word[: end - 1], word[end - 1]])
    added = [
        {
            "id": len(pieces) + i,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": special,
        }
        for i, (text, special) in enumerate(ADDED.items())
    ]
    split = {
        "type": "Split",
        "pattern": {"Regex": QWEN2_SPLIT},
        "behavior": "Isolated",
        "invert": False,
    }
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": merges,
        },
    }


def random_tensors(config: Mapping[str, Any], seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    embd, ff, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], embd),
        "model.norm.weight": (embd,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], embd)
    for i in range(config["num_hidden_layers"]):
        for name, shape in {
            "input_layernorm": (embd,),
            "self_attn.q_proj": (query, embd),
            "self_attn.k_proj": (kv, embd),
            "self_attn.v_proj": (kv, embd),
            "self_attn.o_proj": (embd, query),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "post_attention_layernorm": (embd,),
            "mlp.gate_proj": (ff, embd),
            "mlp.up_proj": (ff, embd),
            "mlp.down_proj": (embd, ff),
        }.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    return {
        name: (rng.standard_normal(shape) * 0.15 + (len(shape) == 1)).astype(np.float32)
        for name, shape in shapes.items()
    }


def stored(data: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        return (data.view(np.uint32) >> 16).astype("<u2").tobytes()
    return data.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).tobytes()


def as_stored(data: np.ndarray, dtype: str) -> np.ndarray:
    """The float32 numbers that are left of `data` once it is stored as `dtype`."""
    if dtype == "BF16":
        return (data.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return data.astype(np.float16).astype(np.float32) if dtype == "F16" else data


def write_safetensors(path: Path, tensors: Tensors, dtype: str = "F32") -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, data in tensors.items():
        blob = stored(data, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(data.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def write_sharded(folder: Path, tensors: Tensors, dtype: str, n_shards: int) -> None:
    names, weight_map = list(tensors), {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05d}-of-{n_shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::n_shards]}
        weight_map |= dict.fromkeys(part, file)
        write_safetensors(folder / file, part, dtype)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def write_checkpoint(
    folder: Path,
    *,
    dtype: str = "F32",
    n_shards: int = 1,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    change: Callable[[Tensors], None] = lambda _: None,
) -> Tensors:
    """Write a whole checkpoint folder and return its tensors as float32.

    `config` overrides keys of the default one, None deletes; `change` edits the tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    merged = {k: v for k, v in (CONFIG | dict(config or {})).items() if v is not None}
    tensors = random_tensors(CONFIG | dict(config or {}), seed)
    change(tensors)
    if n_shards > 1:
        write_sharded(folder, tensors, dtype, n_shards)
    else:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
    tokenizer_config = {
        "add_bos_token": False,
        "bos_token": None,
        "chat_template": "{{ messages[0].content }}",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
    }
    for name, value in {
        "config.json": merged,
        "tokenizer.json": tokenizer_json(),
        "tokenizer_config.json": tokenizer_config,
    }.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return tensors


class LlamaCpp:
    """A GGUF file in llama.cpp's low-level API: tokens of a text, logits of tokens."""

    def __init__(self, path: Path) -> None:
        from llama_cpp import llama_cpp as api

        from qwenkit.backends.llamacpp import capi

        self.api = api
        # The library keeps only a pointer to what it logs to, for the whole process.
        capi.initialise()
        params = api.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = api.llama_model_load_from_file(str(path).encode(), params)
        assert self.model
        self.vocab = api.llama_model_get_vocab(self.model)

    def close(self) -> None:
        self.api.llama_model_free(self.model)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        data = text.encode()
        tokens = (ctypes.c_int32 * (len(data) + 8))()
        n = self.api.llama_tokenize(self.vocab, data, len(data), tokens, len(tokens), True, special)
        return list(tokens[:n])

    def logits(self, tokens: list[int]) -> np.ndarray:
        """Float32 logits after every token, computed with an F32 KV cache."""
        api, n = self.api, len(tokens)
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 256
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = 0
        params.flash_attn_type = 0
        context = api.llama_init_from_model(self.model, params)
        batch = api.llama_batch_init(n, 0, 1)
        try:
            batch.n_tokens = n
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            assert api.llama_decode(context, batch) == 0
            shape = (n, api.llama_vocab_n_tokens(self.vocab))
            return np.ctypeslib.as_array(api.llama_get_logits(context), shape).copy()
        finally:
            api.llama_batch_free(batch)
            api.llama_free(context)


@contextmanager
def load_llama(path: Path) -> Iterator[LlamaCpp]:
    model = LlamaCpp(path)
    try:
        yield model
    finally:
        model.close()


class FakeHub(ThreadingHTTPServer):
    """The part of the Hub that downloads use.

    Args:
        cache: Folder for downloads.

    `files` maps repositories to their files; `refuse` maps a repository to a status and the Hub's
    error code; `requests` records method and path.
    """

    def __init__(self, cache: Path) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.cache = cache
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        self.files: dict[str, dict[str, bytes]] = {}
        self.refuse: dict[str, tuple[int, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.cut_first_download_at: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path))
        self.server.tokens.add(self.headers.get("Authorization"))
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repo = "/".join(parts[:2])
        if repo in self.server.refuse:
            self.send(self.server.refuse[repo][0], error=self.server.refuse[repo][1])
        elif repo not in self.server.files:
            self.send(404, error="RepoNotFound")
        elif parts[3:4] not in (["main"], [self.server.commit]):
            self.send(404, error="RevisionNotFound")
        elif path.startswith("/api/"):
            self.send(200, self.listing(repo))
        elif "/".join(parts[4:]) not in self.server.files[repo]:
            self.send(404, error="EntryNotFound")
        else:
            self.send_file(self.server.files[repo]["/".join(parts[4:])])

    def listing(self, repo: str) -> bytes:
        siblings = [{"rfilename": n, "size": len(b)} for n, b in self.server.files[repo].items()]
        return json.dumps({"id": repo, "sha": self.server.commit, "siblings": siblings}).encode()

    def send_file(self, data: bytes) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        status = 206 if "Range" in self.headers else 200
        self.send(status, data[start:], etag=sha256(data).hexdigest(), total=len(data))

    def send(
        self, status: int, data: bytes = b"", *, error: str = "", etag: str = "", total: int = 0
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", self.server.commit)
        if error:
            self.send_header("X-Error-Code", error)
        if etag:
            self.send_header("ETag", f'"{etag}"')
            start = total - len(data)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        if self.command == "HEAD":
            return
        cut, self.server.cut_first_download_at = self.server.cut_first_download_at, None
        if not etag:
            self.server.cut_first_download_at, cut = cut, None
        self.wfile.write(data[:cut])


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """The functions of this file, for tests."""
    return SimpleNamespace(
        write=write_checkpoint,
        write_safetensors=write_safetensors,
        as_stored=as_stored,
        load_llama=load_llama,
        config=CONFIG,
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tied F32 checkpoint in one file."""
    write_checkpoint(tmp_path / "tiny-qwen3")
    return tmp_path / "tiny-qwen3"


@pytest.fixture
def fake_hub(tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub on 127.0.0.1 with an empty cache."""
    hub = FakeHub(tmp_path / "hub-cache")
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
