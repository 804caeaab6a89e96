"""What a widget of several parts does with a page's messages and with work that may take long.

Promises: each message goes to the widget's own action or to that of a part, on the widget's own
thread, and is answered there, errors in words; one piece of long work at a time, on a thread for
that, and what goes wrong with it is shown. Leaves to others: the actions, the state (`_parts` of
each widget), threads (`_actor`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, to_wire
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._words import as_known

__all__ = ["PageWork"]

Message = dict[str, Any]


class PageWork:
    """The half of such a widget that is the same for all; beside `anywidget.AnyWidget`."""

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Message], Message | None]]]
    send: Callable[..., Any]
    _actor: Actor
    _heavy: Actor
    _parts_of_page: tuple[Any, ...]
    _busy: str = ""
    _num_busy: int = 0
    _notice: str = ""

    def soon(self, do: Callable[[], None]) -> None:
        """Have something done on the widget's own thread; for its own parts."""
        self._actor.post(do)

    def touch(self) -> None:
        """Look at everything again and send what has changed; for its own parts."""
        self._actor.post(_nothing)

    def at_work(self, what: str, do: Callable[[], object]) -> None:
        """Have something done that may take long; what goes wrong is shown. For its own parts.

        Raises
        ------
        InvalidValueError
            Something else is being done.
        """
        if self._busy and not self._busy == what == "reading":  # another table may be chosen
            raise InvalidValueError("Something else is being done just now. Wait for its end.")
        self._busy, self._notice = what, ""
        self._num_busy += 1

        def work() -> None:
            try:
                do()
            finally:
                # In the widget's own order: what the work has posted before is done by then.
                self._actor.post(self._rest)

        self._heavy.post(work)

    def answer(self, content: Message, buffers: list[bytes] | None = None, **more: Any) -> None:
        """Answer a message of the page, on any thread; for the widget's own parts."""
        self.send({"kind": "answer", "mid": content.get("mid"), **more}, buffers)

    def _do_heavy(self, do: Callable[[], object]) -> None:
        try:
            do()
        except GgufWidgetsError as error:
            self._notice = error.message
        self._worked()
        self.touch()

    def _worked(self) -> None:
        """Take note that long work has ended; on the thread for it."""

    def _rest(self) -> None:
        self._num_busy -= 1
        if not self._num_busy:
            self._busy = ""

    def _failed(self, error: Exception) -> None:
        self._notice = as_known(error).message
        self.touch()

    def _on_page(self, _widget: object, content: Any, buffers: Any) -> None:
        if isinstance(content, dict):
            given = buffers if isinstance(buffers, list | tuple) else []
            self._actor.post((content, list(given[:1])))

    def _work(self, item: tuple[Message, list[Any]] | Callable[[], None]) -> None:
        if callable(item):
            item()
            return
        content, buffers = item
        kind = str(content.get("kind"))
        try:
            answer = self._heeded(kind, content, buffers)
        except GgufWidgetsError as error:
            self.answer(content, error=to_wire(error))
        except Exception as error:
            self.answer(content, error=to_wire(as_known(error)))
            raise  # so that it is logged as well
        else:
            if answer is not None:
                self.answer(content, **answer)

    def _heeded(self, kind: str, content: Message, buffers: list[Any]) -> Message | None:
        if kind in self._ACTIONS:
            return self._ACTIONS[kind](self, content)
        for part in self._parts_of_page:
            if kind in part.ACTIONS:
                told: Message | None = part.ACTIONS[kind](part, content, buffers)
                return told
        return None


def _nothing() -> None:
    """Only wake the thread up."""
