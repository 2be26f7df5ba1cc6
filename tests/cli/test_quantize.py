"""`qwenkit quantize`, as a shell sees it, on the demo model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwenkit.cli.app import run
from qwenkit.models.demo import DEMO_NAME
from qwenkit.models.gguf_header import read_header

QUICK = ["--threads", "1", "--ctx", "128", "--windows", "1"]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_the_list_names_types_bits_and_those_that_want_importance(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["quantize", "--list"]) == 0
    shown = capsys.readouterr().out
    assert "Q4_K_M" in shown
    assert "4.90" in shown
    assert run(["quantize", "--list", "--json"]) == 0
    types = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert types["IQ2_XXS"]["needs_imatrix"]
    assert not types["Q8_0"]["needs_imatrix"]


def test_two_types_make_two_files_and_one_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quantize", DEMO_NAME, "q8_0", "Q4_K_M", "-o", "out", *QUICK]) == 0
    shown = capsys.readouterr()
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"{DEMO_NAME}-Q4_K_M.gguf",
        f"{DEMO_NAME}-Q8_0.gguf",
    ]
    assert "source, F16" in shown.out
    assert "KL mean" in shown.out
    assert f"MODEL_PATH=out/{DEMO_NAME}-Q8_0.gguf" in shown.err


def test_json_has_models_and_qualities(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--tensor", r"attn_v\.weight=q8_0", "--token-embedding-type", "f16", "--pure"]
    assert run(["quantize", DEMO_NAME, "Q4_0", "-o", "a.gguf", "--json", *flags, *QUICK]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["models"][0]["type"] == "Q4_0"
    assert [each["label"] for each in made["qualities"]] == ["source, F16", "Q4_0"]
    assert made["qualities"][1]["divergence"]["mean"] > 0
    types = {tensor.name: tensor.type.name for tensor in read_header(Path("a.gguf")).tensors}
    assert types["blk.0.attn_v.weight"] == "Q8_0"
    assert types["token_embd.weight"] == "F16"
    assert types["output.weight"] == "Q4_0"


def test_no_report_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quantize", DEMO_NAME, "Q8_0", "-o", "a.gguf", "--no-report"]) == 0
    assert "KL" not in capsys.readouterr().out


@pytest.mark.parity
def test_the_report_can_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quantize", DEMO_NAME, "Q8_0", "--plot", "a.png", *QUICK]) == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--list"),
        ([DEMO_NAME], "--list"),
        ([DEMO_NAME, "Q9"], "Q9"),
        ([DEMO_NAME, "IQ2_XXS"], "--imatrix"),
        ([DEMO_NAME, "Q8_0", "Q4_0", "-o", "a.gguf"], "-o a"),
        ([DEMO_NAME, "Q8_0", "--tensor", "attn_v"], "attn_v"),
        ([DEMO_NAME, "Q8_0", "--plot", "a.png", "--no-report"], "--no-report"),
        ([DEMO_NAME, "Q8_0", "--text", "none.txt"], "none.txt"),
        ([DEMO_NAME, "Q8_0", "--text", "a.txt", "--no-report"], "--no-report"),
        ([DEMO_NAME, "Q8_0", "--plot", "."], "folder"),
        ([DEMO_NAME, "Q8_0", "-o", "a.gguf", "--imatrix", "a", "--save-imatrix", "a.gguf"], "two"),
        ([DEMO_NAME, "Q8_0", "--ctx", "4"], "16"),
        ([DEMO_NAME, "Q8_0", "--threads", "100000"], "1024"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cant_be_ends_with_code_2(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quantize", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert named in shown.err
    assert not list(Path().glob("*.gguf"))


def test_files_that_are_there_take_force(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.gguf").write_bytes(b"mine")
    assert run(["quantize", DEMO_NAME, "Q8_0", "-o", "a.gguf", "--no-report"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("a.gguf").read_bytes() == b"mine"
    assert run(["quantize", DEMO_NAME, "Q8_0", "-o", "a.gguf", "--no-report", "--force"]) == 0
    assert read_header(Path("a.gguf")).size_bytes > 4


def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    # What runs the tests in the background may have the signal ignored, for all that it starts.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from qwenkit.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    # Its code book alone takes seconds.
    arguments = ["quantize", DEMO_NAME, "IQ2_XS", "--imatrix", "builtin", "-o", "out"]
    arguments += ["--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Quantising"):
                process.send_signal(signal.SIGINT)
                break
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert [path.name for path in (tmp_path / "out").glob("*")] == []
