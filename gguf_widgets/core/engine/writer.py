"""From a computed row to the next token of a reply, and its text.

Promises: a token is sampled once, counted once, and its text handed on as soon as it is certain.
Leaves to others: which row is whose, and ending a request (`engine.py`).
"""

from __future__ import annotations

from time import perf_counter

from gguf_widgets.core.engine.backend import Backend
from gguf_widgets.core.engine.output import Output
from gguf_widgets.core.engine.sequence import Sequence
from gguf_widgets.core.errors import DecodeError
from gguf_widgets.core.types import FinishReason, TokenChance, TokenLogprob

__all__ = ["Writer"]


class Writer:
    """Writes the replies of one engine.

    Parameters
    ----------
    backend : Backend
    output : Output

    Attributes
    ----------
    num_written : int
        Tokens, of all replies.
    """

    def __init__(self, backend: Backend, output: Output) -> None:
        self._backend = backend
        self._output = output
        self._eog = backend.vocabulary.eog
        self._n_vocab = backend.vocabulary.n_vocab
        self.num_written = 0

    def write(self, sequence: Sequence, row: int) -> FinishReason | None:
        """Sample a sequence's next token from a row; return why the reply ends, if it does.

        Raises
        ------
        DecodeError
            If no token could be chosen.
        """
        sampler = sequence.sampler
        if sampler is None:
            raise AssertionError("a running sequence has no sampler")
        if sequence.num_output >= sequence.request.sampling.min_tokens:
            token = sampler.sample(row)
        else:
            token = sampler.sample(row, may_end=False)
        now = perf_counter()
        if sequence.first_token is None:
            sequence.first_token = now
        if not 0 <= token < self._n_vocab:
            raise DecodeError(f"The model chose token {token}, which it has not.")
        if token in self._eog:
            return FinishReason.STOP
        sequence.tokens.append(token)
        sequence.token_times.append(now)
        sequence.num_output += 1
        self.num_written += 1
        if sequence.request.sampling.logprobs is not None:
            self._note_logprobs(sequence, token, row, sequence.request.sampling.logprobs)
        text = sequence.detokenizer.feed(self._backend.token_to_piece(token))
        if text:
            self._output.text(sequence, text)
        if sequence.detokenizer.stop_string is not None:
            return FinishReason.STOP
        return FinishReason.LENGTH if sequence.num_output >= sequence.max_output else None

    def _note_logprobs(self, sequence: Sequence, token: int, row: int, num_top: int) -> None:
        logprob, top = self._backend.logprobs(row, token, num_top)

        def text(token: int) -> str:
            # Its own bytes: `detokenize` of one token alone leaves out a blank at its beginning
            # where the vocabulary puts one in front of every text.
            piece = self._backend.token_to_piece(token)
            if piece:
                return piece.decode("utf-8", "replace")
            return self._backend.detokenize([token], special=True)

        sequence.logprobs.append(
            TokenLogprob(
                token, text(token), logprob, [TokenChance(one, text(one), p) for one, p in top]
            )
        )
