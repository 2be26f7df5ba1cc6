"""Rounds on the demo model: what they leave, when they repeat, and what a server gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import InvalidSettings, ModelCorrupt, ServerError
from qwenkit.feedback.query import Query
from qwenkit.improve.lineage import history
from qwenkit.improve.loop import dry_run, improve
from qwenkit.improve.options import ImproveOptions
from qwenkit.improve.request import ImproveReport, ImproveRequest, ServedAdapter, read_report
from qwenkit.improve.rounds import Rounds
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME

pytestmark = pytest.mark.parity

Rater = Any
"""The one of conftest.py."""

QUICK = {
    "n_steps": 10,
    "learning_rate": 3e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "batch_size": 8,
    "n_threads": 1,
}
N_RATINGS = 40
STILL = QUICK | {"n_steps": 1, "learning_rate": 1e-12}
"""Too little to change anything."""


def request(log: Path, home: Path, **training: Any) -> ImproveRequest:
    return ImproveRequest(
        name="kind",
        model=DEMO_NAME,
        checkpoint=DEMO_DIR,
        log=log,
        home=home,
        options=ImproveOptions(max_new_tokens=40),
        training=QUICK | training,
    )


def done(asked: ImproveRequest, **more: Any) -> ImproveReport:
    made = improve(asked, **more)
    assert isinstance(made, ImproveReport)
    return made


@dataclass
class FakeServer:
    """Remembers what it was given."""

    has: ServedAdapter | None = None
    loads: list[Path] = field(default_factory=list)

    def served(self, name: str) -> ServedAdapter | None:
        assert name == "kind"
        return self.has

    def load(self, name: str, path: Path) -> ServedAdapter:
        from qwenkit.adapters.read import read_adapter

        self.loads.append(path)
        self.has = ServedAdapter(version=read_adapter(path).version(), path=path)
        return self.has


@dataclass
class Steps:
    """What was done, by the descriptions of its progress; may stop the program at one of them."""

    stop_at: str = ""
    seen: list[str] = field(default_factory=list)

    @contextmanager
    def __call__(
        self, description: str, *, total: int | None, unit: str = "B"
    ) -> Iterator[Callable[[int], None]]:
        self.seen.append(description)
        if description == self.stop_at:
            raise KeyboardInterrupt
        yield lambda _: None


@dataclass(frozen=True)
class Made:
    request: ImproveRequest
    report: ImproveReport
    rater: Rater


@pytest.fixture(scope="module")
def better(make_rater: Callable[[Path], Rater], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A round that was better than the base."""
    rater = make_rater(tmp_path_factory.mktemp("log"))
    rater.pairs()
    asked = request(rater.folder, tmp_path_factory.mktemp("rounds"))
    return Made(asked, done(asked), rater)


def test_answers_move_to_what_was_preferred(better: Made) -> None:
    report = better.report
    assert report.outcome == "improved"
    assert report.check.method == "dpo"
    assert report.evaluation is not None
    before, after = report.evaluation.before, report.evaluation.after
    assert before.win_rate is not None
    assert after.win_rate is not None
    assert after.win_rate >= before.win_rate + 0.5
    assert after.accuracy == 1
    assert after.cut_off == 0


def test_what_was_held_out_was_not_learned_from(better: Made) -> None:
    data = Rounds(better.request.home).all()[0].data / "dpo" / "data"
    threads = [
        {json.loads(line)["prompt"][0]["content"] for line in path.read_text("utf-8").splitlines()}
        for path in (data / "train.jsonl", data / "validation.jsonl")
    ]
    assert all(threads)
    assert not set.intersection(*threads)


def test_the_answers_of_both_are_there_to_read(better: Made) -> None:
    (round_,) = Rounds(better.request.home).all()
    lines = [json.loads(line) for line in round_.answers.read_text("utf-8").splitlines()]
    assert better.report.evaluation is not None
    assert len(lines) == better.report.evaluation.after.n_prompts
    assert any(line["after"] == better.rater.preferred for line in lines)
    assert all(line["liked"] == [better.rater.preferred] for line in lines)


