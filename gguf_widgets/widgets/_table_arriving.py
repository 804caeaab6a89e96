"""Taking in a table that a page sends or pastes; what the batch table and comparisons have alike.

Promises: a file comes piece by piece and no larger than is told; reading is done on the thread for
long work, and what is read too late is dropped. Leaves to others: reading (`_batch_looked`), what
is done with the table (`take`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from gguf_widgets.batch import files
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.widgets._batch_looked import Looked
from gguf_widgets.widgets._batch_source import MAX_PASTED_CHARS, Arriving, Given

__all__ = ["TableHost", "TakesTable"]

Message = dict[str, Any]


class TableHost(Protocol):
    """What the widget offers."""

    def soon(self, do: Callable[[], None]) -> None:
        """Have this done on the widget's own thread."""
        ...

    def at_work(self, what: str, do: Callable[[], None]) -> None:
        """Have this done on the thread for long work, which is busy with `what` until then."""
        ...


class TakesTable:
    """The part of a widget's part that takes in a table; see `TABLE_ACTIONS`."""

    PASTED: ClassVar[str] = "Pasted table"
    _host: TableHost
    looked: Looked | None
    _arriving: Arriving | None
    _reading: Looked | None

    def take(self, given: Given | None, looked: Looked | None = None) -> None:
        """Ask about another table, or none; on the widget's own thread."""
        raise NotImplementedError

    def _table_begin(self, content: Message, _buffers: Any) -> Message:
        self._arriving = Arriving(content.get("name"), content.get("size"))
        return {"key": self._arriving.key}

    def _table_piece(self, content: Message, buffers: Any) -> Message:
        arriving = self._arriving
        if arriving is None or arriving.key != content.get("key"):
            raise InvalidValueError("This file is not expected any more. Choose it again.")
        try:
            is_last = arriving.add(content.get("offset"), buffers[0] if buffers else None)
        except GgufWidgetsError:
            self._arriving = None
            raise
        if is_last:
            self._arriving = None
            self._begin_reading(Looked(arriving.data, arriving.name))
        return {"offset": arriving.offset}

    def _table_paste(self, content: Message, _buffers: Any) -> Message:
        text = content.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InvalidValueError("Nothing was pasted. Copy some cells or lines first.")
        if len(text) > MAX_PASTED_CHARS:
            raise InvalidValueError(
                f"The text has {len(text):,} characters; {MAX_PASTED_CHARS:,} can be pasted. Save "
                "it as a file and choose that."
            )
        self._begin_reading(Looked(files.Pasted(text), self.PASTED))
        return {}

    def _table_read(self, content: Message, _buffers: Any) -> Message:
        if self.looked is None:
            raise InvalidValueError("There is no file to read. Choose one.")
        self.looked.choose(content.get("options"))
        self._begin_reading(self.looked)
        return {}

    def _begin_reading(self, looked: Looked) -> None:
        def read() -> None:
            given = looked.read()
            self._host.soon(lambda: self.take(given, looked) if self._reading is looked else None)

        self._host.at_work("reading", read)
        self._reading = looked

    def _table_drop(self, _content: Message, _buffers: Any) -> Message:
        self.take(None)
        return {}

    TABLE_ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "table-begin": _table_begin,
        "table-piece": _table_piece,
        "table-paste": _table_paste,
        "table-read": _table_read,
        "table-drop": _table_drop,
    }
