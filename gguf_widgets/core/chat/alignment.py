"""Where the recorded tokens of an answer are in its text, and whether they can be gone on from.

Promises: pure functions; tokens that are not exactly what a text was made of are never taken for
it. Leaves to others: recording (`answer`), what people see of tokens (`tokens`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gguf_widgets.core.types import TokenLogprob

__all__ = ["same_model", "starts_of"]

# U+FFFD stands in a token's text for bytes that are only part of a character.
_RUNS = re.compile("([^\ufffd]+)|(\ufffd+)")

# How many ways to place characters that came in parts are followed up; more than some there are
# only in texts that are made for it.
_MAX_PLACES = 64

# What says which tokens a model has; how it was loaded does not.
_IDENTITY = ("path", "size_bytes", "architecture", "num_parameters", "quantization", "backend")


def starts_of(tokens: Sequence[TokenLogprob], text: str) -> list[int] | None:
    """Return where in `text` each token begins, and where the last one ends.

    A token that begins inside a character begins where that character does, or the first of several
    in a row that all came in parts. None if the tokens are not those of the text, of all of it.

    Examples
    --------
    >>> starts_of([TokenLogprob(1, "Hel", 0.0), TokenLogprob(2, "lo", 0.0)], "Hello")
    [0, 3, 5]
    """
    pieces, firsts = _pieces(tokens, text)
    # Where each piece may begin: one place, but behind characters that came in parts.
    places: list[set[int]] = [{0}]
    for number, piece in enumerate(pieces):
        here = places[-1]
        if isinstance(piece, str):
            after = {at + len(piece) for at in here if text.startswith(piece, at)}
        else:
            # A last character may have been left out of the text, because it was never whole.
            fewest = 0 if number == len(pieces) - 1 else 1
            after = {at + more for at in here for more in range(fewest, piece + 1)}
        places.append(set(sorted(one for one in after if one <= len(text))[:_MAX_PLACES]))
        if not places[-1]:
            return None
    if len(text) not in places[-1]:
        return None
    begins = [len(text)]
    for piece, here in zip(reversed(pieces), reversed(places[:-1]), strict=True):
        end = begins[-1]
        length = (
            len(piece)
            if isinstance(piece, str)
            else next(more for more in range(piece + 1) if end - more in here)
        )
        begins.append(end - length)
    begins.reverse()
    return [*(begins[first] for first in firsts), len(text)]


def _pieces(tokens: Sequence[TokenLogprob], text: str) -> tuple[list[str | int], list[int]]:
    """Return the tokens' texts, and between them how many parts of characters come in a row.

    The second value is the number of the piece that each token begins in.
    """
    pieces: list[str | int] = []
    firsts: list[int] = []
    for number, token in enumerate(tokens):
        told = token.text
        if number == 0 and told.startswith(" ") and not text.startswith(" "):
            told = told[1:]  # some vocabularies put a blank before the first word
        first = len(pieces)
        for clean, parts in _RUNS.findall(told):
            if clean:
                pieces.append(clean)
            elif pieces and isinstance(pieces[-1], int):
                first = min(first, len(pieces) - 1)
                pieces[-1] += len(parts)
            else:
                pieces.append(len(parts))
        firsts.append(first)
    return pieces, firsts


def same_model(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Return whether two descriptions (`answer.describe`) are of one file's tokens."""
    if one is None or other is None:
        return False
    return all(one.get(name) == other.get(name) for name in _IDENTITY)