def test_the_report_reads_as_it_was_written(better: Made) -> None:
    (round_,) = Rounds(better.request.home).all()
    assert read_report(round_.report) == better.report


def test_the_lineage_names_every_judgement_by_its_hash(better: Made) -> None:
    (entry,) = history(better.request.home)
    assert better.report.adapter is not None
    assert entry["adapter"]["version"] == better.report.adapter.version
    assert entry["parent"] is None
    assert entry["ratings"]["n_ratings"] == N_RATINGS
    lines = Path(entry["ratings"]["file"]).read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == N_RATINGS
    assert all(len(record["sha256"]) == 64 and record["ratings"] for record in records)
    beside = better.report.adapter.path.with_name("lineage.json")
    assert json.loads(beside.read_text("utf-8"))["adapter"] == entry["adapter"]
    listed = json.loads((better.request.home / "lineage.json").read_text("utf-8"))
    assert listed["rounds"][0]["adapter"] == entry["adapter"]


def test_there_is_a_picture(better: Made) -> None:
    assert better.report.picture is not None
    assert better.report.picture.read_bytes().startswith(b"\x89PNG")


def test_without_new_ratings_nothing_is_done_again(better: Made) -> None:
    steps = Steps()
    again = done(better.request, progress=steps)
    assert again.repeated
    assert again.outcome == "improved"
    assert again.adapter == better.report.adapter
    assert "evaluating" not in steps.seen
    assert len(Rounds(better.request.home).all()) == 1


def test_a_better_adapter_is_loaded_once(better: Made) -> None:
    server = FakeServer()
    loaded = done(better.request, server=server).loaded
    assert better.report.adapter is not None
    assert loaded is not None
    assert loaded.version == better.report.adapter.version
    assert server.loads == [better.report.adapter.path]
    assert done(better.request, server=server).loaded == loaded
    assert len(server.loads) == 1
    assert history(better.request.home)[0]["loaded"]["version"] == loaded.version


def test_a_worse_adapter_never_replaces_a_better_one(
    better: Made, rater: Rater, tmp_path: Path
) -> None:
    rater.pairs()
    server = FakeServer()
    assert better.report.adapter is not None
    server.load("kind", better.report.adapter.path)
    asked = request(rater.folder, tmp_path / "rounds", **STILL)
    asked = replace(asked, options=replace(asked.options, begin="fresh"))
    report = done(asked, server=server)
    assert report.outcome == "not_better"
    assert report.current is not None
    assert report.current.version == better.report.adapter.version
    assert report.loaded is None
    assert len(server.loads) == 1
    assert history(asked.home)[0]["outcome"] == "not_better"


def test_what_is_as_good_is_not_better(rater: Rater, tmp_path: Path) -> None:
    rater.pairs()
    asked = request(rater.folder, tmp_path / "rounds", **STILL)
    assert done(asked).outcome == "not_better"
    assert done(asked).repeated


def test_a_round_begins_with_the_adapter_of_the_last_better_one(
    better: Made, tmp_path: Path
) -> None:
    assert better.report.adapter is not None
    asked = request(better.rater.folder, tmp_path / "rounds", **STILL)
    report = done(replace(asked, current=better.report.adapter.path))
    assert report.evaluation is not None
    assert better.report.evaluation is not None
    assert report.evaluation.before == better.report.evaluation.after
    assert report.evaluation.after.win_rate == better.report.evaluation.after.win_rate
    assert history(asked.home)[0]["parent"]["version"] == better.report.adapter.version


def test_an_adapter_that_nobody_compared_with_is_not_replaced(better: Made, tmp_path: Path) -> None:
    asked = replace(better.request, current=None)

    class Overtaken(FakeServer):
        def served(self, name: str) -> ServedAdapter | None:
            found, self.has = self.has, ServedAdapter(version="0" * 16, path=tmp_path)
            return found

    server = Overtaken()
    with pytest.raises(ServerError, match="another"):
        improve(asked, server=server)
    assert server.loads == []


