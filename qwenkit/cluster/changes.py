"""What an admin has changed since the start, for replicas that come later. Knows plans and names.

before, after = what a replica served → Changes.between → merged into what is known
a new replica = the settings + the changes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from qwenkit.server.loader import LoadPlan


@dataclass(frozen=True, slots=True)
class Served:
    """What a replica serves.

    Args:
        plan: Its model.
        adapters: Where each of its adapters comes from, by name.
    """

    plan: LoadPlan
    adapters: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How what is served differs from what the settings say.

    Args:
        revision: Grows with every change; 0 is none.
        plan: The model, where it is another.
        loaded: Adapters that were loaded, by name.
        unloaded: Names that were taken away.
    """

    revision: int = 0
    plan: LoadPlan | None = None
    loaded: Mapping[str, Path] = field(default_factory=dict)
    unloaded: frozenset[str] = frozenset()

    @classmethod
    def between(cls, before: Served, after: Served) -> Self:
        """What leads from one to the other."""
        return cls(
            plan=None if after.plan == before.plan else after.plan,
            loaded={
                name: path
                for name, path in after.adapters.items()
                if before.adapters.get(name) != path
            },
            unloaded=frozenset(before.adapters) - frozenset(after.adapters),
        )

    def then(self, later: Changes) -> Changes:
        """Both, one after the other, as one."""
        loaded = {name: path for name, path in self.loaded.items() if name not in later.unloaded}
        return Changes(
            revision=self.revision + 1,
            plan=later.plan or self.plan,
            loaded={**loaded, **later.loaded},
            unloaded=(self.unloaded - frozenset(later.loaded)) | later.unloaded,
        )
