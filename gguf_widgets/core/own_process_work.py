"""What a process of our own does that was started for a piece of work in the store.

Promises: one line of JSON on standard output, ``{"at_it": true}`` or ``{"error": ...}``, and
nothing more, so that whoever started it may go away; then the work, to its end. A polite signal
(SIGTERM, or Ctrl+C) stops it: what is done is kept, and it can be gone on with. Leaves to others:
the work itself, starting the process (`own_process_start`).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gguf_widgets.core.errors import GgufWidgetsError, to_wire
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store

__all__ = ["OwnWork", "carry_out"]


class OwnWork(Protocol):
    """A piece of work that is under way in this process; a batch run, say."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def is_here(self) -> bool:
        """Whether it goes on."""

    @property
    def status(self) -> Any:
        """How it stands: an enumeration of texts, of which "failed" is one."""

    @property
    def error(self) -> str | None:
        """Why it could not go on."""

    def stop(self) -> object:
        """Stop it; what is done is kept."""

    def wait(self, timeout_s: float | None = None) -> object:
        """Wait for its end, or raise `TimeoutError`."""


def carry_out(
    module: str,
    what: str,
    begin: Callable[[str, Store, ModelManager], OwnWork],
    arguments: list[str] | None = None,
) -> int:
    """Carry out a piece of work: ``python -m MODULE --store FILE ID``.

    Parameters
    ----------
    module : str
        The package that is run.
    what : str
        What the work is called: "run".
    begin : callable
        Takes the id, the store and a manager; returns the work, begun, or raises why not.
    arguments : list of str, optional
        Default: the command line's.

    Returns
    -------
    int
        The exit status: 0, or 1 if it could not go on.
    """
    log = logging.getLogger(module)
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("id")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    stopping = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, lambda _number, _frame: stopping.set())
    with Store(options.store) as store, ModelManager() as manager:
        try:
            work = begin(options.id, store, manager)
        except GgufWidgetsError as error:
            words = "The %s was not begun: %s"
            log.error(words, what, error.message)  # noqa: TRY400 - known: no traceback is needed
            _say({"error": to_wire(error)})
            return 1
        log.info("At %s %s, as process %d", what, work.id, os.getpid())
        _say({"at_it": True})
        while work.is_here:
            if stopping.is_set():
                log.info("Asked by a signal to stop")
                work.stop()
            with contextlib.suppress(TimeoutError, GgufWidgetsError):  # the store has the error
                work.wait(0.5)
        log.info("The %s has ended: %s. %s", what, work.status.value, work.error or "")
        return 1 if work.status.value == "failed" else 0


def _say(answer: dict[str, Any]) -> None:
    """Tell whoever started this; nobody may be there any more."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(msgspec.json.encode(answer, enc_hook=str) + b"\n")
        sys.stdout.flush()
    # Its reader sees the end, and nothing written later goes astray.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
