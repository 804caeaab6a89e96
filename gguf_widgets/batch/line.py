"""The questions that wait for one model, and which of them has killed its process.

Promises: a question whose answer was lost with the model's process is asked again; those that were
in it twice are asked one at a time from then on, and one that is alone when the process dies, twice
over, is out. So the one that kills it is found, after four deaths at most, and whoever was only
near is answered, also where somebody else kills processes. Leaves to others: sending, the answers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gguf_widgets.batch.question import Known, Question

__all__ = ["Line"]

_SUSPECT: Final = 2  # deaths
_PROOF: Final = 2  # deaths alone


class Line:
    """The questions that wait, in the order in which they are to be asked.

    Parameters
    ----------
    source : iterable of Question or Known
        Read as far as it is needed.
    deaths : mapping of int to int
        How often the model's process has died with a task in it, by number.
    """

    def __init__(self, source: Iterable[Question | Known], deaths: Mapping[int, int]) -> None:
        self._source: Iterator[Question | Known] | None = iter(source)
        self._deaths = Counter(deaths)
        self._again: deque[Question] = deque()
        self._alone: deque[Question] = deque()
        self._alone_deaths: Counter[int] = Counter()
        self._tried: Counter[int] = Counter()
        self._is_alone = False  # the one that the model is at

    @property
    def done(self) -> bool:
        """Whether nothing waits."""
        return self._source is None and not self._again and not self._alone

    def deaths(self, number: int) -> int:
        """Return how often the model's process died with a question in it."""
        return self._deaths[number]

    def attempts(self, number: int) -> int:
        """Return how often a question has been asked."""
        return self._tried[number]

    def next(self, num_flying: int) -> Question | Known | None:
        """Return what is to be asked next; None if nothing can be just now.

        Parameters
        ----------
        num_flying : int
            How many the model is at.
        """
        item = self._take(num_flying)
        if isinstance(item, Question):
            self._tried[item.number] += 1
        return item

    def _take(self, num_flying: int) -> Question | Known | None:
        if num_flying and (self._is_alone or self._alone):
            return None
        self._is_alone = bool(self._alone)
        if self._alone:
            return self._alone.popleft()
        if self._again:
            return self._again.popleft()
        if self._source is None:
            return None
        item = next(self._source, None)
        if item is None:
            self._source = None
        elif isinstance(item, Question) and self._deaths[item.number] >= _SUSPECT:
            self._alone.append(item)  # known from an earlier session
            return self._take(num_flying)
        return item

    def put_back(self, question: Question) -> None:
        """Ask it again before others; it was not the model's fault, nor its own."""
        self._tried[question.number] -= 1
        self._again.appendleft(question)

    def died(self, questions: Iterable[Question]) -> list[Question]:
        """Take back the questions that the model's process died with; return those that are out."""
        out = []
        for question in questions:
            number = question.number
            self._deaths[number] += 1
            self._alone_deaths[number] += self._is_alone
            if self._alone_deaths[number] >= _PROOF:
                out.append(question)
            elif self._deaths[number] >= _SUSPECT:
                self._alone.append(question)
            else:
                self._again.append(question)
        return out
