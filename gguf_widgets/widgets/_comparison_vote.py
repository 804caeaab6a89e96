"""Votes on pairs of answers, without the names.

Promises: a page that votes gets the texts of a pair and nothing that says whose they are, until it
asks for the result; whoever comes back goes on at the first pair without a vote. Leaves to others:
the order and the sides' places (`compare.voting`), the keys (static/_comparison_vote.js).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.voting import CHOICES, Pairs
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.widgets import markdown

__all__ = ["Voting"]

Message = dict[str, Any]


class Host(Protocol):
    """What the widget offers."""

    def open_comparison(self) -> Comparison:
        """Return the comparison that is shown; refuse if there is none."""
        ...


class Voting:
    """The page's messages about votes.

    Parameters
    ----------
    host : Host
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pairs: Pairs | None = None
        self._of = ""

    def _begin(self, _content: Message, _buffers: Any) -> Message:
        """Take the answers that there are now."""
        comparison = self._host.open_comparison()
        self._pairs, self._of = comparison.pairs(), comparison.id
        pairs = self._pairs
        if not len(pairs):
            same = pairs.num_same
            raise InvalidValueError(
                f"All answers are the same, word for word ({same:,} of {same:,}): there is nothing "
                "to choose."
                if same
                else "There are no answers to vote on yet. Wait until two sides have answered."
            )
        first = pairs.next_unvoted()
        return {
            "total": len(pairs),
            "voted": pairs.num_voted,
            "same": pairs.num_same,
            "first": len(pairs) if first is None else first,
        }

    def _taken(self) -> Pairs:
        comparison = self._host.open_comparison()
        if self._pairs is None or self._of != comparison.id:
            self._pairs, self._of = comparison.pairs(), comparison.id
        return self._pairs

    def _pair(self, content: Message, _buffers: Any) -> Message:
        pairs = self._taken()
        pair = pairs[_index(content, pairs)]
        return {
            "index": pair.index,
            "prompt": pair.prompt_text,
            "a": markdown.to_blocks(pair.text_a),
            "b": markdown.to_blocks(pair.text_b),
            "choice": pair.choice,
            "voted": pairs.num_voted,
        }

    def _vote(self, content: Message, _buffers: Any) -> Message:
        choice = content.get("choice")
        if choice is not None and choice not in CHOICES:
            raise InvalidValueError(f"A vote cannot be {choice!r:.40}.")
        pairs = self._taken()
        pair = pairs[_index(content, pairs)]
        self._host.open_comparison().vote(pair.prompt, pair.a, pair.b, choice)
        following = pairs.next_unvoted(pair.index + 1)
        if following is None:
            following = pairs.next_unvoted()
        return {"voted": pairs.num_voted, "next": following}

    def _reveal(self, _content: Message, _buffers: Any) -> Message:
        """Say how the votes stand, with the names."""
        comparison = self._host.open_comparison()
        told = []
        for found in comparison.standings():
            if not found.num_votes:
                continue
            told.append(
                {
                    "words": found.words,
                    "clear": found.clear,
                    "labels": [plain_text(found.label_a, 60), plain_text(found.label_b, 60)],
                    "letters": ["ABCD"[found.a], "ABCD"[found.b]],
                    "counts": [found.num_a, found.num_b, found.num_both, found.num_neither],
                    "share": found.share_a,
                    "low": found.low,
                    "high": found.high,
                }
            )
        return {"standings": told}

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "vote-begin": _begin,
        "vote-pair": _pair,
        "vote": _vote,
        "vote-reveal": _reveal,
    }


def _index(content: Message, pairs: Pairs) -> int:
    index = content.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(pairs):
        raise InvalidValueError(f"There are pairs 1 to {len(pairs):,} to vote on.")
    return index
