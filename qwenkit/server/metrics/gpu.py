"""NVIDIA GPUs, as their driver tells of them (NVML). Without a driver there is nothing to tell.

What a card can't tell, and what its driver refuses, is left out; nothing here ever fails a scrape.
Reading takes milliseconds, or seconds where a card hangs, so it is done on a thread: `refresh`
reads, `collect` tells what was read last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MEASURES = {
    "qwenkit_gpu_utilization_ratio": "Share of the time in which the GPU computed.",
    "qwenkit_gpu_memory_utilization_ratio": "Share of the time in which its memory was read.",
    "qwenkit_gpu_memory_used_bytes": "Memory of the GPU in use, by whomever.",
    "qwenkit_gpu_memory_total_bytes": "Memory of the GPU.",
    "qwenkit_gpu_power_watts": "Power that the GPU draws.",
    "qwenkit_gpu_power_limit_watts": "Most that it may draw.",
    "qwenkit_gpu_temperature_celsius": "Temperature of the GPU.",
    "qwenkit_gpu_sm_clock_hertz": "Clock of its processors.",
}
"""What is told of each GPU."""
LABELS = ("gpu", "uuid", "name")


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment.

    Args:
        labels: Its index, its UUID and its name.
        values: By the names of `MEASURES`; those that it could tell.
    """

    labels: tuple[str, str, str]
    values: dict[str, float] = field(default_factory=dict)


class GpuState(Collector):
    """Measures of the GPUs."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._asked = False
        self._readings: list[GpuReading] = []
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the GPUs; at once where there is no driver."""
        if self._asked and self._nvml is None:
            return
        async with self._turn:
            self._readings = await asyncio.to_thread(self._read)

    def describe(self) -> Iterable[Metric]:
        """The measures without values, for the registry."""
        return _measures([])

    def collect(self) -> Iterable[Metric]:
        """The measures."""
        return _measures(self._readings)

    def _read(self) -> list[GpuReading]:
        if not self._asked:
            self._asked = True
            self._nvml = _open()
        nvml = self._nvml
        if nvml is None:
            return []
        n_gpus = _told(nvml, nvml.nvmlDeviceGetCount) or 0
        found = (_reading(nvml, index) for index in range(n_gpus))
        return [each for each in found if each is not None]


def _open() -> Any:
    """The driver's library, started; None where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _reading(nvml: Any, index: int) -> GpuReading | None:
    handle = _told(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return None
    uuid = _text(_told(nvml, nvml.nvmlDeviceGetUUID, handle))
    name = _text(_told(nvml, nvml.nvmlDeviceGetName, handle))
    return GpuReading((str(index), uuid, name), dict(_values(nvml, handle)))


def _values(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    busy = _told(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    if busy is not None:
        yield "qwenkit_gpu_utilization_ratio", busy.gpu / 100
        yield "qwenkit_gpu_memory_utilization_ratio", busy.memory / 100
    held = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    if held is not None:
        yield "qwenkit_gpu_memory_used_bytes", held.used
        yield "qwenkit_gpu_memory_total_bytes", held.total
    milliwatts = _told(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    if milliwatts is not None:
        yield "qwenkit_gpu_power_watts", milliwatts / 1000
    milliwatts = _told(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    if milliwatts is not None:
        yield "qwenkit_gpu_power_limit_watts", milliwatts / 1000
    degrees = _told(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    if degrees is not None:
        yield "qwenkit_gpu_temperature_celsius", degrees
    megahertz = _told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
    if megahertz is not None:
        yield "qwenkit_gpu_sm_clock_hertz", megahertz * 1e6


def _told(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    """What the driver says; None where it can't."""
    try:
        return ask(*arguments)
    except nvml.NVMLError:
        return None


def _text(said: str | bytes | None) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said or ""


def _measures(readings: list[GpuReading]) -> Iterable[Metric]:
    yield GaugeMetricFamily("qwenkit_gpus", "NVIDIA GPUs that the driver tells of.", len(readings))
    for name, text in MEASURES.items():
        measure = GaugeMetricFamily(name, text, labels=LABELS)
        for each in readings:
            if name in each.values:
                measure.add_metric(each.labels, each.values[name])
        yield measure
