"""How likely a model finds a text: `Model.score`, `stream_scores`, `ascore` and `vocabulary`.

Promises: what is asked for is checked here; figures come from the worker as the model computed
them. Leaves to others: reading them (`score_stream`), what follows from them (`core.scores`).
"""

from __future__ import annotations

import asyncio
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gguf_widgets.core.conversation_input import Conversation, check_text
from gguf_widgets.core.errors import InvalidValueError, NotEnoughMemoryError, WorkerError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.prompt_input import Extras, to_extras
from gguf_widgets.core.types import VocabularyFacts
from gguf_widgets.core.worker import score_messages
from gguf_widgets.core.worker.client import WorkerClient
from gguf_widgets.core.worker.protocol import Prompt

if TYPE_CHECKING:
    from gguf_widgets.core.score_stream import ScoreStream
    from gguf_widgets.core.scores.result import Scores

__all__ = ["WINDOWS", "Before", "ScoreMethods", "ScoreProgress", "Scored"]

T = TypeVar("T")

Scored = str | Sequence[int]
"""A text, or its tokens."""

Before = str | Sequence[int] | Conversation
"""What stands before a text: raw text, tokens, or the messages of a conversation."""

ScoreProgress = Callable[[float, str], object]
"""Takes how far the scoring is (0 to 1) and a phrase; answering False stops it."""

WINDOWS = ("every", "halves", "auto")

# Whole distributions that `score` returns at once; `stream_scores` has no such limit.
_MAX_FULL_BYTES = 1024 * 1024 * 1024


class ScoreMethods:
    """The part of a `Model` that says how likely texts are."""

    _chat_template: str | None
    _vocabulary: VocabularyFacts | None = None

    def score(
        self,
        text: Scored,
        *,
        after: Before | None = None,
        top: int = 0,
        full: bool = False,
        windows: str = "every",
        n_window: int | None = None,
        parse_special: bool = False,
        progress: ScoreProgress | None = None,
    ) -> Scores:
        """Return how likely the model finds each token of a text, after those before it.

        Parameters
        ----------
        text : str or list of int
            A text, or its tokens. A text of its own begins as a prompt does: with the model's first
            token (BOS), where it wants one. Its very first token has nothing before it, so it has
            no score; with `after` all have one.
        after : str, list of int or list of messages, optional
            What stands before the text and is not scored: raw text, tokens, or a conversation, in
            which case the text is scored as the answer to it. Their tokens follow on each other;
            they are not cut anew at the seam.
        top : int, default 0
            Tell so many of the likeliest tokens at each place, up to 1,000.
        full : bool, default False
            Tell the log probability of every token at each place, up to 1 GiB; use `stream_scores`
            for more.
        windows : {"every", "halves", "auto"}, default "every"
            How a text is cut that is longer than `n_window`. "every": each token is scored once,
            with half a window or more before it (its window ends at most ``n_window // 2`` tokens
            later, and begins where the window is full). "halves": as llama.cpp's perplexity tool
            does it, so that the figures are the same: windows that do not overlap, of which only
            the second half is scored. "auto": "halves" if there are at least two such windows,
            "every" otherwise.
        n_window : int, optional
            The longest window in tokens, 8 up to the model's `n_ctx`. By default 512 for "halves"
            (as llama.cpp), otherwise 2,048; less if `n_ctx` is less.
        parse_special : bool, default False
            Read control tokens such as ``<|im_end|>`` in the text as such.
        progress : callable, optional
            Called with how far it is; answering False stops it.

        Returns
        -------
        Scores

        Raises
        ------
        InvalidValueError
            For an empty text, or a setting that is not allowed.
        UnsupportedByModelError
            If the model only turns texts into vectors, and in demo mode.
        NotEnoughMemoryError
            If a window needs more memory than is free, or `full` more than 1 GiB.
        RequestCancelledError
            If it was stopped.
        DecodeError
            If the model's numbers are none (NaN).
        WorkerBusyError, WorkerDiedError, ModelUnloadedError
            As for `chat`.

        Notes
        -----
        Chats go on meanwhile, at the pace they have beside a long prompt. What runs beside changes
        a score in its last digits only. For the time being it takes memory of its own: a cache for
        one window, and room for the logits.

        Examples
        --------
        >>> scores = model.score("The quick brown fox", top=3)  # doctest: +SKIP
        >>> scores.perplexity, scores.token_logprobs[0]  # doctest: +SKIP
        >>> model.score(" Paris", after="The capital of France is").logprobs  # doctest: +SKIP
        """
        stream = self.stream_scores(
            text,
            after=after,
            top=top,
            full=full,
            windows=windows,
            n_window=n_window,
            parse_special=parse_special,
        )
        return _collected(stream, full=full, progress=progress)

    def stream_scores(
        self,
        text: Scored,
        *,
        after: Before | None = None,
        top: int = 0,
        full: bool = False,
        windows: str = "every",
        n_window: int | None = None,
        parse_special: bool = False,
    ) -> ScoreStream:
        """Do what `score` does, piece by piece: whole distributions over texts of any length.

        What is not read is not computed. The parameters and errors are those of `score`.

        Examples
        --------
        >>> with model.stream_scores(text, full=True) as stream:  # doctest: +SKIP
        ...     for rows in stream:
        ...         entropy = -(np.exp(rows.full) * rows.full).sum(axis=1)
        """
        from gguf_widgets.core.score_stream import ScoreStream

        words, tokens = _checked(text, "The text")
        if windows not in WINDOWS:
            raise InvalidValueError(
                f"windows is {windows!r:.40}; it can be {', '.join(map(repr, WINDOWS))}."
            )
        before = None if after is None else self._before(after)

        def make(request_id: str) -> score_messages.Score:
            return score_messages.Score(
                request_id=request_id,
                text=words,
                tokens=tokens,
                before=before,
                parse_special=bool(parse_special),
                halves=None if windows == "auto" else windows == "halves",
                n_window=None if n_window is None else _whole(n_window, "n_window"),
                top=_whole(top, "top"),
                full=bool(full),
            )

        return self._with_client(lambda client: ScoreStream(client, make))

    async def ascore(self, text: Scored, **keywords: Any) -> Scores:
        """Do what `score` does without blocking; cancelling the task takes the request back."""
        known = ("after", "top", "full", "windows", "n_window", "parse_special", "progress")
        for name in keywords:
            if name not in known:
                raise InvalidValueError(
                    f"ascore knows no {name!r}; it takes the text and {', '.join(known)}."
                )
        progress = keywords.pop("progress", None)
        stream = await asyncio.to_thread(self.stream_scores, text, **keywords)
        full = bool(keywords.get("full"))
        try:
            return await asyncio.to_thread(_collected, stream, full=full, progress=progress)
        except asyncio.CancelledError:
            stream.close()
            raise

    def vocabulary(self) -> VocabularyFacts:
        """Return what tells the model's vocabulary from others.

        Two models with the same `digest` have the same tokens, so that their probabilities can be
        compared one by one.
        """
        known = self._vocabulary
        if known is None:
            answer = self._ask(
                lambda request_id: score_messages.GetVocabulary(request_id=request_id)
            )
            if not isinstance(answer, score_messages.VocabularyTold):
                raise WorkerError(f"The worker answered with a {type(answer).__name__}.")
            known = self._vocabulary = answer.facts
        return known

    # --- inside ---

    def _before(self, after: Before) -> Prompt:
        if isinstance(after, Sequence) and not isinstance(after, str | bytes):
            messages = [one for one in after if isinstance(one, Mapping)]
            if messages:
                return self._prompt(messages, self._chat_template, to_extras({}))
        words, tokens = _checked(after, "What stands before the text (after)")
        return Prompt(text=words, tokens=tokens)

    def _prompt(
        self, conversation: Conversation, chat_template: str | None, extras: Extras
    ) -> Prompt:
        """Make a prompt of a conversation; `Model` has it."""
        raise NotImplementedError

    def _ask(self, make: Callable[[str], Any]) -> Any:
        """Ask the worker something short; `Model` has the connection."""
        raise NotImplementedError

    def _with_client(self, use: Callable[[WorkerClient], T]) -> T:
        """Call `use` with a working connection; `Model` has it."""
        raise NotImplementedError


