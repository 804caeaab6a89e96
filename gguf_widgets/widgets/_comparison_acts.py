"""What a page does with the comparison that it shows: steer it, look through it, take it away.

Promises: what may take long is done on other threads, so that a page is always answered; what
cannot be done just now is said. Leaves to others: which comparison is shown (`comparison_view`),
its figures (`_comparison_open`), votes (`_comparison_vote`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.process import start_process
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, to_wire
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._comparison_open import OpenComparison
from gguf_widgets.widgets._comparison_send import ComparisonSending
from gguf_widgets.widgets._comparison_split import split_view
from gguf_widgets.widgets._plotly import plotly_piece
from gguf_widgets.widgets._words import as_known

__all__ = ["Acts"]

Message = dict[str, Any]

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What the widget offers."""

    @property
    def own_process(self) -> bool:
        """Whether comparisons are carried out by a process of their own."""
        ...

    def opened(self) -> OpenComparison:
        """Return the comparison that is shown; refuse if there is none."""
        ...

    def answer(self, content: Message, buffers: list[bytes] | None = None, **more: Any) -> None:
        """Answer a message of the page, on any thread."""
        ...

    def at_work(self, what: str, do: Callable[[], object]) -> None:
        """Have this done on the thread for long work, which is busy with `what` until then."""
        ...

    def touch(self) -> None:
        """Look at everything again and send what has changed."""
        ...


class Acts:
    """The page's messages about an open comparison.

    Parameters
    ----------
    host : Host
    store : Store
    name : str
        Of its thread.
    failed : callable
        Takes an error that nobody expected.
    """

    def __init__(
        self, host: Host, store: Store, name: str, failed: Callable[[Exception], None]
    ) -> None:
        self._host, self._store = host, store
        self._sending = ComparisonSending()
        self._drawing = Actor(name, lambda do: do(), failed=failed)
        self._is_looking = False

    def close(self) -> None:
        """End its thread and forget the file that was made."""
        self._drawing.close()
        self._sending.forget()

    def begin(self, comparison: Comparison) -> None:
        """Start, or go on: here, or in a process of its own."""
        if self._host.own_process and self._store.path is not None:
            start_process(comparison.id, store=self._store)
        else:
            comparison.start()

    def look_at_result(self, shown: OpenComparison) -> None:
        """Have the figures made anew where something has changed, on the thread for that."""
        if self._is_looking:
            return
        self._is_looking = True

        def look() -> None:
            try:
                if shown.look_at_result():
                    self._host.touch()
            finally:
                self._is_looking = False

        self._drawing.post(look)

    # -- from the page ----------------------------------------------------------------------------

    def _go_on(self, _content: Message, _buffers: Any) -> Message:
        comparison = self._host.opened().comparison
        self._host.at_work("starting", lambda: self.begin(comparison))
        return {}

    def _stop(self, _content: Message, _buffers: Any) -> Message:
        comparison = self._host.opened().comparison
        # On a thread of its own: whatever else is at work must not hold it up.
        self._drawing.post(lambda: comparison.stop(timeout_s=0.0))
        return {}

    def _rows(self, content: Message, _buffers: Any) -> Message:
        return self._host.opened().rows(content)

    def _row(self, content: Message, _buffers: Any) -> Message:
        return {"row": self._host.opened().row(content.get("number"))}

    def _figure(self, content: Message, _buffers: Any) -> None:
        shown = self._host.opened()
        self._drawing.post(
            lambda: self._answer_with(content, lambda: ({"figure": shown.figure(content)}, []))
        )

    def _plotly(self, content: Message, _buffers: Any) -> None:
        self._drawing.post(lambda: self._answer_with(content, lambda: plotly_piece(content)))

    def _split(self, content: Message, _buffers: Any) -> None:
        comparison = self._host.opened().comparison
        number, a, b = (content.get(name) for name in ("number", "a", "b"))
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in (number, a, b)):
            raise InvalidValueError("Choose a prompt and two sides.")
        if a == b:
            raise InvalidValueError("Choose two different sides.")

        def look() -> None:
            self._answer_with(
                content,
                lambda: ({"split": split_view(comparison.divergence(number, a, b))}, []),  # type: ignore[arg-type]
            )

        self._host.at_work("parting", look)

    def _download(self, content: Message, _buffers: Any) -> None:
        comparison = self._host.opened().comparison

        def make() -> None:
            ending = content.get("format")
            self._answer_with(
                content, lambda: ({"file": self._sending.make_of(comparison, ending)}, [])
            )

        self._host.at_work("saving", make)

    def _download_piece(self, content: Message, _buffers: Any) -> None:
        piece = self._sending.piece(content.get("key"), content.get("offset"))
        self._host.answer(content, [piece], size=len(piece))

    def _answer_with(
        self, content: Message, make: Callable[[], tuple[Message, list[bytes]]]
    ) -> None:
        try:
            told, buffers = make()
        except GgufWidgetsError as error:
            self._host.answer(content, error=to_wire(error))
        except Exception as error:
            self._host.answer(content, error=to_wire(as_known(error)))
            raise  # so that it is logged as well
        else:
            self._host.answer(content, buffers, **told)

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "go-on": _go_on,
        "stop": _stop,
        "rows": _rows,
        "row": _row,
        "figure": _figure,
        "plotly": _plotly,
        "split": _split,
        "download": _download,
        "download-piece": _download_piece,
    }
