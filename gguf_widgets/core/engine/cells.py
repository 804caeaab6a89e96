"""Who holds which cell: the account of a KV cache whose cells slots may share.

Promises: the number of free cells is exact, as llama.cpp counts them: computing a token takes one,
sharing takes none, and a cell is free again when its last holder lets go. Every call costs time in
proportion to the tokens it is about. Leaves to others: making the backend's memory come out the
same (`kv_cache.py`), and, where each slot has cells of its own, that none wants more than it has.

The cells here have numbers of their own; which of llama.cpp's they are is of no importance.
"""

from __future__ import annotations

__all__ = ["Cells"]


class Cells:
    """The cells of one context.

    Parameters
    ----------
    n_cells, n_slots : int

    Attributes
    ----------
    num_free : int
        Cells that nobody holds.
    num_idle : int
        Cells that only idle slots hold: they are free as soon as these are emptied.
    """

    def __init__(self, n_cells: int, n_slots: int) -> None:
        self._free = list(range(n_cells - 1, -1, -1))
        self._holders = [0] * n_cells
        self._idlers = [0] * n_cells  # of the holders, those that are idle
        self._slots: list[list[int]] = [[] for _ in range(n_slots)]
        self._is_idle = [False] * n_slots
        self.num_idle = 0

    @property
    def num_free(self) -> int:
        """Cells that nobody holds."""
        return len(self._free)

    def num_held(self, slot: int) -> int:
        """Cells of a slot, which is how many tokens it holds."""
        return len(self._slots[slot])

    def num_idle_of(self, slot: int, end: int) -> int:
        """Of the first `end` cells of a slot, how many only idle slots hold."""
        holders, idlers = self._holders, self._idlers
        return sum(holders[cell] == idlers[cell] for cell in self._slots[slot][:end])

    def grow(self, slot: int, count: int) -> None:
        """Give a busy slot `count` free cells, for tokens that have been computed."""
        held = self._slots[slot]
        for _ in range(count):
            cell = self._free.pop()
            self._holders[cell] = 1
            held.append(cell)

    def share(self, source: int, target: int, end: int) -> None:
        """Let a busy `target` hold the cells of `source` from its own length to `end`."""
        held = self._slots[target]
        for cell in self._slots[source][len(held) : end]:
            if self._holders[cell] == self._idlers[cell]:
                self.num_idle -= 1
            self._holders[cell] += 1
            held.append(cell)

    def cut(self, slot: int, keep: int) -> None:
        """Let a slot keep its first `keep` cells only."""
        held = self._slots[slot]
        idle = self._is_idle[slot]
        for cell in held[keep:]:
            if self._holders[cell] == self._idlers[cell]:
                self.num_idle -= 1
            self._holders[cell] -= 1
            self._idlers[cell] -= idle
            self._recount(cell)
        del held[keep:]

    def set_idle(self, slot: int, idle: bool) -> None:
        """Say whether a slot is in use or only kept."""
        if self._is_idle[slot] is idle:
            return
        self._is_idle[slot] = idle
        change = 1 if idle else -1
        for cell in self._slots[slot]:
            if self._holders[cell] == self._idlers[cell]:
                self.num_idle -= 1
            self._idlers[cell] += change
            self._recount(cell)

    def _recount(self, cell: int) -> None:
        if not self._holders[cell]:
            self._free.append(cell)
        elif self._holders[cell] == self._idlers[cell]:
            self.num_idle += 1
