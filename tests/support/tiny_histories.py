"""Random histories of an engine on a real tiny model, and what must hold in each of them.

Requests come, are aborted and interrupted at random steps, share beginnings, stop at strings or by
themselves, and find too few cells and slots. Promises: `play` lets one history happen and checks
that each request ends once, that what it wrote is what llama.cpp writes for it alone, and that
nothing is left behind. Leaves to others: histories without a model (`histories.py`), which are many
more.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.reference import Reference
from support.tiny_engine import ask, prompt

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerationEvent,
    PrefillProgress,
    Priority,
    Reply,
    TextDelta,
)

__all__ = ["play"]


@dataclass
class _Request:
    tokens: list[int]
    max_tokens: int
    bias: dict[int, float]
    aborted: bool = False
    events: list[GenerationEvent] = field(default_factory=list)


def play(engine: Engine, reference: Reference, bound: float, seed: int) -> None:
    """Let one history happen on an engine, which may hold what earlier ones left, and check it."""
    luck = random.Random(seed)  # noqa: S311 - a history to repeat, not a secret
    requests: dict[str, _Request] = {}
    to_come = luck.randint(4, 9)
    while to_come or engine.has_work:
        if to_come and (luck.random() < 0.4 or not engine.has_work):
            for _ in range(min(to_come, luck.choice((1, 1, 2, 4)))):
                name = f"r{len(requests)}"
                requests[name] = _hand_in(engine, luck, name)
                to_come -= 1
        if requests and luck.random() < 0.06:
            name = luck.choice(list(requests))
            requests[name].aborted |= engine.abort(name)
        if luck.random() < 0.06:
            engine.interrupt()
        if luck.random() < 0.02:
            engine.clear_cache()
        for event in engine.step():
            requests[event.request_id].events.append(event)
    for request in requests.values():
        _check(request, reference, bound)
    _check_nothing_is_left(engine)


def _hand_in(engine: Engine, luck: random.Random, name: str) -> _Request:
    n_ctx = engine.settings.n_ctx
    assert n_ctx is not None
    # A beginning that many have, one that some have, and an end of its own.
    stem = prompt(luck.choice((0, 40, 70)), seed=luck.randint(1, 2))
    branch = prompt(luck.choice((0, 1, 33)), seed=luck.randint(3, 5))
    leaf = prompt(luck.randint(1, 20), seed=luck.randint(10, 12))
    tokens = (stem + branch + leaf) * luck.choice((1, 1, 1, 2))
    tokens = tokens[: n_ctx - luck.choice((0, 1, 8))]
    stop, bias = (), {}
    chance = luck.random()
    if chance < 0.25:  # a letter that comes now and then, and ends the reply
        stop, bias = ("e", "th"), {ord("e") - 33: 4.0}
    elif chance < 0.5:  # so does the model's own end
        bias = dict.fromkeys(sorted(engine.backend.vocabulary.eog)[-1:], 5.0)
    elif chance < 0.65:  # a reply that repeats itself
        bias = {64: 6.0, 65: 6.0, 66: 6.0}
    limit = luck.choice((1, 3, 10, 10, 25, 70))
    ask(
        engine,
        name,
        tokens,
        client=luck.choice("abc"),
        priority=luck.choice((Priority.INTERACTIVE, Priority.BATCH)),
        max_tokens=limit,
        stop=stop,
        logit_bias=bias,
    )
    return _Request(tokens, min(limit, max(1, n_ctx - len(tokens))), bias)


def _check(request: _Request, reference: Reference, bound: float) -> None:
    reply = _the_one_end(request.events)
    assert (reply.finish_reason is FinishReason.ABORTED) == request.aborted
    texts = [event.text for event in request.events if isinstance(event, TextDelta)]
    assert "".join(texts) == reply.text
    reference.judge(
        request.tokens, reply, bound=bound, max_tokens=request.max_tokens, bias=request.bias
    )


def _the_one_end(events: Sequence[GenerationEvent]) -> Reply:
    ends = [event for event in events if isinstance(event, (Finished, Failed))]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=[PrefillProgress, TextDelta, Finished].index)
    assert isinstance(ends[0], Finished), ends[0]
    return ends[0].reply


def _check_nothing_is_left(engine: Engine) -> None:
    stats = engine.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_cells_used) == (0, 0, 0)
    kept = {
        slot
        for slot in range(engine.backend.memory.n_slots)
        if engine.backend.seq_pos_max(slot) >= 0
    }
    assert bool(kept) == (stats.num_cells_kept > 0)
