"""From the recorded tokens of an answer to what a person can see of them.

Promises: pure functions over `TokenLogprob`; nothing is guessed: what the record does not hold
(tokens beyond the recorded alternatives) counts as one unknown rest. A character that took several
tokens is shown once, whole, with its first token. Leaves to others: recording (`answer`),
keeping (`store.conversations`), showing (`widgets._chat_inside`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from gguf_widgets.core.types import TokenChance, TokenLogprob

__all__ = [
    "Shown",
    "as_percent",
    "choices_of",
    "first_difference",
    "least_sure",
    "num_choices",
    "probability_of",
    "rank_of",
    "shown_tokens",
    "visible",
]

_PART: Final = "\ufffd"  # stands in a token's text for bytes that are only part of a character

# So much of what follows is compared to find where a run of partial characters ends.
_ANCHOR: Final = 200

# Of a long run of partial characters so many ways to cut it are followed, which bounds the time.
_MAX_PLACES: Final = 32


class Shown(NamedTuple):
    """How one token stands in the answer's text.

    `text` is what it shows: its own text; for a token that is the first of several that make one
    character, the whole character; for the others of these "". `part` counts them from 0 and
    `num_parts` says how many there are (1 for a token of whole characters). `in_text` is False for
    what was written and then taken off the text: the words that ended the answer.
    """

    text: str
    part: int = 0
    num_parts: int = 1
    in_text: bool = True


def probability_of(token: TokenLogprob | TokenChance) -> float:
    """Return a probability from 0 to 1; a number that is none counts as 0."""
    if math.isnan(token.logprob):
        return 0.0
    return math.exp(min(0.0, token.logprob))


def rank_of(token: TokenLogprob) -> int | None:
    """Return the place of the written token among the likeliest, from 1.

    None if it is not among those that were recorded.
    """
    for place, chance in enumerate(token.top, start=1):
        if chance.token == token.token:
            return place
    return None


def choices_of(token: TokenLogprob) -> list[TokenChance]:
    """Return the recorded choices at this place, the written one among them, likeliest first."""
    choices = list(token.top)
    if rank_of(token) is None:
        choices.append(TokenChance(token.token, token.text, token.logprob))
    return choices


def num_choices(token: TokenLogprob) -> float:
    """Return between how many equally likely tokens the model was torn, at least.

    That is ``exp(entropy)`` of the recorded probabilities; the rest, which was not recorded, counts
    as one token, so the true number can only be larger. 1 is "entirely sure".

    Examples
    --------
    >>> from math import log
    >>> top = [TokenChance(1, "a", log(0.5)), TokenChance(2, "b", log(0.5))]
    >>> round(num_choices(TokenLogprob(1, "a", log(0.5), top)), 3)
    2.0
    """
    chances = [probability_of(choice) for choice in choices_of(token)]
    chances.append(max(0.0, 1.0 - sum(chances)))
    return math.exp(-sum(chance * math.log(chance) for chance in chances if chance > 0.0))


def least_sure(tokens: Sequence[TokenLogprob], limit: int = 20, below: float = 0.9) -> list[int]:
    """Return the indices of the written tokens that were least likely, the least likely first.

    Parameters
    ----------
    tokens : sequence of TokenLogprob
    limit : int, default 20
        At most so many.
    below : float, default 0.9
        Only tokens with a smaller probability than this.
    """
    found = [i for i, token in enumerate(tokens) if probability_of(token) < below]
    return sorted(found, key=lambda i: (tokens[i].logprob, i))[:limit]


def first_difference(one: Sequence[TokenLogprob], other: Sequence[TokenLogprob]) -> int | None:
    """Return the index of the first token that is not the same in both; None if none differs.

    Where one of them ends first, that is where they differ.
    """
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a.token != b.token:
            return index
    return None if len(one) == len(other) else min(len(one), len(other))


def as_percent(probability: float) -> str:
    """Return a probability as a person reads it.

    Examples
    --------
    >>> as_percent(0.874), as_percent(0.0432), as_percent(0.9999), as_percent(0.00001)
    ('87%', '4.3%', 'over 99.9%', 'under 0.01%')
    >>> as_percent(1.0), as_percent(0.0)
    ('100%', '0%')
    """
    if probability >= 1.0 or probability <= 0.0:
        return "100%" if probability >= 1.0 else "0%"
    if probability > 0.999:
        return "over 99.9%"
    if probability < 0.0001:
        return "under 0.01%"
    percent = probability * 100
    if percent >= 99:
        return f"{math.floor(percent * 10) / 10:g}%"
    if percent >= 9.95:
        return f"{percent:.0f}%"
    return f"{percent:.2g}%"


def visible(text: str) -> str:
    r"""Return a token's text with what cannot be seen made visible.

    Examples
    --------
    >>> visible(" and"), visible("\n\n"), visible("a\tb"), visible("\x07")
    ('␣and', '↵↵', 'a⇥b', '␇')
    """
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    known = {" ": "␣", "\n": "↵", "\t": "⇥", "\x7f": "␡"}.get(character)
    if known is not None:
        return known
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of the control characters
    if character.isprintable():
        return character
    return f"⟨U+{code:04X}⟩"


def shown_tokens(tokens: Sequence[TokenLogprob], text: str, start: int = 0) -> list[Shown]:
    """Say for each token what it shows of the answer's text.

    Parameters
    ----------
    tokens : sequence of TokenLogprob
    text : str
        The answer's whole text.
    start : int, default 0
        Where in the text the tokens begin (`ChatInterface.token_start`).

    Returns
    -------
    list of Shown
        One for each token. Where tokens and text do not belong together (the text was changed),
        each token from there on shows its own text.
    """
    shown: list[Shown] = []
    position = start
    while len(shown) < len(tokens):
        own = tokens[len(shown)].text
        if _PART in own:
            run = _Run.at(tokens, len(shown))
            found = run.found_in(text[position:])
            if found is None:
                break
            shown += found
            position += sum(len(one.text) for one in found if one.in_text)
        elif text.startswith(own, position):
            shown.append(Shown(own))
            position += len(own)
        elif own.startswith(text[position:]):  # the rest was cut off: words that end an answer
            rest = tokens[len(shown) :]
            shown += [Shown(token.text, in_text=False) for token in rest]
        else:
            break
    return [*shown, *(Shown(token.text) for token in tokens[len(shown) :])]


class _Run(NamedTuple):
    """Tokens in a row that hold parts of characters, and the text that follows them."""

    texts: list[str]
    after: str

    @classmethod
    def at(cls, tokens: Sequence[TokenLogprob], start: int) -> _Run:
        """Return the run that begins with this token."""
        texts: list[str] = []
        after = ""
        for token in tokens[start:]:
            if _PART not in token.text and len(after) < _ANCHOR:
                after += token.text
            elif _PART in token.text and not after:
                texts.append(token.text)
            else:
                break
        return cls(texts, after)

    def found_in(self, text: str) -> list[Shown] | None:
        """Say what each of the tokens shows of a text that begins with them; None if it does not.

        The bytes of the text are cut in all ways in which they give these tokens, and that way is
        taken after which the text goes on as the tokens do.
        """
        most = sum(len(own) for own in self.texts)
        data = text[:most].encode("utf-8", "replace")
        layers: list[dict[int, int]] = [
            {0: 0}
        ]  # after so many tokens: each place, and its last one
        for own in self.texts:
            places = _places_after(layers[-1], own, data)
            if len(places) > _MAX_PLACES:  # the smallest: a vocabulary of single bytes gives these
                places = {place: places[place] for place in sorted(places)[:_MAX_PLACES]}
            layers.append(places)
        for end in sorted(layers[-1]):
            if _is_whole(data, end) and self._goes_on(text[len(data[:end].decode()) :]):
                return _divided(layers, end, data)
        for count in range(len(self.texts) - 1, -1, -1):  # its last character was never whole
            if len(data) in layers[count] and len(text) <= most:
                rest = [Shown(own, in_text=False) for own in self.texts[count:]]
                return [*_divided(layers[: count + 1], len(data), data), *rest]
        return None

    def _goes_on(self, rest: str) -> bool:
        """Whether a text goes on as the tokens do; it may end sooner: the end may be cut off."""
        return rest.startswith(self.after) or self.after.startswith(rest)


def _places_after(places: Mapping[int, int], own: str, data: bytes) -> dict[int, int]:
    """Return the places in the bytes at which a token can end that begins at one of `places`."""
    num_parts = own.count(_PART)  # each stands for 1 to 3 bytes
    least = len(own.replace(_PART, "").encode()) + num_parts
    found: dict[int, int] = {}
    for place in places:
        for end in range(place + least, min(place + least + 2 * num_parts, len(data)) + 1):
            if data[place:end].decode("utf-8", "replace") == own:
                found.setdefault(end, place)
    return found


def _is_whole(data: bytes, end: int) -> bool:
    """Whether a character ends here, or the bytes do."""
    return end == len(data) or data[end] & 0xC0 != 0x80


def _divided(layers: Sequence[Mapping[int, int]], end: int, data: bytes) -> list[Shown]:
    """Give each token the characters that begin in it."""
    edges = [end]
    for layer in reversed(layers[1:]):
        edges.append(layer[edges[-1]])
    edges.reverse()
    texts = []
    for a, b in itertools.pairwise(edges):
        begins = next((i for i in range(a, b) if _is_whole(data, i)), b)
        ends = next((i for i in range(b, len(data)) if _is_whole(data, i)), len(data))
        texts.append(data[begins:ends].decode() if begins < b else "")
    shown: list[Shown] = []
    while len(shown) < len(texts):
        first = len(shown)
        count = next((i for i, one in enumerate(texts[first + 1 :], 1) if one), len(texts) - first)
        shown += [Shown(texts[first + i], i, count) for i in range(count)]
    return shown
