"""Run a long command with its output in a log file, showing that it is alive.

Promises: one line when it starts, one every half minute while it runs, and none of its chatter; the
command and everything it started are ended when the time limit passes or when this program is
interrupted. Leaves to others: what a failure means (`install.py`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HEARTBEAT_S = 30.0


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def run_logged(
    command: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    what: str,
    limit_s: float,
    environment: dict[str, str] | None = None,
) -> int:
    """Run a command to its end and return its exit status; 124 means the limit passed.

    Parameters
    ----------
    command : sequence of str or path
    log : Path
        Overwritten; gets the command line and everything the command prints.
    what : str
        Names the work in the heartbeat lines.
    limit_s : float
        After this many seconds the command and its children are ended.
    environment : dict, optional
        Used instead of this program's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        output.write((" ".join(map(str, command)) + "\n").encode())
        output.flush()
        # A session of its own, so that ending it ends the compilers it started as well.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        # A plain `kill` or a closed terminal must not leave a compile running behind.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            return _wait(process, log, what, limit_s)
        finally:
            _end(process)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _wait(process: subprocess.Popen[bytes], log: Path, what: str, limit_s: float) -> int:
    start = time.monotonic()
    while True:
        passed = time.monotonic() - start
        if passed >= limit_s:
            say(f"  {what}: stopped, it took longer than {limit_s / 60:.0f} minutes.")
            return 124
        try:
            return process.wait(timeout=min(HEARTBEAT_S, limit_s - passed))
        except subprocess.TimeoutExpired:
            seconds = int(time.monotonic() - start)
            say(f"  {what}: {seconds // 60} min {seconds % 60:02d} s{_step(log)}")


def _step(log: Path) -> str:
    """Say how far a compile has come, from the "[12/290]" that build tools print."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        found = re.findall(rb"\[(\d+)/(\d+)\]", stream.read())
    return f", step {int(found[-1][0])} of {int(found[-1][1])}" if found else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=5)


def tail(log: Path, lines: int) -> str:
    """Return the last lines of a log that say something."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


if __name__ == "__main__":
    sys.exit("This file is a helper of install.py.")
