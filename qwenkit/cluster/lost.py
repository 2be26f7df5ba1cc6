"""The failures that only several replicas have. Knows no Ray."""

from __future__ import annotations

from qwenkit.errors import EngineBusy

RETRY_S = 5.0


class ReplicaLost(EngineBusy):
    """The replica that had a request is gone, or none has taken it.

    Args:
        replica: Which it was, where that is known.
    """

    def __init__(self, message: str, *, replica: str | None) -> None:
        super().__init__(message, retry_after_s=RETRY_S)
        self.replica = replica


class ReplicaGone(ReplicaLost):
    """The one replica that a request was for is gone; nothing was done.

    Args:
        replica: Which it was.
    """

    def __init__(self, replica: str | None) -> None:
        super().__init__("the replica that was meant is gone", replica=replica)


class NoReplica(ReplicaLost):
    """No replica has taken a request in time: there is none, or none that responds."""

    def __init__(self) -> None:
        super().__init__("no replica has taken the request", replica=None)
