"""Routes for LoRA adapters: our own under `/admin`, vLLM's, and llama-server's list.

What they do is `Adapters`'; this knows bodies and answers. Loading by vLLM's route is refused for a
name that is taken, as vLLM does it; ours replaces what came from the same place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import PlainTextResponse

from qwenkit.engine.adapters import Adapter
from qwenkit.errors import InvalidRequest
from qwenkit.server.adapters import MAX_NAME, Adapters, fits_template
from qwenkit.server.answers import AdapterList, LoraEntry, ShownAdapter
from qwenkit.server.auth import require_admin
from qwenkit.server.body import StrictRoute
from qwenkit.server.openapi import fails_with
from qwenkit.server.serving import Server, Serving, ServingNow

MAX_PATH = 4096

Name = Annotated[str, Field(max_length=MAX_NAME)]
PathText = Annotated[str, Field(min_length=1, max_length=MAX_PATH)]

router = APIRouter(tags=["adapters"], route_class=StrictRoute)
ADMIN = [Depends(require_admin)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)


class AdapterBody(_Body):
    """The body of `POST /admin/adapters`."""

    name: Name
    """What requests call it, as their `model`."""
    path: PathText
    """A PEFT folder, a `.gguf` or an `.onnx_adapter` on the server's machine."""
    replace: bool | None = None
    """Let the name stand for this one, even if it stands for an adapter from elsewhere."""


class LoadLoraBody(_Body):
    """The body of `/v1/load_lora_adapter`, as vLLM has it."""

    lora_name: Name
    """What requests call it, as their `model`."""
    lora_path: PathText
    """A PEFT folder, a `.gguf` or an `.onnx_adapter` on the server's machine."""
    load_inplace: bool | None = None
    """Replace what is loaded under the name."""


class UnloadLoraBody(_Body):
    """The body of `/v1/unload_lora_adapter`, as vLLM has it."""

    lora_name: Name
    """What requests call it."""


def _adapters_of(request: Request) -> Adapters:
    adapters: Adapters = request.app.state.adapters
    return adapters


ServerAdapters = Annotated[Adapters, Depends(_adapters_of)]


@router.get(
    "/admin/adapters",
    summary="The loaded adapters",
    dependencies=ADMIN,
    responses={200: {"model": AdapterList}},
)
async def list_adapters(serving: ServingNow, server: Server) -> dict[str, Any]:
    """Every adapter with its version, its origin and its size."""
    return {"adapters": [adapter_json(each, server) for each in serving.adapters]}


@router.post(
    "/admin/adapters",
    summary="Load an adapter",
    dependencies=ADMIN,
    responses={200: {"model": ShownAdapter}, **fails_with(409)},
)
async def load_adapter(
    body: AdapterBody, adapters: ServerAdapters, server: Server
) -> dict[str, Any]:
    """Load an adapter, or a new version of one, while requests run."""
    adapter = await adapters.load(body.name, Path(body.path), replace=bool(body.replace))
    return adapter_json(adapter, server)


@router.delete(
    "/admin/adapters/{name:path}",
    summary="Unload an adapter",
    dependencies=ADMIN,
    responses={200: {"model": ShownAdapter}},
)
async def unload_adapter(name: str, adapters: ServerAdapters, server: Server) -> dict[str, Any]:
    """Take an adapter away; requests that run with it end with it."""
    return adapter_json(await adapters.unload(name), server)


@router.post(
    "/v1/load_lora_adapter",
    summary="Load an adapter, as vLLM spells it",
    dependencies=ADMIN,
    response_class=PlainTextResponse,
    responses=fails_with(409),
)
async def load_lora_adapter(body: LoadLoraBody, adapters: ServerAdapters) -> str:
    """Answers with a sentence; a name that is taken needs `load_inplace`."""
    in_place = bool(body.load_inplace)
    if not in_place and any(each.name == body.lora_name for each in adapters.all()):
        raise InvalidRequest(
            f"the adapter {body.lora_name!r} is loaded already",
            param="lora_name",
            hint="send load_inplace to replace it",
        )
    await adapters.load(body.lora_name, Path(body.lora_path), replace=in_place)
    return f"Success: LoRA adapter '{body.lora_name}' added successfully."


@router.post(
    "/v1/unload_lora_adapter",
    summary="Unload an adapter, as vLLM spells it",
    dependencies=ADMIN,
    response_class=PlainTextResponse,
)
async def unload_lora_adapter(body: UnloadLoraBody, adapters: ServerAdapters) -> str:
    """Answers with a sentence."""
    await adapters.unload(body.lora_name)
    return f"Success: LoRA adapter '{body.lora_name}' removed successfully."


@router.get(
    "/lora-adapters",
    summary="The loaded adapters, as llama-server lists them",
    responses={200: {"model": list[LoraEntry]}},
)
async def lora_adapters(serving: ServingNow) -> list[dict[str, Any]]:
    """Their ids for a request's `lora`; without that, a request uses none of them."""
    return [
        {
            "id": serving.adapter_id(each),
            "name": each.name,
            "path": each.source.name,
            "scale": 0.0,
        }
        for each in serving.adapters
    ]


def adapter_json(adapter: Adapter, server: Serving) -> dict[str, Any]:
    """An adapter as the admin routes show it."""
    served = server.served
    return {
        "id": server.adapter_ids[adapter.name],
        "name": adapter.name,
        "version": adapter.version,
        "path": str(adapter.source),
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targets": list(adapter.targets),
        "n_params": adapter.n_params,
        "size_bytes": adapter.size_bytes,
        "loaded_at": adapter.loaded_at,
        "template_hash": adapter.template_hash,
        "template_fits": None if served is None else fits_template(adapter, served.model),
    }
