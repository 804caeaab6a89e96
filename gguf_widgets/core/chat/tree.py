"""The shape of a conversation: which message follows which.

Promises: pure; a damaged tree (a circle, a parent that is missing) gives an answer, too. Leaves to
others: the messages (`store.conversations`), changing the shape (`branching`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Tree"]


class Tree:
    """The ids of a conversation's messages and of their parents.

    Parameters
    ----------
    links : sequence of (str, str or None)
        Each message and the one that it follows, oldest first.
    """

    def __init__(self, links: Sequence[tuple[str, str | None]] = ()) -> None:
        self._parents: dict[str, str | None] = dict(links)
        self._children: dict[str | None, list[str]] = {}
        for child, parent in links:
            self._children.setdefault(parent, []).append(child)

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._parents

    def branches(self, message_id: str) -> list[str]:
        """Return the message and those that stand in its place in other branches, oldest first."""
        if message_id not in self._parents:
            return []
        return list(self._children[self._parents[message_id]])

    def places(self, message_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return the how-manieth of how many each message is, from 1, where there are several."""
        found: dict[str, tuple[int, int]] = {}
        for message_id in message_ids:
            siblings = self.branches(message_id)
            if len(siblings) > 1:
                found[message_id] = (siblings.index(message_id) + 1, len(siblings))
        return found

    def newest_leaf(self, message_id: str) -> str:
        """Return the newest message of those that follow this one; itself if there are none."""
        below = {message_id}
        waiting = [message_id]
        while waiting:
            for child in self._children.get(waiting.pop(), ()):
                if child not in below:
                    below.add(child)
                    waiting.append(child)
        # The newest of all has nothing after it.
        return next((one for one in reversed(self._parents) if one in below), message_id)
