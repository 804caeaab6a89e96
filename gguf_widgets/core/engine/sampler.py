"""How the next token is chosen: which samplers, in which order.

Promises: `plan` turns settings into the list of stages that a backend builds natively, in
llama.cpp's own usual order::

    logit_bias, penalties, top_k, typical, top_p, min_p, temp, dist

With temperature 0, or next to it, it is ``logit_bias, penalties, greedy``: the likeliest token, and
nothing that could change which one that is. A stage that would do nothing is left out. Leaves to
others: the arithmetic (llama.cpp).
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from gguf_widgets.core.types import SamplingSettings

__all__ = ["Stage", "choose_seed", "is_repeatable", "plan"]

# Below this the likeliest token is as good as certain, and logits divided by it leave the range of
# llama.cpp's numbers: what comes out then is anything but the likeliest.
_AS_GOOD_AS_0 = 1e-5


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
        What ``repeat_last_n=-1`` stands for.
    has_bias : bool
        Whether there is any logit bias: the request's, or the model's own forbidden tokens.
    """
    stages = []
    if has_bias:  # the entries themselves stay with the backend
        stages.append(Stage("logit_bias"))
    if penalizes(sampling):
        stages.append(
            Stage(
                "penalties",
                (
                    look_back(sampling, n_ctx),
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ),
            )
        )
    if sampling.temperature < _AS_GOOD_AS_0:
        return [*stages, Stage("greedy")]
    if sampling.top_k > 0:
        stages.append(Stage("top_k", (sampling.top_k,)))
    if sampling.typical_p < 1:
        stages.append(Stage("typical", (sampling.typical_p, 1)))
    if sampling.top_p < 1:
        stages.append(Stage("top_p", (sampling.top_p, 1)))
    if sampling.min_p > 0:
        stages.append(Stage("min_p", (sampling.min_p, 1)))
    return [*stages, Stage("temp", (sampling.temperature,)), Stage("dist", (seed,))]


def penalizes(sampling: SamplingSettings) -> bool:
    """Say whether any penalty is on, so that the chain must know the tokens before."""
    return sampling.repeat_last_n != 0 and (
        sampling.repeat_penalty != 1
        or sampling.frequency_penalty != 0
        or sampling.presence_penalty != 0
    )


def look_back(sampling: SamplingSettings, n_ctx: int) -> int:
    """Return how many tokens the penalties look at: the prompt's last ones count too."""
    return n_ctx if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, n_ctx)


def choose_seed(sampling: SamplingSettings) -> int:
    """Return the seed asked for, or draw one from 0 to 2**32 - 2 (2**32 - 1 means "random")."""
    return secrets.randbelow(2**32 - 1) if sampling.seed is None else sampling.seed


def is_repeatable(sampling: SamplingSettings) -> bool:
    """Say whether the caller wants the same reply again: a seed is named, or nothing is drawn."""
    return sampling.seed is not None or sampling.temperature == 0
