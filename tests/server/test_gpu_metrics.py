"""GPUs on `/metrics`, by a stand-in for the functions of NVIDIA's library that are asked."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.anyio


class Driver(ModuleType):
    """What `pynvml` says of some GPUs; functions named in `refused` raise as a driver does."""

    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        """NVML's own."""

    def __init__(self, n_gpus=1, refused=()):
        super().__init__("pynvml")
        self.n_gpus = n_gpus
        self.refused = set(refused)
        self.n_started = 0

    def __getattribute__(self, name):
        if name.startswith("nvml") and name in self.refused:
            return self._refuse
        return super().__getattribute__(name)

    def _refuse(self, *_):
        raise self.NVMLError("Not Supported")

    def nvmlInit(self):  # noqa: N802 - NVML's names
        self.n_started += 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return self.n_gpus

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, gpu):  # noqa: N802
        return f"GPU-{gpu}"

    def nvmlDeviceGetName(self, gpu):  # noqa: N802
        return b"NVIDIA H100"

    def nvmlDeviceGetUtilizationRates(self, gpu):  # noqa: N802
        return SimpleNamespace(gpu=75, memory=20)

    def nvmlDeviceGetMemoryInfo(self, gpu):  # noqa: N802
        return SimpleNamespace(used=60 * 2**30, total=80 * 2**30)

    def nvmlDeviceGetPowerUsage(self, gpu):  # noqa: N802
        return 350_500

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu):  # noqa: N802
        return 700_000

    def nvmlDeviceGetTemperature(self, gpu, sensor):  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        return 61

    def nvmlDeviceGetClockInfo(self, gpu, clock):  # noqa: N802
        assert clock == self.NVML_CLOCK_SM
        return 1980


@pytest.fixture
def driver(monkeypatch):
    def install(**options):
        made = Driver(**options)
        monkeypatch.setitem(sys.modules, "pynvml", made)
        return made

    return install


async def gpus(client):
    """What is said of GPUs, by name and index."""
    reply = await client.get("/metrics")
    assert reply.status_code == 200
    return {
        (sample.name.removeprefix("qwenkit_"), sample.labels.get("gpu")): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
        if sample.name.startswith("qwenkit_gpu")
    }


async def test_every_gpu_is_measured_in_base_units(driver, client):
    driver(n_gpus=2)
    seen = await gpus(client)
    assert seen["gpus", None] == 2
    for index in ("0", "1"):
        assert {name: n for (name, gpu), n in seen.items() if gpu == index} == {
            "gpu_utilization_ratio": 0.75,
            "gpu_memory_utilization_ratio": 0.2,
            "gpu_memory_used_bytes": 60 * 2**30,
            "gpu_memory_total_bytes": 80 * 2**30,
            "gpu_power_watts": 350.5,
            "gpu_power_limit_watts": 700,
            "gpu_temperature_celsius": 61,
            "gpu_sm_clock_hertz": 1.98e9,
        }


async def test_gpus_are_read_anew_and_the_driver_is_started_once(driver, client):
    made = driver()
    await gpus(client)
    made.nvmlDeviceGetTemperature = lambda gpu, sensor: 90
    assert (await gpus(client))["gpu_temperature_celsius", "0"] == 90
    assert made.n_started == 1


async def test_a_machine_without_a_driver_has_no_gpus_and_is_not_asked_again(driver, client):
    made = driver(refused=["nvmlInit"])
    assert await gpus(client) == {("gpus", None): 0}
    made.refused.clear()
    assert await gpus(client) == {("gpus", None): 0}
    assert made.n_started == 0


async def test_what_a_card_can_not_tell_is_left_out(driver, client):
    driver(refused=["nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage"])
    seen = await gpus(client)
    assert ("gpu_utilization_ratio", "0") not in seen
    assert ("gpu_power_watts", "0") not in seen
    assert seen["gpu_temperature_celsius", "0"] == 61


async def test_a_gpu_that_is_lost_is_counted_as_one_less_and_fails_nothing(driver, client):
    made = driver(n_gpus=2)
    await gpus(client)
    handle = made.nvmlDeviceGetHandleByIndex

    def lost(index):
        return handle(index) if index == 0 else made._refuse()

    made.nvmlDeviceGetHandleByIndex = lost
    seen = await gpus(client)
    assert seen["gpus", None] == 1
    assert ("gpu_temperature_celsius", "1") not in seen


async def test_a_driver_that_tells_no_count_any_more_has_none(driver, client):
    made = driver()
    await gpus(client)
    made.refused.add("nvmlDeviceGetCount")
    assert await gpus(client) == {("gpus", None): 0}
