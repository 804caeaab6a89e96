"""Slots and cells: where each sequence's computed tokens are kept.

A **slot** is a ``seq_id`` of the context; a **cell** is one token's place in the unified KV cache,
which all slots share. Promises: the number of cells in use is always known; a slot that is cut
holds exactly the tokens that it should, or none (models whose memory cannot be cut: recurrent,
hybrid, sliding window); every answer of the backend is checked. Leaves to others: who gets a slot,
and what is computed (`scheduler.py`, `engine.py`).

**Kept slots.** A finished sequence's tokens stay until their cells are wanted. The next turn of a
conversation begins with exactly these tokens, so it takes the slot over and computes only what is
new. Sharing a prefix between slots that run at once (a tree over the kept tokens, `seq_cp`) has its
place here too: `acquire` is where a prefix is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from gguf_widgets.core.engine.backend import Backend
from gguf_widgets.core.errors import DecodeError

__all__ = ["KVCache"]


class KVCache:
    """Keeps account of one backend's slots.

    Parameters
    ----------
    backend : Backend
    n_slots, n_cells : int
        ``n_seq_max`` and ``n_ctx``.
    """

    def __init__(self, backend: Backend, n_slots: int, n_cells: int) -> None:
        self._backend = backend
        self._n_cells = n_cells
        self._empty = list(range(n_slots - 1, -1, -1))
        self._kept: dict[int, list[int]] = {}  # in the order of release: the oldest first
        self._lengths = [0] * n_slots
        self._num_used = 0

    @property
    def num_free_cells(self) -> int:
        """Cells that hold nothing; kept slots' cells are not counted as free (see `evict`)."""
        return self._n_cells - self._num_used

    @property
    def num_kept_cells(self) -> int:
        """Cells of finished sequences, there for the taking."""
        return sum(self._lengths[slot] for slot in self._kept)

    @property
    def num_busy_cells(self) -> int:
        """Cells of running sequences."""
        return self._num_used - self.num_kept_cells

    @property
    def has_slot(self) -> bool:
        """Whether `acquire` can be called."""
        return bool(self._empty or self._kept)

    def acquire(self, tokens: Sequence[int], *, reuse: bool) -> tuple[int, int]:
        """Give out a slot.

        Parameters
        ----------
        tokens : sequence of int
            What the sequence begins with.
        reuse : bool
            Whether tokens that a kept slot already holds may be taken over.

        Returns
        -------
        slot : int
        num_cached : int
            How many of `tokens` the slot holds; at least the last one is always left to compute.
        """
        if reuse:
            best, common = self._longest_prefix(tokens)
            # A kept slot is worth taking only if most of it stays: otherwise two conversations
            # with the same system prompt would take each other's slot.
            if best >= 0 and 2 * common >= self._lengths[best]:
                del self._kept[best]
                self.cut(best, common)
                return best, self._lengths[best]
        if not self._empty:
            self.evict()
        return self._empty.pop(), 0

    def _longest_prefix(self, tokens: Sequence[int]) -> tuple[int, int]:
        best, longest = -1, 0
        for slot, kept in self._kept.items():
            common = 0
            for ours, theirs in zip(tokens[:-1], kept, strict=False):
                if ours != theirs:
                    break
                common += 1
            if common > longest:
                best, longest = slot, common
        return best, longest

    def grow(self, slot: int, count: int) -> None:
        """Note that `count` more tokens of a slot are in the cells now."""
        self._lengths[slot] += count
        self._num_used += count

    def cut(self, slot: int, keep: int) -> int:
        """Make a slot hold exactly its first `keep` tokens, after whatever happened to it.

        Returns
        -------
        int
            `keep`, or 0 if this model's memory could not be cut there: then the slot is empty and
            everything must be computed again.
        """
        last = self._backend.seq_pos_max(slot)
        if not (keep > 0 and (last == keep - 1 or (last >= keep and self._cut_at(slot, keep)))):
            self._clear(slot)
            keep = 0
        self._num_used += keep - self._lengths[slot]
        self._lengths[slot] = keep
        return keep

    def _cut_at(self, slot: int, keep: int) -> bool:
        backend = self._backend
        return (
            backend.seq_rm(slot, keep)
            and backend.seq_pos_max(slot) == keep - 1
            # A sliding window has already let go of early positions that are needed again now.
            and backend.seq_pos_min(slot) == 0
        )

    def release(self, slot: int, keep: list[int] | None = None) -> None:
        """Take a slot back; with `keep`, the tokens it holds, they stay until they are evicted."""
        if keep:
            self._kept[slot] = keep
            # Kept cells slow down every decode a little (attention looks past them), so old
            # conversations do not get more than half the cache.
            while self.num_kept_cells > self._n_cells // 2 and len(self._kept) > 1:
                self.evict()
        else:
            self.cut(slot, 0)
            self._empty.append(slot)

    def evict(self) -> bool:
        """Empty the kept slot that was released longest ago; False if there is none."""
        for slot in self._kept:
            del self._kept[slot]
            self.release(slot)
            return True
        return False

    def clear(self) -> None:
        """Empty every kept slot."""
        while self.evict():
            pass

    def _clear(self, slot: int) -> None:
        if not self._backend.seq_rm(slot, 0) or self._backend.seq_pos_max(slot) != -1:
            raise DecodeError(
                f"The model's memory did not let go of slot {slot}; load the model again.",
                slot=slot,
            )
