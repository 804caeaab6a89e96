"""What the schedulers of all models of yours on this machine do, whichever program uses them.

Promises: looking makes no client of us and keeps no model loaded; a model's process that does not
answer holds nothing up, and is asked again later and later; speeds are what the engine's own counts
grew by, and never negative when a process was started again. Leaves to others: finding the
processes (`worker.registry`), the asking (`worker.peek`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from gguf_widgets.core.errors import ProtocolError
from gguf_widgets.core.monitor.values import EngineSample
from gguf_widgets.core.types import EngineStats
from gguf_widgets.core.worker import peek, registry
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.workers import model_name

__all__ = ["EngineWatch"]

# They answer in a millisecond or two, also while they compute.
_ANSWER_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_NOTHING: Final = EngineStats(num_running=0, num_waiting=0, num_cells_used=0, num_cells=0)


class _Before(NamedTuple):
    """What a process counted at the look before."""

    clock: float
    engine: EngineStats


class EngineWatch:
    """Looks at the processes that run models."""

    def __init__(self) -> None:
        self._before: dict[str, _Before] = {}
        self._deaf: dict[str, tuple[float, float, EngineSample]] = {}  # not before, pause, last
        self._last_clock: float | None = None

    def measure(self, clock: float) -> tuple[EngineSample, ...]:
        """Return a sample of each process that runs a model."""
        entries = registry.list_processes()
        names = {entry.name for entry in entries}
        for kept in (self._before, self._deaf):
            for name in kept.keys() - names:
                del kept[name]
        found = tuple(self._sample(entry, clock) for entry in entries)
        self._last_clock = clock
        return found

    def _sample(self, entry: Entry, clock: float) -> EngineSample:
        known = EngineSample(
            worker=entry.name,
            model=model_name(entry.model_path),
            pid=entry.pid,
            state="leaving" if entry.leaving else "lost",
        )
        if entry.leaving:
            return known
        deaf = self._deaf.get(entry.name)
        if deaf is not None and clock < deaf[0]:
            return deaf[2]
        try:
            status = peek.look(entry, _ANSWER_S)
        except TimeoutError:
            return self._is_deaf(known, "stuck", clock)
        except ProtocolError:
            return self._is_deaf(known, "other version", clock)
        except OSError:
            return self._is_deaf(known, "lost", clock)
        self._deaf.pop(entry.name, None)
        sample = msgspec.structs.replace(known, state=status.state)
        if status.engine is None:
            return sample
        return self._with_figures(sample, status.engine, clock, status.uptime_s)

    def _is_deaf(self, known: EngineSample, state: str, clock: float) -> EngineSample:
        deaf = self._deaf.get(known.worker)
        pause = 2.0 if deaf is None else min(_LONGEST_PAUSE_S, 2 * deaf[1])
        sample = msgspec.structs.replace(known, state=state)
        self._deaf[known.worker] = (clock + pause, pause, sample)
        self._before.pop(known.worker, None)
        return sample

    def _with_figures(
        self, sample: EngineSample, engine: EngineStats, clock: float, uptime_s: float
    ) -> EngineSample:
        before = self._before.get(sample.worker)
        last = self._last_clock
        if before is None and last is not None and uptime_s < clock - last:
            before = _Before(last, _NOTHING)  # it began since, and so did its counts
        self._before[sample.worker] = _Before(clock, engine)
        sample = msgspec.structs.replace(
            sample,
            num_running=engine.num_running,
            num_waiting=engine.num_waiting,
            num_cells_used=engine.num_cells_used,
            num_cells_kept=engine.num_cells_kept,
            num_cells=engine.num_cells,
        )
        if before is None:
            return sample
        passed = clock - before.clock
        if passed <= 0:
            return sample

        def grown(name: str) -> int:
            return max(0, int(getattr(engine, name)) - int(getattr(before.engine, name)))

        return msgspec.structs.replace(
            sample,
            num_preemptions=grown("num_preemptions"),
            decode_tok_per_s=grown("total_completion_tokens") / passed,
            prefill_tok_per_s=grown("total_prompt_tokens") / passed,
            cached_tok_per_s=grown("total_cached_tokens") / passed,
        )
