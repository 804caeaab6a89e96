"""Who has a slot: admission, taking over prefixes, giving way.

Promises: the sequences that run never want more cells than there are, as far as can be known
beforehand: admission counts what each still has to compute and a little of its reply (`HEADROOM`;
not the longest reply possible, or one request without ``max_tokens`` would keep everybody else
out). A prompt's beginning that any other sequence has, or is computing just now, is not computed
again; one that is to be reproducible runs when nothing else does. Somebody who waits at a screen
gets a slot even if batch runs have them all; who gives way is put back with its text, and is never
lost.
Leaves to others: whose turn it is (`waiting.py`), what is computed next (`scheduler.py`), which
cells hold what (`kv_cache.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from gguf_widgets.core.engine import scheduler
from gguf_widgets.core.engine.kv_cache import NOTHING, KVCache, Match
from gguf_widgets.core.engine.prefix_tree import common_length
from gguf_widgets.core.engine.sequence import NO_SLOT, Sequence
from gguf_widgets.core.engine.waiting import Service, WaitingQueue

__all__ = ["HEADROOM", "Placement"]

# Cells kept for each running reply to grow, so that admitting does not soon preempt.
HEADROOM = 64

# Waiting for another sequence costs a step, so it is done for no less than this many tokens.
WORTH_WAITING = 32

# Of a finished row, no fewer tokens than this stay for others. Attention looks past every cell up
# to the last that is in use: 115 cells of five short leftovers, high up in a cache of 3,648, made
# the prompts of the next table 15 to 40% slower.
WORTH_KEEPING = 32

# How many waiting rows of a table are looked at to see what is worth keeping for them.
_LOOK_AHEAD = 4


class Placement:
    """The running and the waiting sequences of one engine.

    Parameters
    ----------
    cache : KVCache
    n_seq_max : int
        The most that run.

    Attributes
    ----------
    running : list of Sequence
        In the order of admission.
    waiting : WaitingQueue
    service : Service
    num_preemptions : int
    """

    def __init__(self, cache: KVCache, n_seq_max: int) -> None:
        self._cache = cache
        self._n_seq_max = n_seq_max
        self.running: list[Sequence] = []
        self.service = Service()
        self.waiting = WaitingQueue(self.service)
        self.num_preemptions = 0
        self._num_following = 0
        # After cells ran short nobody is admitted until a sequence has ended: the one that gave
        # way would otherwise come straight back and take the same cells again.
        self._closed = False

    @property
    def ready(self) -> list[Sequence]:
        """The running sequences that need not wait for another one's prefix."""
        if not self._num_following:
            return self.running
        return [sequence for sequence in self.running if sequence.leader is None]

    # Coming

    def add(self, sequence: Sequence) -> None:
        """Take a new sequence into the queue."""
        self.service.enter(sequence.client_id)
        self.waiting.add(sequence)

    def admit(self, started: Callable[[Sequence], None]) -> None:
        """Give slots to waiting sequences, as far as slots and cells go.

        Parameters
        ----------
        started : callable
            Told of each one; it may end it at once.
        """
        while True:
            sequence = None if self._closed else self.waiting.next()
            if sequence is None or not self._place(sequence):
                # Whoever's turn it is, a row that runs has had one: it does not keep people out.
                sequence = self.waiting.next_waited_for()
                if sequence is None or not self._place_instead_of_rows(sequence):
                    return
            started(sequence)

    def _place(self, sequence: Sequence) -> bool:
        """Give a waiting sequence a slot, if there is one and there are cells for it."""
        if len(self.running) >= self._n_seq_max or not self._cache.has_slot:
            return False
        match, leader, num_common = NOTHING, None, 0
        if sequence.is_alone:
            # Not even old cells may be there: where a sequence's own lie among them decides in
            # which order they are added up, and so the last digits of its logits.
            if self.running:
                return False
            self._cache.clear()
        else:
            match = self._cache.find(sequence.tokens, sequence.positions)
            leader, num_common = self._leader_for(sequence, match.length)
        if self.running and not self._fits(sequence, match, num_common):
            return False
        self.waiting.admitted(sequence)
        self._note_company(sequence)
        sequence.slot, sequence.num_computed = self._cache.acquire(
            sequence.tokens, match, sequence.positions
        )
        self.running.append(sequence)
        self._follow(sequence, leader, num_common)
        return True

    def _note_company(self, sequence: Sequence) -> None:
        """Note which rows of a table have run side by side."""
        for other in self.running:
            if other.is_batch and sequence.is_batch and other.client_id == sequence.client_id:
                other.has_company = sequence.has_company = True

    def _fits(self, sequence: Sequence, match: Match, num_common: int) -> bool:
        if self.running[0].is_alone:
            return False
        if self._cache.own_cells:
            return True
        mine = len(sequence.tokens) - max(match.length, num_common) + _room_to_grow(sequence)
        left = self._cache.num_free_cells + self._cache.num_kept_cells - mine
        left -= sum(map(_still_needed, self.running))
        # Most attempts need not count, which takes a moment where a long prefix is taken over.
        if left < 0 or left >= match.length:
            return left >= 0
        return left >= self._cache.num_taken_from_kept(match)

    def _place_instead_of_rows(self, sequence: Sequence) -> bool:
        """Let sequences of batch runs give way to somebody who is waiting, the youngest first."""
        patient = [one for one in self.running if scheduler.is_patient(one)]
        if not patient or not self._could_fit(sequence, patient):
            return False
        for one in sorted(patient, key=lambda one: one.order, reverse=True):
            self.preempt(one, keep=True)
            if self._place(sequence):
                return True
        return False

    def _could_fit(self, sequence: Sequence, patient: list[Sequence]) -> bool:
        """Say whether a sequence might have room without these, which else gave way in vain."""
        staying = [one for one in self.running if one not in patient]
        if not staying:
            return True
        if sequence.is_alone:
            return False
        if self._cache.own_cells:
            return True
        free = self._cache.num_free_cells + self._cache.num_kept_cells
        free += sum(one.num_computed for one in patient)  # or less, where they share cells
        known = max(
            self._cache.find(sequence.tokens, sequence.positions).length,
            max((common for _, common in self._cache.leaders(sequence.tokens, 0)), default=0),
        )
        mine = len(sequence.tokens) - known + _room_to_grow(sequence)
        return mine + sum(map(_still_needed, staying)) <= free

    def close_ranks(self) -> None:
        """Let running sequences with cells of their own have neighbouring slots; before each plan.

        What has slots with a gap between them is computed in two goes, each of which reads all of
        the model's weights, where copying a sequence's cells once takes a moment.
        """
        if not self._cache.own_cells:
            return
        while _has_gap(self.running):
            last = max(self.running, key=lambda one: one.slot)
            slot = self._cache.move_down(last.slot)
            if slot == last.slot:
                return
            last.slot = slot

    # Prefixes that are being computed

    def catch_up(self) -> None:
        """Hand on what sequences have computed to those that wait for it; before each plan."""
        if not self._num_following:
            return
        for sequence in self.running:
            leader = sequence.leader
            if leader is None:
                continue
            held, common = leader.num_computed, sequence.num_common
            if leader.slot == NO_SLOT or (held > common and not self._cache.can_cut):
                self._follow_another(sequence)
            elif held >= common:
                self._take_over(sequence, leader.slot, common)
        self._mark_stops()

    def _take_over(self, sequence: Sequence, slot: int, length: int) -> None:
        before = sequence.num_computed
        sequence.num_computed = self._cache.take_over(slot, sequence.slot, length)
        if not sequence.num_output:
            sequence.num_cached = max(0, sequence.num_cached + sequence.num_computed - before)
        self._follow(sequence, None, 0)

    def _follow_another(self, sequence: Sequence) -> None:
        """Look again: the leader has gone, perhaps leaving behind what is wanted."""
        match = self._cache.find(sequence.tokens, sequence.positions)
        if match.length > sequence.num_computed and match.slot != sequence.slot:
            self._take_over(sequence, match.slot, match.length)
        self._follow(sequence, *self._leader_for(sequence, sequence.num_computed))

    def _leader_for(self, sequence: Sequence, num_has: int) -> tuple[Sequence | None, int]:
        """Return an older sequence that is computing more of the same tokens, and how many."""
        if num_has and not self._cache.can_cut:
            return None, 0  # a running state cannot be added to
        by_slot = {one.slot: one for one in self.running}
        for slot, common in self._cache.leaders(sequence.tokens, num_has + WORTH_WAITING - 1):
            leader = by_slot.get(slot)
            if (
                leader is not None
                and leader.order < sequence.order
                and leader.is_batch <= sequence.is_batch
                and self._is_soon(leader, sequence)
                and (leader.num_computed <= common or self._cache.can_cut)
            ):
                return leader, common
        return None, 0

    def _is_soon(self, leader: Sequence, sequence: Sequence) -> bool:
        """Say whether a leader's turn comes no later than the sequence's own would.

        Within a client it is the older one's turn first. Another client's may have to wait for
        whole prompts before it, while this one's share of each batch would go to others.
        """
        return leader.client_id == sequence.client_id or not any(
            one.client_id == leader.client_id
            and one.is_batch == leader.is_batch
            and one.order < leader.order
            and not one.is_decoding
            for one in self.running
        )

    def _follow(self, sequence: Sequence, leader: Sequence | None, num_common: int) -> None:
        self._num_following += (leader is not None) - (sequence.leader is not None)
        sequence.leader, sequence.num_common = leader, num_common
        if leader is not None and not self._cache.can_cut:
            self._mark_stops()

    def _mark_stops(self) -> None:
        """Where states are copied whole, let leaders pause where a follower takes over."""
        if self._cache.can_cut:
            return
        for sequence in self.running:
            sequence.stop_at = 0
        for sequence in self.running:
            leader, common = sequence.leader, sequence.num_common
            if leader is not None and common > leader.num_computed:
                leader.stop_at = min(leader.stop_at or common, common)

    # Going

    def preempt(self, sequence: Sequence, *, keep: bool) -> None:
        """Put a running sequence back into the queue.

        Parameters
        ----------
        sequence : Sequence
        keep : bool
            Leave what it has computed in the cache, where it will find it again if nobody wants
            the cells; otherwise they are free at once.
        """
        self.running.remove(sequence)
        self._leave_slot(sequence, sequence.tokens[: sequence.num_computed] if keep else ())
        sequence.num_computed = 0
        sequence.num_preempted += 1
        self.num_preemptions += 1
        self.waiting.put_back(sequence)
        self._closed = self._closed or not keep

    def remove(self, sequence: Sequence, *, keep: bool) -> None:
        """Let a sequence go for good; with `keep`, what others may begin with stays."""
        if sequence.slot == NO_SLOT:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            self._leave_slot(sequence, self._worth_keeping(sequence) if keep else ())
            self._closed = False
        self.service.leave(sequence.client_id)

    def _leave_slot(self, sequence: Sequence, keep: list[int] | tuple[()]) -> None:
        self._follow(sequence, None, 0)
        self._cache.release(sequence.slot, keep)
        sequence.slot = NO_SLOT
        sequence.stop_at = 0
        sequence.draft = []

    def _worth_keeping(self, sequence: Sequence) -> list[int] | tuple[()]:
        """Return the tokens of a finished sequence that somebody may begin with."""
        if sequence.is_alone:
            return ()
        computed = sequence.tokens[: sequence.num_computed]
        if not sequence.is_batch:
            return computed  # the conversation's next turn begins with all of it
        # Rows of a table have their template in common, and nobody asks for the same row again.
        shared = self._cache.num_shared(sequence.slot)
        has_company = sequence.has_company
        for other in self.waiting.waiting_like(sequence, _LOOK_AHEAD):
            has_company = True
            shared = max(shared, common_length(computed, other.tokens))
        if shared >= WORTH_KEEPING:
            return computed[:shared]
        # One at a time, so the next has not been seen yet: all of the prompt may be the template.
        return () if has_company else computed[: sequence.num_prompt]


def _has_gap(running: list[Sequence]) -> bool:
    slots = [sequence.slot for sequence in running]
    return len(slots) > 1 and max(slots) - min(slots) >= len(slots)


def _room_to_grow(sequence: Sequence) -> int:
    return min(HEADROOM, sequence.max_output - sequence.num_output)


def _still_needed(sequence: Sequence) -> int:
    to_compute = len(sequence.tokens) - max(sequence.num_computed, sequence.num_common)
    return to_compute + _room_to_grow(sequence)
