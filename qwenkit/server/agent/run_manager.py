"""The runs of all threads: one at a time in each, in order. Knows the graph, the rows and the logs.

A run lives in two tasks: one works (waits for its turn, runs the graph) and can be cancelled; the
other writes down what became of it, whatever that was, and lets the next one go.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from qwenkit.errors import EngineBusy, EngineStopped
from qwenkit.server.agent.encode import interrupt_json, jsonable, waiting_json
from qwenkit.server.agent.event_log import FROM_THE_START, Event, EventLog
from qwenkit.server.agent.graph_stream import GraphStream
from qwenkit.server.agent.records import Records, RunRecord, Thread, ThreadState, now
from qwenkit.server.agent.regenerated import regenerated_answer
from qwenkit.server.agent.run_facts import RunFacts, set_run_facts
from qwenkit.server.agent.run_request import END, GRAPH_ID, RunRequest
from qwenkit.server.agent.schema import RunStatus, Strategy, ThreadStatus
from qwenkit.server.errors import Conflict, NotThere, failure
from qwenkit.server.metrics.agent import AgentMeasures, RunOutcome
from qwenkit.server.openai.wire import to_json
from qwenkit.server.telemetry.spans import inside

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from qwenkit.agent.database import Database
    from qwenkit.agent.graph import Agent

logger = logging.getLogger(__name__)

MAX_RUNS = 256
MAX_RUNS_OF_A_THREAD = 16
MAX_FINISHED = 16
RETRY_S = 5.0
MODEL = "model"

Action = Literal["interrupt", "rollback"]


@dataclass(eq=False)
class Run:
    """A run that is waiting, running, or just over.

    Attributes:
        record: Its row.
        request: What the graph takes.
        log: What it tells.
        resumable: Whether its log is kept when it is over.
        temporary: Whether its thread is thrown away when it is over.
        streamed: Whether it was started by a request that streams it.
        was_read: Whether somebody ever followed its log.
        stored: Its row is written.
        action: What is to become of it, when it is cancelled.
        result: Its last state, or `__error__`; set when it is over.
        done: It is over, and everything is written down.
        released: The next run of its thread may begin.
    """

    record: RunRecord
    request: RunRequest
    subgraphs: bool
    resumable: bool
    temporary: bool
    log: EventLog = field(default_factory=EventLog)
    streamed: bool = False
    was_read: bool = False
    action: Action | None = None
    result: Any = None
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[None] | None = None
    stream: GraphStream | None = None
    began: float = field(default_factory=time.perf_counter)

    @property
    def abandoned(self) -> bool:
        """Whether whoever started it to read along has gone."""
        return self.streamed and self.was_read and not self.log.n_readers

    def cancel(self, action: Action) -> None:
        """End it soon; `rollback` also undoes what it did."""
        if self.work is None or self.work.done():
            return
        if self.action != "rollback":
            self.action = action
        self.work.cancel()

    async def events(self, after: str | None) -> AsyncGenerator[Event, None]:
        """What it tells, behind an event's id; None is from now on."""
        self.was_read = True
        async with aclosing(self.log.follow(after)) as events:
            async for event in events:
                yield event


