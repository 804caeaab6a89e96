"""Looking at the machine: within a budget, and whatever cannot be looked at (3 s)."""

from __future__ import annotations

import itertools
import os
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from gguf_widgets.core.monitor import looks, machine
from gguf_widgets.core.monitor.gpus import Gpus
from gguf_widgets.core.monitor.looks import Budget, Look
from gguf_widgets.core.monitor.processes import ProcessWatch, Watched
from gguf_widgets.core.monitor.sampler import Sampler
from gguf_widgets.core.store.store import Store


def test_what_costs_much_is_looked_at_seldom() -> None:
    budget = Budget(0.01, every_s=2.0)
    assert budget.is_due(0.0)
    budget.spent(0.0, 0.001)  # 0.1 s would do, and not more often than each 2 s
    assert [budget.is_due(at) for at in (1.9, 2.0)] == [False, True]
    budget.spent(2.0, 0.5)  # once is no habit
    assert [budget.is_due(at) for at in (3.9, 4.0)] == [False, True]
    budget.spent(4.0, 0.6)
    assert [budget.is_due(at) for at in (53.9, 54.0)] == [False, True]


def test_a_look_that_fails_says_why_and_is_tried_again_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[float] = []
    works = False

    def measure(clock: float) -> int:
        tried.append(clock)
        if not works:
            raise PermissionError(13, "Permission denied")
        return 7

    monkeypatch.setattr(looks, "time", SimpleNamespace(thread_time=lambda: 0.0))
    look = Look(measure, None, "the use of the disks")
    for second in range(600):
        assert look.take(float(second)) is None
    assert look.problem.startswith("Your system does not tell the use of the disks: ")
    assert "Permission denied" in look.problem
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert gaps[0] == 1
    assert gaps == sorted(gaps)
    assert max(gaps) == 60
    works = True
    assert look.take(1000.0) == 7
    assert look.problem == ""


def test_a_psutil_that_is_denied_takes_nothing_else_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.in_memory() as store:
        sampler = Sampler(store, "test")
        sampler.point(0.0, time.perf_counter())

        def denied(*_args: Any, **_keywords: Any) -> Any:
            raise psutil.AccessDenied(os.getpid(), "test")

        for name in ("cpu_times", "virtual_memory", "disk_io_counters", "Process"):
            monkeypatch.setattr(psutil, name, denied)
        monkeypatch.setattr(psutil.Process, "is_running", denied, raising=False)
        point = sampler.point(1.0, time.perf_counter() + 100)
        missing = sampler.missing()
        for name in (
            "cpu_total_percent",
            "free_memory_bytes",
            "disk_read_bytes_per_s",
            "disk_write_bytes_per_s",
            "cpu_percent",
            "rss_bytes",
            "pss_bytes",
        ):
            assert getattr(point, name) is None, name
        for name in ("cpu_total_percent", "free_memory_bytes", "disk_read_bytes_per_s"):
            assert missing[name].startswith("Your system does not tell"), name
        assert "process" in missing["processes"]
        assert (point.num_running, point.rows_per_min) == (0, 0.0), "what is not psutil's"
        (this,) = point.processes
        assert (this.kind, this.pid, this.rss_bytes) == ("this", os.getpid(), None)

        monkeypatch.undo()
        point = sampler.point(2.0, time.perf_counter() + 200)
        assert point.rss_bytes
        assert point.free_memory_bytes
        assert not {"processes", "cpu_total_percent", "free_memory_bytes"} & set(sampler.missing())


def test_processor_time_is_what_was_used_and_a_process_that_ends_is_left_out() -> None:
    watch = ProcessWatch()
    clock = time.perf_counter
    me = Watched("this", os.getpid(), "me")
    gone = Watched("model", 2**22 + 12345, "gone")
    assert watch.look([me, gone, me], clock())[0].cpu_percent is None
    used, began = time.process_time(), clock()
    while time.process_time() - used < 0.3:
        pass
    share = 100 * (time.process_time() - used) / (clock() - began)
    (sample,) = watch.look([me, gone], clock())
    assert sample.cpu_percent == pytest.approx(share, abs=25)
    assert sample.rss_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    if sys.platform == "linux":
        assert sample.pss_bytes
        assert 0 < sample.pss_bytes <= 1.01 * sample.rss_bytes
    assert watch.problem == ""


def test_the_whole_machines_use_is_between_0_and_100_and_follows_the_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = SimpleNamespace
    counts = iter(
        [(100.0, 1000.0, 50.0), (130.0, 1060.0, 60.0), (130.0, 1060.0, 60.0), (90.0, 1.0, 0.0)]
    )

    class Times(tuple):  # as psutil's: a tuple with names
        user, idle, iowait = (property(lambda self, at=at: self[at]) for at in range(3))

    monkeypatch.setattr(machine, "psutil", times(cpu_times=lambda: Times(next(counts))))
    processors = machine.Processors()
    assert [processors.measure(0.0) for _ in range(4)] == [None, 30.0, None, None]


# -- NVIDIA cards, by a stand-in for their library -------------------------------------------------


class FakeNvml(ModuleType):
    """As much of nvidia-ml-py's module as is used, with the names that it has."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - as it is called there
        pass

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.broken = self.driver_is_there = False
        self.num_open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver_is_there:
            raise self.NVMLError("Driver Not Loaded")
        self.num_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetName(self, number: int) -> str | bytes:  # noqa: N802
        return ["Card A", b"Card B"][number]

    def nvmlDeviceGetMemoryInfo(self, number: int) -> Any:  # noqa: N802
        if self.broken:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(used=10 + number, total=100)

    def nvmlDeviceGetUtilizationRates(self, number: int) -> Any:  # noqa: N802
        if number:
            raise self.NVMLError_NotSupported("Not Supported")
        return SimpleNamespace(gpu=55, memory=3)

    def nvmlDeviceGetPowerUsage(self, _number: int) -> int:  # noqa: N802
        return 71_500


def test_cards_are_told_of_as_far_as_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    cards = Gpus()
    assert cards.measure(0.0) == ()
    assert "Driver Not Loaded" in cards.problem
    nvml.driver_is_there = True
    assert cards.measure(1.0) == (), "not every second"
    first, second = cards.measure(61.0)
    assert (first.name, first.use_percent, first.memory_used_bytes) == ("Card A", 55.0, 10)
    assert (second.name, second.use_percent, second.memory_total_bytes) == ("Card B", None, 100)
    assert first.power_w == 71.5
    assert cards.problem == ""
    nvml.broken = True
    assert cards.measure(62.0) == ()
    assert "GPU is lost" in cards.problem
    nvml.broken = False
    assert len(cards.measure(200.0)) == 2
    cards.close()
    cards.close()
    assert nvml.num_open == 0


def test_without_the_package_there_are_no_cards_and_the_words_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    cards = Gpus()
    assert cards.measure(0.0) == ()
    assert 'pip install "gguf-widgets[gpu]"' in cards.problem
