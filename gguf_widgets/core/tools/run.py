"""One call of a tool: on a thread of its own, with an end in any case.

Promises: `Run.wait` returns within the time limit, or at once after `stop`, whatever the function
does: returns, raises anything at all (also ``SystemExit`` and ``KeyboardInterrupt``), prints, or
never comes back. A thread cannot be ended from outside in Python: one that does not come back goes
on, its result is thrown away, and the outcome says so. An ``async`` function is cancelled. Of one
tool at most `MAX_HANGING` runs are left hanging; then it is refused.
Leaves to others: whether it may run at all, and who is told (`core.chat.tools`).
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import threading
import time
import traceback
from typing import Any

from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_duration
from gguf_widgets.core.tools.printing import Printed
from gguf_widgets.core.tools.results import to_text
from gguf_widgets.core.tools.toolbox import Tool

__all__ = ["MAX_HANGING", "Outcome", "Run"]

MAX_HANGING = 4
_MAX_ERROR = 2000
_CANCEL_WAIT_S = 0.5

_log = logging.getLogger(__name__)

_lock = threading.Lock()
_hanging: collections.Counter[int] = collections.Counter()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes
    ----------
    result : str or None
        In words, if it came back well.
    error : str or None
        Else: the exception's type and message, or what else happened.
    printed : str
    total_s : float
    stopped : bool
        Whether the person stopped it.
    """

    result: str | None
    error: str | None
    printed: str
    total_s: float
    stopped: bool = False


class Run:
    """A call under way.

    Parameters
    ----------
    tool : Tool
    arguments : dict
        As they came from JSON; what does not fit is an error in the outcome.
    timeout_s : float
    """

    def __init__(self, tool: Tool, arguments: dict[str, Any], timeout_s: float) -> None:
        self._tool = tool
        self._arguments = arguments
        self._timeout_s = timeout_s
        self._printed = Printed()
        self._over = threading.Event()  # it has ended, or nobody waits any more
        self._stopped = False
        self._result: str | None = None
        self._error: str | None = None
        self._done = False
        self._given_up = False
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def stop(self) -> None:
        """End the waiting at once; any thread may call this."""
        self._stopped = True
        self._over.set()

    def wait(self) -> Outcome:
        """Run it, and return what came of it."""
        begun = time.perf_counter()

        def outcome(result: str | None, error: str | None) -> Outcome:
            total_s = time.perf_counter() - begun
            return Outcome(result, error, well_formed(self._printed.text), total_s, self._stopped)

        with _lock:
            hanging = _hanging[id(self._tool.function)]
        if hanging >= MAX_HANGING:
            return outcome(
                None,
                f"{hanging} earlier calls of {self._tool.name} have not come back and still run."
                " Restart Python to be rid of them.",
            )
        try:
            keywords = self._tool.bind(self._arguments)
        except InvalidValueError as error:
            return outcome(None, f"The arguments do not fit: {error.message}")
        thread = threading.Thread(
            target=self._run, args=(keywords,), name=f"tool-{self._tool.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left
            return outcome(None, f"It could not be started: {error}.")
        self._over.wait(self._timeout_s)
        if not self._done:
            self._cancel()
        with _lock:
            done = self._done
            if not done:
                self._given_up = True
                _hanging[id(self._tool.function)] += 1
        if done:
            return outcome(self._result, self._error)
        self._printed.release()
        still = (
            "It is a function of Python, which cannot be ended from outside: it may still be"
            " running, and have its effect."
        )
        if self._stopped:
            return outcome(None, f"You stopped it. {still}")
        return outcome(
            None, f"It did not come back within {format_duration(self._timeout_s)}. {still}"
        )

    # -- on the tool's thread ---------------------------------------------------------------------

    def _run(self, keywords: dict[str, Any]) -> None:
        result: str | None = None
        error: str | None = None
        try:
            with self._printed:
                try:
                    result = to_text(self._call(keywords))
                except BaseException as failure:  # noqa: BLE001 - SystemExit too: it is theirs
                    error = self._words(failure)
        finally:
            with _lock:
                if self._given_up:
                    _hanging[id(self._tool.function)] -= 1
                else:
                    self._result, self._error = result, error
                    self._done = True
            self._over.set()

    def _call(self, keywords: dict[str, Any]) -> Any:
        if not self._tool.is_async:
            return self._tool.function(**keywords)
        return asyncio.run(self._call_async(keywords))

    async def _call_async(self, keywords: dict[str, Any]) -> Any:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        return await self._tool.function(**keywords)

    def _cancel(self) -> None:
        """Cancel an async function, and give it a moment to come to its end."""
        loop, task = self._loop, self._task
        if loop is None or task is None:
            return
        self._over.clear()
        self._cancelled = True
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # it has just ended
            return
        self._over.wait(_CANCEL_WAIT_S)

    def _words(self, failure: BaseException) -> str:
        if isinstance(failure, asyncio.CancelledError) and self._cancelled:
            if self._stopped:
                return "You stopped it; it was cancelled."
            return (
                f"It did not come back within {format_duration(self._timeout_s)}; it was cancelled."
            )
        kind = type(failure).__name__
        try:
            said = failure.message if isinstance(failure, GgufWidgetsError) else str(failure)
        except BaseException:  # noqa: BLE001 - an exception whose own words fail has no words
            said = "(its message cannot be read)"
        _log.info("The tool %r failed", self._tool.name, exc_info=failure)
        words = f"{kind}: {said}" if said else kind
        return well_formed(words)[:_MAX_ERROR] + self._place(failure)

    def _place(self, failure: BaseException) -> str:
        """Say where in the person's own code it happened."""
        frames = traceback.extract_tb(failure.__traceback__)
        theirs = getattr(self._tool.function, "__code__", None)
        lines = [f.lineno for f in frames if theirs and f.filename == theirs.co_filename]
        return f" (line {lines[-1]})" if lines else ""