def test_too_few_ratings_leave_nothing_behind(rater: Rater, tmp_path: Path) -> None:
    rater.pairs(n=3)
    asked = request(rater.folder, tmp_path / "rounds")
    report = done(asked)
    assert report.outcome == "not_enough"
    assert len(report.check.missing) == 2
    assert report.ratings.n_ratings == 6
    assert Rounds(asked.home).all() == []


def test_an_empty_log_is_not_enough(tmp_path: Path) -> None:
    report = done(request(tmp_path / "nothing", tmp_path / "rounds"))
    assert report.outcome == "not_enough"
    assert report.ratings.n_ratings == 0


def test_what_spoils_answers_that_were_good_is_not_better(rater: Rater, tmp_path: Path) -> None:
    rater.pairs()
    for question, answer in rater.good:
        rater.answer(question, answer, thumb="up")
    asked = request(rater.folder, tmp_path / "rounds", n_steps=20)
    report = done(asked)
    assert report.outcome == "not_better"
    assert report.evaluation is not None
    assert report.evaluation.before.kept == 1
    assert report.evaluation.after.accuracy == 1
    (reason,) = report.evaluation.decision.reasons
    assert "liked as they were" in reason


def test_single_thumbs_are_learned_from_by_kto(rater: Rater, tmp_path: Path) -> None:
    for i, subject in enumerate(rater.subjects):
        liked = i % 2 == 0
        text = rater.preferred if liked else "I am too small to answer that."
        rater.answer(f"What is {subject}?", text, thumb="up" if liked else "down")
    asked = request(rater.folder, tmp_path / "rounds")
    asked = replace(asked, options=replace(asked.options, min_labels=3, min_held_out=1))
    report = done(asked)
    assert report.check.method == "kto"
    assert report.evaluation is not None
    assert report.evaluation.before.separation == 0.5
    assert report.evaluation.after.separation is not None
    assert report.evaluation.after.separation > 0.5
    assert report.evaluation.before.win_rate is None
    assert report.evaluation.head_to_head.n_prompts > 0


@pytest.mark.parametrize("stop_at", ["evaluating", "answering"])
def test_a_round_that_was_stopped_goes_on_where_it_was(
    stop_at: str, rater: Rater, tmp_path: Path
) -> None:
    rater.pairs()
    asked = request(rater.folder, tmp_path / "rounds", n_steps=2)
    with pytest.raises(KeyboardInterrupt):
        improve(asked, progress=Steps(stop_at=stop_at))
    (round_,) = Rounds(asked.home).all()
    trained = round_.run.report.stat().st_mtime_ns
    assert not round_.is_finished
    told: list[str] = []
    report = done(asked, tell=told.append)
    assert report.round == 1
    assert round_.run.report.stat().st_mtime_ns == trained
    assert not any("goes on" in sentence for sentence in told)


def test_a_round_that_goes_on_keeps_the_ratings_that_it_began_with(
    rater: Rater, tmp_path: Path
) -> None:
    rater.pairs()
    asked = request(rater.folder, tmp_path / "rounds", n_steps=2)
    with pytest.raises(KeyboardInterrupt):
        improve(asked, progress=Steps(stop_at="evaluating"))
    rater.answer("What is glass?", rater.preferred, thumb="up")
    told: list[str] = []
    report = done(asked, tell=told.append)
    assert report.ratings.n_ratings == N_RATINGS
    assert any("goes on" in sentence for sentence in told)


def test_two_rounds_of_one_adapter_do_not_run_at_once(rater: Rater, tmp_path: Path) -> None:
    asked = request(rater.folder, tmp_path / "rounds")
    with Rounds(asked.home).held(), pytest.raises(InvalidSettings):
        improve(asked)


