"""Random histories of an engine on scripted replies, and what must hold in each of them.

The script makes a reply depend on every token before it, so that a slot with anything wrong in it
gives a wrong reply; the backend refuses positions that do not follow on each other.
"""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.scripted import EOS, Fault, ScriptedBackend
from gguf_widgets.core.errors import StateFileError, WorkerBusyError
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    GenerationEvent,
    LoadSettings,
    PrefillProgress,
    Priority,
    SamplingSettings,
    TextDelta,
)

POISON = 250  # a token that makes the computation fail, alone or in company


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a history to repeat, not a secret


def next_letter(tokens, num_prompt, num_letters=26) -> int:
    """A reply that depends on every token before it: wrong memory gives a wrong reply."""
    state = len(tokens)
    for token in tokens:
        state = (state * 31 + token) % 1_000_003
    return EOS if state % 23 == 0 else 97 + state % num_letters


def next_of_two(tokens, num_prompt) -> int:
    """The same with two letters only, so that some guesses of what comes next are right."""
    return next_letter(tokens, num_prompt, num_letters=2)


def expected_text(prompt, limit, n_ctx, script=next_letter) -> str:
    tokens, text = list(prompt), ""
    limit = min(limit or n_ctx, max(1, n_ctx - len(prompt)))
    while len(text) < limit:
        token = script(tokens, 0)
        if token == EOS:
            break
        tokens.append(token)
        text += chr(token)
    return text


def make(
    n_ctx=256, n_batch=32, n_seq_max=4, script=next_letter, n_draft=0, kv_unified=None, **more
) -> Engine:
    load = LoadSettings(
        n_ctx=n_ctx, n_batch=n_batch, n_seq_max=n_seq_max, n_draft=n_draft, kv_unified=kv_unified
    )
    return Engine(ScriptedBackend(load, script, **more))


def ask(engine, name, prompt, client="c", *, batch=False, **sampling) -> None:
    engine.add_request(
        GenerateRequest(
            request_id=name,
            client_id=client,
            prompt_tokens=list(prompt),
            sampling=SamplingSettings(**sampling),
            priority=Priority.BATCH if batch else Priority.INTERACTIVE,
        )
    )


def run(engine, max_steps=20_000) -> dict[str, list[GenerationEvent]]:
    events = defaultdict(list)
    for _ in range(max_steps):
        if not engine.has_work:
            return events
        for event in engine.step():
            events[event.request_id].append(event)
    raise AssertionError("the engine does not come to an end")


def text_of(events) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def assert_well_formed(events) -> None:
    """In order: progress, text, exactly one end; the deltas joined are the reply."""
    assert [isinstance(event, Finished | Failed) for event in events].count(True) == 1
    *before, end = events
    assert isinstance(end, Finished | Failed)
    kinds = [type(event) for event in before]
    assert kinds == sorted(kinds, key=[PrefillProgress, TextDelta].index)
    done = [event.num_done for event in before if isinstance(event, PrefillProgress)]
    assert all(0 < number < event.num_total for number, event in zip(done, before, strict=False))
    if isinstance(end, Finished):
        assert text_of(events) == end.reply.text


def assert_accounts_agree(engine) -> None:
    """The engine knows exactly how many cells the backend has in use."""
    cache, used = engine._cache, engine.backend.num_cells
    assert cache.num_free_cells == cache.num_cells - used
    assert cache.num_busy_cells + cache.num_kept_cells == used


def assert_nothing_left(engine) -> None:
    backend = engine.backend
    assert backend.num_open_samplers == 0
    stats = engine.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_cells_used) == (0, 0, 0)
    engine.clear_cache()
    assert_accounts_agree(engine)
    slots = range(backend.memory.n_slots)
    assert all(backend.seq_pos_max(slot) == -1 for slot in slots)
    # Every slot can be had again.
    for number in range(engine.settings.n_seq_max):
        ask(engine, f"again {number}", [number + 1], max_tokens=1)
    run(engine)


class Faults:
    """Answers a random decode with a random code, having done a random part of it; never hides
    the poison."""

    def __init__(self, rng: random.Random, rate: float, n_batch: int) -> None:
        self.rng, self.rate, self.n_batch = rng, rate, n_batch

    def __call__(self, rows):
        assert len(rows) <= self.n_batch
        if any(token == POISON for token, _, _ in rows):
            code = self.rng.choice([-1, -2, -3])
            return Fault(code, 0 if code == -1 else self.rng.randint(0, len(rows)))
        if self.rng.random() < self.rate:
            code = self.rng.choice([1, 1, 2, 2, 2])
            return Fault(code, self.rng.randint(0, len(rows)) if code == 2 else 0)
        return None


MEMORIES = {
    "shared cells": {},
    "own cells": {"kv_unified": False},
    "running states": {"can_cut": False},
}


