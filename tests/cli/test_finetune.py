"""`qwenkit finetune`, as a shell sees it; what it refuses takes no torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenkit.cli import console
from qwenkit.cli.app import run
from qwenkit.cli.option_flags import help_of
from qwenkit.models.demo import DEMO_NAME
from qwenkit.training.data.options import DataOptions
from qwenkit.training.options import LoopOptions, LoraOptions
from qwenkit.training.run_config import names_of
from qwenkit.training.watching import Standing


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "talk.jsonl"
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", [LoraOptions, LoopOptions, DataOptions])
def test_every_choice_has_a_flag_and_a_help(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["finetune", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in names_of(kind):
        assert f"--{name.replace('_', '-')}" in shown
    assert help_of(kind).keys() == set(names_of(kind))


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], "`model`"),
        ([DEMO_NAME], "`data`"),
        ([DEMO_NAME, "talk.jsonl"], "`output`"),
        ([DEMO_NAME, "talk.jsonl", "-o", "run", "--rank", "0"], "rank"),
        ([DEMO_NAME, "talk.jsonl", "-o", "run", "--set", "beta=1"], "dpo"),
        ([DEMO_NAME, "talk.jsonl", "-o", "run", "--set", "rnak=1"], "`rank`"),
        ([DEMO_NAME, "talk.jsonl", "-o", "run", "--set", "beta"], "--set NAME=VALUE"),
        ([DEMO_NAME, "talk.jsonl", "-o", "run", "--method", "ppo"], "ppo"),
        ([DEMO_NAME, "talk.jsonl", "-o", "run", "--trainer", "jax"], "jax"),
        ([DEMO_NAME, "talk.jsonl", "-o", "run", "--trainer", "llama.cpp", "--dora"], "dora"),
        (
            [DEMO_NAME, "talk.jsonl", "-o", "run", "--trainer", "llama.cpp", "--method", "dpo"],
            "dpo",
        ),
        (["--config", "none.yaml"], "none.yaml"),
        (["--resume", "."], "config.json"),
        (["--resume", ".", "--output", "run"], "--output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cant_be_ends_with_code_2(
    args: list[str], named: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["finetune", *args]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert named in shown.err
    assert not (tmp_path / "run").exists()


def test_a_gguf_is_no_base(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.gguf").touch()
    assert run(["finetune", "model.gguf", data, "-o", "run"]) == 4
    assert "safetensors" in capsys.readouterr().err


def test_flags_win_over_the_file(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text(
        f"model: {DEMO_NAME}\ndata: {data}\noutput: run\nn_steps: 5\npacking: no\n", "utf-8"
    )
    shown = []
    for flags in ([], ["--n-steps", "9", "--packing", "--max-length", "64"]):
        assert run(["finetune", "--config", "run.yaml", *flags, "--dry-run", "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert [each["n_steps"] for each in shown] == [5, 9]
    assert [each["packed"] is None for each in shown] == [True, False]
    assert not Path("run").exists()


def test_what_is_resumed_wins_over_the_files_output(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.yaml").write_text(f"model: {DEMO_NAME}\ndata: {data}\noutput: other\n", "utf-8")
    assert run(["finetune", "--config", "run.yaml", "--resume", "first"]) == 2
    assert "`first` is no run" in capsys.readouterr().err


def test_steps_are_plain_lines_in_a_pipe_the_first_and_the_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.training(step=0, n_steps=100) as tell:
        for step in range(1, 101):
            tell(
                Standing(
                    step=step,
                    n_steps=100,
                    loss=1.25,
                    held_out_loss=1.5,
                    tokens_per_s=1234.0,
                    eta_s=3700.0,
                )
            )
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "step 1 of 100: loss 1.250 · held out 1.500 · 1,234 tokens/s · 1 h 01 min left",
        "step 100 of 100: loss 1.250 · held out 1.500 · 1,234 tokens/s",
    ]


@pytest.mark.parity
def test_a_run_that_cant_begin_leaves_no_folder(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = Path("pairs.jsonl")
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    for words, named in (
        ((str(pairs), "--method", "dpo", "--dropout", "0.1"), "dropout"),
        ((data, "--method", "grpo", "--set", "rewards=exact:answer"), "`answer`"),
    ):
        assert run(["finetune", DEMO_NAME, *words, "-o", "run"]) == 2
        assert named in capsys.readouterr().err
        assert not Path("run").exists()


@pytest.mark.parity
def test_a_run_prints_its_report_and_how_to_load_it(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["finetune", DEMO_NAME, data, "-o", "run", "--n-steps", "2", "--max-length", "64"]
    assert run([*args, "--accumulate", "1", "--eval", "0.25"]) == 0
    shown = capsys.readouterr()
    assert "Held-out perplexity" in shown.out
    assert "qwenkit lora load run run/adapter.gguf" in shown.err
    assert "LORA_PATHS=run/adapter.gguf" in shown.err


@pytest.mark.parity
def test_a_grid_is_trained_on_and_compared(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    many = Path("many.jsonl")
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(40)]
    many.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    few = ("--n-steps", "2", "--max-length", "64", "--accumulate", "1", "--eval", str(many))
    args = ["finetune", DEMO_NAME, data, "--json", *few]
    assert run([*args, "-o", "plain"]) == 0
    capsys.readouterr()
    assert run([*args, "-o", "grid", "--qat", "q4_0", "--qat-baseline", "plain"]) == 0
    report = json.loads(capsys.readouterr().out)["qat"]["report"]
    assert [row["part"] for row in report["rows"]] == ["base", "trained", "ptq", "qat"]
    paths = [row["path"] for row in report["rows"]]  # the others are there for the comparison only
    assert paths == [None, None, None, "grid/model-q4_0.gguf"]
    assert Path("grid/model-q4_0.gguf").is_file()
    assert Path("grid/qat.png").is_file()
    assert json.loads(Path("grid/qat.json").read_text("utf-8"))["fair"] is True
    assert not list(Path("grid").glob(".compared-*"))


@pytest.mark.parity
def test_too_little_held_out_data_for_a_grid_is_told_before_training(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("short.jsonl").write_text('{"text": "Hello there!"}\n', encoding="utf-8")
    args = ["finetune", DEMO_NAME, data, "-o", "run", "--qat", "q4_0", "--eval", "short.jsonl"]
    assert run(args) == 2
    assert "takes 16" in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.parity
def test_what_learned_on_a_grid_is_served_from_it_and_measured_on_less_than_a_window(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("--n-steps", "1", "--max-length", "64", "--accumulate", "1", "--eval", "0.5")
    left = Path("run/.compared-killed")
    args = ["finetune", DEMO_NAME, data, "-o", "run", *few, "--qat", "q4_0"]
    assert run(args) == 0
    shown = capsys.readouterr()
    assert "Perplexity of held-out data" in shown.out
    assert "qwenkit serve --model run/model-q4_0.gguf" in shown.err.splitlines()
    assert "lora load" not in shown.err
    left.mkdir()
    Path("run/report.json").unlink()
    assert run(["finetune", "--resume", "run"]) == 0
    assert not left.exists()


def test_llama_cpp_trains_without_torch(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["finetune", DEMO_NAME, data, "-o", "run", "--trainer", "llama.cpp", "--json"]
    assert run([*args, "--n-steps", "2", "--max-length", "256", "--n-threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["training"]["n_steps"] == 2
    assert Path("run/adapter.gguf").is_file()
    assert json.loads(Path("run/config.json").read_text("utf-8"))["choices"]["n_steps"] == 2
    Path("run/report.json").unlink()
    assert run(["finetune", "--resume", "run", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["training"]
    assert again["records"] == report["training"]["records"]
    assert again["resumed_from"] == 2
