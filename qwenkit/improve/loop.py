"""One round: judged answers in, a better adapter out, or the news that it is not. One call.

snapshot → check → train → measure both → decide → report, picture, lineage → load if better. Each
step leaves a file; a round that was killed goes on behind the last one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qwenkit.adapters.read import read_adapter
from qwenkit.errors import ServerError
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.improve.check import Check, check
from qwenkit.improve.current import as_peft, find_current
from qwenkit.improve.decide import decide
from qwenkit.improve.learned import read_learned
from qwenkit.improve.lineage import (
    history,
    is_known,
    what_was_learned,
    write_lineage,
    write_list,
)
from qwenkit.improve.measure import Examiner, Measured, read_measured
from qwenkit.improve.picture import draw_improvement
from qwenkit.improve.ratings import digest_ratings
from qwenkit.improve.request import (
    AdapterRef,
    DryRun,
    Evaluated,
    ImproveReport,
    ImproveRequest,
    ServedAdapter,
    Server,
    Trained,
    read_report,
)
from qwenkit.improve.rounds import Round, Rounds
from qwenkit.improve.snapshot import Snapshot, read_snapshot, take_snapshot
from qwenkit.improve.steps import Step, key_of, once
from qwenkit.improve.train import train, training_config
from qwenkit.improve.win_rate import head_to_head
from qwenkit.models.atomic import atomic_file
from qwenkit.models.checkpoint import read_json
from qwenkit.models.fingerprint import fingerprint
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.data.prepare import prepare_data
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.dry_run import survey_run
from qwenkit.training.finish import serve_command
from qwenkit.training.methods import Method
from qwenkit.training.request import Stopped
from qwenkit.training.run_config import RunConfig
from qwenkit.training.run_folder import write_json
from qwenkit.training.watching import Watch, unwatched

OF_UNKNOWN_ORIGIN = (
    "no round here made the current adapter: if it learned from threads that are held out now, "
    "it is measured too kindly"
)


def improve(
    request: ImproveRequest,
    *,
    server: Server | None = None,
    progress: ProgressFactory = silent,
    watch: Watch = unwatched,
    tell: Callable[[str], None] = lambda _: None,
) -> ImproveReport | Stopped:
    """Do a round, or go on with one that was stopped.

    Args:
        request: What is asked for.
        server: Gets the adapter if it is better; None leaves it where it is.
        progress: Told of reading, measuring and writing.
        watch: Shows the steps of the training.
        tell: Told what a person should know at once.

    Returns:
        What came of it; `Stopped` where the training was asked to stop.

    Raises:
        InvalidSettings: Choices are wrong, or another round of this adapter runs.
        InvalidData: The judgements can't be learned from.
        MissingExtra: The training packages are not installed.
        ModelError: The base or the current adapter can't be used.
        ServerError: The server refuses, or has something else under the name by now.
    """
    rounds = Rounds(request.home)
    with rounds.held():
        return _Loop(request, rounds, server, progress, watch, tell).run()


def dry_run(
    request: ImproveRequest, *, server: Server | None = None, progress: ProgressFactory = silent
) -> DryRun:
    """Look at what a round would learn from and what it would take, and leave nothing behind.

    Raises:
        QwenkitError: As `improve` does.
    """
    rounds = Rounds(request.home)
    current = find_current(request, rounds, server)
    with TemporaryDirectory(prefix="qwenkit-") as temporary:
        with closing(FeedbackIndex(request.log)) as index:
            index.refresh(progress)
            snapshot = take_snapshot(
                index,
                request.query,
                request.options,
                Path(temporary) / "data",
                learned=read_learned(what_was_learned(rounds, current)),
                progress=progress,
            )
        checked = _checked(request, snapshot, rounds, current)
        survey = None
        if checked.method is not None:
            config = _training_config(
                request, snapshot, checked, output=Path(temporary) / "run", start=None
            )
            survey = survey_run(config, request.checkpoint, progress=progress)
    return DryRun(
        outcome="ready" if checked.method is not None else "not_enough",
        name=request.name,
        ratings=snapshot.ratings,
        check=checked,
        current=current,
        survey=survey,
    )


@dataclass(frozen=True, slots=True)
class _Adapters:
    """What a round compares: the current adapter, also as a PEFT folder, and the new one."""

    current: AdapterRef | None
    current_folder: Path | None
    new: AdapterRef

    @property
    def current_version(self) -> str | None:
        return self.current.version if self.current is not None else None


class _Loop:
    """One call of `improve`."""

    def __init__(
        self,
        request: ImproveRequest,
        rounds: Rounds,
        server: Server | None,
        progress: ProgressFactory,
        watch: Watch,
        tell: Callable[[str], None],
    ) -> None:
        self._request = request
        self._rounds = rounds
        self._server = server
        self._progress = progress
        self._watch = watch
        self._tell = tell

    def run(self) -> ImproveReport | Stopped:
        """Do it."""
        current = find_current(self._request, self._rounds, self._server)
        question = self._question(current)
        with closing(FeedbackIndex(self._request.log)) as index:
            index.refresh(self._progress)
            ratings = digest_ratings(index, self._request.query, progress=self._progress)
            same = self._rounds.same(question, ratings.digest)
            if same is not None:
                return self._load(same, replace(read_report(same.report), repeated=True))
            round_ = self._rounds.unfinished(question)
            if round_ is None:
                round_ = self._begin(index, question, current)
            elif round_.begun_for()["ratings"] != ratings.digest:
                self._tell(
                    f"round {round_.number} goes on with the ratings that it began with; "
                    "what was rated since comes into the next"
                )
        return self._go_on(round_, current)

    def _question(self, current: AdapterRef | None) -> dict[str, Any]:
        """What decides a round's result, but for the ratings."""
        request = self._request
        query = asdict(request.query)
        return {
            "name": request.name,
            "base": fingerprint(request.checkpoint.glob("*.safetensors")),
            "current": current.version if current is not None else None,
            "options": asdict(request.options),
            "training": dict(request.training),
            "query": {name: value for name, value in query.items() if value is not None},
        }

    def _begin(
        self, index: FeedbackIndex, question: Mapping[str, Any], current: AdapterRef | None
    ) -> Round:
        round_ = self._rounds.new()
        snapshot = take_snapshot(
            index,
            self._request.query,
            self._request.options,
            round_.data,
            learned=read_learned(what_was_learned(self._rounds, current)),
            progress=self._progress,
        )
        round_.begin(question=question, ratings=snapshot.ratings.digest)
        return round_

    def _go_on(self, round_: Round, current: AdapterRef | None) -> ImproveReport | Stopped:
        snapshot = read_snapshot(round_.data)
        checked = _checked(self._request, snapshot, self._rounds, current)
        if checked.method is None:
            round_.discard()
            return ImproveReport(
                outcome="not_enough",
                name=self._request.name,
                ratings=snapshot.ratings,
                check=checked,
                current=current,
            )
        for caution in checked.cautions:
            self._tell(caution)
        before = self._current_folder(round_, current)
        begins_with = before if self._request.options.begin == "current" else None
        config = _training_config(
            self._request, snapshot, checked, output=round_.run.path, start=begins_with
        )
        trained = self._train(round_, config)
        if isinstance(trained, Stopped):
            return trained
        adapter = AdapterRef(
            version=read_adapter(round_.run.gguf_adapter).version(), path=round_.run.gguf_adapter
        )
        evaluated, seconds = self._evaluate(
            round_, config, snapshot, _Adapters(current, before, adapter)
        )
        report = ImproveReport(
            outcome="improved" if evaluated.decision.is_better else "not_better",
            name=self._request.name,
            round=round_.number,
            folder=round_.path,
            ratings=snapshot.ratings,
            check=checked,
            current=current,
            adapter=adapter,
            training=trained,
            evaluation=evaluated,
            picture=round_.picture,
            seconds={"train": trained.seconds} | seconds,
            commands=_commands(self._request.name, self._request.model, adapter.path)
            if evaluated.decision.is_better
            else (),
        )
        return self._load(round_, self._finish(round_, report))

    def _current_folder(self, round_: Round, current: AdapterRef | None) -> Path | None:
        if current is None:
            return None
        return as_peft(
            current,
            round_.current,
            base_name=self._request.model,
            checkpoint=self._request.checkpoint,
        )

    def _train(self, round_: Round, config: RunConfig) -> Trained | Stopped:
        if not round_.run.report.is_file():
            made = train(
                config,
                self._request.checkpoint,
                progress=self._progress,
                watch=self._watch,
                tell=self._tell,
            )
            if isinstance(made, Stopped):
                return made
        said = read_json(round_.run.report)
        names = ("n_steps", "n_samples", "seconds", "first_loss", "last_loss")
        return Trained(**{name: said[name] for name in names}, choices=config.choices())

    def _evaluate(
        self, round_: Round, config: RunConfig, snapshot: Snapshot, adapters: _Adapters
    ) -> tuple[Evaluated, dict[str, float]]:
        """Measure both adapters on the held-out judgements, and compare them."""
        method = config.run.method
        held_out = _prepare(self._request, config, [snapshot.data(method, "validation")], method)
        labels = None
        besides = [snapshot.data("kto", "validation"), snapshot.alone]
        besides = [path for path in besides if path.is_file() and path.stat().st_size]
        if method == "dpo" and besides:
            labels = _prepare(self._request, config, besides, "kto")
        examiner = Examiner(
            config,
            self._request.checkpoint,
            held_out,
            labels=labels,
            max_new_tokens=self._request.options.max_new_tokens,
            progress=self._progress,
        )

        def measured(path: Path, version: str | None, folder: Path | None) -> Step:
            others = labels.fingerprint if labels is not None else None
            key = key_of([round_.key(), held_out.fingerprint, others, version])
            return once(path, key, lambda: examiner.examine(folder).as_json())

        new = adapters.new
        steps = {
            "before": measured(round_.before, adapters.current_version, adapters.current_folder),
            "after": measured(round_.after, new.version, round_.run.adapter),
        }
        before, after = (read_measured(steps[name].result) for name in ("before", "after"))
        _write_answers(round_.answers, before, after)
        heads = head_to_head(before.contested, after.contested)
        evaluated = Evaluated(
            n_held_out=len(held_out.samples),
            n_left_out=held_out.n_skipped + held_out.n_dropped,
            before=before.measures,
            after=after.measures,
            head_to_head=heads,
            decision=decide(before.measures, after.measures, heads, self._request.options),
        )
        return evaluated, {name: step.seconds for name, step in steps.items()}

    def _finish(self, round_: Round, report: ImproveReport) -> ImproveReport:
        """Write the report, the picture and the lineage; a round with all of them is finished."""
        write_json(round_.report, asdict(report))
        draw_improvement(report, history(self._rounds.home), round_.picture)
        write_lineage(round_, self._rounds, self._request, report)
        return read_report(round_.report)  # as whoever comes again gets it

    def _load(self, round_: Round, report: ImproveReport) -> ImproveReport:
        """Have the server load the adapter, if there is a server and the adapter is better."""
        if self._server is None or report.outcome != "improved" or report.adapter is None:
            return report
        served = self._server.served(report.name)
        if served is None or served.version != report.adapter.version:
            _check_unchanged(report, served)
            served = self._server.load(report.name, report.adapter.path)
        write_json(round_.loaded, asdict(served))
        write_list(self._rounds)
        return replace(report, loaded=served, commands=())


def _checked(
    request: ImproveRequest, snapshot: Snapshot, rounds: Rounds, current: AdapterRef | None
) -> Check:
    """Whether there is enough, with what is to be said of the adapter that is compared with."""
    checked = check(snapshot.counts, request.options)
    if checked.method is None or current is None or is_known(rounds, current):
        return checked
    return replace(checked, cautions=(*checked.cautions, OF_UNKNOWN_ORIGIN))


def _training_config(
    request: ImproveRequest,
    snapshot: Snapshot,
    checked: Check,
    *,
    output: Path,
    start: Path | None,
) -> RunConfig:
    if checked.method is None:
        raise ValueError("there is no method to train by")
    counts = snapshot.counts
    n_rows = counts.n_pairs if checked.method == "dpo" else counts.n_liked + counts.n_disliked
    return training_config(
        request.training,
        request.options,
        method=checked.method,
        model=request.model,
        data=snapshot.data(checked.method, "train"),
        n_rows=n_rows,
        output=output,
        start=start,
    )


def _prepare(
    request: ImproveRequest, config: RunConfig, files: Sequence[Path], method: Method
) -> PreparedData:
    """Judgements that nothing is learned from as samples."""
    with open_renderer(request.checkpoint) as renderer:
        return prepare_data(
            [str(path) for path in files],
            method=method,
            renderer=renderer,
            options=config.data,
        )


def _write_answers(path: Path, before: Measured, after: Measured) -> None:
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for old, new in zip(before.said, after.said, strict=True):
            line = {
                "prompt": new.prompt,
                "liked": new.liked,
                "disliked": new.disliked,
                "before": old.text,
                "after": new.text,
                "likeness": [old.likeness, new.likeness],
                "score": [old.score, new.score],
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _check_unchanged(report: ImproveReport, served: ServedAdapter | None) -> None:
    """Refuse to replace what nobody compared with.

    Raises:
        ServerError: The server has something else by now.
    """
    compared = report.current.version if report.current is not None else None
    if served is not None and served.version != compared:
        raise ServerError(
            f"the server has another {report.name!r} by now, {served.version}, than the new "
            f"adapter was compared with",
            hint="run the same command again to compare with that one",
        )


def _commands(name: str, model: str, path: Path) -> tuple[str, ...]:
    return (
        f"qwenkit lora load --replace {shlex.quote(name)} {shlex.quote(str(path))}",
        f"LORA_PATHS={shlex.quote(str(path))} {serve_command(model)}",
    )
