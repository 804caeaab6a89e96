"""How the next token is chosen: which samplers, in which order.

Promises: `plan` turns settings into the list of stages that a backend builds natively, in
llama.cpp's own usual order::

    logit_bias, penalties, dry, top_n_sigma, top_k, typical, top_p, min_p, xtc, temp, dist

With mirostat, which does their work, the stages from top_n_sigma to xtc are left out and it takes
the place of dist. With temperature 0, or next to it, the chain is ``logit_bias, penalties, dry,
greedy``: the likeliest token, and nothing that could change which one that is. A stage that would
do nothing is left out. Leaves to others: the arithmetic (llama.cpp).
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from gguf_widgets.core.types import SamplingSettings

__all__ = ["Stage", "choose_seed", "look_back", "plan"]

# Below this the likeliest token is as good as certain, and logits divided by it leave the range of
# llama.cpp's numbers: what comes out then is anything but the likeliest.
_AS_GOOD_AS_0 = 1e-5

# How many tokens mirostat's estimate of the distribution's slope looks at, as in its paper (m).
_MIROSTAT_TOKENS = 100


class Stage(NamedTuple):
    """One sampler of the chain: llama.cpp's name for it, and its arguments in its order."""

    name: str
    arguments: tuple[float, ...] = ()


def plan(sampling: SamplingSettings, seed: int, n_ctx: int, *, has_bias: bool) -> list[Stage]:
    """Return the stages of the chain.

    Parameters
    ----------
    sampling : SamplingSettings
    seed : int
        For the draw; `sampling.seed` may be None.
    n_ctx : int
        What ``repeat_last_n=-1`` and ``dry_penalty_last_n=-1`` stand for.
    has_bias : bool
        Whether there is any logit bias: the request's, or the model's own forbidden tokens. The
        entries themselves stay with the backend, as do DRY's breakers and the vocabulary's size.
    """
    stages = []
    if has_bias:
        stages.append(Stage("logit_bias"))
    if _penalizes(sampling):
        stages.append(
            Stage(
                "penalties",
                (
                    _last(sampling.repeat_last_n, n_ctx),
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ),
            )
        )
    if _minds_phrases(sampling):
        stages.append(
            Stage(
                "dry",
                (
                    sampling.dry_multiplier,
                    sampling.dry_base,
                    sampling.dry_allowed_length,
                    _last(sampling.dry_penalty_last_n, n_ctx),
                ),
            )
        )
    if sampling.temperature < _AS_GOOD_AS_0:
        return [*stages, Stage("greedy")]
    temp = Stage("temp", (sampling.temperature,))
    tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
    if sampling.mirostat == 1:
        return [*stages, temp, Stage("mirostat", (seed, tau, eta, _MIROSTAT_TOKENS))]
    if sampling.mirostat == 2:
        return [*stages, temp, Stage("mirostat_v2", (seed, tau, eta))]
    return [*stages, *_truncating(sampling, seed), temp, Stage("dist", (seed,))]


def _truncating(sampling: SamplingSettings, seed: int) -> list[Stage]:
    """Return the stages that rule out the unlikely tokens."""
    stages = []
    if sampling.top_n_sigma > 0:
        stages.append(Stage("top_n_sigma", (sampling.top_n_sigma,)))
    if sampling.top_k > 0:
        stages.append(Stage("top_k", (sampling.top_k,)))
    if sampling.typical_p < 1:
        stages.append(Stage("typical", (sampling.typical_p, 1)))
    if sampling.top_p < 1:
        stages.append(Stage("top_p", (sampling.top_p, 1)))
    if sampling.min_p > 0:
        stages.append(Stage("min_p", (sampling.min_p, 1)))
    if sampling.xtc_probability > 0:
        stages.append(Stage("xtc", (sampling.xtc_probability, sampling.xtc_threshold, 1, seed)))
    return stages


def look_back(sampling: SamplingSettings, n_ctx: int) -> int:
    """Return how many of the prompt's last tokens the chain must know: the penalties count them."""
    return max(
        _last(sampling.repeat_last_n, n_ctx) if _penalizes(sampling) else 0,
        _last(sampling.dry_penalty_last_n, n_ctx) if _minds_phrases(sampling) else 0,
    )


def choose_seed(sampling: SamplingSettings) -> int:
    """Return the seed asked for, or draw one from 0 to 2**32 - 2 (2**32 - 1 means "random")."""
    return secrets.randbelow(2**32 - 1) if sampling.seed is None else sampling.seed


def _penalizes(sampling: SamplingSettings) -> bool:
    return sampling.repeat_last_n != 0 and (
        sampling.repeat_penalty != 1
        or sampling.frequency_penalty != 0
        or sampling.presence_penalty != 0
    )


def _minds_phrases(sampling: SamplingSettings) -> bool:
    return sampling.dry_multiplier > 0 and sampling.dry_penalty_last_n != 0


def _last(count: int, n_ctx: int) -> int:
    return n_ctx if count < 0 else min(count, n_ctx)
