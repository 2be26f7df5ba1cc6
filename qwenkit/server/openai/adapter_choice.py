"""Reads which adapter a completion's body asks for, and how strongly. Pure.

By `model` and `lora_scale`, or by llama-server's `lora`; one adapter a request.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.chat.completion import ChatModel
from qwenkit.engine.adapters import Adapter
from qwenkit.errors import InvalidRequest, UnknownAdapter
from qwenkit.server.openai.schema import GenerationBody, LoraUse
from qwenkit.server.serving import Lease


def chosen_model(serving: Lease, body: GenerationBody) -> ChatModel:
    """The model, with the adapter that the body asks for.

    Raises:
        UnknownModel: `model` names nothing that is served.
        UnknownAdapter: `lora` names an adapter that is not loaded.
        InvalidRequest: There is more than one, or a strength that can't be; `param` names it.
    """
    model = serving.named(body.model)
    if body.lora is not None:
        return _listed(serving, model, body.lora, body.lora_scale)
    if body.lora_scale is None:
        return model
    if model.adapter is None:
        raise InvalidRequest(
            "lora_scale needs an adapter", param="lora_scale", hint="name it as the model"
        )
    return serving.model.with_adapter(serving.adapter(model.name), scale=body.lora_scale)


def _listed(
    serving: Lease, model: ChatModel, uses: Sequence[LoraUse], lora_scale: float | None
) -> ChatModel:
    if lora_scale is not None:
        raise InvalidRequest("lora and lora_scale exclude each other", param="lora_scale")
    found = [(index, _adapter(serving, use, index)) for index, use in enumerate(uses)]
    # llama-server's clients list every adapter and switch it off by a scale of 0.
    active = [(index, adapter) for index, adapter in found if uses[index].scale != 0]
    if len(active) > 1:
        names = " and ".join(adapter.name for _, adapter in active)
        raise InvalidRequest(f"a request can use one adapter, not {names}", param="lora")
    if model.adapter is not None and [adapter.name for _, adapter in active] != [model.name]:
        raise InvalidRequest(
            f"model names the adapter {model.name!r}, and lora does not", param="lora"
        )
    if not active:
        return model
    index, adapter = active[0]
    try:
        return serving.model.with_adapter(adapter, scale=uses[index].scale)
    except InvalidRequest as exc:
        exc.param = f"lora[{index}].scale"
        raise


def _adapter(serving: Lease, use: LoraUse, index: int) -> Adapter:
    if (use.id is None) == (use.name is None):
        raise InvalidRequest("either an id or a name is needed", param=f"lora[{index}]")
    for adapter in serving.adapters:
        if adapter.name == use.name or serving.adapter_id(adapter) == use.id:
            return adapter
    wanted, field = (use.name, "name") if use.id is None else (use.id, "id")
    known = ", ".join(f"{serving.adapter_id(each)} {each.name}" for each in serving.adapters)
    raise UnknownAdapter(
        f"no adapter {wanted!r}; loaded: {known or 'none'}", param=f"lora[{index}].{field}"
    )
