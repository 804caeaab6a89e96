"""Requests for scores, from the message to the pieces of the answer.

Promises: what cannot be scored is refused in words before the engine sees it; each piece is made
when the engine has computed it, and its tokens' texts are told once. Leaves to others: the queue of
open requests (`requests`), computing (`engine.scoring`), cutting into windows
(`engine.score_windows`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gguf_widgets.core.engine.request_check import check_tokens
from gguf_widgets.core.engine.score_windows import LEAST_WINDOW, Window, plan_windows
from gguf_widgets.core.engine.scoring import Answer, ScoreRequest, ScoreRows
from gguf_widgets.core.errors import (
    ContextOverflowError,
    InvalidValueError,
    UnsupportedByModelError,
)
from gguf_widgets.core.types import VocabularyFacts
from gguf_widgets.core.worker import score_messages as messages
from gguf_widgets.core.worker.loading import LoadedModel

__all__ = ["PreparedScore", "prepare_score", "vocabulary_facts"]


@dataclass(frozen=True, eq=False)
class PreparedScore:
    """A request that can be handed to the engine.

    Attributes
    ----------
    begun : ScoreBegun
        What the client is told first.
    request : ScoreRequest
    """

    begun: messages.ScoreBegun
    request: ScoreRequest
    _model: LoadedModel
    _told: set[int]
    _num_bytes: list[int]

    def piece(self, rows: ScoreRows) -> messages.ScorePiece:
        """Return some rows as a message; called in order, in one thread."""
        backend = self._model.engine.backend
        scored = self.request.tokens[rows.first : rows.first + len(rows)]
        self._num_bytes[0] += sum(len(backend.token_to_piece(token)) for token in scored)
        new = {*scored, *rows.top_tokens.ravel().tolist()} - self._told
        self._told.update(new)
        full = rows.full
        return messages.ScorePiece(
            request_id=self.request.request_id,
            first=rows.first,
            count=len(rows),
            num_top=rows.top_tokens.shape[1],
            logprobs=rows.logprobs.astype("<f4").tobytes(),
            top_tokens=rows.top_tokens.astype("<i4").tobytes(),
            top_logprobs=rows.top_logprobs.astype("<f4").tobytes(),
            full=b"" if full is None else full.astype("<f4", copy=False).tobytes(),
            texts=[(token, self._text(token)) for token in sorted(new)],
        )

    def end(self, num_scored: int) -> messages.Scored:
        """Return the last message."""
        return messages.Scored(
            request_id=self.request.request_id,
            num_scored=num_scored,
            num_bytes=self._num_bytes[0],
        )

    def _text(self, token: int) -> str:
        # As `engine.writer` tells tokens: their own bytes, and control tokens written out.
        piece = self._model.engine.backend.token_to_piece(token)
        return piece.decode("utf-8", "replace") if piece else self._model.detokenize([token])


def prepare_score(
    model: LoadedModel,
    message: messages.Score,
    client_id: str,
    deliver: Callable[[Answer], None],
) -> PreparedScore:
    """Find out what is to be scored; for a preparing thread.

    Raises
    ------
    UnsupportedByModelError, InvalidValueError, ContextOverflowError, ChatTemplateError
        If it cannot be.
    """
    scorer = model.engine.scoring.checked()
    if not 0 <= message.top <= messages.MAX_SCORE_TOP:
        raise InvalidValueError(
            f"top is {message.top}; it can be from 0 to {messages.MAX_SCORE_TOP:,}.",
            value=message.top,
            limit=messages.MAX_SCORE_TOP,
        )
    before, tokens = _tokens(model, message)
    bos = _bos(model)
    windows, halves, n_window = _windows(message, len(before), len(tokens), scorer.n_ctx)
    if halves and bos >= 0:
        tokens[0] = bos
    num_scored = sum(window.num_scored for window in windows)
    if not num_scored:
        raise InvalidValueError(
            "There is nothing to score: the text is a single token, and there is nothing before it"
            " that it could follow from. Give a longer text, or what stands before it (after=)."
        )
    return PreparedScore(
        begun=messages.ScoreBegun(
            request_id=message.request_id,
            tokens=np.asarray(tokens, "<i4").tobytes(),
            num_before=len(before),
            num_scored=num_scored,
            halves=halves,
            n_window=n_window,
            num_windows=len(windows),
            n_vocab=scorer.n_vocab,
        ),
        request=ScoreRequest(
            request_id=message.request_id,
            client_id=client_id,
            tokens=tokens,
            windows=windows,
            deliver=deliver,
            credit=messages.PIECES_AHEAD,
            top=message.top,
            full=message.full,
            bos=bos,
        ),
        _model=model,
        _told=set(),
        _num_bytes=[0],
    )


def vocabulary_facts(model: LoadedModel) -> VocabularyFacts:
    """Return what tells the model's vocabulary from others; takes a moment the first time."""
    backend = model.engine.backend
    return VocabularyFacts(
        n_vocab=backend.vocabulary.n_vocab,
        digest=backend.vocabulary_digest(),
        bos=_bos(model),
        ends=tuple(sorted(backend.vocabulary.eog)),
    )