class RunManager:
    """Starts runs and keeps track of them.

    Args:
        graph: Runs.
        database: Keeps the checkpoints.
        records: Keeps the rows.
        measures: Counts them.
    """

    def __init__(
        self, graph: Agent, database: Database, records: Records, measures: AgentMeasures
    ) -> None:
        self._measures = measures
        measures.watch_active(lambda: len(self._live))
        self._graph = graph
        self._database = database
        self._records = records
        self._live: dict[str, Run] = {}
        self._last: dict[str, Run] = {}
        self._finished: OrderedDict[str, Run] = OrderedDict()
        self._lives: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._changed = asyncio.Event()

    async def start(
        self,
        thread: Thread,
        request: RunRequest,
        *,
        assistant_id: str,
        strategy: Strategy | None,
        subgraphs: bool = False,
        resumable: bool = False,
        temporary: bool = False,
    ) -> Run:
        """Let a run begin, now or when its thread is free.

        Args:
            strategy: What happens where the thread has other runs. None interrupts those that
                nobody follows any more, as when a user presses stop, and else waits for them.

        Raises:
            Conflict: It does, and `strategy` is to reject.
            EngineBusy: There are too many runs.
            EngineStopped: The server is shutting down.
        """
        others = self.active(thread.thread_id)
        strategy = strategy or _default_strategy(others)
        self._check_room(others, strategy)
        record = _new_record(thread.thread_id, assistant_id, request, strategy)
        run = Run(record, request, subgraphs, resumable, temporary)
        if strategy in ("interrupt", "rollback"):
            for other in others:
                other.cancel("rollback" if strategy == "rollback" else "interrupt")
        self._begin(run)
        try:
            await self._records.put_run(record)
        except BaseException:
            run.cancel("interrupt")
            raise
        run.stored.set()
        return run

    def _begin(self, run: Run) -> None:
        thread_id = run.record.thread_id
        previous = self._last.get(thread_id)
        self._live[run.record.run_id] = self._last[thread_id] = run
        run.work = asyncio.create_task(self._work(run, previous))
        life = asyncio.create_task(self._life(run, run.work, previous))
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        self._wake()

    def active(self, thread_id: str) -> list[Run]:
        """A thread's runs that are not over, oldest first."""
        return [run for run in self._live.values() if run.record.thread_id == thread_id]

    def all_active(self) -> list[Run]:
        """Every run that is not over."""
        return [*self._live.values()]

    def known(self, thread_id: str | None, run_id: str) -> Run | None:
        """A run that is not over, or not for long; of any thread where none is named."""
        run = self._live.get(run_id) or self._finished.get(run_id)
        if run is None or thread_id not in (None, run.record.thread_id):
            return None
        return run

    async def cancel_thread(self, thread_id: str) -> None:
        """End every run of a thread and wait for it."""
        for run in self.active(thread_id):
            run.cancel("interrupt")
        for run in self.active(thread_id):
            await run.done.wait()

    def forget(self, run_id: str) -> None:
        """Forget a run that is over."""
        self._finished.pop(run_id, None)

    def thread_events(self, thread_id: str) -> AsyncGenerator[Event, None]:
        """What all runs of a thread tell from now on, one after the other."""
        return self._thread_events(thread_id, frozenset(self.active(thread_id)))

    async def _thread_events(
        self, thread_id: str, running: frozenset[Run]
    ) -> AsyncGenerator[Event, None]:
        told: set[Run] = set()
        while not self._stopping:
            changed = self._changed
            run = next((each for each in self.active(thread_id) if each not in told), None)
            if run is None:
                await changed.wait()
                continue
            told = {run}
            async with aclosing(
                run.log.follow(None if run in running else FROM_THE_START)
            ) as events:
                async for event in events:
                    yield event

    def stop(self) -> None:
        """Take no more runs; those that run may end."""
        self._stopping = True
        self._wake()

    async def close(self) -> None:
        """End what still runs."""
        self.stop()
        for run in self.all_active():
            run.cancel("interrupt")
        if self._lives:
            await asyncio.wait(set(self._lives))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _check_room(self, others: list[Run], strategy: Strategy) -> None:
        if self._stopping:
            raise EngineStopped("the server is shutting down")
        if others and strategy == "reject":
            raise Conflict("the thread has a run already", param="multitask_strategy")
        if len(self._live) >= MAX_RUNS or len(others) >= MAX_RUNS_OF_A_THREAD:
            raise EngineBusy("there are too many runs", retry_after_s=RETRY_S)

    async def _work(self, run: Run, previous: Run | None) -> None:
        await run.stored.wait()
        if previous is not None:
            await previous.released.wait()
        named = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": GRAPH_ID,
            "gen_ai.conversation.id": run.record.thread_id,
        }
        with inside(f"invoke_agent {GRAPH_ID}", named):
            await self._run(run)

    async def _run(self, run: Run) -> None:
        record = run.record
        run.record = await self._records.end_run(record, "running")
        await self._records.change_thread(record.thread_id, status="busy")
        run.log.write("metadata", to_json({"run_id": record.run_id, "attempt": 1}))
        await self._check_place(run)
        await self._note_facts(run)
        config = self._config(run)
        if run.request.ends:
            await self._end_waiting(run, config)
            return

        async def keep(values: dict[str, Any]) -> None:
            await self._records.change_thread(record.thread_id, state=_state(values))

        run.stream = GraphStream(
            self._graph,
            modes=run.request.modes,
            subgraphs=run.subgraphs,
            write=run.log.write,
            on_values=keep,
        )
        await run.stream.run(run.request.given, config, **run.request.options)

    async def _check_place(self, run: Run) -> None:
        """The run before, rolled back, may have taken the checkpoint with it."""
        place, thread_id = run.request.checkpoint_id, run.record.thread_id
        if place is not None and not await self._database.has_checkpoint(thread_id, place):
            raise NotThere("the thread has no such checkpoint any more", param="checkpoint_id")

    async def _note_facts(self, run: Run) -> None:
        request, thread_id = run.request, run.record.thread_id
        facts = RunFacts(thread_id=thread_id, user=request.user, store=request.store)
        if request.store is not False:
            facts.regenerates = await regenerated_answer(
                self._database, thread_id, request.checkpoint_id, request.given
            )
        set_run_facts(facts)

    async def _end_waiting(self, run: Run, config: RunnableConfig) -> None:
        await self._graph.aupdate_state(config, None, as_node=END)
        if "values" in run.request.modes:
            snapshot = await self._graph.aget_state(_at(run.record.thread_id))
            run.log.write("values", to_json(jsonable(snapshot.values)))

    def _config(self, run: Run) -> RunnableConfig:
        record = run.record
        return run.request.config(
            thread_id=record.thread_id, run_id=record.run_id, assistant_id=record.assistant_id
        )

    async def _life(self, run: Run, work: asyncio.Task[None], previous: Run | None) -> None:
        await asyncio.wait({work})
        try:
            await self._settle(run, work)
        except Exception:
            logger.exception("writing down the end of run %s failed", run.record.run_id)
        self._retire(run)
        if previous is not None:
            await previous.released.wait()
        run.released.set()
        if self._last.get(run.record.thread_id) is run:
            del self._last[run.record.thread_id]

    async def _settle(self, run: Run, work: asyncio.Task[None]) -> None:
        error = _error_of(run, work)
        if error is not None:
            run.log.write("error", to_json(error))
        if run.action == "rollback" and work.cancelled():
            await self._roll_back(run)
        elif work.cancelled():
            await self._keep_partial(run)
        await self._write_down(run, work, error)
        if run.temporary:
            await self._database.saver.adelete_thread(run.record.thread_id)
            await self._records.delete_thread(run.record.thread_id)

    async def _roll_back(self, run: Run) -> None:
        record = run.record
        found = self._database.saver.alist(_at(record.thread_id), filter={"run_id": record.run_id})
        ids = [each.config["configurable"]["checkpoint_id"] async for each in found]
        await self._database.delete_checkpoints(record.thread_id, ids)
        await self._records.delete_run(record.run_id)

    async def _keep_partial(self, run: Run) -> None:
        """What the model had written stays in the thread, as people expect of a stop button."""
        partial = run.stream and run.stream.partial_answer()
        if not partial:
            return
        config = self._config(run)
        newest = await self._graph.aget_state(_at(run.record.thread_id))
        if (newest.metadata or {}).get("run_id") == run.record.run_id:
            config["configurable"].pop("checkpoint_id", None)
        await self._graph.aupdate_state(config, {"messages": [partial]}, as_node=MODEL)

    async def _write_down(
        self, run: Run, work: asyncio.Task[None], error: dict[str, Any] | None
    ) -> None:
        record = run.record
        snapshot = await self._graph.aget_state(_at(record.thread_id))
        waiting = waiting_json(snapshot)
        values = jsonable(snapshot.values) or None
        state = ThreadState(values=values, interrupts=waiting, error=error)
        status = _thread_status(
            error=error, waiting=bool(waiting or (snapshot.next and not work.cancelled()))
        )
        if others := [other for other in self.active(record.thread_id) if other is not run]:
            status = "busy" if any(other.action is None for other in others) else status
        await self._records.change_thread(record.thread_id, status=status, state=state)
        ended: RunStatus = "error" if error else "interrupted" if work.cancelled() else "success"
        self._count(run, work, error, waiting=bool(waiting))
        run.record = await self._records.end_run(record, ended)
        run.result = {"__error__": error} if error else dict(values or {})
        if waiting:
            run.result["__interrupt__"] = [interrupt_json(each) for each in snapshot.interrupts]

    def _count(
        self, run: Run, work: asyncio.Task[None], error: dict[str, Any] | None, *, waiting: bool
    ) -> None:
        outcome: RunOutcome = "waiting" if waiting else "success"
        if error:
            outcome = "error"
        elif work.cancelled():
            outcome = "cancelled"
        self._measures.on_run(outcome, time.perf_counter() - run.began)

    def _retire(self, run: Run) -> None:
        self._live.pop(run.record.run_id, None)
        keeps = run.resumable and not run.temporary
        self._finished[run.record.run_id] = run
        while len(self._finished) > MAX_FINISHED:
            self._finished.popitem(last=False)
        run.log.close(forget=not keeps)
        run.done.set()
        self._wake()


