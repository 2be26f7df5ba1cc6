"""A run's folder: who may write into it, its checkpoints and its metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.training.checkpoints import Checkpoints
from qwenkit.training.metrics import MetricsLog, cut_back, cut_last_look, read_metrics
from qwenkit.training.run_folder import RunFolder, write_json

RECORD = {"choices": {"rank": 4, "log_every": 1}, "made_for": {"train": "abc"}}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    with made.held():
        write_json(made.config, RECORD)
    return made


def test_a_folder_that_is_there_is_not_trained_into(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        folder.check_free()
    assert "--resume" in caught.value.hint
    RunFolder(tmp_path / "other").check_free()


def test_a_path_with_spaces_is_said_as_a_shell_takes_it(tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    with pytest.raises(InvalidSettings) as caught:
        RunFolder(tmp_path / "my run").check_free()
    assert f"`qwenkit finetune --resume '{tmp_path}/my run'`" in caught.value.hint


def test_a_folder_that_cant_be_made_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="no folder"):
        RunFolder(tmp_path / "file" / "run").check_free()
    RunFolder(tmp_path / "new" / "run").check_free()


def test_a_folder_without_a_run_cant_be_resumed(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(InvalidSettings, match="no run"):
            RunFolder(tmp_path).check_unfinished()
        write_json(tmp_path / "config.json", {"model_type": "qwen3"})  # as models have


def test_a_finished_run_cant_be_resumed(folder: RunFolder) -> None:
    folder.check_unfinished()
    write_json(folder.report, {})
    with pytest.raises(InvalidSettings, match="finished"):
        folder.check_unfinished()


def test_a_resumed_run_says_which_choices_and_data_differ(folder: RunFolder) -> None:
    folder.check_same(RECORD)
    other = {"choices": {"rank": 8, "log_every": 1}, "made_for": {"train": "abd"}}
    with pytest.raises(InvalidSettings, match=r"rank was 4 and is 8; train was \"abc\" and is"):
        folder.check_same(other)


def test_a_resumed_run_may_log_and_save_more_or_less_often(folder: RunFolder) -> None:
    folder.check_same({"choices": {"rank": 4, "log_every": 9}, "made_for": {"train": "abc"}})


def test_a_resumed_run_may_find_the_same_base_and_data_elsewhere(folder: RunFolder) -> None:
    moved = {"data": ["/elsewhere/rows.jsonl"], "model": "/elsewhere", "eval": "held.jsonl"}
    folder.check_same({"choices": RECORD["choices"] | moved, "made_for": {"train": "abc"}})


def test_whoever_interrupts_a_run_that_has_begun_is_told_how_it_goes_on(
    folder: RunFolder, tmp_path: Path
) -> None:
    told: list[str] = []
    for each in (folder, RunFolder(tmp_path)):
        with pytest.raises(KeyboardInterrupt), each.interruption_told(told.append):
            raise KeyboardInterrupt
    assert told == [f"stopped at once; go on: {folder.again}"]


def test_two_processes_dont_train_in_one_folder(folder: RunFolder) -> None:
    with folder.held(), pytest.raises(InvalidSettings, match="another process"), folder.held():
        pass
    with folder.held():
        pass


def publish(checkpoints: Checkpoints, step: int) -> Path:
    written = checkpoints.work / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "weights").write_text(str(step), encoding="utf-8")
    return checkpoints.publish(written, step=step)


def test_the_newest_checkpoints_are_kept_by_their_steps(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert checkpoints.newest() is None
    for step in (8, 9, 10, 11):
        publish(checkpoints, step)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-10", "step-11"]
    newest = checkpoints.newest()
    assert newest == (11, checkpoints.folder / "step-11")
    assert (newest[1] / "weights").read_text(encoding="utf-8") == "11"


def test_a_half_written_checkpoint_is_never_the_newest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    publish(checkpoints, 3)
    half = checkpoints.work / "checkpoint-6"
    half.mkdir(parents=True)
    (half / "weights").touch()
    assert checkpoints.newest() == (3, checkpoints.folder / "step-3")
    checkpoints.clear_work()
    assert not half.exists()


def test_metrics_are_cut_back_to_a_step_and_half_a_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(5):
        log.add({"step": step, "loss": 1.5})
    log.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "lo')
    assert [record["step"] for record in read_metrics(path)] == [0, 1, 2, 3, 4]
    cut_back(path, step=2)
    assert [json.loads(line)["step"] for line in path.read_text("utf-8").splitlines()] == [0, 1, 2]


def test_the_look_at_the_end_is_forgotten_where_the_end_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    lines: list[dict[str, float]] = [
        {"step": 0, "held_out_loss": 3.0},
        {"step": 1, "loss": 2.0},
        {"step": 1, "held_out_loss": 2.5},
        {"step": 2, "loss": 1.0},
    ]
    for line in (*lines, {"step": 2, "held_out_loss": 1.5}):
        log.add(line)
    log.close()
    for _ in range(2):
        cut_last_look(path)
        assert read_metrics(path) == lines


def test_there_are_no_metrics_before_a_run(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []
