"""Texts to vectors, beside the generation: one batch for each of the engine's steps.

Promises:

- a request that `add` accepts is answered by exactly one call of its `deliver`, with all vectors or
  one error, unless the queue is closed before;
- what is computed together does not change a vector, up to rounding;
- running streams keep flowing: while there are any, a batch is about as long as a chunk of a prompt
  may be (`scheduler.PrefillPace`); and however many there are, each step computes one batch here;
- clients take turns, and the requests of one client, text by text: a short request is not held up
  by a long one. No text is passed over because a later, shorter one would fit;
- a batch that fails costs only the request whose text is at fault.

Leaves to others: the native context (`embedding_backend.Embedder`), one vector from many
(`embedding_pooling`), the generation (`engine.py`).

Threads: as in `engine.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import DecodeStatus
from gguf_widgets.core.engine.embedding_backend import Embedder, Piece
from gguf_widgets.core.engine.embedding_pooling import Pooler
from gguf_widgets.core.engine.interruptible import PATIENCE, InterruptibleQueue
from gguf_widgets.core.engine.scheduler import PrefillPace
from gguf_widgets.core.errors import (
    ContextOverflowError,
    DecodeError,
    GgufWidgetsError,
    InvalidValueError,
    UnsupportedByModelError,
)
from gguf_widgets.core.types import Pooling

__all__ = ["EmbedRequest", "EmbeddingQueue"]

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class EmbedRequest:
    """Some texts, as tokens.

    Attributes
    ----------
    request_id, client_id : str
    texts : sequence of lists of int
    pooling : Pooling or None
        None is the model's own.
    normalize : bool
    first_index : int
        What errors call the first text.
    deliver : callable
        Takes the vectors, of shape (number of texts, n_embd), or the error; on the engine's thread.
    """

    request_id: str
    client_id: str
    texts: Sequence[list[int]]
    deliver: Callable[[Vectors | GgufWidgetsError], None] = field(repr=False)
    pooling: Pooling | None = None
    normalize: bool = True
    first_index: int = 0


class _Job:
    """An open request: how many of its texts have begun, and which are done."""

    __slots__ = ("num_begun", "num_done", "pooling", "request", "vectors")

    def __init__(self, request: EmbedRequest, pooling: Pooling, n_embd: int) -> None:
        self.request = request
        self.pooling = pooling
        self.vectors = np.empty((len(request.texts), n_embd), np.float32)
        self.num_begun = self.num_done = 0


class _Text:
    """A text that is being computed, or is the next to be."""

    __slots__ = (
        "job",
        "num_computed",
        "num_interrupts",
        "number",
        "pooler",
        "slot",
        "suspect",
        "tokens",
    )

    def __init__(self, job: _Job, number: int, n_embd: int) -> None:
        self.job = job
        self.number = number
        self.tokens = job.request.texts[number]
        self.slot = -1
        self.num_computed = 0
        self.num_interrupts = 0
        self.suspect = False  # its last batch failed: it is computed alone until that goes well
        self.pooler = Pooler(job.pooling, n_embd)

    @property
    def index(self) -> int:
        return self.job.request.first_index + self.number


class EmbeddingQueue(InterruptibleQueue[_Job]):
    """The open requests for vectors of one model.

    Parameters
    ----------
    embedder : Embedder or None
        It is closed with this queue. None is a backend that has no vectors.
    """

    def __init__(self, embedder: Embedder | None) -> None:
        super().__init__(embedder)
        self._embedder = embedder
        # Of each client its jobs that have texts to begin; the first of the first is next.
        self._turns: dict[str, deque[_Job]] = {}
        self._next: _Text | None = None
        self._active: list[_Text] = []
        self._free_slots = list(range(embedder.n_slots - 1, -1, -1)) if embedder else []
        self._pace = PrefillPace(embedder.n_batch if embedder else 1)

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._jobs)

    # Requests

    def tokenize(self, texts: Sequence[str], first_index: int = 0) -> list[list[int]]:
        """Cut texts into tokens for an `EmbedRequest`; any thread may call this.

        Raises
        ------
        UnsupportedByModelError
            If there are no vectors to be had here.
        InvalidValueError
            For an empty text, or one that is not valid Unicode; ``index`` is in its details.
        ContextOverflowError
            For a text that is too long; ``index``, ``n_tokens``, ``n_ctx`` and ``excess`` are in
            its details.
        """
        embedder = self._checked()
        result = []
        for index, text in enumerate(texts, first_index):
            try:
                tokens = embedder.tokenize(text) if text else []
            except InvalidValueError as error:
                raise InvalidValueError(
                    f"The text with index {index}: {error.message}", **error.details, index=index
                ) from error
            if not tokens:
                raise InvalidValueError(
                    f"The text with index {index} is empty, so there is nothing to embed. Leave it"
                    " out, or put something in its place.",
                    index=index,
                )
            _check_length(index, len(tokens), embedder.facts.n_ctx)
            result.append(tokens)
        return result

    def add(self, request: EmbedRequest) -> None:
        """Take a request into the queue; one without texts is answered at once.

        Raises
        ------
        UnsupportedByModelError, InvalidValueError, ContextOverflowError
            If it cannot be carried out.
        """
        embedder = self._checked()
        facts = embedder.facts
        if request.request_id in self._jobs:
            raise InvalidValueError(f"A request {request.request_id!r} is already under way.")
        pooling = facts.pooling if request.pooling is None else request.pooling
        if pooling not in facts.poolings:
            raise InvalidValueError(
                f"pooling is {str(pooling)!r}; with this model it can be"
                f" {' or '.join(repr(str(one)) for one in facts.poolings)}. (In a model that reads"
                " from left to right, the first token knows nothing of the text.)",
                value=str(pooling),
            )
        for index, tokens in enumerate(request.texts, request.first_index):
            if not tokens:
                raise InvalidValueError(f"The text with index {index} is empty.", index=index)
            _check_length(index, len(tokens), facts.n_ctx)
        job = _Job(request, pooling, facts.n_embd)
        if not request.texts:
            request.deliver(job.vectors)
            return
        self._jobs[request.request_id] = job
        self._turns.setdefault(request.client_id, deque()).append(job)

    def close(self) -> None:
        """Free what is native; open requests get no answer any more. May be called twice."""
        self._jobs.clear()
        self._turns.clear()
        self._active.clear()
        self._next = None
        if self._embedder is not None:
            self._embedder.close()

    # Steps

    def step(self, *, busy: bool) -> None:
        """Compute one batch.

        Parameters
        ----------
        busy : bool
            Whether replies are being written, which go on only after this.
        """
        if not self._jobs:
            return
        embedder = self._checked()
        pieces = self._plan(embedder, min(self._pace.limit, embedder.n_batch) if busy else None)
        if not pieces:
            return
        started = perf_counter()
        try:
            status = self._compute(embedder, pieces)
        except GgufWidgetsError as error:  # the runtime could not be made ready, for anybody
            for job in list(self._jobs.values()):
                self._end(job, error)
            return
        if status is not DecodeStatus.OK:
            self._recover(embedder, status, [text for text, _ in pieces])
            return
        num_tokens = sum(len(piece.tokens) for _, piece in pieces)
        self._pace.observe(num_tokens, perf_counter() - started)
        rows = embedder.vectors(num_tokens)
        row = 0
        for text, piece in pieces:
            self._take(text, rows[row : row + len(piece.tokens)])
            row += len(piece.tokens)

    def _plan(self, embedder: Embedder, limit: int | None) -> list[tuple[_Text, Piece]]:
        """Choose the next batch: what is under way first, then texts that have not begun."""
        room = embedder.n_batch if limit is None else limit
        pieces: list[tuple[_Text, Piece]] = []

        def put(text: _Text) -> bool:
            nonlocal room
            left = len(text.tokens) - text.num_computed
            count = min(left, room) if embedder.facts.is_causal else left
            if count <= 0 or (count > room and pieces):
                return False
            start = text.num_computed
            piece = Piece(text.slot, start, text.tokens[start : start + count])
            pieces.append((text, piece))
            room -= count
            return True

        suspects = [text for text in self._active if text.suspect]
        if suspects:
            put(suspects[0])
            return pieces
        for text in self._active:
            put(text)
        while room > 0 and self._free_slots:
            begun = self._peek()
            if begun is None or not self._make_room(embedder, begun):
                break
            begun.slot = self._free_slots[-1]
            if not put(begun):
                begun.slot = -1
                break
            self._free_slots.pop()
            self._active.append(begun)
            self._next = None
        return pieces

    def _peek(self) -> _Text | None:
        """Return the text whose turn it is; it stays so until it has begun."""
        if self._next is None and self._turns:
            client, jobs = next(iter(self._turns.items()))
            del self._turns[client]
            job = jobs.popleft()
            self._next = _Text(job, job.num_begun, job.vectors.shape[1])
            job.num_begun += 1
            if job.num_begun < len(job.request.texts):
                jobs.append(job)
            if jobs:
                self._turns[client] = jobs  # at the end: the others come first
        return self._next

    def _make_room(self, embedder: Embedder, text: _Text) -> bool:
        """Say whether there is room for one more text; if it is the only one, make it."""
        used = sum(len(one.tokens) for one in self._active)
        if used + len(text.tokens) <= embedder.room:
            return True
        if self._active:
            return False
        try:
            embedder.grow(len(text.tokens))
        except GgufWidgetsError as error:
            self._end(text.job, error)
            return False
        return True

    def _compute(self, embedder: Embedder, pieces: list[tuple[_Text, Piece]]) -> DecodeStatus:
        can_interrupt = all(text.num_interrupts < PATIENCE for text, _ in pieces)
        return self._computed(
            embedder,
            lambda: embedder.compute([piece for _, piece in pieces]),
            can_interrupt=can_interrupt,
        )

    def _take(self, text: _Text, rows: Vectors) -> None:
        """Take the rows of a piece in; with the last one the text is done."""
        job = text.job
        if self._jobs.get(job.request.request_id) is not job:
            return  # another of its texts has failed just now
        text.pooler.add(rows)
        text.num_computed += len(rows)
        text.suspect = False
        if text.num_computed < len(text.tokens):
            return
        vector = text.pooler.vector(normalize=job.request.normalize)
        self._leave(text)
        if not np.isfinite(vector).all():
            self._end(
                job,
                DecodeError(
                    f"The model gave numbers that are none (NaN or infinite) for the text with"
                    f" index {text.index}. The model file may be damaged.",
                    index=text.index,
                ),
            )
            return
        job.vectors[text.number] = vector
        job.num_done += 1
        if job.num_done == len(job.request.texts):
            self._end(job, job.vectors)

    def _recover(self, embedder: Embedder, status: DecodeStatus, texts: list[_Text]) -> None:
        """Go back to before a batch that did not go well."""
        for text in texts:
            text.num_interrupts += status is DecodeStatus.ABORTED
            if not embedder.forget(text.slot, text.num_computed):
                embedder.forget(text.slot)
                text.num_computed = 0
                text.pooler = Pooler(text.job.pooling, text.job.vectors.shape[1])
        if status is DecodeStatus.ABORTED:
            return
        if len(texts) > 1:
            for text in texts:
                text.suspect = True
            return
        self._end(
            texts[0].job,
            DecodeError(
                f"The model could not compute the text with index {texts[0].index}"
                f" (llama_decode answered {status.name.lower()}). The model is still loaded; try"
                " again, or with a shorter text.",
                status=status.name.lower(),
                index=texts[0].index,
            ),
        )

    # Ends

    def _leave(self, text: _Text) -> None:
        """Give back a text's slot and what is in it."""
        self._checked().forget(text.slot)
        self._active.remove(text)
        self._free_slots.append(text.slot)

    def _end(self, job: _Job, answer: Vectors | GgufWidgetsError) -> None:
        """Close a request, and give back all that it has."""
        request = job.request
        del self._jobs[request.request_id]
        for text in [text for text in self._active if text.job is job]:
            self._leave(text)
        if self._next is not None and self._next.job is job:
            self._next = None
        jobs = self._turns.get(request.client_id)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._turns[request.client_id]
        if not self._jobs:
            self._checked().rest()
        request.deliver(answer)

    def _checked(self) -> Embedder:
        if self._embedder is None:
            raise UnsupportedByModelError(
                "Demo mode has prepared answers and no model, so there are no vectors to be had."
                " Install llama-cpp-python and load a model to embed texts."
            )
        return self._embedder


def _check_length(index: int, n_tokens: int, n_ctx: int) -> None:
    if n_tokens > n_ctx:
        raise ContextOverflowError(
            f"The text with index {index} is {n_tokens:,} tokens long and there is room for"
            f" {n_ctx:,}: {n_tokens - n_ctx:,} too many. Split it, or, if the model allows more,"
            " load it with a larger context (n_ctx).",
            index=index,
            n_tokens=n_tokens,
            n_ctx=n_ctx,
            excess=n_tokens - n_ctx,
        )
