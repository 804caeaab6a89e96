"""The command ``runs``: the runs over tables, listed and steered; and the line that shows one.

Promises: standard output has the list alone, as a table or as JSON; a run is steered through the
store, so whoever carries it out heeds it. Leaves to others: beginning runs (`cli_run`), the work
(`batch`), errors (`cli`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text

if TYPE_CHECKING:
    from gguf_widgets.batch.progress import Progress
    from gguf_widgets.batch.run import BatchRun

__all__ = ["RunLine", "add_commands", "facts_of"]

_LINE_EVERY_S: Final = 10.0

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the command to the program's own; see `cli_run.add_commands`."""
    command = add("runs", _runs, "List the runs over tables, or steer one that is going on.")
    command.add_argument("--limit", type=int, default=20, metavar="N", help="the newest N (20)")
    command.add_argument("--json", action="store_true", help="for programs")
    steer = command.add_mutually_exclusive_group()
    for name, words in (
        ("pause", "finish the rows that it is at, and wait"),
        ("go-on", "go on after a pause"),
        ("stop", "end it; what is done is kept"),
    ):
        steer.add_argument(f"--{name}", metavar="ID", help=words)


def facts_of(run: BatchRun) -> dict[str, Any]:
    """Return what programs want to know of a run."""
    counts = run.counts
    return {
        "id": run.id,
        "title": run.title,
        "created_at": run.created_at,
        "status": run.status.value,
        "done": counts.done,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "waiting": counts.waiting,
        "error": run.error,
    }


def _runs(arguments: argparse.Namespace) -> int:
    from gguf_widgets.batch.processor import runs

    for name in ("pause", "go_on", "stop"):
        wanted = getattr(arguments, name)
        if wanted is not None:
            return _steer(name, wanted)
    if arguments.limit < 1:
        raise InvalidValueError(f"--limit is {arguments.limit}; it must be 1 or more.")
    found = runs(limit=arguments.limit)
    if arguments.json:
        return _put(json.dumps([facts_of(run) for run in found], indent=2))
    if not found:
        return _put(
            "There are no runs yet. To begin one: gguf-widgets run TABLE.csv --prompt "
            "'About {text}'"
        )
    from gguf_widgets.core import tables

    rows = [_listed(run) for run in found]
    return _put(tables.as_text(["id", "title", "begun", "status", "done", "failed", "left"], rows))


def _listed(run: BatchRun) -> list[str]:
    counts = run.counts
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_at))
    done = f"{counts.done + counts.skipped:,} of {counts.total:,}"
    left = f"{counts.waiting:,}" if counts.waiting else ""
    failed = f"{counts.failed:,}" if counts.failed else ""
    return [run.id[:8], plain_text(run.title, 40), begun, run.status.value, done, failed, left]


def _steer(what: str, run_id: str) -> int:
    from gguf_widgets.batch.run import BatchRun
    from gguf_widgets.core.manager import default_manager
    from gguf_widgets.core.store.batch_runs import BatchRuns
    from gguf_widgets.core.store.batch_types import RunWish
    from gguf_widgets.core.store.store import default_store

    runs = BatchRuns(default_store())
    found = runs.find(run_id)
    wish = {"pause": RunWish.PAUSE, "go_on": RunWish.GO_ON, "stop": RunWish.STOP}[what]
    runs.ask(found.id, wish)
    if wish is RunWish.STOP:
        BatchRun(found.id, default_store(), default_manager()).stop()
        return _put(f"Run {found.id[:8]}: {runs.get(found.id).status.value}")
    return _put(f"Run {found.id[:8]} was asked to {wish.value}.")


def _put(text: str) -> int:
    sys.stdout.write(f"{text}\n")
    return 0


class RunLine:
    """How far a run is: one line that changes on a terminal, or a line now and then.

    Parameters
    ----------
    stream : TextIO
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._shown = 0
        self._said_at = time.monotonic()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def update(self, progress: Progress) -> None:
        """Show it."""
        text = f"{progress.fraction:4.0%}  {plain_text(str(progress), 500)}"
        if self._live:
            text = text[: max(20, shutil.get_terminal_size().columns - 1)]
            self._stream.write("\r" + text.ljust(self._shown))
            self._stream.flush()
            self._shown = len(text)
        elif text != self._last and time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._stream.write(f"{text}\n")
            self._stream.flush()
            self._said_at, self._last = time.monotonic(), text

    def note(self, sentence: str) -> None:
        """Print a sentence that stays."""
        self._clear()
        self._stream.write(f"{plain_text(sentence, 2000)}\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._live and self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0
