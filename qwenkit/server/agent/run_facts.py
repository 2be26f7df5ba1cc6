"""What a record of an answer or a tool says of the run that it belongs to. Knows no LangGraph.

The facts follow a run into every task that it starts: between the run and what is recorded lie
LangGraph and LangChain, which pass on what they know and nothing else.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

_current: ContextVar[RunFacts | None] = ContextVar("run_facts", default=None)


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """Facts of one run.

    Args:
        thread_id: Its thread; None for what belongs to no run.
        user: Who asked, as the run's metadata says.
        store: Whether it is recorded; None says nothing.
        regenerates: The answer that its first answer takes the place of.
    """

    thread_id: str | None = None
    user: str | None = None
    store: bool | None = None
    regenerates: str | None = None

    def take_parent(self) -> str | None:
        """The answer that is regenerated; once, as only the run's first answer does so."""
        parent, self.regenerates = self.regenerates, None
        return parent


def set_run_facts(facts: RunFacts) -> None:
    """Let everything from here on in this task, and in those it starts, belong to a run."""
    _current.set(facts)


def run_facts() -> RunFacts:
    """The facts of the run that this is done for; empty where it is done for none."""
    return _current.get() or RunFacts()
