"""Who waits for a slot, and whose turn it is. Pure policy: no calls, no clock, no I/O.

Promises: requests that somebody is waiting for go before those of batch runs, but each eighth place
goes to a batch run, so that nobody waits for ever; between clients the one that has been served
least goes first, but nobody is passed over more often than `MOST_PASSED` times; within a client, by
arrival, and one that was put back before all. Nobody is passed over because a later, smaller
request would fit.

**Service** is counted in tokens, a written one as two of a prompt. A client that comes, or comes
back, starts at the least that any other active client has: having been away earns nothing (the
virtual token counter of Sheng et al., "Fairness in Serving Large Language Models", 2024).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gguf_widgets.core.engine.sequence import Sequence

__all__ = ["Service", "WaitingQueue"]

# One place of so many goes to a batch run while others wait.
BATCH_TURN = 8

# After so many later requests of other clients it is a client's turn whatever it has had: beside
# new clients that never stop coming, each of which has had nothing, it would wait for ever.
MOST_PASSED = 64

# Clients that are remembered for what they have had.
_MAX_CLIENTS = 1000

_OUTPUT_WEIGHT = 2


class Service:
    """What each client has had, in weighted tokens."""

    def __init__(self) -> None:
        self._had: dict[str, float] = {}
        self._open: dict[str, int] = {}  # open sequences of each active client

    def enter(self, client: str) -> None:
        """Count one more open sequence of a client."""
        if client not in self._open:
            others = [self._had[other] for other in self._open]
            self._had[client] = max(self._had.get(client, 0.0), min(others, default=0.0))
            self._open[client] = 0
        self._open[client] += 1

    def leave(self, client: str) -> None:
        """Count one less."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]
            if len(self._had) > _MAX_CLIENTS:
                self._had = {name: had for name, had in self._had.items() if name in self._open}

    def charge(self, client: str, num_prompt: int, num_output: int) -> None:
        """Count tokens that were computed for a client."""
        self._had[client] += num_prompt + _OUTPUT_WEIGHT * num_output

    def had(self, client: str) -> float:
        """Return what a client has had."""
        return self._had.get(client, 0.0)


class WaitingQueue:
    """The sequences without a slot.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        # By whether they are of a batch run, then by client, each in order of arrival.
        self._queues: tuple[dict[str, deque[Sequence]], dict[str, deque[Sequence]]] = ({}, {})
        self._num_before_batch = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sequence]:
        for clients in self._queues:
            for queue in clients.values():
                yield from queue

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of its client's queue."""
        self._queue(sequence).append(sequence)
        self._length += 1

    def put_back(self, sequence: Sequence) -> None:
        """Put a sequence that had a slot before all others of its client."""
        self._queue(sequence).appendleft(sequence)
        self._length += 1

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out."""
        self._queue(sequence).remove(sequence)
        self._length -= 1
        clients = self._queues[sequence.is_batch]
        if not clients[sequence.client_id]:
            del clients[sequence.client_id]

    def next(self) -> Sequence | None:
        """Return whose turn it is; it stays in the queue."""
        waited_for, batch = self._queues
        if batch and (not waited_for or self._num_before_batch >= BATCH_TURN - 1):
            return self._first(batch)
        return self._first(waited_for) if waited_for else None

    def next_waited_for(self) -> Sequence | None:
        """Return the next of those that somebody is waiting for, whose turn it may not be."""
        return self._first(self._queues[False]) if self._queues[False] else None

    def admitted(self, sequence: Sequence) -> None:
        """Take out the sequence that has got a slot."""
        self.remove(sequence)
        for client, queue in self._queues[sequence.is_batch].items():
            if client != sequence.client_id and queue[0].order < sequence.order:
                queue[0].num_passed += 1
        others_wait = bool(self._queues[True])
        self._num_before_batch = (
            self._num_before_batch + 1 if others_wait and not sequence.is_batch else 0
        )

    def waiting_like(self, sequence: Sequence, most: int) -> Iterator[Sequence]:
        """Yield the next `most` of a sequence's own client and kind."""
        queue = self._queues[sequence.is_batch].get(sequence.client_id, ())
        for index, other in enumerate(queue):
            if index == most:
                return
            yield other

    def _first(self, clients: dict[str, deque[Sequence]]) -> Sequence:
        heads = [queue[0] for queue in clients.values()]
        return min(
            heads,
            key=lambda one: (
                not one.num_preempted,
                one.num_passed < MOST_PASSED,
                self._service.had(one.client_id),
                one.order,
            ),
        )

    def _queue(self, sequence: Sequence) -> deque[Sequence]:
        return self._queues[sequence.is_batch].setdefault(sequence.client_id, deque())
