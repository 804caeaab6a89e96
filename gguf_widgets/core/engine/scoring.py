"""How likely a model finds given tokens, beside the generation: one batch for each engine step.

Promises:

- a request that `add` accepts is answered by rows, in order and each once, and then by exactly one
  end or error, unless the queue is closed before;
- running streams keep flowing: while there are any, a batch is about as long as a chunk of a prompt
  may be (`scheduler.PrefillPace`), the time for the log probabilities included;
- what is not taken is not computed: a request has a *credit* of pieces, and rests without one
  (`more`), so a client that does not read costs neither memory nor anybody else's turn;
- clients take turns, window by window (`score_windows`);
- numbers that are none are never handed on: such a row is an error.

Leaves to others: the native context (`scoring_backend.Scorer`), the pieces as messages (the
worker), what is made of them (`core.scores`).

A request that rests in the middle of a window keeps its place until another one goes on; then its
window is computed once more up to there, and what was computed and not taken is lost. There is one
memory, so that scoring takes no more than one window's.

What runs beside a request changes its figures in the last digits only: it decides how many tokens
are computed in one batch, and llama.cpp adds up differently in batches of another size.

Threads: as in `engine.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import DecodeStatus
from gguf_widgets.core.engine.interruptible import PATIENCE, InterruptibleQueue
from gguf_widgets.core.engine.log_softmax import likeliest, log_sum_exp
from gguf_widgets.core.engine.scheduler import PrefillPace
from gguf_widgets.core.engine.score_windows import Window
from gguf_widgets.core.engine.scoring_backend import Scorer
from gguf_widgets.core.errors import (
    DecodeError,
    GgufWidgetsError,
    InvalidValueError,
    UnsupportedByModelError,
)

__all__ = ["PIECE_BYTES", "ScoreEnd", "ScoreRequest", "ScoreRows", "ScoringQueue"]

PIECE_BYTES = 4 * 1024 * 1024
"""Whole distributions are handed on in pieces of about this size, or of one row if that is more."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRows:
    """The scores of some tokens in a row, the first of them being number `first` of the text.

    Attributes
    ----------
    first : int
    logprobs : ndarray of float32
        How likely each token was after those before it, as natural logarithm; minus infinity for
        what the model excludes.
    top_tokens, top_logprobs : ndarray of int32 and float32, shape (number of tokens, top)
        The likeliest at each place, the likeliest first.
    full : ndarray of float32, shape (number of tokens, n_vocab), or None
        The log probability of every token at each place, if it was asked for.
    """

    first: int
    logprobs: NDArray[np.float32]
    top_tokens: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]
    full: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.logprobs)


@dataclass(frozen=True, slots=True)
class ScoreEnd:
    """All rows have been handed on."""

    num_scored: int


Answer = ScoreRows | ScoreEnd | GgufWidgetsError


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """A text to be scored, as tokens.

    Attributes
    ----------
    request_id, client_id : str
    tokens : sequence of int
    windows : sequence of Window
        Of `score_windows.plan_windows`.
    deliver : callable
        Takes what comes of it, on the engine's thread.
    credit : int
        How many pieces may be handed on before `ScoringQueue.more`; also the most at any time.
    top : int
        How many of the likeliest tokens are told at each place.
    full : bool
        Whether whole distributions are told.
    bos : int
        The token that takes the place of the first one of each window inside of the text; -1 leaves
        it.
    """

    request_id: str
    client_id: str
    tokens: Sequence[int]
    windows: Sequence[Window]
    deliver: Callable[[Answer], None] = field(repr=False)
    credit: int = 4
    top: int = 0
    full: bool = False
    bos: int = -1


class _Job:
    """An open request and how far it is."""

    __slots__ = (
        "credit",
        "last_turn",
        "next",
        "num_computed",
        "num_interrupts",
        "num_ready",
        "num_scored",
        "num_shown",
        "order",
        "request",
        "sums",
        "window_number",
    )

    def __init__(self, request: ScoreRequest, order: int) -> None:
        self.request = request
        self.order = order
        self.credit = request.credit
        self.window_number = 0
        self.next = request.windows[0].first  # the token whose score is handed on next
        self.num_computed = 0  # of the window's tokens, in the scorer's memory
        self.num_ready = self.num_shown = 0  # rows of the last batch, and handed on of these
        self.num_scored = self.num_interrupts = 0
        self.last_turn = -1
        self.sums: NDArray[np.float64] = np.empty(0)

    @property
    def window(self) -> Window:
        return self.request.windows[self.window_number]

    def start_again(self) -> None:
        """Go back to the window's beginning: its tokens, and what is ready, are there no more."""
        self.num_computed = self.num_ready = self.num_shown = 0


