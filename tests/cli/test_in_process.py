"""The demo model through the whole command line, without a server."""

from __future__ import annotations

import json


def test_without_a_server_the_demo_model_answers_in_this_process(qwenkit) -> None:
    done = qwenkit("chat", "--json", "--no-think", "--seed", "1", "hello", QWENKIT_HOME="home")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["answer"]
    assert told["reasoning"] is None
    assert told["usage"]["completion_tokens"] > 0


def test_a_prompt_over_the_context_is_one_sentence_with_both_numbers(qwenkit) -> None:
    done = qwenkit("chat", "--n-ctx", "256", "-", piped="word " * 2000, QWENKIT_HOME="home")
    assert done.returncode == 2
    assert "256" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_ends_with_exit_code_4(qwenkit) -> None:
    done = qwenkit("chat", "--model", "./nothing.gguf", "hello")
    assert (done.returncode, done.stdout) == (4, "")
    assert "nothing.gguf" in done.stderr


def test_bench_measures_the_engine_in_this_process(qwenkit) -> None:
    done = qwenkit(
        "bench", "--json", "--rounds", "1", "--max-tokens", "8", "--concurrency", "2",
        QWENKIT_HOME="home",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["targets"][0]["median"]["output_tokens_per_s"] > 0
