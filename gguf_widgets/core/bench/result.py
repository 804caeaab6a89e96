"""What `gguf_widgets.bench` returns: a measurement that goes on or has ended, and all it found.

Promises: rows are there as soon as they are whole; `stop` and an interrupt keep what was measured;
it can be looked at from any thread at any time. Leaves to others: the work (`work`), the tables
(`table`), the pictures (`widgets._bench_figures`).
"""

from __future__ import annotations

import html
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.core.bench import table
from gguf_widgets.core.bench.machine import this_machine
from gguf_widgets.core.bench.notes import notes_of
from gguf_widgets.core.bench.progress import Progress
from gguf_widgets.core.bench.row import BenchFailure, BenchRow
from gguf_widgets.core.bench.show import Shown
from gguf_widgets.core.bench.work import BenchWork, Listener
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.figures import make_figure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BenchResult"]

_LOOK_S: Final = 0.1
_log = logging.getLogger(__name__)
_ENDED: Final = ("done", "stopped", "failed")


class BenchResult:
    """A measurement; made by `gguf_widgets.bench`.

    Iterate over it for its rows (`BenchRow`), or ask for `to_frame()`. In a notebook it shows
    itself as a table.

    Attributes
    ----------
    id : str
        What the store knows it by: ``bench_history(bench_id=...)``.
    """

    def __init__(self, bench_id: str) -> None:
        self.id = bench_id
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._rows: list[BenchRow] = []
        self._failures: list[BenchFailure] = []
        self._errors: list[GgufWidgetsError] = []
        self._notes: list[str] = []
        self._said: list[str] = []
        self._at = ("", "", "")
        self._status = "running"
        self._unexpected: BaseException | None = None
        self._observers: list[Callable[[BenchResult], None]] = []
        self._work: BenchWork | None = None
        # Not the thread itself is waited for: an interrupt in the middle of `Thread.join` makes
        # Python 3.11 believe that the thread has ended.
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended_progress: Progress | None = None

    # -- what it is doing -------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """One of "running", "stopping", "done", "stopped", "failed" (nothing was measured)."""
        with self._lock:
            stopping = self._status == "running" and self._stop.is_set()
            return "stopping" if stopping else self._status

    @property
    def progress(self) -> Progress:
        """How far it is, with the time that is left."""
        status = self.status
        with self._lock:
            if self._ended_progress is not None:
                return self._ended_progress
            work, (model, test, phase) = self._work, self._at
            num_failed = len(self._failures)
            num_done = len(self._rows)
        fraction, elapsed, left = (0.0, 0.0, None) if work is None else work.estimate.look()
        return Progress(
            status=status,
            model=model,
            test=test,
            phase=phase,
            fraction=1.0 if status == "done" else fraction,
            elapsed_s=elapsed,
            left_s=left,
            num_done=num_done,
            num_total=0 if work is None else work.num_tests,
            num_failed=num_failed,
        )

    def stop(self, *, wait: bool = True) -> None:
        """End it; what was measured is kept. Any thread may call this.

        Parameters
        ----------
        wait : bool, default True
            Return when it has ended, which takes as long as a step of the model.
        """
        self._stop.set()
        if wait and self._thread is not threading.current_thread():
            while not self._ended.wait(_LOOK_S):
                pass  # in slices, so that an interrupt gets through on every system

    def wait(self, timeout_s: float | None = None) -> BenchResult:
        """Wait for the end and return the result.

        Parameters
        ----------
        timeout_s : float, optional
            The longest to wait, in seconds.

        Raises
        ------
        TimeoutError
            It goes on; wait again.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended.is_set():
            left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"The measurement has not ended in {timeout_s:g} s.")
            self._ended.wait(left)
        if self._unexpected is not None:
            raise self._unexpected
        return self

    def observe(self, callback: Callable[[BenchResult], None]) -> Callable[[], None]:
        """Have `callback` called when something has changed, and at the end.

        It is called in the thread that measures, between two repetitions, so it must return at
        once. The returned function ends it.
        """
        with self._lock:
            self._observers.append(callback)

        def end() -> None:
            with self._lock:
                if callback in self._observers:
                    self._observers.remove(callback)

        return end

    # -- what it found ----------------------------------------------------------------------------

    @property
    def rows(self) -> list[BenchRow]:
        """What was measured so far."""
        with self._lock:
            return list(self._rows)

    @property
    def failures(self) -> list[BenchFailure]:
        """Models that did not load, and tests that could not be."""
        with self._lock:
            return list(self._failures)

    @property
    def notes(self) -> list[str]:
        """What is to be known of the figures: full sentences, often none."""
        with self._lock:
            notes = list(self._notes)
            rows = list(self._rows)
        return [*notes, *notes_of(rows)]

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a DataFrame.

        The names of llama-bench for the same: ``avg_tok_per_s`` is ``avg_ts``, ``stdev_tok_per_s``
        ``stddev_ts``, ``samples_tok_per_s`` ``samples_ts``, ``samples_s`` ``samples_ns`` in
        seconds.
        """
        import pandas as pd

        return pd.DataFrame([row.to_dict() for row in self.rows])

    def figure(self, kind: str = "speed", **options: Any) -> Any:
        """Draw: a Plotly figure.

        Parameters
        ----------
        kind : {"speed", "depth", "sequences"}
            Bars of all tests; speed against depth; speed against sequences at once.
        **options
            ``theme="dark"``, ``title``.

        Raises
        ------
        InvalidValueError
            There is no such kind, or nothing to draw.
        MissingDependencyError
            Plotly is not installed.
        """
        return make_figure(f"bench.{kind}", self.rows, **options)

    def to_markdown(self) -> str:
        """Return the table in Markdown, with the machine and the notes under it."""
        parts = [table.as_markdown(self.rows)] if self.rows else []
        rows = self.rows
        if rows:
            parts.append(f"{rows[0].machine}; {rows[0].engine}\n")
        listed = [*(str(one) for one in self.failures), *self.notes]
        parts.append("".join(f"- {table.marked(one)}\n" for one in listed))
        return "\n".join(part for part in parts if part)

    def to_csv(self) -> str:
        """Return all facts as CSV."""
        return table.as_csv(self.rows)

    def to_json(self) -> str:
        """Return all facts as JSON, failures and notes as well."""
        return table.as_json(self.rows, self.failures, self.notes)

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Write a file: .csv, .json or .md; return where it is.

        Raises
        ------
        InvalidValueError
            Another ending, a file that is there already (`replace=True`), or one that cannot be
            written.
        """
        makers = {"csv": self.to_csv, "json": self.to_json, "md": self.to_markdown}
        return table.save(path, lambda form: makers[form](), replace=replace)

    def __iter__(self) -> Iterator[BenchRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        rows = self.rows
        lines = [table.as_text(rows)] if rows else []
        if self.status not in _ENDED or not rows:
            lines.append(str(self.progress))
        lines += [str(one) for one in self.failures] + self.notes
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = self.rows
        parts = [table.as_html(rows)] if rows else []
        status = self.status
        if status != "done" or not rows:
            parts.append(f"<p>{html.escape(str(self.progress))}</p>")
        machine = rows[0].machine if rows else this_machine()
        engine = f"; {rows[0].engine}" if rows else ""
        parts.append(f"<p>{html.escape(f'{machine}{engine}')}</p>")
        told = [*(str(one) for one in self.failures), *self.notes]
        if told:
            items = "".join(f"<li>{html.escape(one)}</li>" for one in told)
            parts.append(f"<ul>{items}</ul>")
        return f"<div>{''.join(parts)}</div>"

    # -- inside -----------------------------------------------------------------------------------

    def start(self, make: Callable[[Listener, threading.Event], BenchWork]) -> None:
        """Begin, in a thread of its own."""
        self._work = make(
            Listener(row=self._row, failure=self._failure, note=self._note, at=self._say_at),
            self._stop,
        )
        # A daemon: at the end of the interpreter the worker sees its connection close and ends.
        self._thread = threading.Thread(
            target=self._run, args=[self._work], name="gguf-widgets-bench", daemon=True
        )
        self._thread.start()

    def watch(self, wanted: bool | None) -> BenchResult:
        """Wait for the end, show how far it is, and let an interrupt stop it.

        A second interrupt is not waited out.
        """
        with Shown(wanted) as shown:
            try:
                self._follow(shown)
            except KeyboardInterrupt:
                self._stop.set()
                self._follow(shown)
        return self.wait()

    def raise_failure(self) -> None:
        """Raise the first error, if there was one and nothing was measured."""
        with self._lock:
            errors, measured = list(self._errors), bool(self._rows)
        if errors and not measured:
            raise errors[0]

    def said(self) -> list[str]:
        """Return notes and failures in the order in which they happened."""
        with self._lock:
            return list(self._said)

    def _follow(self, shown: Shown) -> None:
        while True:
            shown.update(self.progress, self.said())
            try:
                self.wait(_LOOK_S)
            except TimeoutError:
                continue
            shown.update(self.progress, self.said())
            return

    def _run(self, work: BenchWork) -> None:
        status = "failed"
        try:
            work.run()
            status = "stopped" if self._stop.is_set() else "done"
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever waits
            self._unexpected = error
        if status == "done" and not self.rows:
            status = "failed"
        progress = self.progress
        with self._lock:
            self._status = status
            self._ended_progress = Progress(
                status=status,
                model="",
                test="",
                phase="",
                fraction=1.0 if status == "done" else progress.fraction,
                elapsed_s=progress.elapsed_s,
                left_s=None if status != "done" else 0.0,
                num_done=progress.num_done,
                num_total=progress.num_total,
                num_failed=progress.num_failed,
            )
        self._ended.set()
        self._changed()

    def _row(self, row: BenchRow) -> None:
        with self._lock:
            self._rows.append(row)
        self._changed()

    def _failure(self, failure: BenchFailure, error: GgufWidgetsError) -> None:
        with self._lock:
            if failure in self._failures:
                return
            self._failures.append(failure)
            self._errors.append(error)
            self._said.append(str(failure))
        self._changed()

    def _note(self, note: str) -> None:
        with self._lock:
            if note not in self._notes:
                self._notes.append(note)
                self._said.append(note)
        self._changed()

    def _say_at(self, model: str, test: str, phase: str) -> None:
        with self._lock:
            self._at = (model, test, phase)
        self._changed()

    def _changed(self) -> None:
        with self._lock:
            observers = list(self._observers)
        for callback in observers:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - whoever looks on must not end the measurement
                _log.exception("An observer of a measurement failed")
