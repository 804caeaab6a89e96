"""How well a model predicts a text.

Promises: one figure with its standard error, and everything that it depends on beside it. Leaves to
others: the scores (`Model.score`), what they mean (`result`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gguf_widgets.core.format import plain_text
from gguf_widgets.core.model_score import ScoreProgress
from gguf_widgets.core.scores.sides import Side, check_side, opened

__all__ = ["Perplexity", "perplexity"]


class Perplexity(msgspec.Struct, frozen=True, kw_only=True):
    """The perplexity of a model over a text; as text, a sentence.

    Attributes
    ----------
    model : str
        Its name.
    value : float
        ``exp(nll)``. Lower is better. Between models with different tokens it says nothing; compare
        `bits_per_byte` then.
    error : float or None
        Its standard error, ``value * nll_error``; None for a single token.
    nll, nll_error : float, float or None
        The mean negative log likelihood of a scored token, in nats, and its standard error.
    bits_per_byte : float or None
        What the scored text would take, compressed with this model, in bits for each of its bytes.
    num_tokens, num_scored : int
        Tokens of the text, and how many of them count.
    windows, n_window, num_windows : str, int, int
        How the text was cut; see `Model.score`.
    """

    model: str
    value: float
    error: float | None
    nll: float
    nll_error: float | None
    bits_per_byte: float | None
    num_tokens: int
    num_scored: int
    windows: str
    n_window: int
    num_windows: int

    def __str__(self) -> str:
        spread = f" ± {self.error:.2g}" if self.error is not None else ""
        windows = "window" if self.num_windows == 1 else "windows"
        return (
            f"The perplexity of {plain_text(self.model)} is {self.value:.4f}{spread}, over"
            f" {self.num_scored:,} of the text's {self.num_tokens:,} tokens"
            f" ({self.num_windows:,} {windows} of up to {self.n_window:,}, {self.windows})."
        )


def perplexity(
    model: Side,
    text: str,
    *,
    windows: str = "auto",
    n_window: int | None = None,
    load: Mapping[str, Any] | None = None,
    progress: ScoreProgress | None = None,
) -> Perplexity:
    """Say how well a model predicts a text.

    Parameters
    ----------
    model : Model, str or path-like
        A loaded model, or the name or path of one, which is loaded and given back.
    text : str
        For a figure to rely on, some thousand tokens of the kind of text you care about, which the
        model has not been trained on.
    windows : {"auto", "halves", "every"}, default "auto"
        As for `Model.score`. With "halves" the figure is that of llama.cpp's ``llama-perplexity``
        with ``-c n_window``; "auto" is that, where the text is long enough.
    n_window : int, optional
        As for `Model.score`: 512 for "halves", as llama.cpp. Only figures with the same window can
        be compared.
    load : mapping, optional
        Settings for loading: ``{"n_ctx": 4096}``.
    progress : callable, optional
        Called with how far it is (0 to 1) and a phrase; answering False stops it.

    Returns
    -------
    Perplexity
        Errors as for `Model.score`.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> print(gw.perplexity("demo", open("text.txt").read()))  # doctest: +SKIP
    """
    check_side(model, "The model")
    with opened(model, load) as (loaded, _):
        scores = loaded.score(text, windows=windows, n_window=n_window, progress=progress)
        return Perplexity(
            model=loaded.name,
            value=scores.perplexity,
            error=scores.perplexity_error,
            nll=scores.nll,
            nll_error=scores.nll_error,
            bits_per_byte=scores.bits_per_byte,
            num_tokens=len(scores.tokens),
            num_scored=scores.num_scored,
            windows=scores.windows,
            n_window=scores.n_window,
            num_windows=scores.num_windows,
        )
