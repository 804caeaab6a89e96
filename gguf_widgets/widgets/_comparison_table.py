"""The table of prompts: how it comes from a page, and how it is read.

Promises: a file comes piece by piece and no larger than is told; reading is done on the thread for
long work, and what is read too late is dropped. Leaves to others: reading (`_batch_looked`), what
is asked about it (`_comparison_setup`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from gguf_widgets.batch import files
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.widgets._batch_looked import Looked
from gguf_widgets.widgets._batch_source import MAX_PASTED_CHARS, Arriving, Given

__all__ = ["PromptTable"]

Message = dict[str, Any]


class Host(Protocol):
    """What the widget offers."""

    def soon(self, do: Callable[[], None]) -> None:
        """Have this done on the widget's own thread."""
        ...

    def at_work(self, what: str, do: Callable[[], object]) -> None:
        """Have this done on the thread for long work, which is busy with `what` until then."""
        ...


class PromptTable:
    """The table that is asked about.

    Parameters
    ----------
    host : Host
    given : Given or None
    changed : callable
        Called when there is another table, on the widget's own thread.
    """

    def __init__(self, host: Host, given: Given | None, changed: Callable[[], object]) -> None:
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

    # -- from the page ----------------------------------------------------------------------------

    def _begin(self, content: Message, _buffers: Any) -> Message:
        self._arriving = Arriving(content.get("name"), content.get("size"))
        return {"key": self._arriving.key}

    def _piece(self, content: Message, buffers: Any) -> Message:
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
            self._read(Looked(arriving.data, arriving.name))
        return {"offset": arriving.offset}

    def _paste(self, content: Message, _buffers: Any) -> Message:
        text = content.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InvalidValueError("Nothing was pasted. Copy some cells or lines first.")
        if len(text) > MAX_PASTED_CHARS:
            raise InvalidValueError(
                f"The text has {len(text):,} characters; {MAX_PASTED_CHARS:,} can be pasted. Save "
                "it as a file and choose that."
            )
        self._read(Looked(files.Pasted(text), "Pasted prompts"))
        return {}

    def _read_again(self, content: Message, _buffers: Any) -> Message:
        if self.looked is None:
            raise InvalidValueError("There is no file to read. Choose one.")
        self.looked.choose(content.get("options"))
        self._read(self.looked)
        return {}

    def _read(self, looked: Looked) -> None:
        def read() -> None:
            given = looked.read()
            self._host.soon(lambda: self.take(given, looked) if self._reading is looked else None)

        self._host.at_work("reading", read)
        self._reading = looked

    def _drop(self, _content: Message, _buffers: Any) -> Message:
        self.take(None)
        return {}

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "table-begin": _begin,
        "table-piece": _piece,
        "table-paste": _paste,
        "table-read": _read_again,
        "table-drop": _drop,
    }
