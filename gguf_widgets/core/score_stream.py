"""The scores of a text while they arrive, to be read in a loop.

Promises: rows come in the text's order, each once; what has not been read is not computed far ahead
(`score_messages.PIECES_AHEAD` pieces), so whole distributions over a long text take no more memory
than a few pieces; a stream that is closed, left early or forgotten takes its request back. Leaves
to others: asking (`core.model_score`), what follows from the figures (`core.scores`).
"""

from __future__ import annotations

import queue
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np

from gguf_widgets.core.errors import (
    ProtocolError,
    RequestCancelledError,
    WorkerDiedError,
    from_wire,
)
from gguf_widgets.core.scores.result import ScoreRows, Scores
from gguf_widgets.core.types import Failed, TokenChance
from gguf_widgets.core.worker import score_messages
from gguf_widgets.core.worker.client import WorkerClient

__all__ = ["ScoreStream"]

# A wait is cut into pieces of this length, so that an interrupt gets through on every system and a
# connection that has ended is noticed.
_SLICE_S = 0.5


class _Inbox:
    """Where the client's thread puts the messages; it is held by the client, the stream is not."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.closed = False

    def deliver(self, message: Any) -> None:
        if not self.closed:
            self.messages.put(message)


class ScoreStream:
    """Scores in the order of the text; made by `Model.stream_scores`.

    Parameters
    ----------
    client : WorkerClient
    make : callable
        Makes the request from its id.

    Attributes
    ----------
    tokens : list of int
        All tokens; those before the text included.
    num_before : int
        So many of them are before the text.
    num_total, num_scored : int
        How many tokens are going to be scored, and how many have been so far.
    n_vocab : int
    windows, n_window, num_windows : str, int, int
        As in `Scores`.
    texts : dict of int to str
        What the tokens look like that have come so far.

    Raises
    ------
    GgufWidgetsError
        What was wrong with the request.
    """

    def __init__(self, client: WorkerClient, make: Callable[[str], Any]) -> None:
        self._client = client
        self._inbox = _Inbox()
        self._ended = False
        self._untold = False  # the piece that was read last has not been acknowledged
        self.num_scored = self._num_bytes = 0
        self.texts: dict[int, str] = {}
        self.request_id = client.submit(make, self._inbox)
        self._forgotten = weakref.finalize(self, _take_back, client, self.request_id, self._inbox)
        self._forgotten.atexit = False  # the connection's end says the same
        try:
            begun = self._begun()
        except BaseException:
            self.close()
            raise
        self.tokens: list[int] = np.frombuffer(begun.tokens, "<i4").tolist()
        self.num_before = begun.num_before
        self.num_total = begun.num_scored
        self.n_vocab = begun.n_vocab
        self.windows = "halves" if begun.halves else "every"
        self.n_window, self.num_windows = begun.n_window, begun.num_windows

    def __repr__(self) -> str:
        state = "ended" if self._ended else "closed" if self._inbox.closed else "open"
        return f"<ScoreStream, {state}, {self.num_scored:,} of {self.num_total:,} tokens>"

    def close(self) -> None:
        """Take the request back and read nothing more; any thread may, also after the end."""
        self._forgotten()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ScoreRows:
        if self._ended or self._inbox.closed:
            raise StopIteration
        if self._untold:
            self._untold = False
            self._client.score_taken(self.request_id)
        message = self._next_message()
        if isinstance(message, score_messages.Scored):
            self._num_bytes = message.num_bytes
            if self.num_scored != self.num_total or message.num_scored != self.num_total:
                raise ProtocolError(f"{self.num_scored} of {self.num_total} scores came.")
            raise StopIteration
        if not isinstance(message, score_messages.ScorePiece):
            raise ProtocolError(f"A {type(message).__name__} came among scores.")
        self._untold = True
        return self._take(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def result(self, on_rows: Callable[[ScoreRows], None] | None = None) -> Scores:
        """Read to the end and return everything; an interrupt takes the request back.

        Parameters
        ----------
        on_rows : callable, optional
            Called with the rows as they come.
        """
        pieces = []
        try:
            for rows in self:
                pieces.append(rows)
                if on_rows is not None:
                    on_rows(rows)
        except BaseException:
            self.close()
            raise
        if not self._ended:
            raise RequestCancelledError("The scoring was stopped.")
        full = [rows.full for rows in pieces if rows.full is not None]
        return Scores(
            tokens=self.tokens,
            num_before=self.num_before,
            positions=np.concatenate([np.arange(p.first, p.first + len(p)) for p in pieces]),
            logprobs=np.concatenate([rows.logprobs for rows in pieces]),
            top=[top for rows in pieces for top in rows.top],
            full=np.concatenate(full) if full else None,
            texts=self.texts,
            windows=self.windows,
            n_window=self.n_window,
            num_windows=self.num_windows,
            num_bytes=self._num_bytes,
        )

    # --- inside ---

    def _begun(self) -> score_messages.ScoreBegun:
        message = self._next_message()
        if not isinstance(message, score_messages.ScoreBegun):
            raise ProtocolError(f"Scores began with a {type(message).__name__}.")
        return message

    def _take(self, piece: score_messages.ScorePiece) -> ScoreRows:
        count, num_top = piece.count, piece.num_top
        self.texts.update(piece.texts)
        self.num_scored += count
        top: list[list[TokenChance]] = [[] for _ in range(count)]
        if num_top:
            tokens = np.frombuffer(piece.top_tokens, "<i4").reshape(count, num_top).tolist()
            chances = np.frombuffer(piece.top_logprobs, "<f4").reshape(count, num_top).tolist()
            texts = self.texts
            top = [
                [TokenChance(token, texts[token], p) for token, p in zip(ids, ps, strict=True)]
                for ids, ps in zip(tokens, chances, strict=True)
            ]
        full = None
        if piece.full:
            full = np.frombuffer(piece.full, "<f4").reshape(count, self.n_vocab)
        return ScoreRows(piece.first, np.frombuffer(piece.logprobs, "<f4"), top, full)

    def _next_message(self) -> Any:
        """Return the next message; the last one is remembered, an error is raised."""
        message = self._wait()
        if isinstance(message, score_messages.ScoreBegun | score_messages.ScorePiece):
            return message
        self._ended = True
        self._forgotten.detach()
        if isinstance(message, Failed):
            raise from_wire(message.error)
        if isinstance(message, score_messages.Scored):
            return message
        raise RequestCancelledError("The scoring was stopped.")  # before it was prepared

    def _wait(self) -> Any:
        while True:
            try:
                return self._inbox.messages.get(timeout=_SLICE_S)
            except queue.Empty:
                if self._inbox.closed:
                    raise RequestCancelledError("The scoring was stopped.") from None
                # The client answers every request when it ends: a second line of defence.
                if not self._client.alive and self._inbox.messages.empty():
                    self._ended = True
                    raise WorkerDiedError(
                        "The connection to the model ended without an answer."
                    ) from None


def _take_back(client: WorkerClient, request_id: str, inbox: _Inbox) -> None:
    """End a request nobody reads; the garbage collector calls this, so it only leaves a note."""
    inbox.closed = True
    client.abort(request_id)
