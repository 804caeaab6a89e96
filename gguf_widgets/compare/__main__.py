"""The process that carries out a comparison: ``python -m gguf_widgets.compare --store FILE ID``.

Promises: one line of JSON on standard output, ``{"at_it": true}`` or ``{"error": ...}``, and
nothing more, so that whoever started it may go away; then the comparison, to its end. A polite
signal (SIGTERM, or Ctrl+C) stops it: what is done is kept, and it can be gone on with. Started by
`process`. Leaves to others: the comparison (`comparison`).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.types import ComparisonStatus
from gguf_widgets.core.errors import GgufWidgetsError, to_wire
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store

_log = logging.getLogger("gguf_widgets.compare")


def main(arguments: list[str] | None = None) -> int:
    """Carry out a comparison and return the exit status: 0, or 1 if it could not go on."""
    parser = argparse.ArgumentParser(prog="python -m gguf_widgets.compare")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("comparison_id")
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
            comparison = Comparison.open(options.comparison_id, store=store, manager=manager)
            comparison.start()
        except GgufWidgetsError as error:
            _log.error("The comparison was not begun: %s", error.message)
            _say({"error": to_wire(error)})
            return 1
        _log.info("At comparison %s, as process %d", comparison.id, os.getpid())
        _say({"at_it": True})
        return _carry_out(comparison, stopping)


def _carry_out(comparison: Comparison, stopping: threading.Event) -> int:
    while comparison.is_here:
        if stopping.is_set():
            _log.info("Asked by a signal to stop")
            comparison.stop()
        with contextlib.suppress(TimeoutError, GgufWidgetsError):  # the store has the error
            comparison.wait(0.5)
    status = comparison.status
    _log.info("The comparison has ended: %s. %s", status.value, comparison.error or "")
    return 1 if status is ComparisonStatus.FAILED else 0


def _say(answer: dict[str, Any]) -> None:
    """Tell whoever started this; nobody may be there any more."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(msgspec.json.encode(answer, enc_hook=str) + b"\n")
        sys.stdout.flush()
    # Its reader sees the end, and nothing written later goes astray.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    raise SystemExit(main())
