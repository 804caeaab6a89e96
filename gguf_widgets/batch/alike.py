"""Questions that are alike are asked once, and all of them get the answer.

Promises: the first of them is asked, whoever comes meanwhile waits for it, and whoever comes later
takes what is in the store; one that is asked again, because its answer was lost, stays the first.
Leaves to others: asking and keeping (`runner`), what is alike (`Question.key`).
"""

from __future__ import annotations

from gguf_widgets.batch.outcomes import copy_of
from gguf_widgets.batch.question import Question
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome

__all__ = ["Alike"]


class Alike:
    """Who is asked, and who waits for the same answer.

    Parameters
    ----------
    tasks : RunTasks
        Where earlier answers are.
    """

    def __init__(self, tasks: RunTasks) -> None:
        self._tasks = tasks
        self._leaders: dict[str, Question] = {}
        # Only their numbers: a long table may wait here, and each could bring an image along.
        self._followers: dict[str, list[int]] = {}

    def is_answered(self, question: Question) -> Outcome | bool:
        """Return what is known already, or True if the question waits for another; else False."""
        leader = self._leaders.get(question.key)
        if not question.alike or leader is question:  # that one is asked again
            return False
        if leader is not None:
            self._followers.setdefault(question.key, []).append(question.number)
            return True
        known = self._tasks.answer_to(question.key)
        if known is not None:
            return copy_of(known, question.number)
        self._leaders[question.key] = question
        return False

    def ended(self, question: Question, outcome: Outcome) -> list[tuple[Outcome, str]]:
        """Return the outcomes, each with its key, of all who waited for this one, itself first."""
        self._leaders.pop(question.key, None)
        followers = self._followers.pop(question.key, ())
        copies = [(copy_of(outcome, number), question.key) for number in followers]
        return [(outcome, question.key), *copies]
