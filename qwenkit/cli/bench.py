"""`qwenkit bench`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.bench.run import Measured, Plan, make_plan, measure
from qwenkit.bench.scenarios import Scenario
from qwenkit.bench.targets import GREEDY, QWEN3_SAMPLING, Endpoint, ServerTarget, Target
from qwenkit.chat.remote import RemoteServer
from qwenkit.cli import console
from qwenkit.cli.flags import MODEL_FLAGS, with_settings
from qwenkit.errors import UsageError
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.engine.request import SamplingParams

app = typer.Typer()


@app.command()
@with_settings("openai_api_key", *MODEL_FLAGS[1:])
def bench(
    settings: Settings,
    *,
    url: Annotated[
        str | None, typer.Option(help="Measure this server; without it, a model in this process.")
    ] = None,
    vs: Annotated[
        str | None, typer.Option(help="A second server to compare with, round by round.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model to load; with --url, its name there. [MODEL_PATH]"),
    ] = None,
    scenario: Annotated[
        Scenario,
        typer.Option(
            help="`decode`: answers to short prompts. `prefill`: long prompts. `shared-prefix`: "
            "prompts with a common beginning. `stall`: running answers while a long prompt comes."
        ),
    ] = Scenario.DECODE,
    concurrency: Annotated[
        str, typer.Option(help="Requests at once, several numbers separated by commas.")
    ] = "",
    prompt_tokens: Annotated[
        int | None, typer.Option(min=8, help="Tokens of each prompt, about.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of each answer.")] = None,
    shared_prefix: Annotated[
        int | None, typer.Option(min=0, help="Tokens that the prompts of a round begin with.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; their median is shown.")] = 3,
    seed: Annotated[
        int | None, typer.Option(help="Send the prompts of this seed; else new ones every time.")
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Take the likeliest token, not Qwen3's sampling.")
    ] = False,
    endpoint: Annotated[
        Endpoint, typer.Option(help="Which API of the server to use.")
    ] = "completions",
    json: Annotated[
        bool, typer.Option("--json", help="Print every round's figures as JSON.")
    ] = False,
) -> None:
    """Measure how fast a model is served, here or elsewhere.

    Elsewhere is any OpenAI-compatible server. Prompts are new to every cache but for
    --shared-prefix, and answers go on to --max-tokens whatever they say. Tokens are counted by the
    server. With --vs the two servers take turns (A B B A) with the same prompts, and the ratio is
    the median of the rounds' ratios, A to B.
    """
    plan = make_plan(
        scenario,
        concurrency=_numbers(concurrency),
        n_prompt=prompt_tokens,
        max_tokens=max_tokens,
        n_shared=shared_prefix,
        rounds=rounds,
        seed=time.time_ns() if seed is None else seed,
    )
    chosen = settings.model_copy(update={"model_path": model} if model else {})
    sampling = GREEDY if greedy else QWEN3_SAMPLING
    names, results = asyncio.run(
        _measure(plan, chosen, [url, vs] if vs else [url], model, endpoint, sampling)
    )
    if json:
        console.print_json(
            {
                "scenario": scenario,
                "seed": plan.seed,
                "results": [r.as_json(names) for r in results],
            }
        )
    else:
        _show(plan, names, results)


async def _measure(
    plan: Plan,
    settings: Settings,
    urls: Sequence[str | None],
    model: str | None,
    endpoint: Endpoint,
    sampling: SamplingParams,
) -> tuple[list[str], list[Measured]]:
    async with AsyncExitStack() as stack:
        targets: list[Target] = []
        for url in urls:
            opened = (
                _engine(settings, sampling)
                if url is None
                else _server(url, settings, model, endpoint, sampling)
            )
            targets.append(await stack.enter_async_context(opened))
        n_plays = plan.n_plays * len(targets)
        with console.progress("measuring", total=n_plays, unit="rounds") as advance:
            results = await measure(targets, plan, advance=advance)
        return [target.name for target in targets], results


@asynccontextmanager
async def _server(
    url: str, settings: Settings, model: str | None, endpoint: Endpoint, sampling: SamplingParams
) -> AsyncIterator[Target]:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    async with RemoteServer(url, api_key=key) as server:
        name = model or next(iter(await server.models()), "")
        yield ServerTarget(server, name, endpoint, sampling)


@asynccontextmanager
async def _engine(settings: Settings, sampling: SamplingParams) -> AsyncIterator[Target]:
    from qwenkit.bench.targets import EngineTarget
    from qwenkit.chat.loading import load_chat_model

    model = load_chat_model(settings.model_spec(), progress=console.progress)
    try:
        yield EngineTarget(model.engine, f"{model.name}, in process", sampling)
    finally:
        model.engine.close()


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--concurrency is `{text}`", hint="--concurrency 1,4,16")
    return [int(part) for part in parts]


def _show(plan: Plan, names: Sequence[str], results: Sequence[Measured]) -> None:
    load = plan.loads[0]
    shared = f", {load.n_shared} of them shared" if load.n_shared else ""
    title = (
        f"{plan.scenario}: prompts of {load.n_prompt} tokens{shared}, answers of "
        f"{load.max_tokens}, median of {plan.rounds} rounds"
    )
    ratio = ["A/B"] if len(names) == 2 else []
    rows = [row for result in results for row in _rows(result)]
    console.table(title, ["at once", "", *names, *ratio], rows)


def _rows(result: Measured) -> list[list[object]]:
    rows: list[list[object]] = []
    for metric in result.medians[0]:
        values: list[object] = [median[metric] for median in result.medians]
        ratios = [result.ratios[metric]] if result.ratios else []
        rows.append([result.load.concurrency, _label(metric), *values, *ratios])
    return rows


UNITS = {"_tokens_per_s": "tokens/s", "_ms": "ms", "_s": "s"}


def _label(metric: str) -> str:
    """`first_token_p50_s` reads `first token p50, s`."""
    for suffix, unit in UNITS.items():
        if metric.endswith(suffix):
            return f"{metric.removesuffix(suffix).replace('_', ' ')}, {unit}"
    return metric.replace("_", " ")
