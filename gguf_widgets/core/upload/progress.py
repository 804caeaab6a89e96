"""How far an upload is, in plain data for a widget.

Promises: the speed is a steady figure (bytes over the last ten seconds, not of one piece) and is
unknown rather than wrong at the beginning and after a pause; times are never negative, whatever the
clock does. Leaves to others: showing it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import WireError

__all__ = ["SpeedMeter", "Upload", "UploadOwner"]

_WINDOW_S: Final = 10.0
_STEP_S: Final = 0.25
# Less than this says more about buffers than about the network.
_LEAST_S: Final = 0.5
# After so long without a byte, what came before says nothing any more.
_GAP_S: Final = 5.0


class UploadOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Who is writing an upload.

    Attributes
    ----------
    label : str
        What the page called itself, or "".
    host : str
    pid : int
        The server's or kernel's process.
    is_this_process : bool
    active_s_ago : float
        Seconds since it was last heard of.
    """

    label: str
    host: str
    pid: int
    is_this_process: bool
    active_s_ago: float


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One upload as it stands; `to_dict` makes JSON's types of it.

    Attributes
    ----------
    id : str
        32 hexadecimal digits.
    name : str
        The name it will have in the models folder.
    given_name : str
        The name the browser gave.
    told : str
        A sentence if these two differ, else "".
    size : int
        Bytes in the whole file.
    offset : int
        Everything before this byte is in the part file. The next one to send.
    send_from : int
        Where a page that goes on should begin: a little before `offset`, so that the server can
        see that it is still the same file. Equal to `offset` for one that does go on already.
    writer : str
        The right to write; only in the answer to `begin` and `resume`, else "".
    state : str
        "waiting" (for its turn), "receiving", "paused", "checking", "failed" (see `error`), "done",
        "already_there" (see `path`), "damaged" (its state file cannot be read).
    place : int
        How many uploads have to end before this one may run; 0 if it may.
    bytes_per_s, seconds_left : float or None
        None until they are known.
    num_hashed_bytes : int
        How far SHA-256 is; it may run behind after a resume.
    sha256 : str
        When it is "done" or "already_there", else "".
    path : str
        Where the finished file is, or the same file that was there already; else "".
    kind : str
        "model", "split_part", "adapter", "projector", or "" until the header has arrived.
    notes : list of str
        Sentences for the person: that it is an adapter, that something like it is there already.
    looks_like : str
        The name of a file in the models folder of the same size and beginning, or "". Only the
        whole file's SHA-256 can tell whether it is the same.
    age_s : float
        Seconds since something last arrived.
    owner : UploadOwner or None
        Who is writing it now.
    error : WireError or None
        Why the last attempt to finish failed.
    """

    id: str
    name: str
    given_name: str
    size: int
    offset: int
    state: str
    told: str = ""
    send_from: int = 0
    writer: str = ""
    place: int = 0
    bytes_per_s: float | None = None
    seconds_left: float | None = None
    num_hashed_bytes: int = 0
    sha256: str = ""
    path: str = ""
    kind: str = ""
    notes: list[str] = []
    looks_like: str = ""
    age_s: float = 0.0
    owner: UploadOwner | None = None
    error: WireError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class SpeedMeter:
    """A steady speed from irregular arrivals."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._last = 0.0
        self._total = 0

    def add(self, num_bytes: int, now: float) -> None:
        """Count bytes that arrived by `now` (seconds on a clock that does not go back)."""
        if self._marks and now - self._last > _GAP_S:
            self._marks.clear()
        if not self._marks:
            # How long the first bytes took is not known: the clock starts behind them.
            self._total, num_bytes = 0, 0
        self._last = now
        self._total += num_bytes
        if not self._marks or now - self._marks[-1][0] >= _STEP_S:
            self._marks.append((now, self._total))
        while len(self._marks) > 1 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()

    def bytes_per_s(self, now: float) -> float | None:
        """Return the speed, or None if it is not known."""
        if not self._marks or now - self._last > _GAP_S:
            return None
        since, before = self._marks[0]
        # A stall counts as well: the figure falls while nothing comes.
        span = now - since
        return (self._total - before) / span if span >= _LEAST_S else None
