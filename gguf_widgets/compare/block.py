"""A stretch of one side's run, so that sides can take turns; a plan for `batch.runner`.

Promises: all rows up to one of them are asked, and none behind it. Leaves to others: whose turn it
is (`carrying`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from gguf_widgets.batch.places import LocalPlaces, Places
from gguf_widgets.batch.question import Known, Question
from gguf_widgets.batch.questions import questions
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.table_rows import decoded
from gguf_widgets.compare.records import Records
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, TaskStatus

__all__ = ["Block", "count_tokens"]


class Block:
    """The rows of a run up to one of them; a `batch.runner.Plan`."""

    def __init__(self, records: Records, run: BatchRun, model: Model, stop: int) -> None:
        self._tasks = RunTasks(records.store, run.id)
        record = BatchRuns(records.store).get(run.id)
        self._shape = msgspec.structs.replace(record.shape, num_rows=stop)
        self._names = [str(decoded(c["name"])) for c in record.columns if not c.get("index")]
        self._spec: Spec = run.spec
        self._model = model

    def num_models(self) -> int:
        """Return how many models there are."""
        return 1

    def is_done(self, number: int) -> bool:  # noqa: ARG002
        """Say whether all rows of the block have ended."""
        num = sum(1 for one in self._tasks.ended() if one < self._shape.num_rows)
        return num >= self._shape.num_rows

    def places(
        self,
        number: int,  # noqa: ARG002
        on_change: Callable[[], object],  # noqa: ARG002
        is_stopped: Callable[[], bool],  # noqa: ARG002
    ) -> Places:
        """Return the place of the side's model."""
        return LocalPlaces(self._model)

    def questions(self, number: int) -> Iterable[Question | Known]:
        """Return what has not ended up to the block's last row."""
        return questions(self._spec, self._tasks, self._shape, self._names, number)


def count_tokens(counted: list[int], ended: Sequence[Outcome]) -> None:
    """Add to a list how many tokens the model wrote for each of these."""
    counted += map(_computed_tokens, ended)


def _computed_tokens(outcome: Outcome) -> int:
    """Return how many tokens the model wrote for it; none where it was known already."""
    is_computed = outcome.status is not TaskStatus.SKIPPED and outcome.timings is not None
    return outcome.usage.num_completion_tokens if is_computed and outcome.usage else 0
