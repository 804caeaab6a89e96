"""Tries a run before it begins: looks at its rows, and really asks a few to tell the time.

Promises: what is asked is kept as a part of the run; an interrupt ends it within seconds and loses
nothing; afterwards the run can begin, or go on, as before. Leaves to others: looking (`preflight`),
asking (`runner`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gguf_widgets.batch.preflight import Preflight, look, time_for
from gguf_widgets.batch.runner import Runner
from gguf_widgets.batch.work import Only, Work
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_types import Outcome, RunStatus
from gguf_widgets.core.store.store import Store

__all__ = ["try_out"]

_SLICE_S: Final = 0.2
_STOP_S: Final = 30.0


def try_out(
    run_id: str,
    store: Store,
    work: Work,
    *,
    rounds: int,
    on_ended: Callable[[Sequence[Outcome]], None],
) -> Preflight:
    """Return what a run will be like.

    Parameters
    ----------
    run_id : str
    store : Store
    work : Work
    rounds : int
        How often so many rows are asked as the model computes side by side; 0 asks none.
    on_ended : callable
        Called with what came of the rows that were asked.
    """
    runs = BatchRuns(store)
    run = runs.get(run_id)
    shape = run.shape
    model = work.model(0)
    found, drawn = look(
        model,
        iter(work.questions(0)),
        num_rows=shape.num_rows,
        num_tasks=shape.num_tasks,
    )
    at_once = model.settings.n_seq_max or 1
    times: list[float] = []
    is_asked = rounds > 0 and len(drawn) >= at_once
    try:
        for i in range(rounds):
            some = drawn[i * at_once : (i + 1) * at_once]
            if len(some) < at_once:
                break
            begin = time.perf_counter()
            _ask(Runner(run_id, store, Only(work, model, some), on_ended=on_ended))
            times.append(time.perf_counter() - begin)
    finally:
        if is_asked:
            is_new = run.status is RunStatus.READY
            runs.set_status(run_id, RunStatus.READY if is_new else RunStatus.STOPPED)
    if not times:
        return found
    num_left = max(0, found.num_asked - at_once * len(times)) * max(1, shape.num_models)
    return msgspec.structs.replace(
        found,
        seconds=time_for(num_left, at_once, times),
        num_sampled=at_once * len(times),
    )


def _ask(runner: Runner) -> None:
    """Carry these questions out; an interrupt gives up those that the model is at."""
    runner.start()
    try:
        while not runner.ended.wait(_SLICE_S):
            pass
    except BaseException:
        runner.stop()
        runner.ended.wait(_STOP_S)
        raise
    if runner.error is not None:
        raise runner.error
