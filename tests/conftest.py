"""What every test may use."""

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: neither a slow example nor slow drawing is a fault.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape the lone surrogates that some tests log: a report travels between processes."""
    report = yield
    report.sections = [(name, _encodable(text)) for name, text in report.sections]
    return report


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
