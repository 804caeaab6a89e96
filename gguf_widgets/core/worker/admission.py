"""How much may be open in a worker at once, and the answer to whoever asks for more.

Promises: the number of open requests and the bytes of their messages stay within bounds, for each
client and for the worker; whoever is refused is told how much is open, the limit and when to try
again; a client that has next to nothing open is not refused because others have filled the worker.
Leaves to others: in which order the open requests are computed (`core.engine`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gguf_widgets.core.errors import WorkerBusyError
from gguf_widgets.core.format import format_bytes, format_duration

__all__ = ["Admission", "Limits"]

# Questions for figures, of one client: they are needed most when the worker is full.
_LIGHT_PER_CLIENT = 64

# How much the time since the last end of a request counts beside the earlier ones.
_NEWEST = 0.2

_SHORTEST_RETRY_S, _UNKNOWN_RETRY_S, _LONGEST_RETRY_S = 0.1, 1.0, 30.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds.

    Attributes
    ----------
    open_per_client : int
        More than this is a program that does not wait for its answers.
    open_in_all : int
    bytes_per_client, bytes_in_all : int
        Of the messages whose requests are open. In the worker a prompt takes up to ten times as
        much, as tokens.
    reserved : int
        So many open requests every client may have, also when the worker is full.
    """

    open_per_client: int = 1024
    open_in_all: int = 4096
    bytes_per_client: int = 64 * 1024 * 1024
    bytes_in_all: int = 128 * 1024 * 1024
    reserved: int = 8


@dataclass(slots=True)
class _Held:
    """What one client, or all of them, have open."""

    num: int = 0
    num_light: int = 0
    num_bytes: int = 0


class Admission:
    """Counts what is open.

    Parameters
    ----------
    limits : Limits, optional
    clock : callable, optional
        Seconds that never go back.
    """

    def __init__(
        self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits if limits is not None else Limits()
        self._clock = clock
        self._all = _Held()
        self._clients: dict[str, _Held] = {}
        self._last_end: float | None = None
        self._interval_s: float | None = None  # between two ends of requests, on average

    def admit(self, client_id: str, num_bytes: int, *, light: bool = False) -> None:
        """Count a request in; `release` is to be called with the same arguments when it ends.

        Parameters
        ----------
        client_id : str
        num_bytes : int
            The size of its message.
        light : bool, default False
            It asks for figures only.

        Raises
        ------
        WorkerBusyError
            If it has no room. Details: `scope` ("client" or "worker"), `unit` ("requests" or
            "bytes"), `open`, `limit`, and `retry_after_s`, a guess.
        """
        mine = self._clients.get(client_id) or _Held()
        if light:
            if mine.num_light >= _LIGHT_PER_CLIENT:
                raise self._busy("client", "requests", mine.num_light, _LIGHT_PER_CLIENT)
        else:
            self._check(mine, num_bytes)
        self._clients[client_id] = mine
        for held in (mine, self._all):
            if light:
                held.num_light += 1
            else:
                held.num += 1
                held.num_bytes += num_bytes

    def release(self, client_id: str, num_bytes: int, *, light: bool = False) -> None:
        """Count a request out."""
        mine = self._clients[client_id]
        for held in (mine, self._all):
            if light:
                held.num_light -= 1
            else:
                held.num -= 1
                held.num_bytes -= num_bytes
        if not mine.num and not mine.num_light:
            del self._clients[client_id]
        if light:
            return
        now = self._clock()
        if self._last_end is not None:
            newest = now - self._last_end
            before = self._interval_s
            self._interval_s = newest if before is None else before + _NEWEST * (newest - before)
        self._last_end = now

    def num_open(self, client_id: str | None = None) -> int:
        """Return how many requests of a client, or of all, are counted in, light ones aside."""
        held = self._all if client_id is None else self._clients.get(client_id)
        return held.num if held is not None else 0

    # --- inside ---

    def _check(self, mine: _Held, num_bytes: int) -> None:
        limits, everybody = self.limits, self._all
        if mine.num >= limits.open_per_client:
            raise self._busy("client", "requests", mine.num, limits.open_per_client)
        if mine.num and mine.num_bytes + num_bytes > limits.bytes_per_client:
            raise self._busy("client", "bytes", mine.num_bytes, limits.bytes_per_client)
        if mine.num >= limits.reserved and everybody.num >= limits.open_in_all:
            raise self._busy("worker", "requests", everybody.num, limits.open_in_all)
        # Somebody who has nothing open gets one message in, however much the others hold.
        if mine.num and everybody.num_bytes + num_bytes > limits.bytes_in_all:
            raise self._busy("worker", "bytes", everybody.num_bytes, limits.bytes_in_all)

    def _busy(self, scope: str, unit: str, count: int, limit: int) -> WorkerBusyError:
        retry_s = self._retry_after_s()
        whose = "of yours" if scope == "client" else "of all who use this model"
        if unit == "requests":
            what = f"{count:,} requests {whose} are open already; at most {limit:,} can be."
        else:
            what = (
                f"The open requests {whose} hold {format_bytes(count)} already; at most "
                f"{format_bytes(limit)} can wait."
            )
        then = "Wait for some of them to end, and try again"
        return WorkerBusyError(
            f"The model is busy. {what} {then} in about {format_duration(retry_s)}.",
            scope=scope,
            unit=unit,
            open=count,
            limit=limit,
            retry_after_s=retry_s,
        )

    def _retry_after_s(self) -> float:
        if self._last_end is None:
            return _UNKNOWN_RETRY_S
        # If none has ended for long, the next end is not as near as the average says.
        seconds = max(self._interval_s or 0.0, self._clock() - self._last_end)
        return round(min(max(seconds, _SHORTEST_RETRY_S), _LONGEST_RETRY_S), 3)
