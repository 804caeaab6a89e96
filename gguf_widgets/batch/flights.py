"""The questions that are on their way, and where each one is.

Promises: a question is on its way once; how much each place has to do is known at any moment; a
place that is too busy is left alone for a while. Leaves to others: what is asked where, and what
becomes of an end (`runner`).
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from typing import Final, NamedTuple

from gguf_widgets.batch.places import Asked, End, Place
from gguf_widgets.batch.question import Question
from gguf_widgets.core.errors import GgufWidgetsError, WorkerDiedError, WorkerStartError

__all__ = ["Flight", "Flights"]

_SOON_S: Final = 0.5


class Flight(NamedTuple):
    """A question that is on its way, and the name of the place."""

    question: Question
    place: str


class Flights:
    """Made for one run; used by its thread, but for `ends`, which any thread puts into.

    Attributes
    ----------
    ends : queue.SimpleQueue
        Each question's number and end, as they arrive; None has the thread look around.
    """

    def __init__(self) -> None:
        self.ends: queue.SimpleQueue[tuple[int, End] | None] = queue.SimpleQueue()
        self._flying: dict[int, Flight] = {}
        self._asked: dict[int, Asked] = {}
        self._num_at: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def at(self, place: Place) -> int:
        """Return how many a place is at."""
        return self._num_at[place.name]

    def load_of(self, place: Place) -> float:
        """Return how much a place has to do: from 1 on it has enough."""
        return self._num_at[place.name] / max(1, place.room)

    def begin(self, question: Question, place: Place) -> None:
        """Ask a question at a place; what is wrong with the question comes as its end.

        Raises
        ------
        WorkerDiedError, WorkerStartError
            The model's process is not there; the question is not on its way.
        """
        number = question.number
        self._flying[number] = Flight(question, place.name)
        self._num_at[place.name] += 1
        try:
            self._asked[number] = place.ask(question, lambda end: self.ends.put((number, end)))
        except (WorkerDiedError, WorkerStartError):
            self.landed(number)
            raise
        except GgufWidgetsError as error:
            self.ends.put((number, error))

    def landed(self, number: int) -> Flight:
        """Return the question that has ended; it is not on its way any more."""
        flight = self._flying.pop(number)
        self._asked.pop(number, None)
        self._num_at[flight.place] -= 1
        return flight

    def leave_alone(self, place: str, seconds: float) -> None:
        """Ask nothing at a place for a while."""
        self._not_before[place] = time.monotonic() + seconds

    def is_left_alone(self, place: Place) -> bool:
        """Say whether nothing may be asked there just now."""
        return time.monotonic() < self._not_before.get(place.name, 0.0)

    def take(self, *, wait: bool) -> list[tuple[int, End]]:
        """Return all that has arrived; if nothing has, wait for it, half a second at most."""
        now = time.monotonic()
        soon = min([_SOON_S, *(at - now for at in self._not_before.values() if at > now)])
        found: list[tuple[int, End]] = []
        try:
            item = self.ends.get(timeout=soon) if wait else self.ends.get_nowait()
            while True:
                if item is not None:
                    found.append(item)
                item = self.ends.get_nowait()
        except queue.Empty:
            return found

    def stop(self) -> None:
        """Take all of them back; their ends still arrive."""
        for asked in list(self._asked.values()):
            asked.stop()

    def forget(self) -> None:
        """Wait for none of them any more."""
        self._flying.clear()
        self._asked.clear()
        self._num_at.clear()
