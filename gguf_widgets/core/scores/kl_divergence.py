"""How far a model is from a reference, over a text: a quantisation from the model it was made of.

Promises: whole distributions are compared at every place, and never more than a few of them are in
memory; where memory does not hold both models, the reference is read first and its distributions
wait in a file of bounded size that is gone at the end, whatever happens. Leaves to others: the
distributions (`Model.stream_scores`), the figures (`kl_figures`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.errors import (
    InvalidValueError,
    NotEnoughMemoryError,
    RequestCancelledError,
)
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.model import Model
from gguf_widgets.core.model_score import ScoreProgress
from gguf_widgets.core.score_stream import ScoreStream
from gguf_widgets.core.scores.kl_figures import KLDivergence, row_divergence
from gguf_widgets.core.scores.sides import Side, check_side, opened
from gguf_widgets.core.types import VocabularyFacts
from gguf_widgets.core.worker.score_messages import LONGEST_DEFAULT_WINDOW

__all__ = ["KLDivergence", "kl_divergence", "same_vocabulary"]

# What is left of a disk that a temporary file is written to.
_LEFT_FREE_BYTES = 512 * 1024 * 1024


class _Rows(NamedTuple):
    """Distributions at places in a row."""

    first: int
    logprobs: NDArray[np.float32]
    full: NDArray[np.float32]

    def cut(self, count: int) -> tuple[_Rows, _Rows | None]:
        """Return the first `count` of them, and the others."""
        if count == len(self.logprobs):
            return self, None
        rest = _Rows(self.first + count, self.logprobs[count:], self.full[count:])
        return _Rows(self.first, self.logprobs[:count], self.full[:count]), rest


class _Plan(NamedTuple):
    """What is the same for both models."""

    tokens: list[int]
    num_scored: int
    windows: str
    n_window: int
    vocabulary: VocabularyFacts


def same_vocabulary(a: Model, b: Model) -> bool:
    """Say whether two models have the same tokens, so that they can be compared one by one."""
    return a is b or a.vocabulary().digest == b.vocabulary().digest


def kl_divergence(
    reference: Side,
    model: Side,
    text: str,
    *,
    windows: str = "auto",
    n_window: int | None = None,
    load: Mapping[str, Any] | None = None,
    max_file_bytes: int = 16 * 10**9,
    progress: ScoreProgress | None = None,
) -> KLDivergence:
    """Say how far a model's distributions are from a reference's, at each token of a text.

    Parameters
    ----------
    reference, model : Model, str or path-like
        Loaded models, or names or paths: these are loaded, one after the other if memory does not
        hold both, and given back. Both need the same tokens.
    text : str
    windows, n_window : str, int, optional
        As for `perplexity`; with "halves" the figures are those of llama.cpp's tool
        (``llama-perplexity --kl-divergence``), which rounds the reference to 16 bits in its file;
        here nothing is rounded.
    load : mapping, optional
        Settings for loading.
    max_file_bytes : int, default 16 GB
        The most that the reference's distributions may take on the disk, where memory does not hold
        both models: ``4 * n_vocab`` bytes for each scored token.
    progress : callable, optional
        Called with how far it is (0 to 1) and a phrase; answering False stops it.

    Returns
    -------
    KLDivergence

    Raises
    ------
    InvalidValueError
        If the models' tokens differ (then compare their answers with `divergence`, or their
        `bits_per_byte`), or the text is too long for the file.
    NotEnoughMemoryError
        If a model does not fit, even alone. One that you hold is never unloaded here: to have them
        loaded one after the other, give both by name.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> print(gw.kl_divergence("qwen-f16", "qwen-q4_0", text))  # doctest: +SKIP
    """
    check_side(reference, "The reference")
    check_side(model, "The model")
    with ExitStack() as stack:
        first, is_new = stack.enter_context(opened(reference, load))
        names = [first.name, _name(model)]
        try:
            second, _ = stack.enter_context(opened(model, load))
        except NotEnoughMemoryError:
            if not is_new:
                raise
            spool = stack.enter_context(tempfile.TemporaryFile(prefix="gguf-widgets-kl-"))
            told = _Progress(progress, 0.0, 0.5)
            plan = _spool(first, text, windows, n_window, spool, max_file_bytes, told)
            first.unload()
            second, _ = stack.enter_context(
                opened(model, {"n_ctx": max(plan.n_window, 512), **(load or {})})
            )
            _check_same(plan.vocabulary, second.vocabulary(), names)
            names[1] = second.name
            spool.seek(0)
            rows = _from_file(spool, plan.vocabulary.n_vocab)
            told = _Progress(progress, 0.5, 1.0)
            return _compared(rows, second, plan, names, told)
        names[1] = second.name
        _check_same(first.vocabulary(), second.vocabulary(), names)
        if n_window is None:
            n_window = _common_window(first, second, text, windows)
        with first.stream_scores(text, full=True, windows=windows, n_window=n_window) as stream:
            plan, told = _plan(stream, first), _Progress(progress, 0.0, 1.0)
            if first.pid == second.pid:  # one model: what it says once, it need not say twice
                return _figures(((rows, rows) for rows in _from(stream)), plan, names, told)
            return _compared(_from(stream), second, plan, names, told)


def _compared(
    reference: Iterator[_Rows],
    model: Model,
    plan: _Plan,
    names: list[str],
    progress: _Progress,
) -> KLDivergence:
    with model.stream_scores(
        plan.tokens, full=True, windows=plan.windows, n_window=plan.n_window
    ) as stream:
        return _figures(_paired(reference, _from(stream)), plan, names, progress)


def _figures(
    pairs: Iterable[tuple[_Rows, _Rows]], plan: _Plan, names: list[str], progress: _Progress
) -> KLDivergence:
    positions: list[int] = []
    kl: list[float] = []
    same: list[bool] = []
    ours: list[NDArray[np.float32]] = []
    theirs: list[NDArray[np.float32]] = []
    for a, b in pairs:
        positions += range(a.first, a.first + len(a.logprobs))
        kl += map(row_divergence, a.full, b.full)
        same += (a.full.argmax(axis=1) == b.full.argmax(axis=1)).tolist()
        theirs.append(np.array(a.logprobs))
        ours.append(np.array(b.logprobs))
        progress.tell(len(positions) / plan.num_scored, "Comparing with the reference")
    return KLDivergence(
        reference=names[0],
        model=names[1],
        positions=np.array(positions, np.int64),
        kl=np.array(kl),
        same_top_places=np.array(same, np.bool_),
        reference_logprobs=np.concatenate(theirs).astype(np.float64),
        logprobs=np.concatenate(ours).astype(np.float64),
        windows=plan.windows,
        n_window=plan.n_window,
    )


def _paired(reference: Iterator[_Rows], other: Iterator[_Rows]) -> Iterator[tuple[_Rows, _Rows]]:
    """Bring rows of the same places together, whatever pieces they come in."""
    a: _Rows | None = None
    b: _Rows | None = None
    while True:
        a = a if a is not None else next(reference, None)
        b = b if b is not None else next(other, None)
        if a is None or b is None:
            break
        if a.first != b.first:
            raise AssertionError(f"place {a.first} was compared with {b.first}")
        count = min(len(a.logprobs), len(b.logprobs))
        left, a = a.cut(count)
        right, b = b.cut(count)
        yield left, right
    if a is not None or b is not None:
        raise AssertionError("one side came to its end before the other")


def _from(stream: ScoreStream) -> Iterator[_Rows]:
    for rows in stream:
        if rows.full is None:
            raise AssertionError("no distributions came")
        yield _Rows(rows.first, rows.logprobs, rows.full)


# --- one after the other ---


def _spool(
    model: Model,
    text: str,
    windows: str,
    n_window: int | None,
    file: Any,
    max_bytes: int,
    progress: _Progress,
) -> _Plan:
    """Write all distributions of a model into a file; return what they are of."""
    with model.stream_scores(text, full=True, windows=windows, n_window=n_window) as stream:
        plan = _plan(stream, model)
        _check_room(plan, max_bytes)
        for rows in _from(stream):
            head = np.array([rows.first, len(rows.logprobs)], "<i8")
            for part in (head, rows.logprobs, rows.full):
                file.write(np.ascontiguousarray(part).data)
            progress.tell(stream.num_scored / plan.num_scored, "Reading the reference")
    return plan


def _check_room(plan: _Plan, max_bytes: int) -> None:
    each = 4 * plan.vocabulary.n_vocab
    needed = each * plan.num_scored
    folder = tempfile.gettempdir()
    room = min(max_bytes, max(0, shutil.disk_usage(folder).free - _LEFT_FREE_BYTES))
    if needed <= room:
        return
    raise InvalidValueError(
        f"Memory does not hold both models, so the reference's distributions have to wait in a"
        f" file: {plan.num_scored:,} tokens take {format_bytes(needed)}, and there can be"
        f" {format_bytes(room)} (the least of max_file_bytes, {format_bytes(max_bytes)}, and what"
        f" is free in {plain_text(folder)}). Take a shorter text, of some"
        f" {room // each:,} scored tokens at most.",
        needed_bytes=needed,
        room_bytes=room,
        most_tokens=room // each,
    )


def _from_file(file: BinaryIO | Any, n_vocab: int) -> Iterator[_Rows]:
    while head := file.read(16):
        first, count = np.frombuffer(head, "<i8").tolist()
        logprobs = np.frombuffer(file.read(4 * count), "<f4")
        full = np.frombuffer(file.read(4 * count * n_vocab), "<f4").reshape(count, n_vocab)
        yield _Rows(first, logprobs, full)


# --- what both ways need ---


class _Progress:
    """Tells a part of the whole way, and ends it when it is told to."""

    def __init__(self, tell: ScoreProgress | None, start: float, end: float) -> None:
        self._tell, self._start, self._end = tell, start, end

    def tell(self, share: float, phrase: str) -> None:
        if self._tell is None:
            return
        if self._tell(self._start + share * (self._end - self._start), phrase) is False:
            raise RequestCancelledError("The comparison was stopped.")


def _plan(stream: ScoreStream, model: Model) -> _Plan:
    return _Plan(
        stream.tokens, stream.num_total, stream.windows, stream.n_window, model.vocabulary()
    )


def _common_window(first: Model, second: Model, text: str, windows: str) -> int | None:
    """Return a window that both models can take; None if each one's own is the same."""
    smaller = second.settings.n_ctx or 0
    if smaller >= min(first.settings.n_ctx or 0, LONGEST_DEFAULT_WINDOW):
        return None
    with first.stream_scores(text, windows=windows) as stream:  # asks only how it would be cut
        return None if stream.n_window <= smaller else smaller


def _check_same(a: VocabularyFacts, b: VocabularyFacts, names: list[str]) -> None:
    if a.digest == b.digest:
        return
    one, other = map(plain_text, names)
    raise InvalidValueError(
        f"{one} and {other} have different tokens ({a.n_vocab:,} and {b.n_vocab:,}), so their"
        " probabilities cannot be compared one by one. Compare their answers (gw.divergence goes by"
        " the text then), or the bits_per_byte of gw.perplexity.",
        n_vocab=[a.n_vocab, b.n_vocab],
    )


def _name(side: Side) -> str:
    return side.name if isinstance(side, Model) else str(side)
