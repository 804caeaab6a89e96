"""What a model thinks of a text: a log probability for each token, and what follows from them.

Promises: plain arrays in the text's order; every figure has its formula here. Leaves to others:
asking (`core.model_score`), comparing two models (`kl_divergence`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import TokenChance, TokenLogprob

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ScoreRows", "Scores", "mean_and_error"]


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float | None]:
    """Return the mean of some values and its standard error; None for the latter of one value.

    ``error = std(values, ddof=1) / sqrt(n)``. It takes the values for independent of each other, as
    llama.cpp's tool does; neighbouring tokens are not quite, so the truth is somewhat wider.
    """
    count = len(values)
    mean = float(values.mean())
    if count < 2:
        return mean, None
    with np.errstate(invalid="ignore"):
        error = float(values.std(ddof=1)) / math.sqrt(count)
    return mean, error if math.isfinite(error) else None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRows:
    """The scores of some tokens in a row, as they come; see `Scores` for what they are.

    Attributes
    ----------
    first : int
        The place of the first of them among all tokens.
    logprobs : ndarray of float32
    top : list of list of TokenChance
        The likeliest at each place; empty lists where none were asked for.
    full : ndarray of float32, shape (len(logprobs), n_vocab), or None
        The log probability of every token at each place. It may be read-only.
    """

    first: int
    logprobs: NDArray[np.float32]
    top: list[list[TokenChance]]
    full: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.logprobs)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scores:
    """How likely a model finds each token of a text.

    Attributes
    ----------
    tokens : list of int
        All tokens, those of what stands before the text included.
    num_before : int
        So many of them are before the text.
    positions : ndarray of int
        The places (in `tokens`) of those that were scored, in order.
    logprobs : ndarray of float32
        Of each of these: the natural logarithm of its probability after what stands before it in
        its window. Minus infinity for a token that the model excludes.
    top : list of list of TokenChance
        Of each: the likeliest tokens at its place, the likeliest first; as many as were asked for.
    full : ndarray of float32, shape (num_scored, n_vocab), or None
        Of each: the log probability of every token, if it was asked for.
    texts : mapping of int to str
        What tokens look like: all that were scored, or are in `top`. Part of a character is U+FFFD.
    windows : str
        "every" or "halves"; see `Model.score`.
    n_window : int
        The most tokens of a window.
    num_windows : int
    num_bytes : int
        The length of the scored tokens' text, in UTF-8.
    """

    tokens: list[int]
    num_before: int
    positions: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    top: list[list[TokenChance]] = field(repr=False)
    full: NDArray[np.float32] | None = field(repr=False)
    texts: Mapping[int, str] = field(repr=False)
    windows: str
    n_window: int
    num_windows: int
    num_bytes: int

    def __repr__(self) -> str:
        return (
            f"<Scores of {self.num_scored:,} tokens ({self.windows}, windows of {self.n_window:,}):"
            f" perplexity {self.perplexity:.4g}>"
        )

    @property
    def num_scored(self) -> int:
        """How many tokens have a score."""
        return len(self.logprobs)

    @property
    def num_left_out(self) -> int:
        """How many tokens of the text have none: with "halves", more than half of them.

        Of a text that stands alone the first token is always one of these: nothing is before it.
        """
        return len(self.tokens) - self.num_before - self.num_scored

    @property
    def nll(self) -> float:
        """The mean negative log likelihood, in nats a token: ``-mean(logprobs)``."""
        return -float(self._logprobs.mean())

    @property
    def nll_error(self) -> float | None:
        """Its standard error; see `mean_and_error`."""
        return mean_and_error(self._logprobs)[1]

    @property
    def perplexity(self) -> float:
        """``exp(nll)``: as if the model had to choose among so many equally likely tokens.

        Only between models with the same tokens does one perplexity say anything about another;
        otherwise compare `bits_per_byte`.
        """
        return _exp(self.nll)

    @property
    def perplexity_error(self) -> float | None:
        """Its standard error, ``perplexity * nll_error``."""
        error = self.nll_error
        return None if error is None else self.perplexity * error

    @property
    def bits_per_byte(self) -> float | None:
        """``-sum(logprobs) / ln(2) / num_bytes``: comparable whatever the models' tokens are.

        None if the scored tokens have no text.
        """
        if not self.num_bytes:
            return None
        return -float(self._logprobs.sum()) / math.log(2) / self.num_bytes

    @property
    def token_logprobs(self) -> list[TokenLogprob]:
        """The scored tokens as `Reply.logprobs` has them."""
        chances = self.top or [[] for _ in self.logprobs]
        return [
            TokenLogprob(token, self.texts.get(token, ""), float(logprob), top)
            for token, logprob, top in zip(self._scored(), self.logprobs, chances, strict=True)
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each scored token: its place, its text, how likely it was, its rank.

        ``top_token`` and ``top_logprob`` are there if `top` was asked for.
        """
        import pandas as pd

        scored = self._scored()
        columns: dict[str, Any] = {
            "position": self.positions,
            "token": scored,
            "text": [self.texts.get(token, "") for token in scored],
            "logprob": self.logprobs,
            "probability": np.exp(self.logprobs),
        }
        if self.top and self.top[0]:
            columns["top_text"] = [top[0].text for top in self.top]
            columns["top_probability"] = [math.exp(top[0].logprob) for top in self.top]
        return pd.DataFrame(columns)

    @property
    def _logprobs(self) -> NDArray[np.float64]:
        if not len(self.logprobs):
            raise InvalidValueError("No token was scored, so there is no mean.")
        return self.logprobs.astype(np.float64)

    def _scored(self) -> list[int]:
        return [self.tokens[place] for place in self.positions.tolist()]


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
