"""Tokens' bytes in, whole characters of text out, never any part of a stop string.

Promises, whatever way the bytes are cut into pieces:

- the text handed out, joined, is the whole text as far as the first stop string, or all of it;
- no character is ever split; bytes that are not UTF-8 become U+FFFD and never an exception;
- text is held back only as long as it could still be the beginning of a stop string;
- a reply may begin with bytes that are given, also with the first half of a character: no stop
  string is looked for in those.

The *first* stop string is the one that is complete first, reading character by character; if
several end at the same place, the one that began first. Leaves to others: which bytes a token has.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

__all__ = ["Detokenizer"]


class Detokenizer:
    """One reply's text in the making.

    Parameters
    ----------
    stop : sequence of str
        None of them empty.
    begin : bytes, optional
        What the text begins with.

    Attributes
    ----------
    begin : str
        The whole characters of it.
    stop_string : str or None
        The stop string that was met; after that, `feed` must not be called again.
    """

    __slots__ = ("_decode", "_held", "_matcher", "begin", "stop_string")

    def __init__(self, stop: Sequence[str] = (), begin: bytes = b"") -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._matcher = _Matcher(stop) if stop else None
        self._held = ""
        self.stop_string: str | None = None
        self.begin = self._decode(begin)

    def feed(self, piece: bytes) -> str:
        """Take the next token's bytes; return the text that is certain now, perhaps ""."""
        text = self._decode(piece)
        return text if self._matcher is None or not text else self._filter(self._matcher, text)

    def finish(self) -> str:
        """Return what was held back when no more will come; "" after a stop string."""
        if self.stop_string is not None:
            return ""
        text = self._decode(b"", True)
        if self._matcher is not None and text:
            text = self._filter(self._matcher, text)
        held, self._held = self._held, ""
        return text + held

    def _filter(self, matcher: _Matcher, text: str) -> str:
        held = self._held + text
        for index, character in enumerate(text, start=len(self._held) + 1):
            stop = matcher.step(character)
            if stop is not None:
                self.stop_string = stop
                self._held = ""
                return held[: index - len(stop)]
        certain = len(held) - matcher.depth
        self._held = held[certain:]
        return held[:certain]


class _Matcher:
    """Aho and Corasick's automaton: one step a character, however many stop strings there are.

    A state is the longest beginning of any stop string that the text ends with; `depth` is its
    length, which is exactly what has to be held back.
    """

    __slots__ = ("_depths", "_fails", "_found", "_next", "_state")

    def __init__(self, stop: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._depths = [0]
        self._found: list[str | None] = [None]
        for word in stop:
            state = 0
            for character in word:
                following = self._next[state].get(character)
                if following is None:
                    following = len(self._next)
                    self._next[state][character] = following
                    self._next.append({})
                    self._depths.append(self._depths[state] + 1)
                    self._found.append(None)
                state = following
            self._found[state] = word
        self._fails = [0] * len(self._next)
        # Breadth first: a state's fallback is shallower, so it is complete when it is needed.
        queue = list(self._next[0].values())
        for state in queue:
            for character, following in self._next[state].items():
                queue.append(following)
                fallback = self._fails[state]
                while fallback and character not in self._next[fallback]:
                    fallback = self._fails[fallback]
                self._fails[following] = self._next[fallback].get(character, 0)
                if self._found[following] is None:
                    self._found[following] = self._found[self._fails[following]]
        self._state = 0

    @property
    def depth(self) -> int:
        return self._depths[self._state]

    def step(self, character: str) -> str | None:
        """Move on by one character; return the longest stop string that now ends here."""
        state = self._state
        while state and character not in self._next[state]:
            state = self._fails[state]
        self._state = state = self._next[state].get(character, 0)
        return self._found[state]
