"""`/tokenize`, `/detokenize` and `/apply-template`, with llama-server's bodies and answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from qwenkit.backends.base import Tokenizer
from qwenkit.server.answers import Detokenized, PromptText, Tokens
from qwenkit.server.body import StrictRoute
from qwenkit.server.openai.conversation import render
from qwenkit.server.openai.schema import ChatBody, says
from qwenkit.server.serving import ServingNow
from qwenkit.server.tokenizing import check_id, check_ids, decode, encode

router = APIRouter(tags=["tokens"], route_class=StrictRoute)


class TokenizeBody(BaseModel):
    """The body of `/tokenize`."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    content: Annotated[
        str | list[str | int], says("must be a string or a list of strings and token ids")
    ] = ""
    """Text, or a mix of texts and token ids."""
    add_special: bool = False
    """Without effect: Qwen3 has no token that begins a text."""
    parse_special: bool = True
    """Recognise control tokens such as `<|im_end|>` in the text."""
    with_pieces: bool = False
    """Answer each token as `{"id", "piece"}`."""


class DetokenizeBody(BaseModel):
    """The body of `/detokenize`."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    tokens: list[int] = []
    """Token ids."""


@router.post("/tokenize", summary="Text to token ids", responses={200: {"model": Tokens}})
async def tokenize(body: TokenizeBody, serving: ServingNow) -> dict[str, Any]:
    """`{"tokens": [id, …]}`, or `[{"id", "piece"}, …]` with pieces."""
    tokenizer = serving.model.engine.tokenizer
    parts = [body.content] if isinstance(body.content, str) else body.content
    tokens: list[int] = []
    for index, part in enumerate(parts):
        if isinstance(part, str):
            tokens += await encode(tokenizer, part, special=body.parse_special)
        else:
            check_id(tokenizer, part, param=f"content[{index}]")
            tokens.append(part)
    if body.with_pieces:
        return {"tokens": [{"id": token, "piece": _piece(tokenizer, token)} for token in tokens]}
    return {"tokens": tokens}


def _piece(tokenizer: Tokenizer, token: int) -> str | list[int]:
    """The token's text, or its bytes where they are no text by themselves."""
    piece = tokenizer.piece(token)
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)


@router.post("/detokenize", summary="Token ids to text", responses={200: {"model": Detokenized}})
async def detokenize(body: DetokenizeBody, serving: ServingNow) -> dict[str, str]:
    """`{"content": text}`."""
    tokenizer = serving.model.engine.tokenizer
    check_ids(tokenizer, body.tokens, param="tokens")
    return {"content": decode(tokenizer, body.tokens)}


@router.post(
    "/apply-template",
    summary="Messages to the prompt's text",
    responses={200: {"model": PromptText}},
)
async def apply_template(body: ChatBody, serving: ServingNow) -> dict[str, str]:
    """`{"prompt": text}` of a body of `/v1/chat/completions`; nothing is generated."""
    prompt = await asyncio.to_thread(render, serving.named(body.model), body)
    return {"prompt": prompt.text}
