"""The sides' answers, as the batch runs hold them, put to the prompts that they answer.

Promises: prompts are told by the numbers of the person's table, whatever order they were asked in;
only the asked-for stretch is read. Leaves to others: the runs (`batch`), scores (`records`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from gguf_widgets.compare.sides import SideRecord
from gguf_widgets.compare.types import Answer
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Counts, Task
from gguf_widgets.core.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Answers", "answer_of"]

_FEW: Final = 500
_STRETCH: Final = 5000


class Answers:
    """The answers of all sides.

    Parameters
    ----------
    store : Store
    sides : sequence of SideRecord
        Looked at anew with each call: a side gets its run when it begins.
    order : array of int
        The prompts' numbers in the order in which they are asked.
    """

    def __init__(self, store: Store, sides: Sequence[SideRecord], order: NDArray[np.int64]) -> None:
        import numpy as np

        self._store, self._sides, self.order = store, sides, order
        self.place_of = np.argsort(order)  # of each prompt in the runs

    def tasks(self, side: int) -> RunTasks | None:
        """Return a side's tasks; None if it has not begun, or its run was removed."""
        run_id = self._sides[side].run_id
        if run_id is None:
            return None
        try:
            return RunTasks(self._store, run_id)
        except InvalidValueError:
            return None

    def counts(self, side: int) -> Counts | None:
        """Return how many prompts of a side stand where; None before it has begun."""
        tasks = self.tasks(side)
        return None if tasks is None else tasks.counts()

    def changes(self) -> int:
        """Return a number that grows whenever an answer of any side changes."""
        total = 0
        with self._store.reading() as connection:
            for side in self._sides:
                if side.run_id is not None:
                    row = connection.execute(
                        "SELECT changes FROM batch_run WHERE id = ?", (side.run_id,)
                    ).fetchone()
                    total += row[0] if row is not None else 0
        return total

    def of_prompts(self, side: int, prompts: Sequence[int]) -> dict[int, Answer]:
        """Return what a side answered to some prompts; those that wait are left out."""
        tasks = self.tasks(side)
        if tasks is None or not len(prompts):
            return {}
        places = {int(self.place_of[number]): int(number) for number in prompts}
        found: Iterable[tuple[int, Task]]
        if len(places) == max(places) - min(places) + 1 or len(places) > _FEW:
            found = self._between(tasks, min(places), max(places) + 1)
        else:
            found = [one for place in places for one in tasks.tasks(place, place + 1).items()]
        return {places[place]: answer_of(task) for place, task in found if place in places}

    def ended(self, side: int, start: int, stop: int) -> dict[int, Answer]:
        """Return what has ended of the runs' rows `start` to `stop`, by the prompts' numbers."""
        tasks = self.tasks(side)
        if tasks is None:
            return {}
        return {
            int(self.order[place]): answer_of(task)
            for place, task in self._between(tasks, start, stop)
        }

    def _between(self, tasks: RunTasks, start: int, stop: int) -> Iterable[tuple[int, Task]]:
        for first in range(start, stop, _STRETCH):
            yield from tasks.tasks(first, min(first + _STRETCH, stop)).items()

    def forget_runs(self, runs: BatchRuns) -> None:
        """Let sides whose runs were removed begin anew."""
        for side in self._sides:
            if side.run_id is not None:
                try:
                    runs.get(side.run_id)
                except InvalidValueError:
                    side.run_id = None


def answer_of(task: Task) -> Answer:
    """Return what came of a task as an answer, without scores."""
    outcome = task.outcome
    usage, timings = outcome.usage, outcome.timings
    total_s = None
    if timings is not None:
        total_s = max(0.0, timings.total_s - timings.queue_s)
    return Answer(
        status=outcome.status.value,
        text=outcome.text,
        error=outcome.error["message"] if outcome.error else None,
        finish_reason=outcome.finish_reason.value if outcome.finish_reason else None,
        num_prompt_tokens=usage.num_prompt_tokens if usage else None,
        num_completion_tokens=usage.num_completion_tokens if usage else None,
        total_s=total_s,
        ttft_s=timings.ttft_s if timings else None,
        decode_tok_per_s=timings.decode_tok_per_s if timings else None,
        seed=outcome.seed,
    )


def with_scores(
    answer: Answer, scores: dict[str, float | None], why: dict[str, dict[str, object]]
) -> Answer:
    """Return an answer with its scores."""
    return msgspec.structs.replace(answer, scores=scores, why=why)