def _collected(stream: ScoreStream, *, full: bool, progress: ScoreProgress | None) -> Scores:
    needed = 4 * stream.num_total * stream.n_vocab
    if full and needed > _MAX_FULL_BYTES:
        stream.close()
        raise NotEnoughMemoryError(
            f"The whole distributions at {stream.num_total:,} places take {format_bytes(needed)};"
            f" at most {format_bytes(_MAX_FULL_BYTES)} are returned at once. Read them piece by"
            " piece with stream_scores, or score a shorter text.",
            needed_bytes=needed,
            limit=_MAX_FULL_BYTES,
        )

    def tell(_: Any) -> None:
        if progress is not None:
            share = stream.num_scored / stream.num_total
            if progress(share, "Scoring the text") is False:
                stream.close()

    return stream.result(tell)


def _checked(value: Any, what: str) -> tuple[str | None, list[int] | None]:
    """Return a text or tokens as what they are."""
    if isinstance(value, str):
        check_text(value, what)
        if not value:
            raise InvalidValueError(f"{what} is empty.")
        return value, None
    if isinstance(value, bytes | Mapping) or not hasattr(value, "__iter__"):
        raise InvalidValueError(
            f"{what} is a {type(value).__name__}; it must be text (str) or a list of tokens."
        )
    tokens = [_token(one, place, what) for place, one in enumerate(value)]
    if not tokens:
        raise InvalidValueError(f"{what} is empty.")
    return None, tokens


def _token(value: Any, place: int, what: str) -> int:
    whole = not isinstance(value, bool) and isinstance(value, numbers.Integral)
    if not whole or not 0 <= int(value) < 2**31:
        raise InvalidValueError(
            f"{what}: entry {place} is {value!r:.40}; tokens are whole numbers from 0 on."
        )
    return int(value)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidValueError(f"{name} is {value!r:.40}; it must be a whole number.")
    # What is out of any range is refused with the limits by the worker, which knows them.
    return max(-(2**31), min(int(value), 2**31 - 1))
