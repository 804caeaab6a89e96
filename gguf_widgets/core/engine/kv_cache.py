"""Slots and what is in them: prefixes that are shared, kept and given up.

A **slot** is a ``seq_id`` of the context; a **cell** is one token's place in the KV cache.
A slot is *empty*, *busy* (a running sequence has it) or *kept*: it holds what a finished sequence
has left, for whoever begins alike, until its cells or the slot itself are wanted.

Promises: a sequence that begins like any other, running or kept, takes over what that one has
computed (`llama_memory_seq_cp` shares cells, it copies nothing); the number of free cells is always
known; a slot that is cut holds exactly the tokens that it should, or none; every answer of the
backend is checked. Where each slot has cells of its own, what is taken over is copied, and no slot
wants for cells. Where memory is a running state (recurrent and hybrid models) only a whole one can
be taken over; where a sliding window has let go of positions that are needed, none. Leaves to
others: who gets a slot, and what is computed (`placement.py`, `scheduler.py`).

A prefix that somebody asked to have here (`pin`, `adopt`) stays in a slot of its own: whoever
begins with it gets a copy, and other kept slots do not crowd it out. It leaves, after them, when
cells or slots are wanted by those that run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import Backend, MemoryKind
from gguf_widgets.core.engine.cells import Cells
from gguf_widgets.core.engine.positions import Positions
from gguf_widgets.core.engine.prefix_tree import PrefixTree
from gguf_widgets.core.engine.slot_memory import SlotMemory
from gguf_widgets.core.errors import DecodeError, StateFileError, WorkerBusyError

__all__ = ["NOTHING", "KVCache", "Match"]


class Match(NamedTuple):
    """A slot that begins with the same tokens: how many of them it has in its cells now."""

    slot: int
    length: int


NOTHING = Match(-1, 0)

# Between slots with cells of their own, a beginning is copied for no fewer tokens than this: a copy
# is one of all that the other slot holds, and many a prompt begins like any other (BOS).
WORTH_COPYING = 32

_NO_TOKEN = -1


class KVCache:
    """Keeps account of one backend's slots.

    Parameters
    ----------
    backend : Backend
    n_ctx : int

    Attributes
    ----------
    num_cells : int
        Of all slots together.
    """

    def __init__(self, backend: Backend, n_ctx: int) -> None:
        self._backend = backend
        self._memory = backend.memory
        self._slots = SlotMemory(backend)
        n_slots = self._memory.n_slots
        self.num_cells = n_ctx * (n_slots if self._memory.own_cells else 1)
        self._cells = Cells(self.num_cells, n_slots)
        self._tree = PrefixTree()
        self._empty = list(range(n_slots))  # a heap: the lowest is given out first
        self._kept: dict[int, None] = {}  # in the order of last use: the oldest first
        self._pinned: set[int] = set()  # of these, the prefixes that somebody asked for

    @property
    def num_free_cells(self) -> int:
        """Cells that hold nothing; kept slots' cells are not counted as free (see `evict`)."""
        return self._cells.num_free

    @property
    def num_kept_cells(self) -> int:
        """Cells that only kept slots hold, there for the taking."""
        return self._cells.num_idle

    @property
    def num_busy_cells(self) -> int:
        """Cells of running sequences; one that several share counts once."""
        return self.num_cells - self._cells.num_free - self._cells.num_idle

    @property
    def own_cells(self) -> bool:
        """Whether each slot has ``n_ctx`` cells of its own, so that none wants for any."""
        return self._memory.own_cells

    @property
    def has_slot(self) -> bool:
        """Whether `acquire` can be called."""
        return bool(self._empty or self._kept)

    @property
    def can_cut(self) -> bool:
        """Whether the end of a sequence can be taken back."""
        return self._memory.kind is not MemoryKind.RECURRENT

    def num_taken_from_kept(self, match: Match) -> int:
        """Return how many of `num_kept_cells` there are less once a match is taken over.

        None are, of what running sequences hold as well.
        """
        return self._cells.num_idle_of(match.slot, match.length) if match.slot in self._kept else 0

    # Taking over

    def find(self, tokens: Sequence[int], positions: Positions | None = None) -> Match:
        """Return the slot that holds most of a sequence's beginning; `NOTHING` if there is none.

        At least the last token is always left to compute: its logits are wanted.
        """
        best = self._longest(tokens, positions)
        if self.own_cells and best.length < WORTH_COPYING and not self._goes_on_in(best):
            return NOTHING
        return best

    def _longest(self, tokens: Sequence[int], positions: Positions | None = None) -> Match:
        limit, best = len(tokens) - 1, NOTHING
        for slot, common in self._tree.matches(tokens):
            if common <= best.length:
                break
            length = min(common, limit, self._cells.num_held(slot))
            if positions is not None:
                length = positions.whole(length)
            # A running state is one of all its tokens.
            whole = self.can_cut or length == self._cells.num_held(slot)
            if length > best.length and whole and self._slots.reaches(slot, length):
                best = Match(slot, length)
        return best

    def _goes_on_in(self, match: Match) -> bool:
        """Say whether whoever takes a match over gets the slot itself."""
        slot = match.slot
        whole = match.length == self._cells.num_held(slot)
        return whole and slot in self._kept and slot not in self._pinned

    def leaders(self, tokens: Sequence[int], more_than: int) -> list[tuple[int, int]]:
        """Return the busy slots that hold, or are about to hold, more of a sequence's beginning.

        Returns
        -------
        list of (slot, num_common)
            Those with the most in common first.
        """
        limit = len(tokens) - 1
        return [
            (slot, min(common, limit))
            for slot, common in self._tree.matches(tokens)
            if min(common, limit) > more_than and slot not in self._kept
        ]

    def acquire(
        self, tokens: Sequence[int], match: Match = NOTHING, positions: Positions | None = None
    ) -> tuple[int, int]:
        """Give out a slot.

        Parameters
        ----------
        tokens : sequence of int
            What its sequence is going to compute as far as that is known: others that begin alike
            find it by them.
        match : Match
            What `find` found; nothing may have happened to the cache since.
        positions : Positions, optional
            The model's, where they are not the tokens' numbers.

        Returns
        -------
        slot : int
        num_cached : int
            How many of `tokens` are in it.
        """
        if self._goes_on_in(match):
            slot = match.slot  # all of it is wanted, so it goes on where it is
            del self._kept[slot]
            self._cells.set_idle(slot, False)
            self._slots.set_positions(slot, positions)
            cached = match.length
        else:
            slot, cached = self._slot_with(match, positions)
        self._tree.insert(slot, tokens)
        return slot, cached

    def take_over(self, source: int, target: int, end: int) -> int:
        """Let a busy slot hold what another one has, up to `end` tokens.

        Returns
        -------
        int
            How many tokens `target` holds now: `end`; or what it had if the source has let go of
            positions that are needed, or 0 if it went wrong.
        """
        start = self._cells.num_held(target)
        if not self._slots.reaches(source, end):
            return start
        if start and self._slots.begins_behind(source, start) and self.can_cut:
            start = self.cut(target, 0)  # or there would be a gap between the two
        self._slots.share(source, target, start, end)
        if self.own_cells:
            self._cells.grow(target, end - self._cells.num_held(target))
        else:
            self._cells.share(source, target, end)
        if source in self._kept:  # it was of use just now, so it is the last to leave
            del self._kept[source]
            self._kept[source] = None
        if not self._slots.holds(target, end) or not self._slots.reaches(target, end):
            return self.cut(target, 0)
        return end

    def move_down(self, slot: int) -> int:
        """Let a busy slot's sequence go on in the lowest slot that is not busy.

        What is kept there changes places with it.

        Returns
        -------
        int
            Where it is now: the same slot if all lower ones are busy, or it could not be moved.
        """
        target = min([*self._empty[:1], *self._kept], default=slot)
        if target > slot:
            return slot
        if target in self._kept:
            return self._change_places(slot, target)
        heapq.heappop(self._empty)
        held = self._cells.num_held(slot)
        self._slots.set_positions(target, self._slots.positions(slot))
        if held and self.take_over(slot, target, held) != held:
            self._empty_slot(target)
            return slot
        self._tree.insert(target, self._tree.path(slot))
        self._empty_slot(slot)
        return target

    def _change_places(self, busy: int, kept: int) -> int:
        """Do so; return where the sequence of the busy slot is then."""
        try:
            states = [self._backend.state_seq_get(slot) for slot in (busy, kept)]
        except (DecodeError, StateFileError):
            return busy
        paths = [self._tree.path(slot) for slot in (busy, kept)]
        positions = [self._slots.positions(slot) for slot in (busy, kept)]
        lengths = [self._cells.num_held(slot) for slot in (busy, kept)]
        pinned = kept in self._pinned
        order = [busy if slot == kept else slot for slot in self._kept]
        self._drop(kept)
        self._slots.set_positions(kept, positions[0])
        if not self._load(kept, states[0], lengths[0]):
            return busy
        self._empty.remove(kept)
        heapq.heapify(self._empty)
        self._tree.insert(kept, paths[0])
        self._empty_slot(busy)
        self._slots.set_positions(busy, positions[1])
        if self._load(busy, states[1], lengths[1]):
            self._empty.remove(busy)
            heapq.heapify(self._empty)
            self._stay(busy, paths[1])
            self._kept = dict.fromkeys(order)
            if not pinned:
                self._pinned.discard(busy)
        return kept

    def _load(self, slot: int, state: NDArray[np.uint8], length: int) -> bool:
        """Fill an empty slot with a state; it stays empty if that goes wrong."""
        if length and not (
            self._backend.state_seq_set(slot, state) and self._slots.holds(slot, length)
        ):
            self._slots.clear(slot)
            self._slots.set_positions(slot, None)
            return False
        self._cells.grow(slot, length)
        return True

    def _slot_with(self, match: Match, positions: Positions | None = None) -> tuple[int, int]:
        """Return a slot that is not kept any more, and how much of a match it holds."""
        slot = self._take_slot(match)
        self._slots.set_positions(slot, positions)
        if slot == match.slot:
            return slot, self.cut(slot, match.length)
        return slot, self.take_over(match.slot, slot, match.length) if match.length else 0

    def _take_slot(self, match: Match) -> int:
        if not self._empty:
            # The one whose tokens are about to be taken over leaves last; where it is the only
            # one, it is cut to what is wanted of it and given out itself.
            oldest = self._next_to_leave((match.slot,))
            if oldest is None or self._loses_less(match, oldest):
                del self._kept[match.slot]
                self._pinned.discard(match.slot)
                self._cells.set_idle(match.slot, False)
                return match.slot
            self._drop(oldest)
        return heapq.heappop(self._empty)

    def _loses_less(self, match: Match, oldest: int) -> bool:
        """Say whether cutting a slot to what is wanted of it loses less than emptying another.

        With cells of their own there are few slots, so that this is soon the question.
        """
        slot, held = match.slot, self._cells.num_held
        is_free = self.own_cells and slot in self._kept and slot not in self._pinned
        return is_free and held(slot) - match.length < held(oldest)

    # Prefixes that somebody asked to have here

    def pin(self, tokens: Sequence[int]) -> int | None:
        """Return a slot that holds exactly these tokens, and let them stay; None if none can.

        The slot may be that of a running sequence that is just there.
        """
        match = self._longest([*tokens, _NO_TOKEN])
        slot = match.slot
        if slot == NOTHING.slot or match.length < len(tokens):
            return None
        if self._cells.num_held(slot) > match.length:  # a slot of its own, then
            if not self.has_slot:
                return None
            slot, held = self._slot_with(match)
            if held < match.length:
                self._empty_slot(slot)
                return None
        elif slot not in self._kept:
            return slot
        self._stay(slot, tokens)
        return slot

    def adopt(self, tokens: Sequence[int], load: Callable[[int], bool]) -> None:
        """Keep a prefix that was computed at another time.

        Parameters
        ----------
        tokens : sequence of int
        load : callable
            Is given an empty slot, fills it with these tokens, and says whether that went well.

        Raises
        ------
        WorkerBusyError
            If running sequences have the slots or the cells that it needs; nothing has changed.
        DecodeError
            If `load` did not do what it should; what it did is taken back.
        """
        room = self._cells.num_free + self._cells.num_idle
        if not self.has_slot or len(tokens) > room:
            raise WorkerBusyError(
                f"There is no room now for a prefix of {len(tokens):,} tokens beside the requests"
                f" that run ({room:,} cells are free). Try again when they are done.",
                num_tokens=len(tokens),
                num_free=room,
            )
        slot = self._take_slot(NOTHING)
        while self._cells.num_free < len(tokens):
            self.evict()
        try:
            loaded = load(slot) and self._slots.holds(slot, len(tokens))
        except BaseException:
            self._empty_slot(slot)
            raise
        if not (loaded and self._slots.reaches(slot, len(tokens))):
            self._empty_slot(slot)
            raise DecodeError(
                "The model's memory did not take the saved prefix back. Save it again.",
                num_tokens=len(tokens),
            )
        self._cells.grow(slot, len(tokens))
        self._stay(slot, tokens)

    def _stay(self, slot: int, tokens: Sequence[int]) -> None:
        self._tree.insert(slot, tokens)
        self._kept.pop(slot, None)  # it was of use just now, so it is the last to leave
        self._kept[slot] = None
        self._pinned.add(slot)
        self._cells.set_idle(slot, True)

    # Growing and shrinking

    def grow(self, slot: int, count: int) -> None:
        """Note that `count` more tokens of a slot are in the cells now."""
        self._cells.grow(slot, count)

    def cut(self, slot: int, keep: int) -> int:
        """Make a slot hold exactly its first `keep` tokens, after whatever happened to it.

        Returns
        -------
        int
            `keep`; or less, where it is in the middle of an image whose tokens have one position;
            or 0 if this model's memory could not be cut there: then the slot is empty. What is
            missing must be computed again.
        """
        keep = self._slots.whole(slot, keep)
        if not (keep > 0 and self._slots.cut(slot, keep)):
            self._slots.clear(slot)
            keep = 0
        self._cells.cut(slot, keep)
        return keep

    def num_shared(self, slot: int) -> int:
        """Return how many of a slot's tokens some other slot begins with, too."""
        return self._tree.num_shared(slot)

    # Giving back

    def release(self, slot: int, keep: Sequence[int] = ()) -> None:
        """Take a slot back; the tokens `keep`, with which it begins, stay for others to use."""
        num_kept = len(keep)
        if num_kept and num_kept < self._cells.num_held(slot):
            num_kept = self.cut(slot, num_kept)
        # What another kept slot holds as well need not be held twice.
        if not num_kept or self._is_covered(slot, keep):
            self._empty_slot(slot)
            return
        self._tree.insert(slot, keep)
        self._kept[slot] = None
        self._cells.set_idle(slot, True)
        self._drop_covered_by(slot, keep)
        if self.own_cells:
            return
        # Kept cells slow down every decode a little (attention looks past them), so old
        # conversations do not get more than half the cache.
        limit = self.num_cells // 2 + sum(map(self._cells.num_held, self._pinned))
        while self.num_kept_cells > limit and len(self._kept) > len(self._pinned) + 1:
            self.evict(but=self._pinned)

    def evict(self, but: Container[int] = ()) -> bool:
        """Empty the kept slot that is the next to leave, `but` these; False if there is none."""
        slot = self._next_to_leave(but)
        if slot is None:
            return False
        self._drop(slot)
        return True

    def _next_to_leave(self, but: Container[int]) -> int | None:
        """Return the kept slot that was used longest ago; what somebody asked for leaves last."""
        slots = (slot for slot in self._kept if slot not in but)
        return min(slots, key=self._pinned.__contains__, default=None)

    def clear(self) -> None:
        """Empty every kept slot."""
        while self.evict():
            pass

    def _is_covered(self, slot: int, keep: Sequence[int]) -> bool:
        return self.can_cut and any(
            other in self._kept and common == len(keep) and self._slots.reaches(other, common)
            for other, common in self._tree.matches(keep)
            if other != slot
        )

    def _drop_covered_by(self, slot: int, keep: Sequence[int]) -> None:
        """Drop the kept slots whose tokens are the beginning of what this one holds now."""
        if not self.can_cut:
            return
        covered = [
            other
            for other, common in self._tree.matches(keep)
            if other != slot
            and other in self._kept
            and other not in self._pinned
            and common == self._cells.num_held(other)
            and self._slots.reaches(slot, common)
        ]
        for other in covered:
            self._drop(other)

    def _drop(self, slot: int) -> None:
        del self._kept[slot]
        self._pinned.discard(slot)
        self._cells.set_idle(slot, False)
        self._empty_slot(slot)

    def _empty_slot(self, slot: int) -> None:
        self._slots.clear(slot)
        self._slots.set_positions(slot, None)
        self._cells.cut(slot, 0)
        self._tree.remove(slot)
        heapq.heappush(self._empty, slot)
