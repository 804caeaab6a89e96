"""Which tokens are computed next. Pure policy: state in, a plan out; no calls, no clock, no I/O.

The rules:

1. **Decodes first.** Every sequence that is writing its reply gets its one token in each batch, so
   running streams never wait for a long prompt. If a batch is too small for all, they take turns.
2. **Then prompts, in chunks**, in what is left of ``n_batch``: shared equally between clients, and
   within a client the oldest first. While replies are being written the chunks are kept short
   (`PrefillPace`), so that the streams keep flowing.
3. **Admission reserves cells** for the whole prompt and a little of the reply (`HEADROOM`). Nothing
   is reserved for the longest reply possible, or one request without ``max_tokens`` would keep
   everybody else out.
4. **When cells run short, the youngest gives way**: it loses its cells, goes back to the head of
   the queue and is computed again later (`preempt`); its text so far is kept. The oldest is never
   preempted, so it always finishes; a sequence ends with "length" only when it fills the whole
   context by itself.
5. **Waiting requests** are taken client by client: the client with the fewest running first, then
   by arrival; nobody is passed over because a later, smaller request would fit. So each is admitted
   after a bounded number of finished ones.
6. **A sequence under suspicion is computed alone** (its last batch failed), so that only the one
   that is at fault fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as ReadOnly
from typing import NamedTuple

from gguf_widgets.core.engine.sequence import Sequence

__all__ = ["Chunk", "PrefillPace", "can_admit", "choose_victim", "next_to_admit", "plan_batch"]

HEADROOM = 64  # cells kept for each running reply to grow, so that admitting does not soon preempt


class Chunk(NamedTuple):
    """Part of a batch: `num_tokens` tokens of a sequence from position `start`."""

    sequence: Sequence
    start: int
    num_tokens: int


def plan_batch(
    running: ReadOnly[Sequence], *, n_batch: int, free_cells: int, prefill_limit: int
) -> list[Chunk]:
    """Choose the next batch.

    Parameters
    ----------
    running : sequence of Sequence
        Those that have a slot.
    n_batch : int
        The most tokens in a batch.
    free_cells : int
        The most tokens that can be stored.
    prefill_limit : int
        The most prompt tokens in a batch while replies are being written.

    Returns
    -------
    list of Chunk
        Decodes first; empty if there is nothing to do or no cell is free.
    """
    room = min(n_batch, free_cells)
    if room <= 0:
        return []
    if len(running) == 1:  # the commonest case, kept short
        sequence = running[0]
        count = min(sequence.num_to_compute, room, sequence.chunk_limit)
        return [Chunk(sequence, sequence.num_computed, count)]
    suspects = [sequence for sequence in running if sequence.suspect]
    if suspects:
        sequence = min(suspects, key=_turn)
        count = min(sequence.num_to_compute, room, sequence.chunk_limit)
        return [Chunk(sequence, sequence.num_computed, count)]
    decoding = [sequence for sequence in running if sequence.is_decoding]
    if len(decoding) > room:
        decoding = sorted(decoding, key=_turn)[:room]
    chunks = [Chunk(sequence, sequence.num_computed, 1) for sequence in decoding]
    if len(decoding) < len(running):
        room -= len(chunks)
        if chunks:
            room = min(room, prefill_limit)
        chunks += _share(running, room)
    return chunks


def _share(running: Iterable[Sequence], room: int) -> list[Chunk]:
    """Divide `room` prompt tokens: equally between clients, oldest first within a client."""
    by_client: dict[str, list[Sequence]] = {}
    for sequence in sorted(running, key=_age):
        if not sequence.is_decoding:
            by_client.setdefault(sequence.client_id, []).append(sequence)
    demand = {
        client: sum(min(sequence.num_to_compute, sequence.chunk_limit) for sequence in sequences)
        for client, sequences in by_client.items()
    }
    chunks = []
    # The smallest demand first: what it does not need goes to the others.
    for index, client in enumerate(sorted(by_client, key=demand.__getitem__)):
        share = min(demand[client], -(-room // (len(by_client) - index)))
        room -= share
        for sequence in by_client[client]:
            count = min(sequence.num_to_compute, sequence.chunk_limit, share)
            if count:
                chunks.append(Chunk(sequence, sequence.num_computed, count))
                share -= count
    return chunks


def next_to_admit(waiting: ReadOnly[Sequence], running: Iterable[Sequence]) -> Sequence:
    """Choose which waiting sequence gets the next slot; `waiting` is not empty."""
    busy = Counter(sequence.client_id for sequence in running)
    return min(
        waiting,
        key=lambda sequence: (not sequence.preempted, busy[sequence.client_id], sequence.order),
    )


def can_admit(sequence: Sequence, running: ReadOnly[Sequence], n_cells: int) -> bool:
    """Say whether the cells suffice for one more; for the first one they always do."""
    if not running:
        return True
    return _cells_needed(sequence) + sum(map(_cells_needed, running)) <= n_cells


def _cells_needed(sequence: Sequence) -> int:
    to_come = min(HEADROOM, sequence.max_output - sequence.num_output)
    return len(sequence.tokens) + to_come


def choose_victim(running: ReadOnly[Sequence]) -> Sequence | None:
    """Choose which sequence gives up its cells: the youngest, but never the only one."""
    return max(running, key=_age) if len(running) > 1 else None


def _age(sequence: Sequence) -> int:
    return sequence.order


def _turn(sequence: Sequence) -> tuple[int, int]:
    return (sequence.last_step, sequence.order)


class PrefillPace:
    """How many prompt tokens fit into a step that keeps running streams flowing.

    Parameters
    ----------
    n_batch : int
        The upper limit.
    step_s : float, default 0.1
        How long such a step may take, in seconds.
    """

    SMALLEST = 16

    def __init__(self, n_batch: int, step_s: float = 0.1) -> None:
        self._n_batch = n_batch
        self._step_s = step_s
        self._token_s: float | None = None

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Take in that a batch with `num_tokens` prompt tokens took so long."""
        if num_tokens >= self.SMALLEST:
            newest = seconds / num_tokens
            self._token_s = newest if self._token_s is None else 0.7 * self._token_s + 0.3 * newest

    @property
    def limit(self) -> int:
        """The most prompt tokens for the next batch that also holds decodes."""
        fitting = 64 if not self._token_s else int(self._step_s / self._token_s)
        return min(max(fitting, self.SMALLEST), self._n_batch)
