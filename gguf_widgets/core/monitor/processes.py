"""Processor time and memory of our own processes.

Promises: a process that ends, or that may not be looked at, has unknown figures and disturbs none
of the others; a number that the system gave to another process meanwhile is not taken for the old
one. The proportional share of the memory (PSS), which costs the system much to tell, is asked for
as seldom as its budget says. Leaves to others: which processes (`sampler`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

import psutil

from gguf_widgets.core.monitor.looks import Budget
from gguf_widgets.core.monitor.values import ProcessSample

__all__ = ["ProcessWatch", "Watched"]

_PSS_SHARE: Final = 0.001
_PSS_EVERY_S: Final = 5.0


class Watched(NamedTuple):
    """A process to look at: what it is to us ("this", "model", "batch run"), number and name."""

    kind: str
    pid: int
    name: str


class _Known:
    """What is known of one process from earlier looks."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.before: tuple[float, float] | None = None  # the clock, and its processor time
        self.pss_bytes: int | None = None
        self.pss_budget = Budget(_PSS_SHARE, _PSS_EVERY_S)


class ProcessWatch:
    """Looks at processes again and again.

    Attributes
    ----------
    problem, pss_problem : str
        Why figures are missing: a sentence; "" if none is.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self.problem = self.pss_problem = ""

    def look(self, watched: Iterable[Watched], clock: float) -> tuple[ProcessSample, ...]:
        """Return a sample of each; one that is gone is left out."""
        self.problem = ""
        samples, seen = [], set()
        for one in watched:
            if one.pid in seen:
                continue
            seen.add(one.pid)
            sample = self._sample(one, clock)
            if sample is not None:
                samples.append(sample)
        for pid in self._known.keys() - seen:
            del self._known[pid]
        return tuple(samples)

    def _sample(self, one: Watched, clock: float) -> ProcessSample | None:
        try:
            known = self._known.get(one.pid)
            if known is None or not known.process.is_running():
                known = self._known[one.pid] = _Known(psutil.Process(one.pid))
            with known.process.oneshot():
                times = known.process.cpu_times()
                rss = int(known.process.memory_info().rss)
        except psutil.NoSuchProcess:
            self._known.pop(one.pid, None)
            return None
        except (psutil.Error, OSError) as error:
            self._known.pop(one.pid, None)
            self.problem = (
                f"Your system does not tell the processor time and memory of process {one.pid} "
                f"({one.name}): {str(error) or type(error).__name__}."
            )
            return ProcessSample(kind=one.kind, pid=one.pid, name=one.name)
        used = times.user + times.system
        before, known.before = known.before, (clock, used)
        percent = None
        if before is not None and clock > before[0]:
            percent = max(0.0, 100.0 * (used - before[1]) / (clock - before[0]))
        return ProcessSample(
            kind=one.kind,
            pid=one.pid,
            name=one.name,
            cpu_percent=percent,
            rss_bytes=rss,
            pss_bytes=self._pss(known, clock),
        )

    def _pss(self, known: _Known, clock: float) -> int | None:
        if not known.pss_budget.is_due(clock):
            return known.pss_bytes
        began = time.thread_time()
        try:
            known.pss_bytes = getattr(known.process.memory_full_info(), "pss", None)
            self.pss_problem = ""
            if known.pss_bytes is None:
                self.pss_problem = "This system does not tell the share (PSS) of shared memory."
        except (psutil.Error, OSError) as error:
            known.pss_bytes = None
            self.pss_problem = (
                f"Your system does not tell the share (PSS) of shared memory: "
                f"{str(error) or type(error).__name__}."
            )
        known.pss_budget.spent(clock, time.thread_time() - began)
        return known.pss_bytes
