"""What a page does with the run that it shows: steer it, look through it, take it away.

Promises: what may take long is done on other threads, one for runs and files and one for charts, so
that a page is always answered; what cannot be done just now is said. Leaves to others: which run is
shown (`batch_table`), the run (`batch.run`), rows (`_batch_result`), charts (`_batch_charts`),
earlier runs (`_batch_earlier`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.spec import ModelRef
from gguf_widgets.core.errors import BatchError, GgufWidgetsError, InvalidValueError, to_wire
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._batch_open import OpenRun
from gguf_widgets.widgets._batch_result import is_under_way
from gguf_widgets.widgets._batch_send import Sending
from gguf_widgets.widgets._plotly import plotly_piece
from gguf_widgets.widgets._words import as_known

__all__ = ["Acts"]

Message = dict[str, Any]

_MOST_AT_ONCE: Final = 256


class Host(Protocol):
    """What the widget offers."""

    @property
    def model(self) -> Model | None:
        """The one that is loaded for what is set up."""
        ...

    @property
    def own_process(self) -> bool:
        """Whether runs are carried out by a process of their own."""
        ...

    def open_run(self) -> OpenRun:
        """Return the run that is shown; refuse if there is none."""
        ...

    def answer(self, content: Message, buffers: list[bytes] | None = None, **more: Any) -> None:
        """Answer a message of the page, on any thread."""
        ...

    def at_work(self, what: str, do: Callable[[], object]) -> None:
        """Have this done on the thread for long work, which is busy with `what` until then."""
        ...


class Acts:
    """The page's messages about an open run.

    Parameters
    ----------
    host : Host
    name : str
        Of its thread.
    failed : callable
        Takes an error that nobody expected.
    """

    def __init__(self, host: Host, name: str, failed: Callable[[Exception], None]) -> None:
        self._host = host
        self._sending = Sending()
        self._drawing = Actor(name, lambda do: do(), failed=failed)

    def close(self) -> None:
        """End its thread and forget the file that was made."""
        self._drawing.close()
        self._sending.forget()

    @property
    def _run(self) -> BatchRun:
        return self._host.open_run().run

    # -- steering ---------------------------------------------------------------------------------

    def _pause(self, _content: Message, _buffers: Any) -> Message:
        self._run.pause()
        return {}

    def _go_on(self, _content: Message, _buffers: Any) -> Message:
        run, own = self._run, self._host.own_process
        if run.status is RunStatus.PAUSED:
            run.resume()
        else:
            self._begin(run, lambda: run.start(own_process=own))
        return {}

    def _stop(self, _content: Message, _buffers: Any) -> Message:
        self._run.stop(timeout_s=0.0)
        return {}

    def _retry(self, _content: Message, _buffers: Any) -> Message:
        run, own = self._run, self._host.own_process
        self._begin(run, lambda: run.retry_failed(own_process=own))
        return {}

    def _ask_again(self, content: Message, _buffers: Any) -> Message:
        number, run = content.get("number"), self._run
        if not isinstance(number, int) or isinstance(number, bool):
            raise InvalidValueError("A row is asked again by its number.")
        if is_under_way(run.status):
            raise BatchError("Wait for the end of the run, or stop it; then ask this row again.")
        self._begin(run, lambda: run.retry([number]))
        return {}

    def _begin(self, run: BatchRun, begin: Callable[[], object]) -> None:
        """Begin, or go on, with the run's model as it is loaded now.

        Whoever loads it with more room, because a row did not fit, and asks again, means that.
        """
        model = self._host.model

        def do() -> None:
            if model is not None and model.loaded and len(run.spec.models) == 1:
                own, now = run.spec.models[0], ModelRef.of(model)
                is_same = (own.identity, own.chat_template) == (now.identity, now.chat_template)
                if is_same and own.settings != now.settings:
                    run.use_model(model)
            begin()

        self._host.at_work("starting", do)

    def _change(self, content: Message, _buffers: Any) -> Message:
        """Have more or fewer rows computed side by side from now on."""
        num, run = content.get("numAtOnce"), self._run
        if not isinstance(num, int) or isinstance(num, bool) or not 1 <= num <= _MOST_AT_ONCE:
            raise InvalidValueError(
                f"The model can be asked 1 to {_MOST_AT_ONCE} rows at once, not {num!r:.40}."
            )
        if not is_under_way(run.status):
            raise BatchError("This can be changed while the run is at work. Start it first.")
        if run.is_here:
            self._host.at_work("changing", lambda: run.change(n_seq_max=num))
        else:
            run.change(n_seq_max=num)
        return {}

    # -- its rows ---------------------------------------------------------------------------------

    def _edit(self, content: Message, _buffers: Any) -> Message:
        result = self._host.open_run().result
        result.edit(content.get("number"), content.get("values"))
        return {"whole": result.whole(content.get("number"))}

    def _rows(self, content: Message, _buffers: Any) -> Message:
        return self._host.open_run().result.page(content)

    def _whole(self, content: Message, _buffers: Any) -> Message:
        return {"whole": self._host.open_run().result.whole(content.get("number"))}

    # -- charts -----------------------------------------------------------------------------------

    def _charts(self, content: Message, _buffers: Any) -> None:
        charts = self._host.open_run().charts
        self._drawing.post(lambda: self._answer_with(content, lambda: (charts.view(), [])))

    def _plotly(self, content: Message, _buffers: Any) -> None:
        self._drawing.post(lambda: self._answer_with(content, lambda: plotly_piece(content)))

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

    # -- files ------------------------------------------------------------------------------------

    def _download(self, content: Message, _buffers: Any) -> None:
        run = self._run

        def make() -> None:
            ending = content.get("format")
            self._answer_with(content, lambda: ({"file": self._sending.make(run, ending)}, []))

        self._host.at_work("saving", make)

    def _download_piece(self, content: Message, _buffers: Any) -> None:
        piece = self._sending.piece(content.get("key"), content.get("offset"))
        self._host.answer(content, [piece], size=len(piece))

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "pause": _pause,
        "go-on": _go_on,
        "stop": _stop,
        "retry": _retry,
        "ask-again": _ask_again,
        "change": _change,
        "edit": _edit,
        "rows": _rows,
        "whole": _whole,
        "charts": _charts,
        "plotly": _plotly,
        "download": _download,
        "download-piece": _download_piece,
    }
