"""`qwenkit improve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from qwenkit.cli import console
from qwenkit.cli.failure import EXIT_INTERRUPTED
from qwenkit.cli.option_flags import with_options
from qwenkit.cli.remote_admin import ApiKey
from qwenkit.cli.source_model import find_checkpoint
from qwenkit.improve.options import ImproveOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qwenkit.improve.check import Check
    from qwenkit.improve.request import DryRun, Evaluated, ImproveReport, ImproveRequest
    from qwenkit.training.request import Stopped

EXIT_NOT_BETTER = 10
"""What the command ends with where the new adapter is not better, and the current one stays."""
EXIT_NOT_ENOUGH = 11
"""Where there are too few judgements to learn from."""

app = typer.Typer()


@app.command()
@with_options(ImproveOptions)
def improve(
    options: dict[str, Any],
    model: Annotated[
        str | None,
        typer.Argument(
            help="Safetensors: a folder, a Hub id, or the demo's name. [MODEL_PATH]",
            show_default=False,
        ),
    ] = None,
    *,
    name: Annotated[str, typer.Option(help="What the adapter is called.")] = "improved",
    log: Annotated[
        Path | None,
        typer.Option(help="Folder of the feedback log.", show_default="LOG_DIR/feedback"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the rounds of all adapters.",
            show_default="QWENKIT_HOME/adapters/improve",
        ),
    ] = None,
    current: Annotated[
        Path | None,
        typer.Option(
            help="Adapter to compare with; by default what the server has under the name, or else "
            "what the last better round made."
        ),
    ] = None,
    rater: Annotated[str | None, typer.Option(help="Only what this person judged.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only answers from this day or moment on.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only answers before it.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A choice of the training, such as beta=0.2."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with choices of the training; --set wins over it.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Server that gets the adapter if it is better; without one it is left in its "
            "folder.",
            metavar="<str>",
        ),
    ] = None,
    api_key: ApiKey = None,
    history: Annotated[
        bool, typer.Option("--history", help="List the rounds there were, and do none.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what there is to learn from, and train nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Learn from ratings: a new adapter, loaded if it is better.

    Judged answers are split; what is learned from the larger part is measured on the other one and
    compared with the current adapter. Stopped at any moment, the same command goes on. It ends
    with 0 where the adapter is better, 10 where it is not, 11 where there is too little to learn
    from.
    """
    from qwenkit.feedback.query import Query
    from qwenkit.improve.request import ImproveRequest
    from qwenkit.models.demo import DEMO_NAME
    from qwenkit.settings import Settings

    settings = Settings.load()
    home = (output or settings.qwenkit_home / "adapters" / "improve").absolute() / _folder(name)
    if history:
        _show_history(home, json=json)
        return
    base = model or settings.model_path or DEMO_NAME
    request = ImproveRequest(
        name=name,
        model=base,
        checkpoint=find_checkpoint(base),
        log=log or settings.log_dir / "feedback",
        home=home,
        options=ImproveOptions(**options),
        training=_training(config, set_ or []),
        query=Query(rater=rater, since=since, until=until),
        current=current.absolute() if current is not None else None,
    )
    server = _Served(url, api_key) if url is not None else None
    if dry_run:
        _dry_run(request, server, json=json)
    else:
        _improve(request, server, json=json)


