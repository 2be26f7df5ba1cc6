"""Thousands of mutated requests on one server, with a canary beside them.

    python -m tests.hardening.fuzz                      10,000 requests
    python -m tests.hardening.fuzz --requests 1000 --seed 7 --json

The canary is a short chat that is asked again and again: alone, beside honest requests, and beside
mutated ones from as many connections. The three take turns, so that whatever else the machine does
meets them alike. Ends with 1 where an answer was a 5xx other than a 503 that says when to come
again, a slot stayed taken, the canary's answer changed, or its 99th percentile beside mutated
requests is far above that beside honest ones.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from .mutations import Fuzzed, Seed, honest, mutate, seeds_of
from .stage import ADMIN_KEY, USER_KEY, Stage, bearer, stage
from .traffic import CHAT, MODEL, SCHEMA, TOOL

N_SENDERS = 6
N_CTX = 512
"""Tokens of a conversation: a mutated request may ask for a million."""
PATIENCE_S = 5.0
"""How long an answer is waited for."""
CANARY_EVERY_S = 0.05
N_HEARD = 10
"""Answers of the canary alone, and beside honest requests, between two turns of mutated ones."""
LONG_SHARE = 0.05
"""Honest requests that ask for long answers: a mutated one often loses its limit."""
N_LONG = 256
LIMITS = ("max_tokens", "max_output_tokens", "n_predict")
N_A_TURN = 500
"""Mutated requests of one turn."""
MAX_RATIO = 1.5
SLACK_S = 0.1
USER = {"role": "user", "content": "What is qwenkit?"}
BODIES: dict[str, list[Any]] = {
    CHAT: [
        {"messages": [USER], "max_tokens": 4, "temperature": 0.5, "stream": True},
        {"messages": [USER], "max_tokens": 4, "tools": [TOOL], "tool_choice": "auto", "n": 2},
        {
            "messages": [USER],
            "max_tokens": 4,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": SCHEMA, "strict": True},
            },
        },
        {
            "messages": [{"role": "system", "content": "Be brief."}, USER],
            "max_tokens": 4,
            "logit_bias": {"5": 1},
            "stop": ["a"],
            "logprobs": True,
            "top_logprobs": 2,
            "chat_template_kwargs": {"enable_thinking": False},
        },
        {"messages": [USER], "max_tokens": 4, "grammar": 'root ::= "yes" | "no"'},
        {"messages": [USER], "max_tokens": 4, "guided_regex": "[a-z]{1,5}"},
    ],
    "/v1/completions": [
        {"prompt": "def add(", "max_tokens": 4, "echo": True, "logprobs": 1},
        {"prompt": "def add(", "suffix": "return", "max_tokens": 4},
        {"prompt": [[1, 2, 3], [4]], "max_tokens": 2, "n": 2},
    ],
    "/v1/responses": [
        {"input": "hello", "max_output_tokens": 4, "store": False},
        {"input": [{"role": "user", "content": "hello"}], "max_output_tokens": 4, "stream": True},
    ],
    "/v1/messages": [
        {"model": MODEL, "max_tokens": 4, "messages": [USER], "system": "Be brief."},
        {"model": MODEL, "max_tokens": 4, "messages": [USER], "stream": True},
    ],
    "/v1/messages/count_tokens": [{"model": MODEL, "messages": [USER]}],
    "/v1/embeddings": [{"input": ["a", "b"], "encoding_format": "base64", "dimensions": 8}],
    "/v1/rerank": [{"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1}],
    "/infill": [{"input_prefix": "a", "input_suffix": "b", "n_predict": 4}],
    "/tokenize": [{"content": "a b", "add_special": True, "with_pieces": True}],
    "/detokenize": [{"tokens": [1, 2, 3]}],
    "/apply-template": [{"messages": [USER], "tools": [TOOL]}],
    "/admin/adapters": [{"name": "poet", "path": "/nowhere", "replace": True}],
    "/admin/reload": [{"model_path": "/nowhere", "n_ctx": 2048, "mode": "side_by_side"}],
    "/admin/mcp/servers": [{"name": "a", "url": "http://127.0.0.1:1/mcp", "headers": {"A": "b"}}],
    "/admin/mcp/servers/test": [{"name": "a", "url": "http://127.0.0.1:1/mcp"}],
    "/v1/feedback": [{"answer_id": "chatcmpl-1", "thumb": "up", "comment": "fine"}],
    "/agent/threads": [{"metadata": {"a": 1}, "if_exists": "raise"}],
    "/agent/threads/search": [{"metadata": {"a": 1}, "limit": 3, "select": ["thread_id"]}],
    "/agent/runs/wait": [
        {
            "assistant_id": "agent",
            "input": {"messages": [USER]},
            "config": {"configurable": {"max_tokens": 4}},
        }
    ],
    "/agent/runs/stream": [
        {
            "assistant_id": "agent",
            "input": {"messages": [USER]},
            "stream_mode": ["values", "messages-tuple"],
            "config": {"configurable": {"max_tokens": 4}},
        }
    ],
}


@dataclass(slots=True)
class Report:
    """What came of it.

    Args:
        statuses: How often each was answered.
        faults_5xx: Requests that were answered as none may be, with their answers.
        canary_s: The canary's times, by what went on beside it.
        canary_answers: What it was told; once per different text.
        n_abandoned: Requests that took longer than was waited for.
        n_slots_used: Slots still taken at the end.
        errors: Lines of the server's log that tell of an error.
    """

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    faults_5xx: list[str] = field(default_factory=list)
    canary_s: dict[str, list[float]] = field(default_factory=dict)
    canary_answers: set[str] = field(default_factory=set)
    n_abandoned: int = 0
    n_slots_used: float = 0.0
    errors: list[str] = field(default_factory=list)

    def p99_s(self, beside: str) -> float:
        """The canary's 99th percentile."""
        return _percentile(self.canary_s[beside], 0.99)

    def told(self) -> str:
        """How far it is."""
        n_sent = self.statuses.total() + self.n_abandoned
        p99s = ", ".join(f"{self.p99_s(each):.3f} s beside {each}" for each in self.canary_s)
        return f"{n_sent} sent, {len(self.faults_5xx)} of them 5xx; p99 {p99s}"

    def faults(self) -> list[str]:
        """What is not as it should be."""
        most = MAX_RATIO * self.p99_s("honest") + SLACK_S
        checks = {
            f"{len(self.faults_5xx)} answers of 5xx": bool(self.faults_5xx),
            f"{self.n_slots_used:g} slots are still taken": self.n_slots_used > 0,
            f"the canary was told {len(self.canary_answers)} things": len(self.canary_answers) != 1,
            f"the canary's p99 is {self.p99_s('fuzzed'):.3f} s": self.p99_s("fuzzed") > most,
            f"{len(self.errors)} errors in the log": bool(self.errors),
        }
        return [text for text, is_fault in checks.items() if is_fault]


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