def _bos(model: LoadedModel) -> int:
    vocabulary = model.engine.backend.vocabulary
    return vocabulary.bos if vocabulary.add_bos else -1


def _tokens(model: LoadedModel, message: messages.Score) -> tuple[list[int], list[int]]:
    """Return the tokens of what stands before the text, and of both together."""
    if (message.text is None) == (message.tokens is None):
        raise InvalidValueError("What is to be scored is a text or a list of tokens: one of both.")
    before: list[int] = []
    if message.before is not None:
        message.before.check()
        if message.before.has_images:
            raise UnsupportedByModelError(
                "A text that follows images cannot be scored yet. Leave the images out."
            )
        before = model.prompts.make(message.before).tokens
    if message.tokens is not None:
        own = message.tokens
        check_tokens(own, model.engine.backend.vocabulary.n_vocab)
    else:
        own = model.engine.tokenize(
            message.text or "",
            add_special=message.before is None,
            parse_special=message.parse_special,
        )
    if not (message.text or message.tokens):
        raise InvalidValueError("The text is empty: there is nothing to score.")
    num_tokens = len(before) + len(own)
    if num_tokens > messages.MAX_SCORE_TOKENS:
        raise ContextOverflowError(
            f"The text is {num_tokens:,} tokens long; at most {messages.MAX_SCORE_TOKENS:,} can be"
            " scored at once. Score it in parts.",
            n_tokens=num_tokens,
            limit=messages.MAX_SCORE_TOKENS,
        )
    return before, [*before, *own]


def _windows(
    message: messages.Score, num_before: int, num_tokens: int, n_ctx: int
) -> tuple[list[Window], bool, int]:
    """Return the windows, whether they are scored by halves, and how long they are at most."""
    n_window: Any = message.n_window
    if n_window is not None and not LEAST_WINDOW <= n_window <= n_ctx:
        raise InvalidValueError(
            f"n_window is {n_window:,}; with this model as it is loaded it can be from"
            f" {LEAST_WINDOW} to {n_ctx:,} (n_ctx).",
            value=n_window,
            limit=n_ctx,
        )
    shorter = n_window or min(messages.HALVES_WINDOW, n_ctx)
    if message.halves and message.before is not None:
        raise InvalidValueError(
            'windows="halves" is for a text that stands alone: leave out what comes before it'
            ' (after), or take windows="every".'
        )
    if message.halves and num_tokens < shorter:
        raise InvalidValueError(
            f"The text is {num_tokens:,} tokens long; for a window of {shorter:,} it has to be at"
            ' least as long. Choose a smaller n_window, or windows="every".',
            n_tokens=num_tokens,
            n_window=shorter,
        )
    halves = message.halves
    if halves is None:
        halves = message.before is None and num_tokens >= 2 * shorter
    if not halves:
        shorter = n_window or min(messages.LONGEST_DEFAULT_WINDOW, n_ctx)
    windows = plan_windows(num_tokens, shorter, halves=halves, first=max(1, num_before))
    return windows, halves, shorter
