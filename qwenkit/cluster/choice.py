"""Which replica a request should go to. Knows digests, loads and names; no Ray and no HTTP.

    much of the prompt is known somewhere  → there, unless it has too much to do
    an adapter                             → where that adapter usually goes, unless …
    nothing is known                       → whoever has least to do

Too much is more than `BALANCE` times the mean: consistent hashing with bounded loads (Mirrokni,
Thorup, Zadimoghaddam 2018), so that a popular prompt spreads and a rare one stays where it is.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwenkit.cluster.affinity import Affinity

BALANCE = 1.25
"""Times the mean load that a replica may have before its own requests go elsewhere."""
STRONG = 0.5
"""Part of a prompt's chain that must be known for the place to count."""
MAX_LINKS = 100_000
"""Digests that are remembered; the longest unused are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A replica that could take a request.

    Args:
        name: What it is called.
        load: Requests that it has now.
        models: Names that it answers to; empty where that is not known yet.
        adapters: Those of them that are adapters.
        is_home: Whether it holds the agent.
    """

    name: str
    load: int = 0
    models: frozenset[str] = frozenset()
    adapters: frozenset[str] = frozenset()
    is_home: bool = False


class Memory:
    """Which replica has computed which beginnings.

    Args:
        max_links: Digests to remember.
    """

    def __init__(self, max_links: int = MAX_LINKS) -> None:
        self._max_links = max_links
        self._places: OrderedDict[bytes, frozenset[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def learn(self, affinity: Affinity, replica: str) -> None:
        """A replica computes this prompt."""
        # The longest link first, so that the short ones, which more prompts share, outlive it.
        for link in reversed(affinity.chain):
            self._places[link] = self._places.get(link, frozenset()) | {replica}
            self._places.move_to_end(link)
        while len(self._places) > self._max_links:
            self._places.popitem(last=False)

    def forget(self, replica: str) -> None:
        """A replica is gone."""
        for link, places in list(self._places.items()):
            if replica not in places:
                continue
            if places == {replica}:
                del self._places[link]
            else:
                self._places[link] = places - {replica}

    def depth(self, affinity: Affinity, replica: str) -> int:
        """Links of a chain, from its beginning, that a replica has computed."""
        for n, link in enumerate(affinity.chain):
            if replica not in self._places.get(link, ()):
                return n
        return len(affinity.chain)


def order(
    affinity: Affinity | None,
    candidates: Sequence[Candidate],
    memory: Memory,
    prefers: str | None = None,
) -> list[str]:
    """Candidates' names, the best first; whoever does not know the model comes last.

    Args:
        prefers: The one that is known to have more of the prompt than its chain shows.
    """
    if affinity is None:
        return [each.name for each in sorted(candidates, key=lambda each: (each.load, each.name))]
    depths = {each.name: memory.depth(affinity, each.name) for each in candidates}
    deepest = max(depths.values(), default=0)
    if prefers in depths:
        deepest = depths[prefers] = len(affinity.chain) + 1
    draws = _draws(affinity, candidates)
    is_bound = _is_adapter(affinity.model, candidates) or (
        deepest > 0 and deepest >= STRONG * len(affinity.chain)
    )
    most = most_load([each.load for each in candidates])

    def place(each: Candidate) -> tuple[bool, int, int, bytes]:
        lacks = bool(each.models) and _is_known(affinity.model, candidates, each)
        depth = -depths[each.name]
        if is_bound and each.load < most:
            return lacks, 0, depth, draws[each.name]
        return lacks, 1 + each.load, depth, draws[each.name]

    return [each.name for each in sorted(candidates, key=place)]


def most_load(loads: Sequence[int]) -> int:
    """Requests that a replica may have, one that is to come counted, before it has too much."""
    return math.ceil(BALANCE * (sum(loads) + 1) / max(1, len(loads)))


def home(candidates: Sequence[Candidate]) -> str:
    """The one candidate that has, or is to have, what only one may have: the agent's threads."""
    holders = [each.name for each in candidates if each.is_home]
    return max(holders or [each.name for each in candidates], key=lambda name: _draw(b"", name))


def _is_adapter(model: str, candidates: Sequence[Candidate]) -> bool:
    return any(model in each.adapters for each in candidates)


def _is_known(model: str, candidates: Sequence[Candidate], but: Candidate) -> bool:
    """Whether others answer to a name to which this one does not, as in the midst of a change."""
    return model not in but.models and any(model in each.models for each in candidates)


def _draws(affinity: Affinity, candidates: Sequence[Candidate]) -> Mapping[str, bytes]:
    """Rendezvous hashing: the same request draws the same order at every door."""
    adapter = _is_adapter(affinity.model, candidates)
    name = affinity.model.encode("utf-8", "surrogatepass")
    key = name if adapter or not affinity.chain else affinity.chain[0]
    return {each.name: _draw(key, each.name) for each in candidates}


def _draw(key: bytes, name: str) -> bytes:
    return hashlib.blake2b(key + b"\0" + name.encode(), digest_size=8).digest()
