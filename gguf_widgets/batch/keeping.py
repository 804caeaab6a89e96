"""What has ended and is not in the store yet.

Promises: nothing that has ended is lost while the store cannot be written to, and it is told of
only after it has been; what is in the store is counted without asking it. Leaves to others: how
long to wait for a store (`runner`), the store itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Counts, Outcome, TaskStatus

__all__ = ["Keeping"]

_PASSES: Final = ("full", "locked", "disk")  # what a person, or time, can put right


class Keeping:
    """Outcomes on their way into the store.

    Parameters
    ----------
    tasks : RunTasks
    on_ended : callable
        Called with outcomes that are in the store now.

    Attributes
    ----------
    waiting : list of (Outcome, str)
        What is to be saved, each with its key.
    counts : Counts
    """

    def __init__(self, tasks: RunTasks, on_ended: Callable[[Sequence[Outcome]], None]) -> None:
        self._tasks, self._on_ended = tasks, on_ended
        self.waiting: list[tuple[Outcome, str]] = []
        self.counts: Counts = tasks.counts()

    def add(self, ended: Iterable[tuple[Outcome, str]]) -> None:
        """Have these saved the next time."""
        self.waiting += ended

    def save(self, *, may_wait: bool) -> StoreError | None:
        """Put into the store what waits, all or none; return why that has to be tried again.

        Raises
        ------
        StoreError
            It cannot be put right by waiting, or must not be waited for.
        """
        if not self.waiting:
            return None
        try:
            self._tasks.save(self.waiting)
        except StoreError as error:
            if not may_wait or error.details.get("reason") not in _PASSES:
                raise
            return error
        saved, self.waiting = [outcome for outcome, _ in self.waiting], []
        self._count(saved)
        self._on_ended(saved)
        return None

    def _count(self, ended: Sequence[Outcome]) -> None:
        found = dict.fromkeys(TaskStatus, 0)
        for outcome in ended:
            found[outcome.status] += 1
        counts = self.counts
        self.counts = Counts(
            waiting=counts.waiting - len(ended),
            done=counts.done + found[TaskStatus.DONE],
            failed=counts.failed + found[TaskStatus.FAILED],
            skipped=counts.skipped + found[TaskStatus.SKIPPED],
        )
