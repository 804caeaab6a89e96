"""One process that runs a model: what is known of it, and how it is ended.

Promises: plain data, the same for Python, JSON and tables; ending one says what happened and who
used it. Leaves to others: which processes there are (`workers`), the asking and the force
(`worker.peek`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gguf_widgets.core.format import plain_text
from gguf_widgets.core.worker import peek, protocol, registry
from gguf_widgets.core.worker.peek import Ended

__all__ = ["StopResult", "Worker", "WorkerUser", "listed", "users_of"]

_REASON = "another program of yours ended it"


class WorkerUser(msgspec.Struct, frozen=True, kw_only=True):
    """A program that uses a worker, as it calls itself; `pid` is 0 if it did not say."""

    program: str
    pid: int
    num_requests: int
    connected_s: float

    def __str__(self) -> str:
        return self.program or (f"process {self.pid}" if self.pid else "a program")


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one process that runs a model. None: it did not say.

    `state` is "loading", "ready", "failed" (to load), "leaving", "stuck" (it does not answer),
    "lost" (its socket was removed; it ends when nobody uses it any more) or "other version".
    `num_running` and `num_waiting` count sequences. `num_cells_used` are those of running
    sequences, out of `num_cells`; `num_cells_kept` hold what finished ones have left.
    `figures_age_s` is more than 0 if these are from before a long step. `rss_bytes` is all the
    memory that it uses, and `pss_bytes` its share of that (Linux only): what several processes map,
    as two workers do that hold the same file, counts in equal parts. `leaves_in_s` is None while
    somebody uses it.
    """

    name: str
    model: str
    path: str
    pid: int
    backend: str
    state: str
    progress: float | None = None
    n_ctx: int | None = None
    users: list[WorkerUser] | None = None
    num_requests: int | None = None
    num_running: int | None = None
    num_waiting: int | None = None
    num_cells_used: int | None = None
    num_cells_kept: int | None = None
    num_cells: int | None = None
    figures_age_s: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    uptime_s: float = 0.0
    leaves_in_s: float | None = None

    @property
    def num_clients(self) -> int | None:
        """How many programs use it."""
        return None if self.users is None else len(self.users)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {**plain, "num_clients": self.num_clients}

    def stop(self, reason: str = _REASON) -> StopResult:
        """End this worker, whoever uses it; the memory is free when this returns.

        It is asked first, and ended by force if it does not react within some seconds. The programs
        that use it are told the reason; their next request starts the model again.
        """
        entry = registry.read(self.name)
        if entry is None or entry.pid != self.pid:
            return StopResult(self, Ended.GONE)
        ending = peek.end(entry, reason)
        last = ending.last
        if last is None:
            return StopResult(self, ending.how)
        return StopResult(self, ending.how, users=users_of(last), num_requests=last.num_requests)


@dataclass(frozen=True, repr=False)
class StopResult:
    """What came of stopping a worker; as text, a sentence or two.

    Attributes
    ----------
    worker : Worker
    how : Ended
        "asked" (it ended as it was asked to), "killed", "gone" (it had ended already) or "alive".
    users : list of WorkerUser
        Who used it in that moment, as far as it said.
    num_requests : int
        How many requests were open.
    """

    worker: Worker
    how: Ended
    users: list[WorkerUser] = field(default_factory=list)
    num_requests: int = 0

    @property
    def ended(self) -> bool:
        """Whether the worker is gone."""
        return self.how is not Ended.ALIVE

    def __str__(self) -> str:
        who = f"{plain_text(self.worker.model)} (process {self.worker.pid})"
        sentence = {
            Ended.ASKED: f"{who} was stopped.",
            Ended.KILLED: f"{who} did not react and was ended by force.",
            Ended.GONE: f"{who} had ended already.",
            Ended.ALIVE: f"{who} could not be ended, not even by force: ask your system's "
            "administrator.",
        }[self.how]
        if self.users:
            verb = "was" if len(self.users) == 1 else "were"
            sentence += f" {listed(self.users)} {verb} using it"
            if self.num_requests:
                s = "" if self.num_requests == 1 else "s"
                sentence += f", with {self.num_requests:,} request{s} open"
            sentence += "."
        return sentence

    __repr__ = __str__


def users_of(status: protocol.Status) -> list[WorkerUser]:
    """Return who uses a worker, as it says."""
    return [
        WorkerUser(
            program=client.program,
            pid=client.pid,
            num_requests=client.num_requests,
            connected_s=client.connected_s,
        )
        for client in status.clients
    ]


def listed(users: Sequence[WorkerUser]) -> str:
    """Return who uses it; several of the same name are counted."""
    counts: dict[str, int] = {}
    for user in users:
        name = plain_text(str(user), 40)
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())
