"""What every test may use."""

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: neither a slow example nor slow drawing is a fault.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
