"""The processes of one run, as `accelerate launch` starts them: which one this is, and agreement.

One process alone is the common case, and costs nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from qwenkit.extras import import_extra


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run.

    Args:
        rank: Its number; 0 writes and talks for all.
        n: How many there are.
        device: What it computes on, as torch names it: `cpu`, `cuda:0`.
        shards: Whether each holds a part of the model only (FSDP, DeepSpeed).
    """

    rank: int
    n: int
    device: Any = field(repr=False)
    shards: bool = False

    @property
    def is_main(self) -> bool:
        """Whether it writes and talks."""
        return self.rank == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After a failure the others may still wait for this one: only its end tells them.
        if self.n > 1 and kind is None:
            import_extra("torch.distributed", extra="train").destroy_process_group()

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.n > 1:
            import_extra("torch.distributed", extra="train").barrier()

    def any(self, flag: bool) -> bool:
        """Whether it is true in one of them; all must ask."""
        if self.n == 1:
            return flag
        torch = import_extra("torch", extra="train")
        flags = torch.tensor(int(flag), device=self.device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return bool(flags.item())


def join_processes() -> Processes:
    """Find the others, where this process was launched as one of several."""
    accelerate = import_extra("accelerate", extra="train")
    is_set = accelerate.utils.parse_flag_from_env
    state = accelerate.PartialState(cpu=is_set("ACCELERATE_USE_CPU"))
    shards = is_set("ACCELERATE_USE_FSDP") or is_set("ACCELERATE_USE_DEEPSPEED")
    return Processes(state.process_index, state.num_processes, state.device, shards)
