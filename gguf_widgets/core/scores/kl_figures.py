"""How far two distributions are apart, row by row, and the figures over a whole text.

Promises: pure functions of numbers, in double precision; a divergence is never below zero by more
than rounding (1e-12). Leaves to others: where the distributions come from (`kl_divergence`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.format import plain_text
from gguf_widgets.core.scores.result import mean_and_error

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KLDivergence", "row_divergence"]

Doubles = NDArray[np.float64]


def row_divergence(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return ``sum(p * (log p - log q))``, in nats, from the log probabilities of both.

    Both are normalised once more first, in double precision: what comes from a model is rounded to
    single precision, and over a large vocabulary that would show. Infinite if the reference allows
    what the other one excludes.
    """
    log_p, p = _normalised(reference)
    log_q, _ = _normalised(other)
    with np.errstate(invalid="ignore"):
        terms = p * (log_p - log_q)
    terms[p == 0.0] = 0.0  # 0 * (-inf - anything)
    return float(terms.sum())


def _normalised(row: NDArray[np.float32]) -> tuple[Doubles, Doubles]:
    logs = row.astype(np.float64)
    chances = np.exp(logs)
    total = chances.sum()
    logs -= math.log(total)
    chances /= total
    return logs, chances


class KLDivergence:
    """How far a model is from a reference, over a text; as text, a few sentences.

    Parameters
    ----------
    reference, model : str
        Their names.
    positions : ndarray of int
    kl : ndarray of float64
        See below.
    same_top_places : ndarray of bool
        Where both have the same likeliest token.
    reference_logprobs, logprobs : ndarray of float64
        Of the text's own tokens, with the reference and with the model.
    windows, n_window : str, int
        How the text was cut.

    Attributes
    ----------
    positions : ndarray of int
        The places in the text that were compared: the tokens whose probabilities these are.
    kl : ndarray of float64
        At each of them the Kullback-Leibler divergence of the model's distribution from the
        reference's, in nats: ``sum over the vocabulary of p * (log p - log q)`` with `p` the
        reference's probability of a token and `q` the model's.
    """

    def __init__(
        self,
        *,
        reference: str,
        model: str,
        positions: NDArray[np.int64],
        kl: Doubles,
        same_top_places: NDArray[np.bool_],
        reference_logprobs: Doubles,
        logprobs: Doubles,
        windows: str,
        n_window: int,
    ) -> None:
        self.reference = reference
        self.model = model
        self.positions = positions
        self.kl = kl
        self.same_top_places = same_top_places
        self.reference_logprobs = reference_logprobs
        self.logprobs = logprobs
        self.windows = windows
        self.n_window = n_window

    def __str__(self) -> str:
        name, reference = plain_text(self.model), plain_text(self.reference)
        share = f"{100 * self.same_top:.2f}%"
        ratio, spread = self.ln_ppl_ratio, self.ln_ppl_ratio_error
        about = f" ± {spread:.2g}" if spread is not None else ""
        error = f" ± {self.mean_error:.2g}" if self.mean_error is not None else ""
        return (
            f"{name} against {reference}, over {self.num_scored:,} tokens: the mean KL divergence"
            f" is {self.mean:.4g}{error} nats (median {self.median:.3g}, 99% of the places below"
            f" {self.p99:.3g}, the largest {self.maximum:.3g}). At {share} of the places both find"
            f" the same token the likeliest. ln(PPL ratio) is {ratio:+.4g}{about}."
        )

    def __repr__(self) -> str:
        return f"<KLDivergence: {self}>"

    @property
    def num_scored(self) -> int:
        """How many places were compared."""
        return len(self.kl)

    @property
    def mean(self) -> float:
        """The mean of `kl`: 0 for two models that think alike."""
        return mean_and_error(self.kl)[0]

    @property
    def mean_error(self) -> float | None:
        """Its standard error; see `result.mean_and_error`."""
        return mean_and_error(self.kl)[1]

    def quantile(self, share: float) -> float:
        """Return what `share` of the places do not exceed, interpolated linearly."""
        ordered = np.sort(self.kl)
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        if below == place or ordered[below] == ordered[above]:  # inf - inf is no number
            return float(ordered[below])
        return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))

    @property
    def median(self) -> float:
        """The middle of `kl`."""
        return self.quantile(0.5)

    @property
    def p90(self) -> float:
        """What 90% of the places do not exceed."""
        return self.quantile(0.9)

    @property
    def p95(self) -> float:
        """What 95% of the places do not exceed."""
        return self.quantile(0.95)

    @property
    def p99(self) -> float:
        """What 99% of the places do not exceed."""
        return self.quantile(0.99)

    @property
    def maximum(self) -> float:
        """The largest of `kl`."""
        return float(self.kl.max())

    @property
    def same_top(self) -> float:
        """The share of places, 0 to 1, at which both have the same likeliest token."""
        return float(self.same_top_places.mean())

    @property
    def same_top_error(self) -> float | None:
        """Its standard error, ``sqrt(share * (1 - share) / (n - 1))``; None for one place."""
        count, share = self.num_scored, self.same_top
        return math.sqrt(share * (1 - share) / (count - 1)) if count > 1 else None

    @property
    def perplexity(self) -> float:
        """That of the model over the same tokens."""
        return math.exp(min(-float(self.logprobs.mean()), 700.0))

    @property
    def reference_perplexity(self) -> float:
        """That of the reference."""
        return math.exp(min(-float(self.reference_logprobs.mean()), 700.0))

    @property
    def ln_ppl_ratio(self) -> float:
        """``ln(perplexity / reference_perplexity)``: above 0, the model predicts the text worse."""
        return float((self.reference_logprobs - self.logprobs).mean())

    @property
    def ln_ppl_ratio_error(self) -> float | None:
        """Its standard error, from the differences token by token.

        Far less than the two perplexities' own errors suggest: what is hard for one is hard for the
        other.
        """
        return mean_and_error(self.reference_logprobs - self.logprobs)[1]

    @property
    def mean_probability_change(self) -> float:
        """The mean of ``q - p`` of the text's own tokens: below 0, the model expects them less."""
        return float((np.exp(self.logprobs) - np.exp(self.reference_logprobs)).mean())

    @property
    def rms_probability_change(self) -> float:
        """The root of the mean of ``(q - p)**2``: how much quantisation shakes them."""
        changes = np.exp(self.logprobs) - np.exp(self.reference_logprobs)
        return float(np.sqrt((changes**2).mean()))

    def worst(self, count: int = 10) -> list[int]:
        """Return the `count` positions at which the two differ most, the worst first."""
        order = np.argsort(-self.kl, kind="stable")[: max(0, count)]
        return [int(place) for place in self.positions[order]]

    def to_dict(self) -> dict[str, object]:
        """Return the figures as plain data."""
        names = (
            "reference", "model", "num_scored", "windows", "n_window", "mean", "mean_error",
            "median", "p90", "p95", "p99", "maximum", "same_top", "same_top_error", "perplexity",
            "reference_perplexity", "ln_ppl_ratio", "ln_ppl_ratio_error",
            "mean_probability_change", "rms_probability_change",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each place: its KL divergence, and both log probabilities."""
        import pandas as pd

        return pd.DataFrame(
            {
                "position": self.positions,
                "kl": self.kl,
                "same_top": self.same_top_places,
                "reference_logprob": self.reference_logprobs,
                "logprob": self.logprobs,
            }
        )