async def fuzz(stage: Stage, *, n_requests: int, seed: int, say: Callable[[str], None]) -> Report:
    """Send mutated requests and watch the canary."""
    report, dice = Report(), random.Random(seed)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=stage.url, timeout=300, limits=limits) as client:
        headers = bearer(ADMIN_KEY)
        document = (await client.get("/openapi.json", headers=headers)).json()
        seeds = seeds_of(document, BODIES)
        generating = [each for each in seeds if each.path in BODIES and not each.for_admins]
        # Half of all goes where models compute: there is most to break.
        mutated = (
            mutate(dice.choice(generating if dice.random() < 0.5 else seeds), dice)
            for _ in range(n_requests)
        )
        plain = (
            honest(long(each) if dice.random() < LONG_SHARE else each)
            for each in iter(lambda: dice.choice(generating), None)
        )
        # What is loaded at first use delays neither kind.
        await _send_all(client, iter([honest(each) for each in seeds]), Report())
        while turn := list(itertools.islice(mutated, N_A_TURN)):
            async with _canary(client, report, "nothing") as heard:
                await _until(heard)
            async with _canary(client, report, "honest") as heard:
                await _send_all(client, itertools.takewhile(lambda _: not heard(), plain), Report())
            async with _canary(client, report, "fuzzed"):
                await _send_all(client, iter(turn), report)
            say(report.told())
    await asyncio.to_thread(_conclude, stage, report)
    return report


