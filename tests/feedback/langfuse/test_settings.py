from __future__ import annotations

from typing import Any

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.settings import LANGFUSE_CLOUD, Settings

KEYS = "pk-lf-1:sk-lf-2"


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def test_one_key_holds_both() -> None:
    spec = settings(langfuse_api_key=KEYS).langfuse_spec()
    assert spec is not None
    assert (spec.public_key, spec.secret_key) == ("pk-lf-1", "sk-lf-2")
    assert spec.base_url == LANGFUSE_CLOUD


def test_the_former_name_of_the_address_is_read_and_the_new_one_wins() -> None:
    old = settings(langfuse_api_key=KEYS, langfuse_host="http://old:3000/").langfuse_spec()
    both = settings(
        langfuse_api_key=KEYS, langfuse_host="http://old", langfuse_base_url="http://new"
    ).langfuse_spec()
    assert old is not None
    assert both is not None
    assert (old.base_url, both.base_url) == ("http://old:3000", "http://new")


def test_the_environment_is_read_under_the_names_that_langfuse_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
        "LANGFUSE_SECRET_KEY": "sk-lf-2",
        "LANGFUSE_HOST": "http://langfuse:3000",
        "LANGFUSE_TRACING_ENVIRONMENT": "production",
        "LANGFUSE_RELEASE": "v7",
        "LANGFUSE_FLUSH_AT": "9",
        "LANGFUSE_FLUSH_INTERVAL": "0.5",
        "LANGFUSE_TIMEOUT": "3",
    }.items():
        monkeypatch.setenv(name, value)
    spec = settings().langfuse_spec()
    assert spec is not None
    assert (spec.base_url, spec.environment, spec.release) == (
        "http://langfuse:3000",
        "production",
        "v7",
    )
    assert (spec.flush_at, spec.flush_interval_s, spec.timeout_s) == (9, 0.5, 3.0)


def test_without_keys_or_turned_off_there_is_no_langfuse() -> None:
    assert settings().langfuse_spec() is None
    assert settings(langfuse_api_key=KEYS, langfuse_tracing_enabled=False).langfuse_spec() is None


@pytest.mark.parametrize(
    "given",
    [
        {"langfuse_api_key": "sk-lf-2"},
        {"langfuse_api_key": ":sk-lf-2"},
        {"langfuse_api_key": "pk-lf-1:"},
        {"langfuse_secret_key": "sk-lf-2"},
        {"langfuse_public_key": "pk-lf-1"},
        {"langfuse_api_key": "pk-lf-…:sk-lf-…"},
        {"langfuse_api_key": KEYS, "langfuse_tracing_environment": "Production"},
        {"langfuse_api_key": KEYS, "langfuse_tracing_environment": "langfuse-x"},
        {"langfuse_api_key": KEYS, "langfuse_base_url": "langfuse:3000"},
        {"langfuse_api_key": KEYS, "langfuse_base_url": "https://pk:sk-lf-2@langfuse"},
    ],
)
def test_settings_that_make_no_sense_are_refused_without_their_keys(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings) as refused:
        settings(**given).langfuse_spec()
    assert "sk-lf" not in f"{refused.value.message} {refused.value.hint}"


def test_keys_are_hidden_wherever_settings_are_shown() -> None:
    given = settings(langfuse_api_key=KEYS, langfuse_secret_key="sk-lf-2")
    assert "sk-lf" not in repr(given)
    assert "sk-lf" not in repr(given.langfuse_spec())
