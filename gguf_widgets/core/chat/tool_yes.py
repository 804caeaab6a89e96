"""Who has to say yes to a call of a tool, and has said it for good.

Promises: a yes for good counts for one tool in one conversation, and is never read from a file or
the store: it ends with the program. Leaves to others: what happens then (`tools`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum

from gguf_widgets.core.chat.types import ToolCall
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.tools.toolbox import Tool

__all__ = ["NOBODY", "Approver", "Say", "WhoSaysYes"]

Approver = Callable[[ToolCall], object]
"""Asked before a call: True lets it run, "always" this and later ones of its tool, else not."""

NOBODY = (
    "There was nobody to ask. From Python, hand the function over as gw.tool(function,"
    " approve=False) if it is safe with any arguments, or pass approve=... to ChatInterface."
)

_log = logging.getLogger(__name__)


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

    def ask_program(self, call: ToolCall) -> tuple[bool, bool, str | None]:
        """Ask the approver.

        Returns
        -------
        bool
            Whether the call may run.
        bool
            Whether later calls of its tool may, too.
        str or None
            Why not, if asking failed.
        """
        approver = self.approver
        if approver is None:
            return False, False, NOBODY
        try:
            said = approver(call)
        except Exception as error:  # noqa: BLE001 - theirs, whatever it is, is a no with a reason
            _log.warning("The approver of tools failed", exc_info=True)
            return False, False, f"Asking failed: {type(error).__name__}: {error}"[:500]
        # Nothing but these two: a text such as "no" is true to Python.
        return said is True or said == "always", said == "always", None