def play(seed: int, *, memory: str, fault_rate: float, large: bool) -> Engine:
    """Play one history to its end and check it; return the engine."""
    rng = repeatable(seed)
    n_ctx = rng.choice([16, 40, 100, 400] if large else [16, 30, 60])
    n_batch = rng.choice([1, 3, 16, 64])
    faults = Faults(rng, fault_rate, n_batch)
    n_draft = rng.choice([0, 0, 3])
    script = next_of_two if n_draft else next_letter
    engine = make(
        script=script,
        n_ctx=n_ctx,
        n_batch=n_batch,
        n_seq_max=rng.choice([1, 2, 5]),
        **MEMORIES[memory],
        kept_slots=rng.choice([0, 1, 8]),
        n_draft=n_draft,
        fault=faults,
    )
    templates = [
        [rng.randint(1, 60) for _ in range(rng.randint(1, max(2, n_ctx // 2)))] for _ in range(2)
    ]
    events = defaultdict(list)
    asked, aborted, open_names, saved = {}, set(), set(), []
    for _ in range(rng.randint(5, 60 if large else 20)):
        move = rng.random()
        if move < 0.4:
            name = f"r{len(asked)}"
            prompt = _prompt(rng, n_ctx, templates, [prompt for prompt, _ in asked.values()])
            limit = rng.choice([None, 1, 5, 50])
            ask(
                engine,
                name,
                prompt,
                client=rng.choice("abc"),
                batch=rng.random() < 0.4,
                max_tokens=limit,
                reproducible=rng.random() < 0.1,
            )
            asked[name] = (prompt, limit)
            open_names.add(name)
        elif move < 0.48 and open_names:
            name = rng.choice(sorted(open_names))
            assert engine.abort(name)
            aborted.add(name)
            open_names.discard(name)
        elif move < 0.52:
            engine.interrupt()
        elif move < 0.6:
            _save_and_restore(rng, engine, saved, [prompt for prompt, _ in asked.values()])
            assert_accounts_agree(engine)
        else:
            for event in engine.step():
                events[event.request_id].append(event)
                if isinstance(event, Finished | Failed):
                    open_names.discard(event.request_id)
            assert_accounts_agree(engine)
    faults.rate = min(faults.rate, 0.1)
    for name, more in run(engine).items():
        events[name] += more

    assert set(events) == set(asked)
    for name, (prompt, limit) in asked.items():
        whole = expected_text(prompt, limit, n_ctx, script)
        faulty, stopped = fault_rate > 0, name in aborted
        _check_end(events[name], prompt, whole, faulty=faulty, aborted=stopped)
    faults.rate = 0
    assert_nothing_left(engine)
    return engine


def _save_and_restore(rng, engine, saved, prompts) -> None:
    """Put a prefix away if it is in the cache, and one that was put away before back there."""
    if prompts:
        prompt = rng.choice(prompts)
        num_there = engine._cache.find([*prompt, 0]).length  # often it is all of it
        tokens = prompt[: rng.choice([num_there, rng.randint(1, len(prompt))])] or prompt
        state = engine.prefixes.copy(tokens)
        if state is not None:
            saved.append((tokens, state))
    if not saved or rng.random() < 0.3:
        return
    if rng.random() < 0.5:  # as on another day
        engine.clear_cache()
    tokens, state = rng.choice(saved)
    # What is there already can be put there again, too.
    if rng.random() < 0.2 or not engine.prefixes.has(tokens):
        with contextlib.suppress(WorkerBusyError, StateFileError):
            engine.prefixes.put(tokens, state)
            assert engine.prefixes.has(tokens)


def _prompt(rng, n_ctx, templates, earlier) -> list[int]:
    prompt = [rng.randint(1, 60) for _ in range(rng.randint(1, n_ctx))]
    kind = rng.random()
    if kind < 0.3 and earlier:  # the next turn of a conversation
        prompt = rng.choice(earlier) + prompt
    elif kind < 0.6:  # a row of a table
        prompt = rng.choice(templates) + prompt
    elif kind < 0.7 and earlier:  # once more
        prompt = list(rng.choice(earlier))
    prompt = prompt[:n_ctx]
    if rng.random() < 0.06:
        prompt[rng.randrange(len(prompt))] = POISON
    return prompt


def _check_end(events, prompt, whole, *, faulty, aborted) -> None:
    assert_well_formed(events)
    end = events[-1]
    if isinstance(end, Failed):
        assert POISON in prompt or faulty
        if POISON not in prompt:  # an injected "no room" may end even a lone sequence
            assert end.error["kind"] == "ContextOverflowError"
    elif end.reply.finish_reason is FinishReason.ABORTED:
        assert aborted
        assert whole.startswith(end.reply.text)
    elif not faulty:
        assert end.reply.text == whole
    else:
        assert whole.startswith(end.reply.text)
        if end.reply.finish_reason is FinishReason.STOP:
            assert end.reply.text == whole
