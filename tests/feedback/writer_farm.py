"""Four processes that write one log, of which one after the other is killed at a random moment.

Prints how many records were acknowledged to the parent, and how many of those are missing. Each
acknowledgement is a number that a writer sends through its pipe when `append` has returned.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path

from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.reader import Skipped, read_log
from qwenkit.feedback.records import ANONYMOUS, Rating, now

N_WRITERS = 4
MAX_BYTES = 200_000
PAUSE_S = 0.004
"""Longest time between two kills."""
NUMBER = struct.Struct("<q")


class Writer:
    """A process that appends until it is killed, or `n_records` are written."""

    def __init__(self, log: FeedbackLog | None, folder: Path, first: int, n_records: int) -> None:
        self.acknowledgements, end = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            write(log or FeedbackLog(folder, max_bytes=MAX_BYTES), end, first, n_records)
            os._exit(0)
        os.close(end)

    def received(self) -> bytes:
        return os.read(self.acknowledgements, 1 << 16)

    def end(self, *, kill: bool) -> bytes:
        """Kill it, or let it finish; returns what it still acknowledged."""
        if kill:
            os.kill(self.process, signal.SIGKILL)
        rest = b""
        while received := self.received():
            rest += received
        os.waitpid(self.process, 0)
        os.close(self.acknowledgements)
        return rest


def write(log: FeedbackLog, acknowledge: int, first: int, n_records: int) -> None:
    draw = random.Random(first)
    for number in range(first, first + n_records):
        log.append(record(number, "x" * draw.choice((10, 300, 5000, 70_000))))
        os.write(acknowledge, NUMBER.pack(number))


def record(number: int, comment: str) -> Rating:
    return Rating(
        id=str(number),
        created_at=now(),
        answer_id="chatcmpl-1",
        source="api",
        rater=ANONYMOUS,
        comment=comment,
    )


def main(folder: Path, *, n_kills: int, inherit: bool) -> dict[str, int]:
    draw = random.Random(7)
    shared = FeedbackLog(folder, max_bytes=MAX_BYTES) if inherit else None
    if shared is not None:
        shared.append(record(-1, "opened before the fork"))
    n_records = 1_000_000 if n_kills else 50
    n_started = 0
    acknowledged = b"" if shared is None else NUMBER.pack(-1)

    def start() -> Writer:
        nonlocal n_started
        n_started += 1
        return Writer(shared, folder, n_started * 10_000_000, n_records)

    writers = [start() for _ in range(N_WRITERS)]
    for _ in range(n_kills):
        until = time.monotonic() + draw.random() * PAUSE_S
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([each.acknowledgements for each in writers], [], [], left)
            for each in writers:
                if each.acknowledgements in ready:
                    acknowledged += each.received()
        victim = writers.pop(draw.randrange(N_WRITERS))
        acknowledged += victim.end(kill=True)
        writers.append(start())
    for each in writers:
        acknowledged += each.end(kill=bool(n_kills))

    skipped: list[Skipped] = []
    found = [int(each.id) for each in read_log(folder, on_skip=skipped.append)]
    numbers = {number for (number,) in NUMBER.iter_unpack(acknowledged)}
    return {
        "n_kills": n_kills,
        "n_acknowledged": len(numbers),
        "n_records": len(found),
        "n_missing": len(numbers - set(found)),
        "n_duplicates": len(found) - len(set(found)),
        "n_cut_off": len(skipped),
    }


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    folder = Path(options.pop("folder"))
    print(json.dumps(main(folder, **options)))
