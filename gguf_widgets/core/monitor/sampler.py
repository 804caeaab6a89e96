"""One point: everything that is looked at, put together.

Promises: a point is always made, whatever cannot be looked at; what is missing and why is known
(`missing`). Each part keeps to its share of a processor core (`looks`), together well below 1%.
Leaves to others: when a point is made and who gets it (`recorder`).
"""

from __future__ import annotations

import os
from typing import Any, Final

from gguf_widgets.core.monitor import machine
from gguf_widgets.core.monitor.engines import EngineWatch
from gguf_widgets.core.monitor.gpus import Gpus
from gguf_widgets.core.monitor.looks import Look
from gguf_widgets.core.monitor.processes import ProcessWatch, Watched
from gguf_widgets.core.monitor.running import RunningRun, RunWatch
from gguf_widgets.core.monitor.values import EngineSample, GpuSample, Point, ProcessSample
from gguf_widgets.core.store.store import Store

__all__ = ["Sampler"]

# Shares of one core. A look at the models is the dearest: a connection to each, and a signature.
_MODELS_SHARE: Final = 0.003
_SHARE: Final = 0.001
_PROCESSES_SHARE: Final = 0.002


class Sampler:
    """Makes points.

    Parameters
    ----------
    store : Store
        Where batch runs are.
    name : str
        What this process calls itself.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._name = name
        self._before: float | None = None
        self._watch = ProcessWatch()
        self._cards = Gpus()
        self._watched: list[Watched] = []
        nothing: tuple[Any, ...] = ()
        self._engines: Look[tuple[EngineSample, ...]] = Look(
            EngineWatch().measure, nothing, "which models run", share=_MODELS_SHARE
        )
        self._runs: Look[tuple[RunningRun, ...]] = Look(
            RunWatch(store).measure, nothing, "which batch runs there are", share=_SHARE
        )
        self._processes: Look[tuple[ProcessSample, ...]] = Look(
            lambda clock: self._watch.look(self._watched, clock),
            nothing,
            "the processor time and memory of processes",
            share=_PROCESSES_SHARE,
        )
        self._processors: Look[float | None] = Look(
            machine.Processors().measure, None, "how busy the processors are", share=_SHARE
        )
        self._free: Look[int | None] = Look(
            machine.free, None, "how much memory is free", share=_SHARE
        )
        self._disks: Look[tuple[float | None, float | None]] = Look(
            machine.Disks().measure, (None, None), "the use of the disks", share=_SHARE
        )
        self._gpus: Look[tuple[GpuSample, ...]] = Look(
            self._cards.measure, nothing, "the use of NVIDIA cards", share=_SHARE
        )

    def point(self, at: float, clock: float) -> Point:
        """Make a point.

        Parameters
        ----------
        at : float
            The time of day, seconds since 1970, UTC.
        clock : float
            The same moment of the steady clock.
        """
        before, self._before = self._before, clock
        engines, runs = self._engines.take(clock), self._runs.take(clock)
        self._watched = self._ours(engines, runs)
        processes = self._processes.take(clock)
        read, written = self._disks.take(clock)
        speeds = [run.rows_per_s for run in runs if run.rows_per_s is not None]
        told = not self._engines.problem
        return Point(
            at=at,
            interval_s=None if before is None else clock - before,
            decode_tok_per_s=_sum(engines, "decode_tok_per_s", none=told),
            prefill_tok_per_s=_sum(engines, "prefill_tok_per_s", none=told),
            num_running=_sum(engines, "num_running", none=told),
            num_waiting=_sum(engines, "num_waiting", none=told),
            num_cells_used=_sum(engines, "num_cells_used", none=told),
            num_cells_kept=_sum(engines, "num_cells_kept", none=told),
            num_cells=_sum(engines, "num_cells", none=told),
            rows_per_min=None if self._runs.problem else 60 * sum(speeds),
            cpu_percent=_sum(processes, "cpu_percent"),
            cpu_total_percent=self._processors.take(clock),
            rss_bytes=_sum(processes, "rss_bytes"),
            pss_bytes=_sum(processes, "pss_bytes"),
            free_memory_bytes=self._free.take(clock),
            disk_read_bytes_per_s=read,
            disk_write_bytes_per_s=written,
            processes=processes,
            engines=engines,
            gpus=self._gpus.take(clock),
        )

    def missing(self) -> dict[str, str]:
        """Return which figures are not known, and why, in words."""
        problems = {
            "engines": self._engines.problem,
            "rows_per_min": self._runs.problem,
            "processes": self._processes.problem or self._watch.problem,
            "pss_bytes": self._watch.pss_problem,
            "cpu_total_percent": self._processors.problem,
            "free_memory_bytes": self._free.problem,
            "disk_read_bytes_per_s": self._disks.problem,
            "gpus": self._gpus.problem or self._cards.problem,
        }
        return {name: problem for name, problem in problems.items() if problem}

    def close(self) -> None:
        """Let go of what is held open."""
        self._cards.close()

    def _ours(
        self, engines: tuple[EngineSample, ...], runs: tuple[RunningRun, ...]
    ) -> list[Watched]:
        """Return the processes that are ours: this one, the models', and those of batch runs."""
        watched = [Watched("this", os.getpid(), self._name)]
        watched += [Watched("model", one.pid, one.model) for one in engines]
        watched += [
            Watched("batch run", run.pid, run.title or run.run_id[:8])
            for run in runs
            if run.pid is not None
        ]
        return watched


def _sum(samples: tuple[Any, ...], name: str, *, none: bool = False) -> Any:
    """Add a figure up over the samples that tell it; None if there are samples and none does.

    Where there are no samples at all it is 0 with `none`, and None without.
    """
    if not samples:
        return 0 if none else None
    values = [getattr(one, name) for one in samples]
    known = [value for value in values if value is not None]
    return sum(known) if known else None