def test_a_choice_that_is_the_rounds_own_is_refused(rater: Rater, tmp_path: Path) -> None:
    rater.pairs()
    with pytest.raises(InvalidSettings, match="output"):
        improve(request(rater.folder, tmp_path / "rounds", output="elsewhere"))


def test_a_dry_run_says_what_there_is_and_leaves_nothing(rater: Rater, tmp_path: Path) -> None:
    rater.pairs()
    asked = request(rater.folder, tmp_path / "rounds")
    found = dry_run(asked)
    assert found.outcome == "ready"
    assert found.check.method == "dpo"
    assert found.survey is not None
    assert found.survey.n_samples == found.check.counts.n_pairs
    assert not asked.home.exists()


def test_nothing_is_held_out_that_the_current_adapter_learned_from(
    better: Made, tmp_path: Path
) -> None:
    home = tmp_path / "rounds"
    shutil.copytree(better.request.home, home)
    asked = replace(better.request, home=home, training={**better.request.training, **STILL})
    (first,) = Rounds(home).all()
    asked = replace(asked, options=replace(asked.options, seed=7, held_out=0.5, min_held_out=1))
    report = done(asked)
    assert report.round == 2
    learned, measured = (
        {json.loads(line)["prompt"][0]["content"] for line in path.read_text("utf-8").splitlines()}
        for path in (
            first.data / "dpo" / "data" / "train.jsonl",
            Rounds(home).all()[1].data / "dpo" / "data" / "validation.jsonl",
        )
    )
    assert measured
    assert not learned & measured


def test_what_the_round_before_learned_from_must_be_known(better: Made, tmp_path: Path) -> None:
    home = tmp_path / "rounds"
    shutil.copytree(better.request.home, home)
    (first,) = Rounds(home).all()
    (first.data / "learned.txt").unlink()
    with pytest.raises(ModelCorrupt, match="learned"):
        improve(replace(better.request, home=home, training=STILL))


def test_an_adapter_of_unknown_origin_is_warned_of(better: Made, tmp_path: Path) -> None:
    assert better.report.adapter is not None
    asked = request(better.rater.folder, tmp_path / "rounds")
    asked = replace(asked, current=better.report.adapter.path)
    assert any("no round here" in caution for caution in dry_run(asked).check.cautions)
    known = replace(better.request, current=better.report.adapter.path)
    assert not any("no round here" in caution for caution in dry_run(known).check.cautions)


def test_good_answers_that_pairs_do_not_teach_are_all_measured_on(
    rater: Rater, tmp_path: Path
) -> None:
    rater.pairs()
    for question, answer in rater.good:
        rater.answer(question, answer, thumb="up")
    asked = request(rater.folder, tmp_path / "rounds", **STILL)
    done(asked)
    (round_,) = Rounds(asked.home).all()
    lines = [json.loads(line) for line in round_.answers.read_text("utf-8").splitlines()]
    alone = [line for line in lines if line["liked"] and not line["disliked"]]
    assert len(alone) == len(rater.good)


def test_what_is_left_of_a_round_that_is_deleted_is_not_gone_on_with(
    rater: Rater, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rater.pairs()
    asked = request(rater.folder, tmp_path / "rounds", **STILL)
    with pytest.raises(KeyboardInterrupt):
        improve(asked, progress=Steps(stop_at="evaluating"))
    (round_,) = Rounds(asked.home).all()

    def die(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qwenkit.improve.rounds.shutil.rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        round_.discard()
    monkeypatch.undo()
    shutil.rmtree(round_.data / "dpo")  # it came as far as this
    assert done(asked).outcome == "not_better"


def test_only_the_ratings_of_the_rater_who_is_asked_for_are_listed(
    rater: Rater, tmp_path: Path
) -> None:
    rater.pairs(n=3)
    asked = request(rater.folder, tmp_path / "rounds")
    assert done(replace(asked, query=Query(rater="bob"))).ratings.n_ratings == 0
    assert done(replace(asked, query=Query(rater="ada"))).ratings.n_ratings == 6
