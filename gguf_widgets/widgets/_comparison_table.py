"""The table of prompts that is compared over.

Promises: whoever shows it is told when it is another one. Leaves to others: how it comes from a
page (`_table_arriving`), reading (`_batch_looked`), what is asked about it (`_comparison_setup`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gguf_widgets.widgets._batch_looked import Looked
from gguf_widgets.widgets._batch_source import Arriving, Given
from gguf_widgets.widgets._table_arriving import TableHost, TakesTable

__all__ = ["PromptTable"]

Message = dict[str, Any]


class PromptTable(TakesTable):
    """The table that is asked about.

    Parameters
    ----------
    host : TableHost
    given : Given or None
    changed : callable
        Called when there is another table, on the widget's own thread.
    """

    PASTED = "Pasted prompts"

    def __init__(self, host: TableHost, given: Given | None, changed: Callable[[], object]) -> None:
        self._host, self._changed = host, changed
        self.given = given
        self.looked: Looked | None = None
        self._arriving: Arriving | None = None
        self._reading: Looked | None = None

    def take(self, given: Given | None, looked: Looked | None = None) -> None:
        """Ask about another table, or none."""
        self._reading = None  # what is still being read comes too late
        self.looked = looked
        self.given = given
        self._changed()

    def part(self) -> Message:
        """Return what the pages show of it."""
        return {
            "given": None if self.given is None else self.given.told,
            "looked": None if self.looked is None else self.looked.told,
        }

    ACTIONS: ClassVar = TakesTable.TABLE_ACTIONS