class _Served:
    """A running server, by its admin routes."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._server = url, api_key

    def served(self, name: str) -> Any:
        from qwenkit.cli.remote_admin import ask_server

        found = ask_server(*self._server, "GET", "/admin/adapters")["adapters"]
        return next((_adapter(each) for each in found if each["name"] == name), None)

    def load(self, name: str, path: Path) -> Any:
        from qwenkit.cli.remote_admin import ask_server

        body = {"name": name, "path": str(path), "replace": True}
        return _adapter(ask_server(*self._server, "POST", "/admin/adapters", body))


def _adapter(said: Mapping[str, Any]) -> Any:
    from qwenkit.improve.request import ServedAdapter

    return ServedAdapter(version=said["version"], path=Path(said["path"]))


def _folder(name: str) -> str:
    from qwenkit.errors import UsageError

    if not name or Path(name).name != name or name.startswith("."):
        raise UsageError(
            f"`{name}` can't be the name of a folder", hint="--name with letters and digits"
        )
    return name


def _training(config: Path | None, words: list[str]) -> dict[str, Any]:
    from qwenkit.cli.assignments import assignments
    from qwenkit.training.config_file import read_config_file

    return (read_config_file(config) if config is not None else {}) | assignments(words)


def _improve(request: ImproveRequest, server: _Served | None, *, json: bool) -> None:
    from qwenkit.improve.loop import improve as do_round
    from qwenkit.training.request import Stopped

    made = do_round(
        request,
        server=server,
        progress=console.progress,
        watch=console.training,
        tell=console.note,
    )
    if isinstance(made, Stopped):
        _show_stopped(made, json=json)
    if json:
        console.print_json(console.plain(made))
    else:
        _show(made)
    if made.outcome == "not_better":
        raise typer.Exit(EXIT_NOT_BETTER)
    if made.outcome == "not_enough":
        raise typer.Exit(EXIT_NOT_ENOUGH)


def _show_stopped(made: Stopped, *, json: bool) -> NoReturn:
    if json:
        console.print_json({"outcome": "stopped", "step": made.step, "n_steps": made.n_steps})
    console.note(f"stopped after step {made.step} of {made.n_steps}; the same command goes on")
    raise typer.Exit(EXIT_INTERRUPTED)


def _show(made: ImproveReport) -> None:
    if made.repeated:
        console.note(f"nothing is new since round {made.round}; this is what it said")
    _show_check(made.check, made.ratings.n_ratings)
    if made.evaluation is None:
        return
    console.table("Held out", ["", "Before", "After"], list(_measure_rows(made.evaluation)))
    decision = made.evaluation.decision
    for sentence in (*decision.reasons, *decision.cautions):
        console.note(sentence)
    if made.outcome == "improved" and made.adapter is not None:
        console.line(f"{made.name} {made.adapter.version} is better")
    else:
        console.line(f"{made.name} is not better, and the current adapter stays")
    if made.loaded is not None:
        console.note("the server has it")
    console.note(f"report, picture and lineage: {made.folder}")
    for command in made.commands:
        console.note(command)


def _show_check(check: Check, n_ratings: int) -> None:
    counts = check.counts
    rows = [
        ("Ratings", f"{n_ratings:,}"),
        ("Pairs", f"{counts.n_pairs:,} and {counts.n_held_out_pairs:,} held out"),
        ("Liked", f"{counts.n_liked:,} and {counts.n_held_out_liked:,} held out"),
        ("Disliked", f"{counts.n_disliked:,} and {counts.n_held_out_disliked:,} held out"),
        ("Method", check.method or "none: too little to learn from"),
    ]
    console.table("To learn from", ["", ""], rows)
    for sentence in check.missing:
        console.note(sentence)


def _measure_rows(evaluation: Evaluated) -> Iterator[tuple[str, str, str]]:
    before, after, heads = evaluation.before, evaluation.after, evaluation.head_to_head
    shares = {
        f"Prompts won, of {before.n_contested}": "win_rate",
        f"Preferred answer likelier, of {before.n_pairs} pairs": "accuracy",
        "Liked raised above disliked": "separation",
        "Like answers that were liked": "kept",
        "Answers without an end": "cut_off",
    }
    for label, name in shares.items():
        old, new = getattr(before, name), getattr(after, name)
        if old is not None and new is not None:
            yield label, f"{old:.0%}", f"{new:.0%}"
    if before.margin is not None and after.margin is not None:
        yield "Margin in nats", f"{before.margin:.2f}", f"{after.margin:.2f}"
    yield "Tokens of an answer", f"{before.mean_tokens:.0f}", f"{after.mean_tokens:.0f}"
    yield (
        f"Head to head, {heads.n_prompts} prompts",
        f"{heads.losses} won",
        f"{heads.wins} won, by chance {heads.p_value:.2g}",
    )


def _dry_run(request: ImproveRequest, server: _Served | None, *, json: bool) -> None:
    from qwenkit.improve.loop import dry_run

    found = dry_run(request, server=server, progress=console.progress)
    if json:
        console.print_json(_dry_json(found))
    else:
        _show_check(found.check, found.ratings.n_ratings)
        for caution in found.check.cautions:
            console.note(caution)
        _show_survey(found)
    if found.outcome == "not_enough":
        raise typer.Exit(EXIT_NOT_ENOUGH)


def _dry_json(found: DryRun) -> dict[str, Any]:
    from qwenkit.cli.dry_run import dry_run_json

    shown: dict[str, Any] = console.plain(found)
    if found.survey is not None:
        shown["survey"] = dry_run_json(found.survey)
    return shown


def _show_survey(found: DryRun) -> None:
    from qwenkit.cli.dry_run import show_dry_run

    if found.survey is not None:
        show_dry_run(found.survey, json=False)


def _show_history(home: Path, *, json: bool) -> None:
    from qwenkit.improve.lineage import history

    rounds = history(home)
    if json:
        console.print_json(rounds)
        return
    rows = [
        (
            each["round"],
            each["finished_at"],
            each["method"],
            each["ratings"]["n_ratings"],
            _change(each["evaluation"], "win_rate"),
            _change(each["evaluation"], "accuracy"),
            each["outcome"].replace("_", " "),
            each["adapter"]["version"],
            (each["parent"] or {}).get("version", "the base"),
            "loaded" if each["loaded"] else "",
        )
        for each in rounds
    ]
    names = ["Round", "Finished", "Method", "Ratings", "Won", "Likelier", "Outcome"]
    console.table("", [*names, "Adapter", "Compared with", ""], rows)


def _change(evaluation: Mapping[str, Any], name: str) -> str:
    old, new = evaluation["before"][name], evaluation["after"][name]
    return "" if old is None or new is None else f"{old:.0%} → {new:.0%}"
