"""The process and the memory of the machine it runs on. Asks psutil when Prometheus asks.

The names are those that Prometheus' client libraries give the same things. Its own collector for
Python reads Linux' /proc only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qwenkit.backends.llamacpp.sizing import available_memory


class ProcessState(Collector):
    """Measures of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def describe(self) -> Iterable[Metric]:
        """The measures, for the registry."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The measures."""
        gauge = GaugeMetricFamily
        with self._process.oneshot():
            times = self._process.cpu_times()
            held = self._process.memory_info()
            started_at, n_threads = self._process.create_time(), self._process.num_threads()
        text = "Processor time spent, by user and system together."
        yield CounterMetricFamily("process_cpu_seconds", text, times.user + times.system)
        text = "Resident memory; mapped weights count as far as they are in memory."
        yield gauge("process_resident_memory_bytes", text, held.rss)
        yield gauge("process_virtual_memory_bytes", "Virtual memory.", held.vms)
        text = "When the process started, in seconds since 1970."
        yield gauge("process_start_time_seconds", text, started_at)
        yield gauge("process_threads", "Threads of the process.", n_threads)
        if sys.platform != "win32":
            yield from self._files()
        text = "Memory that can still be had, under the container's limit where there is one."
        yield gauge("qwenkit_memory_available_bytes", text, available_memory())
        text = "Memory of the machine."
        yield gauge("qwenkit_memory_total_bytes", text, psutil.virtual_memory().total)

    def _files(self) -> Iterable[Metric]:
        import resource

        text = "Open file descriptors."
        yield GaugeMetricFamily("process_open_fds", text, self._process.num_fds())
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield GaugeMetricFamily("process_max_fds", "Most that may be open.", most)
