"""Two replies to one question, and the first place where they part, with both sides' thoughts.

Promises: the replies are the models' own, made one after the other; at the parting each model is
asked once more, with exactly the tokens it had before it, how likely it thought what the other one
wrote. Leaves to others: finding the place (`alignment`), probabilities (`Model.score`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec
import numpy as np

from gguf_widgets.core.conversation_input import Conversation
from gguf_widgets.core.errors import (
    InvalidValueError,
    NotEnoughMemoryError,
    RequestCancelledError,
    UnsupportedByModelError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.model import Model
from gguf_widgets.core.model_score import ScoreProgress
from gguf_widgets.core.scores.alignment import Split, SplitSide, common_length, first_split
from gguf_widgets.core.scores.sides import Side, check_side, opened
from gguf_widgets.core.types import Reply, TokenChance

__all__ = ["Divergence", "divergence", "with_both_sides"]

_SHOWN = 40  # characters of what comes before the place
_MAX_TOP = 100  # as `SamplingSettings.logprobs`

# Of the keywords of a call, those that change what the model is given.
_OF_PROMPT = ("begin_with", "tools", "template_variables")


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Two replies, and where they part; as text, a sentence or two.

    Attributes
    ----------
    name_a, name_b : str
        The models' names.
    a, b : Reply
    split : Split or None
        None if they do not part: they are the same, or one was only cut off.
    """

    name_a: str
    name_b: str
    a: Reply
    b: Reply
    split: Split | None

    @property
    def identical(self) -> bool:
        """Whether both texts are the same, to the last character."""
        return self.a.text == self.b.text

    @property
    def common_text(self) -> str:
        """What both begin with."""
        return self.a.text[: common_length(self.a.text, self.b.text)]

    @property
    def num_common_tokens(self) -> int | None:
        """How many tokens both begin with; None if they have different tokens."""
        if self.split is not None:
            return self.split.a.index if self.split.by == "tokens" else None
        return min(self.a.usage.num_completion_tokens, self.b.usage.num_completion_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data (JSON)."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made

    def __str__(self) -> str:
        split = self.split
        if split is None:
            if self.identical:
                return (
                    f"Both replies are the same, word for word ({len(self.a.text):,} characters)."
                )
            return "The replies are the same as far as both go; one was cut off earlier."
        after = self.common_text
        if len(after) > _SHOWN:  # from a word's beginning on
            after = "…" + after[-_SHOWN:].partition(" ")[2]
        where = f"after “{plain_text(after)}”" if after else "at the very beginning"
        if split.by == "tokens":
            where = f"at token {(split.a.index or 0) + 1:,}, {where}"
        names = (self.name_a, self.name_b)
        if self.name_a == self.name_b:  # one model, asked in two ways
            names = ("the first", "the second")
        a, b = _told(names[0], split.a), _told(names[1], split.b)
        return f"The replies part {where}: {a}, {b}."


def _told(name: str, side: SplitSide) -> str:
    does = "ends" if side.ended else f"writes “{plain_text(side.text)}”" if side.text else "differs"
    chances = []
    if side.probability is not None:
        chances.append(_percent(side.probability))
    if side.other_probability is not None:
        chances.append(f"{_percent(side.other_probability)} for the other's")
    return f"{plain_text(name)} {does}" + (f" ({', '.join(chances)})" if chances else "")


def _percent(probability: float) -> str:
    percent = 100 * probability
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"


def divergence(
    a: Side,
    b: Side,
    prompt: Conversation,
    *,
    top: int = 5,
    raw: bool = False,
    a_sampling: Mapping[str, Any] | None = None,
    b_sampling: Mapping[str, Any] | None = None,
    load: Mapping[str, Any] | None = None,
    progress: ScoreProgress | None = None,
    **sampling: Any,
) -> Divergence:
    """Have two models answer the same, and find where the answers part.

    Parameters
    ----------
    a, b : Model, str or path-like
        Two models, two quantisations of one, or the same model twice with other settings. What is
        not loaded is loaded and given back, one after the other if memory does not hold both.
    prompt : str or list of messages
        As for `Model.chat`; with `raw` a text to be continued, as for `Model.complete`.
    top : int, default 5
        So many of the likeliest tokens are told at each place, 1 to 100.
    raw : bool, default False
    a_sampling, b_sampling : mapping, optional
        Settings of one side: ``{"seed": 1}``.
    load : mapping, optional
        Settings for loading.
    progress : callable, optional
        Called with how far it is (0 to 1) and a phrase; answering False stops it.
    **sampling
        Settings of both, as for `Model.chat`. The temperature is 0 unless told.

    Returns
    -------
    Divergence
        Errors as for `Model.chat`.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> print(gw.divergence("qwen-q8_0", "qwen-q4_0", "Tell me a joke."))  # doctest: +SKIP
    """
    check_side(a, "a")
    check_side(b, "b")
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= _MAX_TOP:
        raise InvalidValueError(f"top is {top!r:.40}; it can be from 1 to {_MAX_TOP}.", value=top)
    if raw and not isinstance(prompt, str):
        raise InvalidValueError("With raw=True the prompt is a text (str) to be continued.")

    told = _Told(progress)
    keywords = {"temperature": 0.0, **sampling}
    with ExitStack() as stack:
        model_a, is_new = stack.enter_context(opened(a, load))
        one = _answer(model_a, prompt, {**keywords, **(a_sampling or {})}, top, told, raw=raw)
        try:
            model_b, _ = stack.enter_context(opened(b, load))
        except NotEnoughMemoryError:
            if not is_new:
                raise
            model_a.unload()
            model_b, _ = stack.enter_context(opened(b, load))
        told.start = 0.45
        other = _answer(model_b, prompt, {**keywords, **(b_sampling or {})}, top, told, raw=raw)
        told.say(0.9, "Looking for the place where they part")
        split = first_split(one.reply, other.reply, same_tokens=one.digest == other.digest)
        if split is not None:
            how = _Asked(prompt, top, raw=raw, same_tokens=split.by == "tokens")
            side_b = how.side(model_b, other.options, other.reply, split.b, one.reply, split.a)
            if not model_a.loaded:
                if not isinstance(b, Model):
                    model_b.unload()
                model_a, _ = stack.enter_context(opened(a, load))
            side_a = how.side(model_a, one.options, one.reply, split.a, other.reply, split.b)
            split = Split(by=split.by, char=split.char, a=side_a, b=side_b)
        told.say(1.0, "Done")
        return Divergence(
            name_a=one.name, name_b=other.name, a=one.reply, b=other.reply, split=split
        )


class _Told:
    """Tells how far it is, and ends it when it is told to."""

    def __init__(self, progress: ScoreProgress | None) -> None:
        self._progress = progress
        self.start = 0.0

    def say(self, share: float, phrase: str) -> None:
        if self._progress is not None and self._progress(share, phrase) is False:
            raise RequestCancelledError("The comparison was stopped.")


class _Answer(NamedTuple):
    name: str
    reply: Reply
    options: dict[str, Any]
    digest: str


def _answer(
    model: Model,
    prompt: Conversation,
    keywords: dict[str, Any],
    top: int,
    told: _Told,
    *,
    raw: bool,
) -> _Answer:
    """Have one model answer; what changes its prompt is kept beside the reply."""
    options = {name: keywords[name] for name in _OF_PROMPT if name in keywords}
    phrase = f"{plain_text(model.name)} is answering"
    told.say(told.start, phrase)
    keywords = {**keywords, "logprobs": top}
    stream = (
        model.stream_completion(str(prompt), **keywords)
        if raw
        else model.stream(prompt, **keywords)
    )
    with stream:
        for delta in stream:
            # How long it will be, nobody knows: half way after 50 tokens, and never at the end.
            share = delta.num_completion_tokens / (delta.num_completion_tokens + 50)
            told.say(told.start + 0.45 * share, phrase)
        return _Answer(model.name, stream.reply, options, model.vocabulary().digest)


def with_both_sides(
    split: Split,
    a: Reply,
    b: Reply,
    model_a: Model,
    model_b: Model,
    prompt: Conversation,
    *,
    top: int = 5,
    raw: bool = False,
    a_options: Mapping[str, Any] | None = None,
    b_options: Mapping[str, Any] | None = None,
) -> Split:
    """Ask each model how likely it thought what the other one wrote.

    Parameters
    ----------
    split : Split
        Of `first_split`.
    a, b : Reply
        The replies it is of; without `logprobs` there is nothing to ask about.
    model_a, model_b : Model
    prompt, raw : conversation, bool
        What they answered, as for `divergence`.
    top : int
        So many of the likeliest tokens are told where a reply ended; elsewhere they are known.
    a_options, b_options : mapping, optional
        What else the prompt was made of: `begin_with`, `tools`, `template_variables`, as for
        `Model.chat`.

    Returns
    -------
    Split
        With `other_logprob` on both sides, and an end's `logprob` and `top`. Unchanged where that
        cannot be had: in demo mode, with images in the prompt, or without the replies' tokens.
    """
    how = _Asked(prompt, top, raw=raw, same_tokens=split.by == "tokens")
    return Split(
        by=split.by,
        char=split.char,
        a=how.side(model_a, a_options or {}, a, split.a, b, split.b),
        b=how.side(model_b, b_options or {}, b, split.b, a, split.a),
    )


class _Asked:
    """Asks one model after the other about a parting."""

    def __init__(self, prompt: Conversation, top: int, *, raw: bool, same_tokens: bool) -> None:
        self._prompt = prompt
        self._top = top
        self._raw = raw
        self._same_tokens = same_tokens

    def side(
        self,
        model: Model,
        options: Mapping[str, Any],
        reply: Reply,
        own: SplitSide,
        other_reply: Reply,
        other: SplitSide,
    ) -> SplitSide:
        """Return one side with what its model thought of the other one."""
        if own.index is None or other.index is None or reply.logprobs is None:
            return own
        before = self._before(model, options, reply, own.index)
        if before is None:
            return own
        text = other.text if self._same_tokens else other_reply.text[own.char :]
        if not self._same_tokens and not other.ended:
            # As far as the other's token goes: its text from where this one's token begins.
            text = text[: max(1, other.char + len(other.text) - own.char)]
        if self._same_tokens and other.token is not None:
            asked: list[int] | str = [other.token]
        elif other.ended or not text:
            asked = [before[-1]]  # any: the distribution is what is asked for
        else:
            asked = text
        try:
            scores = model.score(
                asked, after=before, full=True, top=self._top, n_window=_window(model, len(before))
            )
        except UnsupportedByModelError:  # demo mode has no probabilities
            return own
        if scores.full is None:
            raise AssertionError("no distribution came")
        row = scores.full[0].astype(np.float64)
        ends = list(model.vocabulary().ends)
        end = float(np.logaddexp.reduce(row[ends])) if ends else -math.inf
        changes: dict[str, Any] = {
            "other_logprob": end if other.ended else float(scores.logprobs.sum(dtype=np.float64))
        }
        if own.ended:
            changes |= {"logprob": end, "top": _known(scores.top[0])}
        return msgspec.structs.replace(own, **changes)

    def _before(
        self, model: Model, options: Mapping[str, Any], reply: Reply, index: int
    ) -> list[int] | None:
        """Return all tokens that a model had before a place; None if they are not all tokens."""
        if not self._raw:
            tokens = [one.token for one in model.prompt_tokens(self._prompt, **options)]
        elif options:  # what is generated after a beginning cannot be told from it here
            return None
        else:
            tokens = model.tokenize(str(self._prompt), add_special=True)
        if not tokens or min(tokens) < 0:  # images
            return None
        return [*tokens, *(one.token for one in (reply.logprobs or [])[:index])]


def _known(top: list[TokenChance]) -> list[TokenChance]:
    """Return what can be kept as plain data: no token that is excluded."""
    return [one for one in top if math.isfinite(one.logprob)]


def _window(model: Model, num_before: int) -> int | None:
    """Return a window that holds the whole context, if the usual one does not."""
    n_ctx = model.settings.n_ctx or 0
    return min(n_ctx, num_before + 64) if num_before >= 1024 else None
