from __future__ import annotations

import json
import socket

import pytest
from pydantic import SecretStr

from qwenkit.cli.doctor import masked
from qwenkit.doctor import fit, machine, software

GIB = 2**30


def test_a_sound_machine_ends_with_exit_code_0_and_tells_all_as_json(qwenkit) -> None:
    done = qwenkit("doctor", "--json", PORT="0")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["problems"]) == (0, "", [])
    assert told["cpu"]["n_usable"] >= 1
    assert 0 < told["memory"]["available_bytes"] <= told["memory"]["total_bytes"]
    assert told["runtime"]["version"]
    assert [each["quant"] for each in told["fits"]] == ["Q4_K_M", "Q8_0", "F16"]


def test_secrets_are_never_shown(qwenkit) -> None:
    keys = {"API_KEYS": "sesame,open", "OPENAI_API_BASE_URL": "http://me:sesame@host/v1"}
    for args in (["doctor"], ["doctor", "--json"]):
        done = qwenkit(*args, **keys)
        assert "API_KEYS" in done.stdout
        assert "sesame" not in done.stdout + done.stderr


def test_settings_say_where_they_come_from(qwenkit) -> None:
    (qwenkit.folder / ".env").write_text("N_BATCH=64\nN_CTX=1\n", encoding="utf-8")
    told = json.loads(qwenkit("doctor", "--json", N_CTX="2").stdout)
    found = {each["name"]: (each["value"], each["source"]) for each in told["settings"]}
    assert found["N_CTX"] == ("2", "environment")
    assert found["N_BATCH"] == ("64", ".env")
    assert found["N_PARALLEL"] == ("16", "default")


def test_a_setting_that_is_wrong_is_a_problem_and_the_rest_is_still_told(qwenkit) -> None:
    done = qwenkit("doctor", "--json", N_CTX="many")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert "N_CTX" in told["problems"][0]
    assert told["problems"][0] in done.stderr
    assert told["cpu"]["n_physical"] >= 1


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not software.port_is_free("127.0.0.1", port)
    assert software.port_is_free("127.0.0.1", port)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (3, "3"),
        (SecretStr("x"), "***"),
        ((SecretStr("x"), SecretStr("y")), "***, ***"),
        ("http://a:b@c/d", "http://***@c/d"),
    ],
)
def test_a_setting_is_masked_where_it_is_secret(value: object, shown: str) -> None:
    assert masked(value) == shown


def test_extras_say_which_of_their_packages_are_missing() -> None:
    stated = [
        "typer>=0.29",
        "pytest>=9; extra == 'here'",
        "no-such-package>=1 ; extra == 'half'",
        "pytest ; extra == 'half'",
        "no-such-package ; extra == 'all'",
    ]
    found = {each.name: each for each in software.extras(stated)}
    assert set(found) == {"here", "half"}
    assert found["here"].installed
    assert found["half"].missing == ("no-such-package",)


def test_qwen3_8b_in_four_bits_needs_about_ten_gib_with_its_whole_context() -> None:
    q4, q8, f16 = fit.fits(12 * GIB)
    assert 9 * GIB < q4.total_bytes < 10 * GIB
    assert q4.fits
    assert not q8.fits
    assert 0 < q8.n_ctx_max < fit.N_CTX
    assert (f16.fits, f16.n_ctx_max) == (False, 0)


@pytest.mark.parametrize(
    ("memory_gib", "gpu_gib", "command"),
    [
        (64, 0, ":Q4_K_M"),
        (64, 24, ":Q8_0"),
        (4, 12, ":Q4_K_M"),
        (2, 0, "demo"),
    ],
)
def test_the_suggestion_is_the_best_that_fits(memory_gib: int, gpu_gib: int, command: str) -> None:
    assert command in fit.suggestion(memory_gib * GIB, gpu_gib * GIB)


def test_a_short_memory_gets_a_shorter_context() -> None:
    suggested = fit.suggestion(8 * GIB, 0)
    n_ctx = int(suggested.split("--n-ctx ")[1])
    assert 1024 <= n_ctx < fit.N_CTX
    assert n_ctx == fit.fits(8 * GIB)[0].n_ctx_max


def test_usable_cores_are_no_more_than_there_are() -> None:
    found = machine.cpu()
    assert 1 <= found.n_usable <= found.n_physical <= found.n_logical
    assert found.model


def test_a_machine_without_an_nvidia_driver_has_no_gpus() -> None:
    assert isinstance(machine.gpus(), list)
