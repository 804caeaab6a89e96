"""Who has to say yes to a call of a tool, and has said it for good.

Promises: a yes for good counts for one tool in one conversation, and is never read from a file or
the store: it ends with the program; a program that never answers holds nothing up once somebody has
stopped waiting for it. Leaves to others: what happens then (`tools`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from gguf_widgets.core.chat.types import ToolCall
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.tools.toolbox import Tool

__all__ = ["MAX_UNANSWERED", "NOBODY", "Approver", "Question", "Said", "Say", "WhoSaysYes"]

Approver = Callable[[ToolCall], object]
"""Asked before a call: True lets it run, "always" this and later ones of its tool, else not."""

NOBODY = (
    "There was nobody to ask. From Python, hand the function over as gw.tool(function,"
    " approve=False) if it is safe with any arguments, or pass approve=... to ChatInterface."
)

MAX_UNANSWERED: Final = 4
"""So many questions of one chat may be left without an answer; each has a thread that waits."""

_log = logging.getLogger(__name__)


class Said(NamedTuple):
    """What a program said to a call.

    Parameters
    ----------
    yes : bool
        Whether the call may run.
    for_good : bool
        Whether later calls of its tool may, too.
    why_not : str or None
        If asking failed.
    """

    yes: bool
    for_good: bool = False
    why_not: str | None = None


class Say(StrEnum):
    """Who has to be asked about a call."""

    NOBODY_NEEDED = "nobody needed"
    PROGRAM = "program"
    PERSON = "person"
    NOBODY_THERE = "nobody there"


class WhoSaysYes:
    """The yeses of one chat.

    Parameters
    ----------
    approver : callable, optional
        The program's word; asked before a person is.
    """

    def __init__(self, approver: Approver | None) -> None:
        if approver is not None and not callable(approver):
            raise InvalidValueError(
                f"approve is a function that is given each call, and this is {approver!r:.60}."
            )
        self.approver = approver
        self._num_askers = 0
        self._for_good: set[tuple[str, str]] = set()
        self._unanswered: set[Question] = set()

    def ask_here(self) -> Callable[[], None]:
        """Say that a person sees the calls and can be asked; return what takes that back."""
        self._num_askers += 1
        taken_back: list[bool] = []

        def leave() -> None:
            if not taken_back:
                taken_back.append(True)
                self._num_askers -= 1

        return leave

    def allow_for_good(self, conversation_id: str, name: str) -> None:
        """Ask no more about this tool in this conversation."""
        self._for_good.add((conversation_id, name))

    def about(self, tool: Tool, conversation_id: str) -> Say:
        """Return who has to be asked about a call of this tool."""
        if not tool.approve or (conversation_id, tool.name) in self._for_good:
            return Say.NOBODY_NEEDED
        if self.approver is not None:
            return Say.PROGRAM
        return Say.PERSON if self._num_askers > 0 else Say.NOBODY_THERE

    def question(self, call: ToolCall) -> Question:
        """Return the question to the program about a call, not asked yet."""
        return Question(self.approver, call, self._unanswered)


class Question:
    """A call that a program is asked about, on a thread of its own.

    Parameters
    ----------
    approver : Approver or None
    call : ToolCall
    unanswered : set of Question
        Those that nobody waits for any more and that have no answer yet; keeps itself up to date.
    """

    def __init__(
        self, approver: Approver | None, call: ToolCall, unanswered: set[Question]
    ) -> None:
        self._approver = approver
        self._call = call
        self._unanswered = unanswered
        self._lock = threading.Lock()
        self._over = threading.Event()  # it has an answer, or nobody waits any more
        self._said: Said | None = None

    def stop(self) -> None:
        """End the waiting at once; any thread may call this. A later answer counts for nothing."""
        self._over.set()

    def wait(self) -> Said | None:
        """Ask, and return the answer; None if the waiting was stopped before there was one."""
        if self._approver is None:
            return Said(False, why_not=NOBODY)
        if (number := len(self._unanswered)) >= MAX_UNANSWERED:
            words = f"{number} earlier questions to the program's approve=... have not come back."
            return Said(False, why_not=f"{words} Restart Python to be rid of them.")
        thread = threading.Thread(target=self._ask, name="gguf-widgets-approve", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left
            return Said(False, why_not=f"Asking could not be started: {error}.")
        self._over.wait()
        with self._lock:
            if self._said is None:
                self._unanswered.add(self)
            return self._said

    def _ask(self) -> None:
        said = self._answer()
        with self._lock:
            self._said = said
            self._unanswered.discard(self)
        self._over.set()

    def _answer(self) -> Said:
        assert self._approver is not None  # noqa: S101 - for the type checker: else it is not asked
        try:
            answer = self._approver(self._call)
        except BaseException as error:  # noqa: BLE001 - theirs, SystemExit too, is a no with a reason
            _log.warning("The approver of tools failed", exc_info=True)
            return Said(False, why_not=f"Asking failed: {type(error).__name__}: {error}"[:500])
        # Nothing but these two: a text such as "no" is true to Python.
        return Said(answer is True or answer == "always", answer == "always")