class ScoringQueue(InterruptibleQueue[_Job]):
    """The open requests for scores of one model.

    Parameters
    ----------
    scorer : Scorer or None
        It is closed with this queue. None is a backend that has no scores.
    can_write : bool
        Of a backend without scores: whether it writes all the same (the demo mode).
    """

    def __init__(self, scorer: Scorer | None, *, can_write: bool = True) -> None:
        super().__init__(scorer)
        self._scorer = scorer
        self._can_write = can_write
        self._current: _Job | None = None  # whose tokens are in the scorer's memory
        self._last_turns: dict[str, int] = {}  # of each client
        self._num_turns = self._num_added = 0
        self._pace = PrefillPace(scorer.n_batch if scorer else 1)
        self._can_cut = True  # until it shows that the memory cannot be

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do: some request may go on."""
        return any(job.credit for job in self._jobs.values())

    def checked(self) -> Scorer:
        """Return the scorer; any thread may call this and read its plain attributes.

        Raises
        ------
        UnsupportedByModelError
            If there is none.
        """
        if self._scorer is not None:
            return self._scorer
        if not self._can_write:
            raise UnsupportedByModelError(
                "This is an embedding model: it turns texts into vectors (embed) and has no"
                " probabilities for the next token. Load a model that writes to score a text."
            )
        raise UnsupportedByModelError(
            "Demo mode has prepared answers and no model, so there are no probabilities to be had."
            " Install llama-cpp-python and load a model to score texts."
        )

    # Requests

    def add(self, request: ScoreRequest) -> None:
        """Take a request into the queue; one without anything to score is answered at once.

        Raises
        ------
        UnsupportedByModelError, InvalidValueError
            If it cannot be carried out.
        """
        scorer = self.checked()
        if request.request_id in self._jobs:
            raise InvalidValueError(f"A request {request.request_id!r} is already under way.")
        for window in request.windows:
            inside = 0 <= window.start < window.first < window.end <= len(request.tokens)
            if not inside or window.end - window.start > scorer.n_ctx:
                raise InvalidValueError(
                    f"The window from token {window.start} to {window.end}, scored from"
                    f" {window.first} on, is none of this text or longer than {scorer.n_ctx}."
                )
        if not request.windows:
            request.deliver(ScoreEnd(0))
            return
        self._jobs[request.request_id] = _Job(request, self._num_added)
        self._num_added += 1

    def more(self, request_id: str, num_pieces: int) -> None:
        """Let a request hand on so many pieces more; an id that is not open is ignored."""
        job = self._jobs.get(request_id)
        if job is not None:
            job.credit = min(job.request.credit, job.credit + max(0, num_pieces))

    def close(self) -> None:
        """Free what is native; open requests get no answer any more. May be called twice."""
        self._jobs.clear()
        self._current = None
        if self._scorer is not None:
            self._scorer.close()

    # Steps

    def step(self, *, busy: bool) -> None:
        """Compute one batch at most, and hand on what came of it.

        Parameters
        ----------
        busy : bool
            Whether replies are being written, which go on only after this.
        """
        job = self._choose()
        if job is None:
            return
        scorer = self.checked()
        started = perf_counter()
        num_tokens = 0
        if not job.num_ready:
            limit = min(self._pace.limit, scorer.n_batch) if busy else scorer.n_batch
            try:
                num_tokens = self._compute(scorer, job, limit)
            except GgufWidgetsError as error:
                self._end(job, error)
                return
        self._hand_on(scorer, job)
        if num_tokens:
            self._pace.observe(num_tokens, perf_counter() - started)

    def _choose(self) -> _Job | None:
        """Return whose turn it is: the one under way, or else whoever has waited longest."""
        job = self._current
        if job is not None and job.credit:
            return job
        candidates = [one for one in self._jobs.values() if one.credit]
        if not candidates:
            return None
        if job is not None:  # it rests, in the middle of a window, and somebody else goes on
            job.start_again()
        chosen = min(candidates, key=self._turn)
        chosen.last_turn = self._last_turns[chosen.request.client_id] = self._num_turns
        self._num_turns += 1
        self._current = chosen
        self.checked().forget()
        return chosen

    def _turn(self, job: _Job) -> tuple[int, int, int]:
        return (self._last_turns.get(job.request.client_id, -1), job.last_turn, job.order)

    def _compute(self, scorer: Scorer, job: _Job, limit: int) -> int:
        """Compute the next tokens of a window; return how many, 0 if it was broken off."""
        window, request = job.window, job.request
        length = window.end - 1 - window.start  # nothing is asked about what follows the last one
        if scorer.room < length:
            scorer.grow(length)
        start = window.start + job.num_computed
        # The row before a token is the one that says how likely it is.
        num_silent = max(0, job.next - 1 - start)
        count = min(length - job.num_computed, limit, num_silent + scorer.n_outputs)
        num_silent = min(num_silent, count)
        tokens = list(request.tokens[start : start + count])
        if not job.num_computed and start and request.bos >= 0:
            tokens[0] = request.bos
        status = self._computed(
            scorer,
            lambda: scorer.compute(job.num_computed, tokens, num_silent),
            # A batch is broken off, or, where the memory cannot be cut, the whole window.
            can_interrupt=job.num_interrupts < PATIENCE,
        )
        if status is DecodeStatus.ABORTED:
            job.num_interrupts += 1
            if not scorer.forget(job.num_computed):
                self._can_cut = False
                scorer.forget()
                job.start_again()
            return 0
        if status is not DecodeStatus.OK:
            raise DecodeError(
                f"The model could not compute tokens {start:,} to {start + count:,} of the text"
                f" (llama_decode answered {status.name.lower()}). The model is still loaded; try"
                " again, or with shorter windows (n_window).",
                status=status.name.lower(),
                start=start,
                end=start + count,
            )
        if self._can_cut:
            job.num_interrupts = 0
        job.num_computed += count
        job.num_ready, job.num_shown = count - num_silent, 0
        if job.num_ready:
            job.sums = log_sum_exp(scorer.logits(job.num_ready))
            bad = np.flatnonzero(~np.isfinite(job.sums))
            if bad.size:
                place = job.next + int(bad[0])
                raise DecodeError(
                    f"The model gave numbers that are none (NaN or infinite) for token {place:,} of"
                    " the text. The model file may be damaged.",
                    position=place,
                )
        return count

    def _hand_on(self, scorer: Scorer, job: _Job) -> None:
        """Hand on what is ready, as far as the credit goes; then end the window, if it is done."""
        most = max(1, PIECE_BYTES // (4 * scorer.n_vocab)) if job.request.full else scorer.n_batch
        while job.credit and job.num_shown < job.num_ready:
            count = min(most, job.num_ready - job.num_shown)
            rows = self._rows(scorer, job, count)
            job.credit -= 1
            job.num_shown += count
            job.num_scored += count
            job.next += count
            job.request.deliver(rows)
        if job.num_shown < job.num_ready:
            return
        job.num_ready = job.num_shown = 0
        if job.next < job.window.end:
            return
        job.start_again()
        job.num_interrupts = 0
        self._current = None  # the others' turn
        job.window_number += 1
        if job.window_number < len(job.request.windows):
            job.next = job.window.first
        else:
            self._end(job, ScoreEnd(job.num_scored))

    def _rows(self, scorer: Scorer, job: _Job, count: int) -> ScoreRows:
        request, begin = job.request, job.num_shown
        logits = scorer.logits(job.num_ready)[begin : begin + count]
        sums = job.sums[begin : begin + count]
        wanted = np.asarray(request.tokens[job.next : job.next + count])
        num_top = min(request.top, scorer.n_vocab)
        top_tokens = np.empty((count, num_top), np.int32)
        top_logprobs = np.empty((count, num_top), np.float32)
        if num_top:
            for number, row in enumerate(logits):
                best = likeliest(row, num_top)
                top_tokens[number] = best
                top_logprobs[number] = row[best] - sums[number]
        return ScoreRows(
            first=job.next,
            logprobs=(logits[np.arange(count), wanted] - sums).astype(np.float32),
            top_tokens=top_tokens,
            top_logprobs=top_logprobs,
            full=logits - sums.astype(np.float32)[:, None] if request.full else None,
        )

    # Ends

    def _end(self, job: _Job, answer: ScoreEnd | GgufWidgetsError) -> None:
        """Close a request, and give back all that it has."""
        del self._jobs[job.request.request_id]
        if self._current is job:
            self._current = None
        if not self._jobs:
            self._last_turns.clear()
            self.checked().rest()
        job.request.deliver(answer)
