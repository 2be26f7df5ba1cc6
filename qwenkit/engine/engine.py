"""The engine's face: an async stream of events for a request. Knows no HTTP and no messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Seq
from typing import Self

import numpy as np

from qwenkit.backends.base import (
    Backend,
    Capabilities,
    FloatArray,
    IntArray,
    ModelFacts,
    Tokenizer,
)
from qwenkit.engine.adapters import AdapterRegistry, Prepare
from qwenkit.engine.grammar import GrammarCompiler, Matcher
from qwenkit.engine.loop import EngineLoop, engine_stopped
from qwenkit.engine.observer import EngineSnapshot, Observer, SilentObserver
from qwenkit.engine.request import ActiveAdapter, Event, GenerationRequest, RequestDone
from qwenkit.engine.sampling import Sampler
from qwenkit.engine.sequence import Sequence
from qwenkit.engine.speculation import Drafter, PromptLookup
from qwenkit.engine.task import Task
from qwenkit.errors import ContextOverflow, DecodeFailed, EngineBusy, InvalidRequest

_RETRY_AFTER_S = 1.0
_MAX_RETRY_AFTER_S = 60.0


class Engine:
    """Turns requests into streams of tokens, many at once, on one backend.

    Args:
        backend: A loaded model; the engine owns it from here on.
        max_queue: Requests that may wait for a slot.
        step_latency_s: Seconds a step may take while answers stream.
        shelf_bytes: Ordinary memory for cached states that are not in use.
        prepare_adapter: Readies adapters for this model; None where it takes none.
        drafters: Guess what comes next, for the model to verify; none decodes plainly.
        observer: Told what happens, for metrics.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        max_queue: int = 256,
        step_latency_s: float = 0.25,
        shelf_bytes: int = 2**30,
        prepare_adapter: Prepare | None = None,
        drafters: Seq[Drafter] = (PromptLookup(),),
        observer: Observer | None = None,
    ) -> None:
        self._backend = backend
        self._max_queue = max_queue
        self._loop = EngineLoop(
            backend,
            step_latency_s=step_latency_s,
            shelf_bytes=shelf_bytes,
            drafters=drafters,
            observer=observer or SilentObserver(),
        )
        self.grammars = GrammarCompiler(backend.tokenizer)
        self.adapters = AdapterRegistry(
            self._loop, prepare_adapter if backend.capabilities.adapters else None
        )
        self._n_open = 0
        self._typical_s = 0.0
        self._accepting = True
        self._closed = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's vocabulary."""
        return self._backend.tokenizer

    @property
    def facts(self) -> ModelFacts:
        """What the model says of itself."""
        return self._backend.facts

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do."""
        return self._backend.capabilities

    def start(self) -> Self:
        """Start the engine's thread."""
        self._loop.start()
        return self

    def snapshot(self) -> EngineSnapshot:
        """Counts of this moment."""
        return self._loop.snapshot()

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Generate; closing the generator cancels the request and frees its slots.

        Raises:
            InvalidRequest: A field is wrong. This and the next three come before any event.
            ContextOverflow: The prompt does not fit.
            InvalidGrammar: The grammar doesn't compile.
            EngineBusy: The queue is full.
            EngineStopped: The engine is shutting down; before any event or after some.
            DecodeFailed: The runtime failed on this request.
        """
        self._check_open()
        self._check_tokens(request)
        self._check_adapter(request.adapter)
        task = Task(request, asyncio.get_running_loop())
        new_matcher = None
        if request.grammar is not None:
            # Compiling takes up to a second: it must not hold up the other streams of this loop.
            new_matcher = await asyncio.to_thread(self.grammars.prepare, request.grammar)
            self._check_open()
        self._check_queue(request.n)
        task.sequences = [
            self._new_sequence(request, choice, new_matcher) for choice in range(request.n)
        ]
        self._loop.submit(task)
        self._n_open += request.n
        done = False
        try:
            while not done:
                item = await task.events.get()
                if isinstance(item, Exception):
                    done = True
                    raise item
                for event in item:
                    done = isinstance(event, RequestDone)
                    yield event
        finally:
            self._n_open -= request.n
            if done:
                self._learn_duration(task.age_s)
            else:
                self._loop.cancel(task)

    def warm(self, prompt: tuple[int, ...], *, adapter: ActiveAdapter | None = None) -> None:
        """Compute a prompt's state while nothing else runs, so that one that begins so finds it.

        Nobody is told when it is done; it gives way to any request. Callable from any thread.

        Raises:
            EngineStopped: The engine is shutting down.
        """
        self._check_open()
        if 0 < len(prompt) < self.capabilities.n_ctx:
            request = GenerationRequest(prompt=prompt, max_tokens=0, adapter=adapter)
            task = Task(request, loop=None)
            task.sequences = [self._new_sequence(request, 0, None)]
            self._loop.submit(task)

    async def embed(self, texts: Seq[IntArray]) -> list[FloatArray]:
        """A vector `[n_embd]` of each text's tokens, of length 1; cancelling takes them back.

        Raises:
            InvalidRequest: The model gives no embeddings, or a text is empty.
            ContextOverflow: A text does not fit the context.
            EngineBusy: The queue is full.
            EngineStopped: The engine is shutting down.
            DecodeFailed: The runtime failed.
        """
        self._check_open()
        if not self.capabilities.n_embd:
            raise InvalidRequest("this model gives no embeddings", param="model")
        for text in texts:
            self._check_text(text)
        self._check_queue(1)
        self._n_open += 1
        waiting: list[asyncio.Future[FloatArray]] = []
        try:
            waiting += (asyncio.wrap_future(self._loop.embed(text)) for text in texts)
            return [_unit(await vector) for vector in waiting]
        finally:
            self._n_open -= 1
            for vector in waiting:
                vector.cancel()

    async def drain(self, timeout_s: float) -> bool:
        """Take no new request and wait for the running ones; what is left then is ended.

        Returns:
            Whether all of them ended by themselves.
        """
        self._accepting = False
        drained = await asyncio.to_thread(self._loop.wait_idle, timeout_s)
        if not drained:
            self._loop.fail_all(engine_stopped)
        return drained

    def close(self) -> None:
        """Stop the thread and free the model; streams that are still open end with an error."""
        if self._closed:
            return
        self._closed = True
        self._accepting = False
        self._loop.stop()

    def _check_open(self) -> None:
        if not self._accepting:
            raise engine_stopped()

    def _check_tokens(self, request: GenerationRequest) -> None:
        n_prompt, n_ctx = len(request.prompt), self.capabilities.n_ctx
        if n_prompt + (request.max_tokens != 0) > n_ctx:
            raise ContextOverflow(n_prompt=n_prompt, n_ctx=n_ctx)
        self._check_vocabulary(min(request.prompt), max(request.prompt), param="prompt")

    def _check_text(self, tokens: IntArray) -> None:
        n_ctx = self.capabilities.n_ctx
        if not len(tokens):
            raise InvalidRequest("a text is empty", param="input")
        if len(tokens) > n_ctx:
            raise ContextOverflow(n_prompt=len(tokens), n_ctx=n_ctx, param="input")
        self._check_vocabulary(int(tokens.min()), int(tokens.max()), param="input")

    def _check_vocabulary(self, lowest: int, highest: int, *, param: str) -> None:
        n_vocab = self.tokenizer.n_vocab
        if not 0 <= lowest <= highest < n_vocab:
            raise InvalidRequest(
                f"the {param} has a token id outside the vocabulary of {n_vocab}", param=param
            )

    def _check_adapter(self, adapter: ActiveAdapter | None) -> None:
        if adapter is not None and adapter.adapter.owner is not self._loop:
            raise InvalidRequest("the adapter was loaded into another engine", param="model")

    def _check_queue(self, n: int) -> None:
        n_slots = self.capabilities.n_slots
        # A request with more choices than all the room there is would never come in otherwise.
        if self._n_open and self._n_open + n > self._max_queue + n_slots:
            waits = (self._n_open - n_slots) / n_slots * self._typical_s
            raise EngineBusy(
                f"{self._n_open} answers are running or waiting, and the queue is full",
                retry_after_s=min(max(waits, _RETRY_AFTER_S), _MAX_RETRY_AFTER_S),
                hint="try again later, or serve with a larger MAX_QUEUE or N_PARALLEL",
            )

    def _new_sequence(
        self, request: GenerationRequest, choice: int, new_matcher: Callable[[], Matcher] | None
    ) -> Sequence:
        with self.tokenizer.native_vocab() as vocab:
            sampler = Sampler(
                request.sampling,
                n_vocab=self.tokenizer.n_vocab,
                n_ctx=self.capabilities.n_ctx,
                choice=choice,
                vocab=vocab,
            )
        return Sequence(
            request,
            choice=choice,
            n_ctx=self.capabilities.n_ctx,
            tokenizer=self.tokenizer,
            sampler=sampler,
            new_matcher=new_matcher,
        )

    def _learn_duration(self, seconds: float) -> None:
        self._typical_s = 0.8 * self._typical_s + 0.2 * seconds


def _unit(vector: FloatArray) -> FloatArray:
    """A vector of length 1 in its direction."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length):
        raise DecodeFailed("the model computed an embedding that is not numbers")
    return vector if length == 0 else (vector / length).astype(np.float32)
