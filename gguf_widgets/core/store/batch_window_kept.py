"""What was found out about a run's rows and will be asked for again: orders, and who fits.

Promises: what is kept is right for the state of the run that it was asked of; at most 64 MiB of
orders and 32 conditions; an order that is just being made is waited for and not made twice. For
runs of a size where it is felt, the orders by the columns are made beforehand, in a thread of its
own with a connection of its own, which ends when they are there, when the run changes, or when
nobody looks at the run any more. Leaves to others: making them (`batch_window_search`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kept", "Wanted"]

_MOST_BYTES: Final = 64 * 2**20
_MOST_MASKS: Final = 32  # each an eighth of a byte a row
_WAIT_S: Final = 2.0
_FEWEST, _MOST = 10_000, 500_000  # rows of which the orders are made beforehand
_MOST_MADE: Final = 24  # orders
_STEPS: Final = 100_000  # of SQLite between two looks at whether to go on

_Key = tuple[Any, ...]
_log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """An order to be made beforehand: what it is kept as, and what makes it."""

    key: _Key
    make: Callable[[sqlite3.Connection], Any]


class _Orders:
    """The orders, for whichever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[_Key, Any] = {}
        self._made: dict[_Key, threading.Event] = {}

    def get(self, key: _Key) -> Any:
        with self._lock:
            order = self._kept.get(key)
            made = self._made.get(key)
        if order is None and made is not None and made.wait(_WAIT_S):
            with self._lock:
                order = self._kept.get(key)
        return order

    def put(self, key: _Key, order: Any) -> None:
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = order
            size = sum(one.nbytes for one in self._kept.values())
            while size > _MOST_BYTES and len(self._kept) > 1:
                size -= self._kept.pop(next(iter(self._kept))).nbytes

    @contextlib.contextmanager
    def making(self, key: _Key) -> Any:
        """Let others wait for this order meanwhile; give whether it has to be made at all."""
        with self._lock:
            is_new = key not in self._kept
            done = self._made[key] = threading.Event()
        try:
            yield is_new
        finally:
            with self._lock:
                self._made.pop(key, None)
            done.set()


class Kept:
    """What is kept for one window."""

    def __init__(self) -> None:
        self._orders = _Orders()
        self._masks: dict[_Key, tuple[int, NDArray[np.uint8]]] = {}
        self._stop = threading.Event()
        self._prepared: int | None = None
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._stop.set).atexit = False

    def order(self, key: _Key) -> Any:
        """Return an order, which may just be being made; None if it is not known."""
        return self._orders.get(key)

    def put_order(self, key: _Key, order: Any) -> Any:
        """Keep an order, and return it; the oldest go where there is too much."""
        self._orders.put(key, order)
        return order

    def mask(self, key: _Key, make: Callable[[], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Return who fits a condition; made if it is not known."""
        known = self._masks.pop(key, None)
        if known is None:
            mask = make()
            known = len(mask), np.packbits(mask)
        else:
            mask = np.unpackbits(known[1], count=known[0]).view(np.bool_)
        self._masks[key] = known
        while len(self._masks) > _MOST_MASKS:
            del self._masks[next(iter(self._masks))]
        return mask

    def prepare(
        self,
        path: Path,
        num_tasks: int,
        state: int,
        is_state: Callable[[sqlite3.Connection], bool],
        wanted: Callable[[], Iterable[Wanted]],
    ) -> None:
        """Have orders made, in the background; once for each state of the run.

        Parameters
        ----------
        path : Path
            The store's file.
        num_tasks : int
        state : int
            The run's.
        is_state : callable
            Says whether that is still the state.
        wanted : callable
            Returns them, the most likely first; only called where they are to be made.
        """
        if not _FEWEST <= num_tasks <= _MOST or state == self._prepared:
            return
        if self._thread is not None and self._thread.is_alive():
            return  # it sees that the state is another, and ends; the next look begins anew
        self._prepared = state
        given = [one for _, one in zip(range(_MOST_MADE), wanted(), strict=False)]
        self._thread = threading.Thread(
            target=_make_all,
            args=(self._orders, self._stop, path, is_state, given),
            name="BatchWindow-orders",
            daemon=True,
        )
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for what is being made; return whether it is done."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()


def _make_all(
    orders: _Orders,
    stop: threading.Event,
    path: Path,
    is_state: Callable[[sqlite3.Connection], bool],
    wanted: Sequence[Wanted],
) -> None:
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=1)) as connection:
            connection.isolation_level = None
            connection.set_progress_handler(lambda: stop.is_set() or None, _STEPS)
            for one in wanted:
                with orders.making(one.key) as is_new:
                    if stop.is_set():
                        return
                    if not is_new:
                        continue
                    connection.execute("BEGIN")
                    if not is_state(connection):
                        return
                    orders.put(one.key, one.make(connection))
                    connection.execute("COMMIT")
    except sqlite3.Error as error:
        # Whoever wants such an order makes it, and is told what is wrong with the store.
        _log.debug("Orders were not made beforehand: %s", error)
