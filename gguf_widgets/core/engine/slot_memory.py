"""A backend's memory of its slots, asked for by numbers of tokens.

Promises: every answer of the backend is checked; where a slot's positions are not simply its
tokens' numbers (`positions.py`), they are turned into each other here and nowhere else in the
cache. Leaves to others: which slot holds what, and how many cells that takes (`kv_cache.py`).
"""

from __future__ import annotations

from gguf_widgets.core.engine.backend import Backend, MemoryKind
from gguf_widgets.core.engine.positions import Positions
from gguf_widgets.core.errors import DecodeError

__all__ = ["SlotMemory"]


class SlotMemory:
    """The memory of one backend's slots.

    Parameters
    ----------
    backend : Backend
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._memory = backend.memory
        self._positions: dict[int, Positions] = {}  # of the slots with such, which are few

    def set_positions(self, slot: int, positions: Positions | None) -> None:
        """Say which positions the tokens have that a slot holds or is going to hold."""
        if positions is not None:
            self._positions[slot] = positions
        elif self._positions:
            self._positions.pop(slot, None)

    def positions(self, slot: int) -> Positions | None:
        """Return what was set."""
        return self._positions.get(slot)

    def holds(self, slot: int, length: int) -> bool:
        """Say whether a slot's last token is the one before `length`."""
        return self._backend.seq_pos_max(slot) == self._last(slot, length)

    def reaches(self, slot: int, length: int) -> bool:
        """Say whether a slot still has all the positions that computing from `length` on needs."""
        if self._memory.kind is not MemoryKind.WINDOW:
            return True
        # The token at `length` looks at itself and the `window - 1` before it.
        return self._backend.seq_pos_min(slot) <= max(0, length - self._memory.window + 1)

    def begins_behind(self, slot: int, start: int) -> bool:
        """Say whether a slot has let go of the token `start`."""
        return self._backend.seq_pos_min(slot) > self._at(slot, start)

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Let `target` hold the tokens of `source` from `start` to `end`, too."""
        self._backend.seq_cp(source, target, self._at(source, start), self._at(source, end))

    def whole(self, slot: int, length: int) -> int:
        """Return the most tokens up to `length` at which a slot can be cut."""
        positions = self._positions.get(slot)
        return length if positions is None else positions.whole(length)

    def cut(self, slot: int, keep: int) -> bool:
        """Make a slot hold exactly its first `keep` tokens, one or more; say whether it does."""
        last, wanted = self._backend.seq_pos_max(slot), self._last(slot, keep)
        if last == wanted:
            return True
        return (
            last > wanted
            and self._backend.seq_rm(slot, self._at(slot, keep))
            and self._backend.seq_pos_max(slot) == wanted
            and self.reaches(slot, keep)
        )

    def clear(self, slot: int) -> None:
        """Empty a slot.

        Raises
        ------
        DecodeError
            If the backend does not.
        """
        if not self._backend.seq_rm(slot, 0) or self._backend.seq_pos_max(slot) != -1:
            raise DecodeError(
                f"The model's memory did not let go of slot {slot}; load the model again.",
                slot=slot,
            )

    def _at(self, slot: int, index: int) -> int:
        positions = self._positions.get(slot) if self._positions else None
        return index if positions is None else positions.at(index)

    def _last(self, slot: int, length: int) -> int:
        positions = self._positions.get(slot) if self._positions else None
        return length - 1 if positions is None else positions.last(length)
