"""Figures of scores and of divergences, against formulas written otherwise. Under a second."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.scores.kl_figures import KLDivergence, row_divergence
from gguf_widgets.core.scores.result import Scores, mean_and_error
from gguf_widgets.core.types import TokenChance


def logs(*chances: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(chances)).astype(np.float32)


def test_the_divergence_of_known_distributions() -> None:
    p, q = logs(0.5, 0.25, 0.25), logs(0.25, 0.25, 0.5)
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert row_divergence(p, q) == pytest.approx(expected, rel=1e-6)
    assert row_divergence(p, p) == 0.0
    # What the reference excludes costs nothing; what the other one excludes, everything.
    assert row_divergence(logs(1.0, 0.0), logs(0.5, 0.5)) == pytest.approx(math.log(2))
    assert row_divergence(logs(0.5, 0.5), logs(1.0, 0.0)) == math.inf


@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_a_divergence_is_never_negative(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    base = random.normal(0, 4, 5000)
    rows = []
    for noise in (0.0, spread):
        row = base + random.normal(0, 1, 5000) * noise
        rows.append((row - np.logaddexp.reduce(row) + 3e-7).astype(np.float32))
    assert row_divergence(*rows) >= -1e-12
    assert math.isfinite(row_divergence(*rows))


def made(kl: list[float], same: list[bool], p: list[float], q: list[float]) -> KLDivergence:
    return KLDivergence(
        reference="F16",
        model="Q4",
        positions=np.arange(5, 5 + len(kl)),
        kl=np.array(kl),
        same_top_places=np.array(same),
        reference_logprobs=np.array(p),
        logprobs=np.array(q),
        windows="every",
        n_window=8,
    )


def test_the_figures_over_a_text() -> None:
    random = np.random.default_rng(1)
    kl = random.exponential(0.1, 400)
    p, q = -random.exponential(2, 400), -random.exponential(2.2, 400)
    found = made(kl.tolist(), [True] * 380 + [False] * 20, p.tolist(), q.tolist())
    assert found.mean == pytest.approx(kl.mean())
    assert found.mean_error == pytest.approx(kl.std(ddof=1) / 20)
    for share, value in (
        (0.5, found.median),
        (0.9, found.p90),
        (0.95, found.p95),
        (0.99, found.p99),
    ):
        assert value == pytest.approx(np.quantile(kl, share))
    assert found.maximum == kl.max()
    assert found.same_top == 0.95
    assert found.same_top_error == pytest.approx(math.sqrt(0.95 * 0.05 / 399))
    assert found.ln_ppl_ratio == pytest.approx(
        math.log(found.perplexity / found.reference_perplexity)
    )
    assert found.ln_ppl_ratio_error == pytest.approx((p - q).std(ddof=1) / 20)
    assert found.rms_probability_change == pytest.approx(
        math.sqrt(((np.exp(q) - np.exp(p)) ** 2).mean())
    )
    assert found.worst(2) == [5 + int(one) for one in np.argsort(-kl)[:2]]
    assert found.to_dict()["mean"] == found.mean
    assert list(found.to_frame().columns) == [
        "position", "kl", "same_top", "reference_logprob", "logprob",
    ]  # fmt: skip
    assert "95.00% of the places" in str(found)


def test_one_place_and_one_that_is_infinite() -> None:
    found = made([math.inf], [False], [-1.0], [-math.inf])
    assert found.mean == found.p99 == found.maximum == math.inf
    assert found.mean_error is None
    assert found.same_top_error is None
    assert "inf" in str(found)
    many = made([0.1, 0.2, math.inf], [True] * 3, [-1.0] * 3, [-1.0] * 3)
    assert many.median == 0.2
    assert many.mean_error is None
    assert many.p99 == math.inf


def scores(logprobs: list[float], num_bytes: int = 10, **changes) -> Scores:
    fields = {
        "tokens": list(range(len(logprobs) + 1)),
        "num_before": 0,
        "positions": np.arange(1, len(logprobs) + 1),
        "logprobs": np.array(logprobs, np.float32),
        "top": [[TokenChance(1, "b", -0.1)] for _ in logprobs],
        "full": None,
        "texts": {number: chr(97 + number) for number in range(len(logprobs) + 1)},
        "windows": "every",
        "n_window": 8,
        "num_windows": 1,
        "num_bytes": num_bytes,
    }
    return Scores(**{**fields, **changes})


def test_what_follows_from_scores() -> None:
    found = scores([-1.0, -2.0, -3.0])
    assert found.nll == 2.0
    assert found.perplexity == pytest.approx(math.exp(2))
    assert found.nll_error == pytest.approx(1 / math.sqrt(3))
    assert found.perplexity_error == pytest.approx(math.exp(2) / math.sqrt(3))
    assert found.bits_per_byte == pytest.approx(6 / math.log(2) / 10)
    assert found.num_left_out == 1
    assert [one.text for one in found.token_logprobs] == ["b", "c", "d"]
    assert list(found.to_frame()["text"]) == ["b", "c", "d"]
    assert "perplexity 7.389" in repr(found)
    lost = scores([-1.0, -math.inf], num_bytes=0)
    assert lost.perplexity == math.inf
    assert lost.nll_error is None
    assert lost.bits_per_byte is None
    with pytest.raises(InvalidValueError, match="No token was scored"):
        _ = scores([]).perplexity
    assert mean_and_error(np.array([4.0])) == (4.0, None)
