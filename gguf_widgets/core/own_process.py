"""A Python process of our own that outlives this one.

Promises: it is in a session of its own, so that neither an interrupt in a notebook nor the end of
its parent reaches it; it inherits no descriptors, finds this very package and this data folder,
writes to a log file of its own, and is reaped when it ends. It may say one line on standard output,
for its parent. Leaves to others: what it does, and how it is told to end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gguf_widgets.core import config
from gguf_widgets.core.worker.environment import process_environment
from gguf_widgets.core.worker.spawn import log_tail

__all__ = ["OwnProcess"]

_NUM_LOGS_KEPT: Final = 20
_FIRST_LINE_BYTES: Final = 1 << 20


class OwnProcess:
    """A process that was started here.

    Parameters
    ----------
    module : str
        What ``python -m`` runs.
    arguments : sequence of str
    kind : str
        How its log is called; the newest 20 of a kind are kept.

    Attributes
    ----------
    pid : int
    log_path : Path

    Raises
    ------
    OSError
        The system does not start it.
    """

    def __init__(self, module: str, arguments: Sequence[str], kind: str) -> None:
        if not sys.executable:
            raise FileNotFoundError("Python does not know the path of its own program")
        folder = config.ensure(config.log_dir(), private=True)
        _prune_logs(folder, kind)
        self.log_path: Path = folder / f"{kind}-{time.time_ns()}-{os.getpid()}.log"
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own module, and no shell
                [
                    sys.executable,
                    "-P",  # a file in the working folder must not stand in for a module
                    "-X",
                    "faulthandler",  # a crash in native code leaves its place in the log
                    "-m",
                    module,
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # for its first line alone
                stderr=log,
                cwd=config.ensure(config.data_dir()),
                env=process_environment(),
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
                | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        finally:
            os.close(log)
        self.pid = self._popen.pid
        self._ended = threading.Event()
        # It must not stay behind as a zombie, which would look like a process that still works.
        threading.Thread(
            target=self._reap, name=f"gguf-widgets-reaper-{self.pid}", daemon=True
        ).start()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return not self._ended.is_set()

    def first_line(self, timeout_s: float) -> bytes | None:
        """Return what it says first, once; b"" if it ended without a word, None if it takes long.

        Nothing that it says later is read; it should close its standard output after the line.
        """
        found: list[bytes] = []
        pipe = self._popen.stdout
        assert pipe is not None  # noqa: S101 - it was asked for

        def read() -> None:
            with contextlib.suppress(OSError, ValueError), pipe:
                found.append(pipe.readline(_FIRST_LINE_BYTES))

        # A thread, since no system but POSIX can wait for a pipe for a while only.
        reader = threading.Thread(target=read, name="gguf-widgets-first-line", daemon=True)
        reader.start()
        reader.join(timeout_s)
        return None if reader.is_alive() else (found[0] if found else b"")

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end; return the exit status (negative: the signal), None if it lives."""
        return self._popen.returncode if self._ended.wait(timeout_s) else None

    def kill(self) -> None:
        """End it at once, if it lives."""
        self._popen.kill()

    def last_words(self) -> list[str]:
        """Return the last lines of its log that tell of an end."""
        return log_tail(self.log_path, with_traceback=True)

    def _reap(self) -> None:
        self._popen.wait()
        self._ended.set()


def _prune_logs(folder: Path, kind: str) -> None:
    """Remove the logs of long ago; those that are still written to are among the newest."""
    with contextlib.suppress(OSError):  # another process may be pruning as well
        logs = list(folder.glob(f"{kind}-*.log"))
        logs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[_NUM_LOGS_KEPT - 1 :]:
            path.unlink(missing_ok=True)
