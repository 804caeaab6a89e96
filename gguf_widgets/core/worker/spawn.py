"""Starting a worker process, and saying in words how one ended.

Promises: the process is in a session of its own (an interrupt in a notebook does not reach it),
inherits no descriptors, writes to a log file, and is reaped when it ends: this process has no
zombies, and what a killed worker could not clear away is cleared away. Leaves to others: waiting
until it listens (`attach`), what it does (`__main__`), its environment (`environment`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from gguf_widgets.core import config
from gguf_widgets.core.errors import WorkerDiedError, WorkerStartError
from gguf_widgets.core.worker import registry
from gguf_widgets.core.worker.environment import process_environment
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.worker.spec import WorkerSpec

__all__ = [
    "WorkerProcess",
    "did_not_start",
    "died",
    "kill",
    "log_tail",
    "start",
    "terminate",
    "wait_gone",
]

# Logs of workers that have ended; the newest are kept.
_NUM_LOGS_KEPT = 20


class WorkerProcess:
    """A worker that this process started; a small thread waits for its end.

    Attributes
    ----------
    pid : int
    log_path : Path
    """

    # By their logs: a process's number may be given to another one later, a log's name is not.
    _started: dict[str, WorkerProcess] = {}

    def __init__(self, popen: subprocess.Popen[bytes], log_path: Path, name: str) -> None:
        self.pid = popen.pid
        self.log_path = log_path
        self._popen = popen
        self._name = name
        self._folder = config.runtime_dir()
        self._ended = threading.Event()
        WorkerProcess._started[str(log_path)] = self
        threading.Thread(
            target=self._reap, name=f"gguf-widgets-reaper-{self.pid}", daemon=True
        ).start()

    @classmethod
    def of(cls, log_path: str | Path | None) -> WorkerProcess | None:
        """Return the worker that writes this log if this process started it."""
        return cls._started.get(str(log_path))

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; return the exit status (negative: the signal), or None if it lives."""
        return self._popen.returncode if self._ended.wait(timeout_s) else None

    def kill(self) -> None:
        """End the worker at once, if it lives."""
        self._popen.kill()

    def _reap(self) -> None:
        self._popen.wait()
        registry.clear_away(self._folder, self._name)
        self._ended.set()


def start(spec: WorkerSpec, name: str, identity: str, keep_alive_s: float) -> WorkerProcess:
    """Start a worker; it is not listening yet when this returns.

    Raises
    ------
    WorkerStartError
        If the system does not start it.
    """
    if not sys.executable:
        raise WorkerStartError(
            "Python does not know the path of its own program, so no worker can be started."
        )
    folder = config.ensure(config.log_dir(), private=True)
    _prune_logs(folder)
    log_path = folder / f"worker-{name}.log"
    command = [
        sys.executable,
        "-P",  # a file in the working folder must not stand in for a module
        "-X",
        "faulthandler",  # a crash in native code leaves its place in the log
        "-m",
        "gguf_widgets.core.worker",
        f"--name={name}",
        f"--identity={identity}",
        f"--keep-alive={keep_alive_s}",
        f"--log={log_path}",
        f"--spec={spec.to_argument()}",
        "--",
        spec.path,
    ]
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            popen = subprocess.Popen(  # noqa: S603 - our own module, and no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=config.ensure(config.data_dir()),
                env=process_environment(),
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
                | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        finally:
            os.close(log)
    except OSError as error:
        raise WorkerStartError(
            f"The process that runs the model could not be started: {error}."
        ) from error
    return WorkerProcess(popen, log_path, name)


def _prune_logs(folder: Path) -> None:
    in_use = {entry.log_path for entry in registry.list_processes()}
    logs = [path for path in folder.glob("worker-*.log") if str(path) not in in_use]
    with contextlib.suppress(OSError):  # another process may be pruning as well
        logs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[_NUM_LOGS_KEPT - 1 :]:
            path.unlink(missing_ok=True)


def kill(entry: Entry) -> None:
    """End a worker that does not answer, at once; its number is checked first."""
    if _send(entry, lambda process: process.kill()):
        wait_gone(entry, 5.0)


def terminate(entry: Entry) -> bool:
    """Tell a worker by a signal to end; return whether there was one to tell."""
    return _send(entry, lambda process: process.terminate())


def _send(entry: Entry, signal_it: Callable[[psutil.Process], None]) -> bool:
    # One object for looking and for sending: it notices if the number has changed hands between.
    process = registry.process_of(entry)
    if process is None:
        return False
    try:
        signal_it(process)
    except psutil.NoSuchProcess:
        return False
    return True


def wait_gone(entry: Entry, timeout_s: float) -> bool:
    """Wait until a worker's process is gone; return whether it is."""
    own = WorkerProcess.of(entry.log_path)
    if own is not None:
        return own.wait(timeout_s) is not None
    deadline = time.monotonic() + timeout_s
    while registry.is_alive(entry):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def died(pid: int, log_path: str | Path | None, while_doing: str) -> WorkerDiedError:
    """Return the error for a worker whose connection ended without a goodbye.

    Parameters
    ----------
    pid : int
    log_path : str or Path or None
    while_doing : str
        How the message ends: what this means for the person.
    """
    own = WorkerProcess.of(log_path)
    # The connection closes a moment before the system reports the end.
    status = own.wait(2.0) if own is not None else None
    tail = log_tail(log_path)
    details: dict[str, object] = {"pid": pid, "exit_status": status, "last_log_lines": tail}
    if status is not None and status < 0:
        details["signal"] = -status
    return WorkerDiedError(
        f"The process that runs the model {_story(status)}.{_last_words(tail)} {while_doing}",
        **details,
    )


def did_not_start(process: WorkerProcess, status: int | None) -> WorkerStartError:
    """Return the error for a worker that ended before anybody could talk to it."""
    crashed = status is not None and status < 0
    tail = log_tail(process.log_path, with_traceback=not crashed)
    return WorkerStartError(
        f"The process that runs the model {_story(status)} before it was ready.{_last_words(tail)} "
        f"Its log: {process.log_path}",
        exit_status=status,
        last_log_lines=tail,
    )


def _story(status: int | None) -> str:
    if status is None:
        return "ended without a word"
    if status >= 0:
        return f"ended by itself (exit status {status})"
    name = _signal_name(-status)
    if name == "SIGKILL":
        return f"was killed (signal {-status}), as the system does when memory runs out"
    if name == "SIGBUS":
        # The weights are mapped from the file, so a file that shrinks takes them away.
        return (
            f"crashed (signal {-status}, SIGBUS), as happens when the model file is changed or cut "
            "short while it is in use"
        )
    return f"crashed (signal {-status}, {name})"


def _last_words(tail: list[str]) -> str:
    return f" Its last words: {' / '.join(tail).rstrip('.')}." if tail else ""


def log_tail(
    log_path: str | Path | None, num_lines: int = 3, *, with_traceback: bool = False
) -> list[str]:
    """Return the last lines that tell of an end: no notes or warnings, no stack unless asked."""
    if log_path is None:
        return []
    try:
        with Path(log_path).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    # What faulthandler and Python print after the actual message is for the log's reader only.
    if not with_traceback:
        text = text.partition("Fatal Python error:")[0].partition("Traceback (most")[0]
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not re.search(" (INFO|WARNING) ", line)]
    return [line[:300] for line in telling[-num_lines:]]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _forget_in_child() -> None:
    """In a forked child, which is no parent of these workers and has none of the threads."""
    WorkerProcess._started.clear()  # noqa: SLF001 - this module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
