"""Where two replies part.

Promises: pure functions of two replies; a place where one reply was only cut off, by `max_tokens`
or by somebody, is no parting. Leaves to others: asking the models what they thought of it
(`divergence`), finding tokens in a text (`core.chat.alignment`).
"""

from __future__ import annotations

import math

import msgspec

from gguf_widgets.core.chat.alignment import starts_of
from gguf_widgets.core.types import FinishReason, Reply, TokenChance, TokenLogprob

__all__ = ["Split", "SplitSide", "common_length", "first_split"]


class SplitSide(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a parting.

    Attributes
    ----------
    index : int or None
        The number of its first token that is not common; None if its tokens are not known.
    char : int
        Where in its text that token begins; without tokens, where the texts part.
    token : int or None
        The token it wrote there; None if it ended, or its tokens are not known.
    text : str
        What that token says; "" if it ended.
    logprob : float or None
        How likely it thought that, as natural logarithm: of the token it wrote, or of an end of the
        reply; None where that is not known.
    top : list of TokenChance
        What it thought the likeliest there.
    other_logprob : float or None
        How likely it thought what the other one wrote: the other's token, an end, or, where the two
        have different tokens, the other's text; None where that has not been asked.
    ended : bool
        Whether it ended there.
    """

    index: int | None
    char: int
    token: int | None = None
    text: str = ""
    logprob: float | None = None
    top: list[TokenChance] = []
    other_logprob: float | None = None
    ended: bool = False

    @property
    def probability(self) -> float | None:
        """``exp(logprob)``."""
        return None if self.logprob is None else math.exp(self.logprob)

    @property
    def other_probability(self) -> float | None:
        """``exp(other_logprob)``."""
        return None if self.other_logprob is None else math.exp(self.other_logprob)


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where two replies are not the same.

    Attributes
    ----------
    by : str
        "tokens": the first token that differs. "text": the first character.
    char : int
        How many characters the texts have in common from the beginning.
    a, b : SplitSide
    """

    by: str
    char: int
    a: SplitSide
    b: SplitSide


def common_length(a: str, b: str) -> int:
    """Return how many characters two texts have in common from the beginning."""
    if a == b:
        return len(a)
    low, high = 0, min(len(a), len(b))
    while low < high:  # slices compare in C, character by character does not
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def first_split(a: Reply, b: Reply, *, same_tokens: bool) -> Split | None:
    """Find where two replies part.

    Parameters
    ----------
    a, b : Reply
        With `logprobs`, if the parting's tokens and probabilities are to be known.
    same_tokens : bool
        Whether both come from models with the same tokens (`same_vocabulary`). Then they are
        compared token by token, if both have `logprobs`; otherwise character by character.

    Returns
    -------
    Split or None
        None if they are the same, or one is the beginning of the other and was only cut off there.
    """
    if same_tokens and a.logprobs is not None and b.logprobs is not None:
        return _by_tokens(a, b, a.logprobs, b.logprobs)
    return _by_text(a, b)


def _by_tokens(
    a: Reply, b: Reply, a_tokens: list[TokenLogprob], b_tokens: list[TokenLogprob]
) -> Split | None:
    pairs = zip(a_tokens, b_tokens, strict=False)
    index = next(
        (number for number, (one, other) in enumerate(pairs) if one.token != other.token),
        min(len(a_tokens), len(b_tokens)),
    )
    if index == len(a_tokens) == len(b_tokens):
        return None  # also if only one of them came to its end: the other was cut off there
    if _is_cut(a, index, a_tokens) or _is_cut(b, index, b_tokens):
        return None
    return Split(
        by="tokens",
        char=common_length(a.text, b.text),
        a=_side(a, a_tokens, index),
        b=_side(b, b_tokens, index),
    )


def _by_text(a: Reply, b: Reply) -> Split | None:
    char = common_length(a.text, b.text)
    if a.text == b.text:
        return None
    sides = []
    for reply in (a, b):
        ended = char == len(reply.text)
        if ended and reply.finish_reason is not FinishReason.STOP:
            return None
        starts = starts_of(reply.logprobs, reply.text) if reply.logprobs else None
        if starts is None:
            sides.append(SplitSide(index=None, char=char, ended=ended))
            continue
        tokens = reply.logprobs or []
        index = len(tokens)
        if not ended:
            index = max(n for n, start in enumerate(starts[:-1]) if start <= char)
        sides.append(_side(reply, tokens, index, starts))
    return Split(by="text", char=char, a=sides[0], b=sides[1])


def _is_cut(reply: Reply, index: int, tokens: list[TokenLogprob]) -> bool:
    """Whether a reply has nothing at a place, and did not end there by itself."""
    return index == len(tokens) and reply.finish_reason is not FinishReason.STOP


def _side(
    reply: Reply, tokens: list[TokenLogprob], index: int, starts: list[int] | None = None
) -> SplitSide:
    starts = starts or starts_of(tokens, reply.text)
    if index == len(tokens):
        return SplitSide(index=index, char=len(reply.text), ended=True)
    token = tokens[index]
    # Where a reply was told to begin with something, its tokens are not all of its text.
    char = starts[index] if starts else len(reply.text) - sum(len(t.text) for t in tokens[index:])
    return SplitSide(
        index=index,
        char=max(0, char),
        token=token.token,
        text=token.text,
        logprob=token.logprob,
        top=list(token.top),
    )
