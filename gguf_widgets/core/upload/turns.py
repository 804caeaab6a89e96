"""Which of several uploads may run: pure policy, without a clock or a file.

Promises: at most `max_running` at a time, the others in the order in which they came; one whose
page says nothing for `SILENCE_S` seconds loses its turn to those behind it (a page that was closed
must not stop the others) and stands at the end of the queue when it speaks again. Leaves to others:
what time it is (each call is told), locking, and refusing what is written out of turn (`store`).
"""

from __future__ import annotations

from typing import Final

from gguf_widgets.core.errors import InvalidValueError

__all__ = ["SILENCE_S", "UploadTurns"]

SILENCE_S: Final = 30.0


class UploadTurns:
    """The queue of one process.

    Parameters
    ----------
    max_running : int, default 1
        How many may run at a time. One is best for one disk and one network: several only make
        each other slower.

    Raises
    ------
    InvalidValueError
        `max_running` is less than 1.
    """

    def __init__(self, max_running: int = 1) -> None:
        if max_running < 1:
            raise InvalidValueError(f"max_running is {max_running}; it must be 1 or more.")
        self._max_running = max_running
        self._heard: dict[str, float] = {}  # in the order of the queue

    def hear(self, upload_id: str, now: float) -> int:
        """Note that an upload's page is there, and return its place: 0 means that it may run.

        Parameters
        ----------
        upload_id : str
            Joins at the end if it is not in the queue.
        now : float
            Seconds on any clock that does not go back.
        """
        self._drop_silent(now)
        self._heard[upload_id] = now
        return self.place(upload_id, now)

    def place(self, upload_id: str, now: float) -> int:
        """Return how many have to end before this one may run; for a stranger, if it joined."""
        self._drop_silent(now)
        ahead = list(self._heard)
        index = ahead.index(upload_id) if upload_id in self._heard else len(ahead)
        return max(0, index - self._max_running + 1)

    def leave(self, upload_id: str) -> None:
        """Take an upload out of the queue; one that is not in it is fine."""
        self._heard.pop(upload_id, None)

    def running(self, now: float) -> list[str]:
        """Return the uploads that may run, in order."""
        self._drop_silent(now)
        return list(self._heard)[: self._max_running]

    def _drop_silent(self, now: float) -> None:
        for upload_id in [one for one, at in self._heard.items() if now - at >= SILENCE_S]:
            del self._heard[upload_id]
