"""Looks for patterns in texts that nobody vouches for, for a bounded time.

Promises: a search ends within its limit and the program goes on, whatever the pattern and the text
are; the process that does it is one for many searches, and is gone after `close`, or when this one
dies. Leaves to others: the searching itself (`pattern_child`).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError

__all__ = ["Found", "PatternProcess", "PatternTimeoutError"]

LIMIT_S: Final = 2.0
MAX_CHARS: Final = 1_000_000
_MAX_BYTES: Final = 1 << 30
_LATE_S: Final = 10.0  # beyond its own limit, it hangs: the system has stopped it, say
_CHILD: Final = Path(__file__).with_name("pattern_child.py")

Found = dict[str, Any]
"""``found`` (bool), ``caught`` (str or None: the first group), ``groups`` (how many there are)."""


class PatternTimeoutError(GgufWidgetsError):
    """Looking for the pattern took too long and was given up."""


class PatternProcess:
    """A process that looks for patterns; started with the first search. Use it in one thread.

    Parameters
    ----------
    limit_s : float, default 2
        The longest time for one search.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None

    def look(self, pattern: str, text: str, *, flags: int = 0, whole: bool = False) -> Found:
        """Return whether a pattern is in a text.

        Parameters
        ----------
        pattern, text : str
        flags : int
            Of `re`.
        whole : bool, default False
            The text as a whole must match.

        Raises
        ------
        PatternTimeoutError
            It took longer than the limit, or more memory than there is for it.
        InvalidValueError
            The pattern is none, or the text is longer than a million characters.
        """
        if len(text) > MAX_CHARS:
            raise InvalidValueError(
                f"The text has {len(text):,} characters; a pattern is looked for in at most "
                f"{MAX_CHARS:,}.",
                limit=MAX_CHARS,
            )
        question = {"pattern": pattern, "text": text, "flags": flags, "whole": whole}
        answer = self._ask(json.dumps(question).encode() + b"\n")
        if answer is None:
            self.close()
            raise PatternTimeoutError(
                f"Looking for the pattern in this answer took longer than {self._limit_s:g} s and "
                "was given up. Patterns with repeats inside repeats, such as (a+)+, are slow.",
                limit_s=self._limit_s,
            )
        if "error" in answer:
            raise InvalidValueError(f"The pattern cannot be used: {answer['error']}.")
        return answer

    def _ask(self, line: bytes) -> Found | None:
        process = self._running()
        assert process.stdin is not None  # noqa: S101 - it was asked for
        assert process.stdout is not None  # noqa: S101 - as above
        # It ends itself at its limit; this is for one that the system does not let run.
        late = threading.Timer(self._limit_s + _LATE_S, process.kill)
        late.daemon = True
        late.start()
        try:
            process.stdin.write(line)
            process.stdin.flush()
            told = process.stdout.readline()
        except OSError:  # it has ended meanwhile
            return None
        finally:
            late.cancel()
        return json.loads(told) if told.endswith(b"\n") else None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(  # noqa: S603 - our own file, and no shell
                [sys.executable, "-I", str(_CHILD), str(self._limit_s), str(_MAX_BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt in a notebook is not meant for it
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        return self._process

    def close(self) -> None:
        """End the process; the next search starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.kill()
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
