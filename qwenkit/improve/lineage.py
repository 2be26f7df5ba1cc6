"""Which ratings, choices and adapter before it made an adapter: an entry for each round."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qwenkit.improve.request import AdapterRef, ImproveReport, ImproveRequest
from qwenkit.improve.rounds import Round, Rounds
from qwenkit.improve.snapshot import LEARNED, RATINGS, read_snapshot
from qwenkit.models.checkpoint import read_json
from qwenkit.training.run_folder import write_json

NAME = "lineage.json"


def write_lineage(
    round_: Round, rounds: Rounds, request: ImproveRequest, report: ImproveReport
) -> None:
    """Write a round's entry beside its adapter, in its folder, and into the list of all.

    The one in the round's folder comes last but for the list: where it is, the round is finished.
    """
    entry = _entry(round_, request, report)
    write_json(round_.run.path / NAME, entry)
    write_json(round_.lineage, entry)
    write_list(rounds)


def write_list(rounds: Rounds) -> None:
    """Write the list of all rounds anew, from their own entries."""
    write_json(rounds.lineage, {"rounds": history(rounds.home)})


def history(home: Path) -> list[dict[str, Any]]:
    """The entries of all finished rounds, oldest first; what a server has loaded since is in them.

    Raises:
        ModelCorrupt: One is damaged.
    """
    found = []
    for each in Rounds(home).finished():
        loaded = read_json(each.loaded) if each.loaded.is_file() else None
        found.append(read_json(each.lineage) | {"loaded": loaded})
    return found


def newest_better(rounds: Rounds, base: str) -> AdapterRef | None:
    """The adapter of the newest round that was better than what it compared with.

    Args:
        rounds: Of the adapter.
        base: Fingerprint of the base; what was made for another one is passed over.
    """
    for entry in reversed(history(rounds.home)):
        if entry["outcome"] == "improved" and entry["base"]["fingerprint"] == base:
            adapter = entry["adapter"]
            return AdapterRef(version=adapter["version"], path=Path(adapter["path"]))
    return None


def what_was_learned(rounds: Rounds, current: AdapterRef | None) -> list[Path]:
    """The files of what the current adapter, or one before it, may have learned from.

    Adapters that were no better were never built upon, unless one is the current adapter.
    """
    version = current.version if current is not None else None
    return [
        each.data / LEARNED
        for each in rounds.finished()
        if (entry := read_json(each.lineage))["outcome"] == "improved"
        or entry["adapter"]["version"] == version
    ]


def is_known(rounds: Rounds, adapter: AdapterRef) -> bool:
    """Whether a round of these made an adapter."""
    versions = (read_json(each.lineage)["adapter"]["version"] for each in rounds.finished())
    return adapter.version in versions


def _entry(round_: Round, request: ImproveRequest, report: ImproveReport) -> dict[str, Any]:
    begun = round_.begun_for()
    ratings = round_.data / RATINGS
    return {
        "round": round_.number,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "name": request.name,
        "outcome": report.outcome,
        "adapter": _plain(report.adapter),
        "parent": _plain(report.current),
        "base": {"model": request.model, "fingerprint": begun["question"]["base"]},
        "ratings": asdict(report.ratings)
        | {"file": str(ratings), "sha256": hashlib.sha256(ratings.read_bytes()).hexdigest()},
        "held_out": read_snapshot(round_.data).held_out,
        "method": report.check.method,
        "options": begun["question"]["options"],
        "training": report.training.choices if report.training is not None else {},
        "evaluation": asdict(report.evaluation) if report.evaluation is not None else None,
        "report": str(round_.report),
    }


def _plain(adapter: AdapterRef | None) -> dict[str, str] | None:
    return None if adapter is None else {"version": adapter.version, "path": str(adapter.path)}