def _default_strategy(others: list[Run]) -> Strategy:
    return "interrupt" if others and all(run.abandoned for run in others) else "enqueue"


def _new_record(
    thread_id: str, assistant_id: str, request: RunRequest, strategy: Strategy
) -> RunRecord:
    moment = now()
    return RunRecord(
        run_id=str(uuid.uuid4()),
        thread_id=thread_id,
        assistant_id=assistant_id,
        created_at=moment,
        updated_at=moment,
        status="pending",
        metadata={**request.metadata, "graph_id": GRAPH_ID, "assistant_id": assistant_id},
        multitask_strategy=strategy,
    )


def _state(values: dict[str, Any]) -> ThreadState:
    return ThreadState(values={k: v for k, v in values.items() if not k.startswith("__")})


def _at(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def _error_of(run: Run, work: asyncio.Task[None]) -> dict[str, Any] | None:
    if work.cancelled():
        if run.action is not None:
            return None
        return {"error": "CancelledError", "message": "the run was cancelled from within"}
    exc = work.exception()
    if exc is None:
        return None
    if not isinstance(exc, Exception):
        raise exc
    return {"error": type(exc).__name__, "message": _message(exc)}


def _message(exc: Exception) -> str:
    from langgraph.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError

    if isinstance(exc, EmptyInputError | GraphRecursionError | InvalidUpdateError):
        return str(exc)
    return failure(exc).message


def _thread_status(*, error: Any, waiting: bool) -> ThreadStatus:
    if error:
        return "error"
    return "interrupted" if waiting else "idle"
