"""Which adapter a round compares with: the one that is in use now."""

from __future__ import annotations

from pathlib import Path

from qwenkit.adapters.base import BaseShapes, base_of_checkpoint, check_fit
from qwenkit.adapters.peft_folder import write_peft
from qwenkit.adapters.read import read_adapter, require_servable
from qwenkit.errors import InvalidSettings, QwenkitError
from qwenkit.improve.lineage import newest_better
from qwenkit.improve.request import AdapterRef, ImproveRequest, Server
from qwenkit.improve.rounds import Rounds
from qwenkit.models.fingerprint import fingerprint


def find_current(
    request: ImproveRequest, rounds: Rounds, server: Server | None
) -> AdapterRef | None:
    """The adapter that was named, or that a server has under the name, or the last better one.

    Returns:
        None where the base is used as it is.

    Raises:
        InvalidSettings: What the server has is not here, or is no longer what the server has.
        ModelError: It can't be read, or was made for another base.
    """
    base = base_of_checkpoint(request.checkpoint)
    if request.current is not None:
        return _adapter(request.current, base)
    served = server.served(request.name) if server is not None else None
    if served is None:
        return _made_before(request, rounds, base)
    try:
        found = _adapter(served.path, base)
    except QwenkitError as exc:
        raise InvalidSettings(
            f"the server's adapter {request.name!r} can't be compared with: {exc.message}",
            hint="name a copy of it on this machine: --current PATH",
        ) from exc
    if found.version != served.version:
        raise InvalidSettings(
            f"`{served.path}` is not what the server loaded from it: it changed since",
            hint=f"load it again: qwenkit lora load {request.name} {served.path}",
        )
    return found


def as_peft(adapter: AdapterRef, folder: Path, *, base_name: str, checkpoint: Path) -> Path:
    """An adapter as a PEFT folder: itself, or written from the file that it is.

    Args:
        adapter: The adapter.
        folder: Where it is written.
        base_name: What the base is called.
        checkpoint: The base.
    """
    if adapter.path.is_dir():
        return adapter.path
    if not folder.is_dir():
        lora = read_adapter(adapter.path, base_of_checkpoint(checkpoint))
        write_peft(lora, folder, base=base_name)
    return folder


def _made_before(request: ImproveRequest, rounds: Rounds, base: BaseShapes) -> AdapterRef | None:
    """What the newest better round made for this base."""
    made = newest_better(rounds, fingerprint(request.checkpoint.glob("*.safetensors")))
    if made is None:
        return None
    found = _adapter(made.path, base)
    if found.version != made.version:
        raise InvalidSettings(
            f"`{made.path}` is not what its round made: it changed since",
            hint="name the adapter to compare with: --current PATH",
        )
    return found


def _adapter(path: Path, base: BaseShapes) -> AdapterRef:
    lora = read_adapter(path, base)
    require_servable(lora)
    check_fit(lora, base)
    return AdapterRef(version=lora.version(), path=path)
