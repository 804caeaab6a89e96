"""Engines on tiny models, asked and run to the end, as the tests against llama.cpp need it.

Promises: every reply reports its log probabilities, so that `Reference.judge` can go through it;
each request ends exactly once, in `Finished`. Leaves to others: what is asked, and what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.types import (
    Failed,
    Finished,
    GenerateRequest,
    Priority,
    Reply,
    SamplingSettings,
)

__all__ = ["ask", "prompt", "run"]


def prompt(length: int, seed: int = 0) -> list[int]:
    """Return random plain tokens; those of a longer one with the same seed begin with them."""
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def ask(
    engine: Engine,
    name: str,
    tokens: Sequence[int],
    *,
    client: str = "client",
    priority: Priority = Priority.INTERACTIVE,
    **sampling: object,
) -> None:
    """Hand in a request: greedy and of 8 tokens, unless told otherwise."""
    settings = {"temperature": 0.0, "max_tokens": 8, "logprobs": 3} | sampling
    engine.add_request(
        GenerateRequest(
            request_id=name,
            client_id=client,
            prompt_tokens=list(tokens),
            sampling=SamplingSettings.from_keywords(**settings),
            priority=priority,
        )
    )


def run(engine: Engine, each_step: Callable[[int], None] | None = None) -> dict[str, Reply]:
    """Step until nothing is left; return the replies by request.

    Parameters
    ----------
    engine : Engine
    each_step : callable, optional
        Called before each step with its number, from 0.
    """
    replies: dict[str, Reply] = {}
    step = 0
    while engine.has_work:
        if each_step is not None:
            each_step(step)
        step += 1
        for event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Finished):
                assert event.request_id not in replies
                replies[event.request_id] = event.reply
    return replies
