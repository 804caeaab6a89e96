"""What can be taken back in a chat.

Promises: plain values; the newest first; only what still makes sense is offered. Leaves to others:
taking it back (`branching`).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Step", "UndoList"]

_MAX_STEPS = 100


class Step(NamedTuple):
    """What was on screen before something was done.

    Parameters
    ----------
    words : str
        What was done, to follow "Undo": "editing your message".
    conversation_id : str
    leaf_id : str or None
        The last message on screen.
    is_branch : bool
        Whether only another branch of the same conversation was shown.
    is_deleted : bool
        Whether the conversation was deleted.
    """

    words: str
    conversation_id: str
    leaf_id: str | None
    is_branch: bool = False
    is_deleted: bool = False


class UndoList:
    """The steps that can be taken back, at most the last hundred."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    @property
    def words(self) -> str:
        """What the next undoing takes back; "" if there is nothing."""
        return self._steps[-1].words if self._steps else ""

    def add(self, step: Step) -> None:
        """Remember what was on screen."""
        self._steps = [*self._steps, step][-_MAX_STEPS:]

    def take(self) -> Step | None:
        """Return the last step and forget it."""
        return self._steps.pop() if self._steps else None

    def go_on(self) -> None:
        """Forget the branches left behind: a message was sent since."""
        self._steps = [step for step in self._steps if not step.is_branch]

    def leave(self) -> None:
        """Forget all but deletions: another conversation was opened."""
        self._steps = [step for step in self._steps if step.is_deleted]