def long(seed: Seed) -> Seed:
    """The seed with its answer's limit far away."""
    body = {name: N_LONG if name in LIMITS else value for name, value in seed.body.items()}
    return replace(seed, body=body)


@asynccontextmanager
async def _canary(
    client: httpx.AsyncClient, report: Report, beside: str
) -> AsyncIterator[Callable[[], bool]]:
    """Let the canary sing; whether it was heard often enough in this block."""
    times = report.canary_s.setdefault(beside, [])
    enough = len(times) + N_HEARD
    task = asyncio.create_task(_sing(client, report, times))
    try:
        yield lambda: task.done() or len(times) >= enough
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def _sing(client: httpx.AsyncClient, report: Report, times: list[float]) -> None:
    body = {"model": MODEL, "messages": [USER], "max_tokens": 8, "temperature": 0}
    while True:
        began = time.perf_counter()
        reply = await client.post(CHAT, json=body, headers=bearer(USER_KEY))
        if reply.status_code == 200:
            message = reply.json()["choices"][0]["message"]
            report.canary_answers.add(f"{message.get('reasoning_content')}|{message['content']}")
            times.append(time.perf_counter() - began)
        elif reply.status_code != 503:
            report.canary_answers.add(f"{reply.status_code} {reply.text}")
        await asyncio.sleep(CANARY_EVERY_S)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(CANARY_EVERY_S)


async def _send_all(client: httpx.AsyncClient, requests: Iterator[Fuzzed], report: Report) -> None:
    async def work() -> None:
        for request in requests:
            await _send(client, request, report)

    await asyncio.gather(*(work() for _ in range(N_SENDERS)))


async def _send(client: httpx.AsyncClient, request: Fuzzed, report: Report) -> None:
    key = ADMIN_KEY if request.seed.for_admins else USER_KEY
    headers = {**request.headers, **bearer(key)}
    try:
        async with asyncio.timeout(PATIENCE_S):
            reply = await client.request(
                request.method, request.target, headers=headers, content=request.content
            )
    except TimeoutError:
        report.n_abandoned += 1
        return
    except (httpx.InvalidURL, httpx.RemoteProtocolError) as exc:
        report.statuses[type(exc).__name__] += 1
        return
    report.statuses[str(reply.status_code)] += 1
    is_busy = reply.status_code == 503 and "retry-after" in reply.headers
    if (reply.status_code >= 500 and not is_busy) or "internal error" in reply.text:
        report.faults_5xx.append(_told(request, reply))


def _told(request: Fuzzed, reply: httpx.Response) -> str:
    sent = (
        f"{request.method} {request.target[:200]} {dict(request.headers)} {request.content[:500]!r}"
    )
    return f"{reply.status_code} {reply.text[-300:]} of {sent}"


def _conclude(stage: Stage, report: Report) -> None:
    report.n_slots_used = stage.wait_idle()["qwenkit_slots_used"]
    marks = ("Traceback", "unexpected error", "never retrieved")
    lines = stage.log.splitlines()
    report.errors = [line for line in lines if any(mark in line for mark in marks)]


def _as_json(report: Report) -> str:
    times = {
        beside: {
            "n": len(values),
            "p50_s": round(_percentile(values, 0.5), 4),
            "p99_s": round(_percentile(values, 0.99), 4),
        }
        for beside, values in report.canary_s.items()
    }
    whole = {
        **asdict(report),
        "statuses": dict(report.statuses.most_common()),
        "canary_s": times,
        "canary_answers": sorted(report.canary_answers),
        "faults": report.faults(),
    }
    return json.dumps(whole, indent=2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--folder", type=Path, help="keep the server's files and log in here")
    given = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as temporary,
        stage(given.folder or Path(temporary), hf_hub_offline=True, n_ctx=N_CTX) as server,
    ):
        report = asyncio.run(fuzz(server, n_requests=given.requests, seed=given.seed, say=_say))
    faults = report.faults()
    print(_as_json(report) if given.json else "\n".join([*report.faults_5xx, *faults]) or "well")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
