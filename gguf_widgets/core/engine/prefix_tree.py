"""A radix tree over the tokens of slots: who begins with the same tokens, and how far.

Promises: `matches` finds the longest common beginning in time proportional to its length, however
many slots there are; a slot's path ends at a node, so all slots of a node share its tokens whole.
Leaves to others: whether these tokens have been computed yet, and can be shared (`kv_cache.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["PrefixTree", "common_length"]


def common_length(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common at their beginning."""
    limit = min(len(ours), len(theirs))
    low = 0
    # Whole pieces are compared by the interpreter, much faster than token by token.
    step = 256
    while low < limit and ours[low : low + step] == theirs[low : low + step]:
        low += step
    low = min(low, limit)
    while low < limit and ours[low] == theirs[low]:
        low += 1
    return low


class _Node:
    """A run of tokens that all of `slots` go through."""

    __slots__ = ("children", "parent", "slots", "tokens")

    def __init__(self, tokens: list[int], parent: _Node | None) -> None:
        self.tokens = tokens
        self.parent = parent
        self.children: dict[int, _Node] = {}
        self.slots: set[int] = set()


class PrefixTree:
    """The paths of slots; a slot has one at most."""

    def __init__(self) -> None:
        self._root = _Node([], None)
        self._ends: dict[int, _Node] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._ends

    def insert(self, slot: int, tokens: Sequence[int]) -> None:
        """Give a slot a path, in place of the one it had."""
        self.remove(slot)
        node, at = self._root, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                child = _Node(list(tokens[at:]), node)
                node.children[tokens[at]] = child
            else:
                common = common_length(tokens[at : at + len(child.tokens)], child.tokens)
                if common < len(child.tokens):
                    child = _split(child, common)
            child.slots.add(slot)
            at += len(child.tokens)
            node = child
        self._ends[slot] = node

    def remove(self, slot: int) -> None:
        """Take a slot's path away; a slot without one is fine."""
        node = self._ends.pop(slot, None)
        while node is not None and node.parent is not None:
            parent = node.parent
            node.slots.discard(slot)
            if not node.slots:
                del parent.children[node.tokens[0]]
            elif len(node.children) == 1 and not self._ends_at(node):
                _merge_child(node)
            node = parent

    def path(self, slot: int) -> list[int]:
        """Return a slot's tokens; none if it has no path."""
        node, parts = self._ends.get(slot), []
        while node is not None:
            parts.append(node.tokens)
            node = node.parent
        return [token for part in reversed(parts) for token in part]

    def matches(self, tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield (slot, number of common tokens) for all slots that begin alike, the best first."""
        found: list[tuple[_Node, int]] = []
        node, at = self._root, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                break
            common = common_length(tokens[at : at + len(child.tokens)], child.tokens)
            at += common
            found.append((child, at))
            if common < len(child.tokens):
                break
            node = child
        seen: set[int] = set()
        for node, length in reversed(found):
            for slot in sorted(node.slots - seen):
                yield slot, length
            seen |= node.slots

    def num_shared(self, slot: int) -> int:
        """Return how many of a slot's tokens some other slot begins with, too."""
        node = self._ends.get(slot)
        shared = 0
        while node is not None and node.parent is not None:
            if len(node.slots) > 1 or shared:
                shared += len(node.tokens)
            node = node.parent
        return shared

    def _ends_at(self, node: _Node) -> bool:
        return any(self._ends.get(slot) is node for slot in node.slots)


def _split(node: _Node, length: int) -> _Node:
    """Cut a node in two; return the upper one, which has the first `length` tokens."""
    parent = node.parent
    if parent is None:
        raise AssertionError("the root has no tokens")
    upper = _Node(node.tokens[:length], parent)
    upper.slots = set(node.slots)
    parent.children[upper.tokens[0]] = upper
    node.tokens = node.tokens[length:]
    node.parent = upper
    upper.children[node.tokens[0]] = node
    return upper


def _merge_child(node: _Node) -> None:
    """Join a node with its only child: nobody parts there any more."""
    (child,) = node.children.values()
    if child.slots != node.slots or node.parent is None:
        return
    child.tokens = node.tokens + child.tokens
    child.parent = node.parent
    node.parent.children[child.tokens[0]] = child
