"""The questions that wait for one model, and which of them has killed its process.

Promises: a question whose answer was lost with the model's process is asked again; one that was in
it twice has a place to itself from then on, and one that is alone when the process dies, twice
over, is out. So the one that kills it is found, after four deaths at most, and whoever was only
near is answered, also where somebody else kills processes or switches machines off. Where there are
several places, one of them is kept free for that, and the others go on. Leaves to others: sending,
the answers.
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
        self._is_alone_at: set[str] = set()  # places with one that must be by itself
        self._emptied = ""  # the place that is given nothing more, to be free for such a one

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

    def next(self, place: str, num_flying: int) -> Question | Known | None:
        """Return what is to be asked next at a place; None if nothing can be just now.

        Parameters
        ----------
        place : str
            Its name.
        num_flying : int
            How many that place is at.
        """
        item = self._take(place, num_flying)
        if isinstance(item, Question):
            self._tried[item.number] += 1
        return item

    def _take(self, place: str, num_flying: int) -> Question | Known | None:
        if num_flying and place in self._is_alone_at:
            return None
        self._is_alone_at.discard(place)
        while True:
            if self._alone:
                if not num_flying:
                    self._is_alone_at.add(place)
                    self._emptied = ""
                    return self._alone.popleft()
                self._emptied = self._emptied or place
                if self._emptied == place:
                    return None
            if self._again:
                return self._again.popleft()
            if self._source is None:
                return None
            item = next(self._source, None)
            if item is None:
                self._source = None
            if not isinstance(item, Question) or self._deaths[item.number] < _SUSPECT:
                return item
            self._alone.append(item)  # known from an earlier session

    def put_back(self, question: Question) -> None:
        """Ask it again before others; it was not the model's fault, nor its own."""
        self._tried[question.number] -= 1
        is_suspect = self._deaths[question.number] >= _SUSPECT
        (self._alone if is_suspect else self._again).appendleft(question)

    def died(self, questions: Iterable[Question], place: str) -> list[Question]:
        """Take back the questions that a place's process died with; return those that are out."""
        is_alone = place in self._is_alone_at
        out = []
        for question in questions:
            number = question.number
            self._deaths[number] += 1
            self._alone_deaths[number] += is_alone
            if self._alone_deaths[number] >= _PROOF:
                out.append(question)
            elif self._deaths[number] >= _SUSPECT:
                self._alone.append(question)
            else:
                self._again.append(question)
        return out

    def keep_to(self, places: Iterable[str]) -> None:
        """Forget what concerns places that are not among these."""
        there = set(places)
        self._is_alone_at &= there
        if self._emptied not in there:
            self._emptied = ""
