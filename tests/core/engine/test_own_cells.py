"""A KV cache for each sequence (`kv_unified=False`): replies are llama.cpp's own here as well.

F32 throughout, see `test_correctness.py`; random histories are in `test_correctness_histories.py`.
"""

from __future__ import annotations

import pytest
from support.histories import ask as ask_script
from support.histories import expected_text, make, text_of
from support.histories import run as run_script
from support.reference import EXACT, bound, exact_bound
from support.tiny_engine import ask, prompt, run
from support.tiny_models import KINDS

from gguf_widgets.core.engine.kv_cache import WORTH_COPYING
from gguf_widgets.core.types import Priority

OWN = {"kv_unified": False}
ATTENTION = ("llama", "moe", "deepseek2")
TEMPLATE = prompt(100, seed=1000)


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_cannot_have_own_caches_says_so(open_engine, kind):
    engine = open_engine(kind, n_ctx=300, n_seq_max=3, **OWN)
    assert engine.settings.kv_unified is (kind not in ATTENTION)
    memory, stats = engine.backend.memory, engine.stats()
    assert memory.own_cells is (kind in ATTENTION)
    if memory.own_cells:  # llama.cpp gives out cells in blocks of 256
        assert (engine.settings.n_ctx, memory.n_slots, stats.num_cells) == (512, 3, 3 * 512)
    else:
        assert stats.num_cells == engine.settings.n_ctx


@pytest.mark.parametrize("kind", ATTENTION)
def test_among_31_neighbours_of_all_lengths(open_engine, reference_for, kind):
    """More prompts than slots, so that they come while others write."""
    engine = open_engine(kind, n_ctx=256, n_seq_max=9, **OWN, **EXACT)
    reference = reference_for(engine, kind)
    prompts = {f"r{n}": prompt(1 + 7 * n, seed=n) for n in range(32)}
    for number, (name, tokens) in enumerate(prompts.items()):
        ask(engine, name, tokens, client=name, max_tokens=3 + number % 7)
    replies = run(engine)
    for number, (name, tokens) in enumerate(prompts.items()):
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=3 + number % 7)
    assert engine.stats().num_preemptions == 0


@pytest.mark.parametrize("cells", [{}, {"type_k": "q8_0", "type_v": "q8_0", "flash_attn": True}])
def test_in_other_formats(open_engine, reference_for, cells):
    engine = open_engine("llama", "f16", n_ctx=256, n_seq_max=8, **OWN, **cells)
    reference = reference_for(engine, "llama", "f16")
    rows = {f"r{n}": TEMPLATE + prompt(1 + 2 * n, seed=n) for n in range(16)}
    for name, tokens in rows.items():
        ask(engine, name, tokens, priority=Priority.BATCH)
    replies = run(engine)
    for name, tokens in rows.items():
        reference.judge(tokens, replies[name], bound=bound("f16"), max_tokens=8)


@pytest.mark.parametrize("kind", ATTENTION)
def test_each_can_fill_a_whole_context(open_engine, reference_for, kind):
    engine = open_engine(kind, n_ctx=256, n_seq_max=3, **OWN, **EXACT)
    reference = reference_for(engine, kind)
    prompts = {f"r{n}": prompt(250, seed=n) for n in range(3)}
    for name, tokens in prompts.items():
        ask(engine, name, tokens, max_tokens=None)
    replies = run(engine)
    assert engine.stats().num_preemptions == 0
    for name, tokens in prompts.items():
        assert len(replies[name].logprobs) == 6
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=6)


@pytest.mark.parametrize("kind", ATTENTION)
def test_rows_of_one_template_compute_it_once(open_engine, reference_for, kind):
    engine = open_engine(kind, n_ctx=256, n_seq_max=8, **OWN, **EXACT)
    reference = reference_for(engine, kind)
    for wave in range(2):
        rows = {f"r{n}": TEMPLATE + prompt(1 + n % 9, seed=100 * wave + n) for n in range(20)}
        for name, tokens in rows.items():
            ask(engine, name, tokens, priority=Priority.BATCH)
        replies = run(engine)
        for name, tokens in rows.items():
            reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=8)
        cached = sorted(reply.usage.num_cached_tokens for reply in replies.values())
        assert cached[1 - wave] >= len(TEMPLATE)


def test_the_next_turn_goes_on_in_its_slot_beside_others(open_engine, reference_for):
    engine = open_engine("llama", n_ctx=512, n_seq_max=3, **OWN, **EXACT)
    reference = reference_for(engine, "llama")
    histories = {f"c{n}": prompt(60, seed=n) for n in range(2)}
    known = dict.fromkeys(histories, 0)
    for turn in range(4):
        for name, tokens in histories.items():
            ask(engine, name, tokens)
        replies = run(engine)
        for name, tokens in histories.items():
            reference.judge(tokens, replies[name], bound=exact_bound("llama"), max_tokens=8)
            assert replies[name].usage.num_cached_tokens == known[name]
            histories[name] = tokens + [one.token for one in replies[name].logprobs]
            known[name] = len(histories[name]) - 1
            histories[name] = histories[name] + prompt(10, seed=turn)


def test_a_short_common_beginning_is_not_worth_a_copy(open_engine, reference_for):
    engine = open_engine("llama", n_ctx=256, n_seq_max=2, **OWN, **EXACT)
    reference = reference_for(engine, "llama")
    for length, cached in ((WORTH_COPYING - 1, 0), (WORTH_COPYING, WORTH_COPYING)):
        begin = prompt(length, seed=length)
        for tail in (1, 2):
            tokens = begin + prompt(20, seed=10 * length + tail)
            ask(engine, "a", tokens)
            reply = run(engine)["a"]
            reference.judge(tokens, reply, bound=exact_bound("llama"), max_tokens=8)
        assert reply.usage.num_cached_tokens == cached


def test_a_saved_prefix_comes_back_where_there_are_as_many_caches(open_engine, reference_for):
    engine = open_engine("llama", n_ctx=256, n_seq_max=4, **OWN, **EXACT)
    ask(engine, "a", TEMPLATE + prompt(5))
    run(engine)
    state = engine.prefixes.copy(TEMPLATE)
    engine.clear_cache()
    engine.prefixes.put(TEMPLATE, state)
    tokens = TEMPLATE + prompt(9, seed=3)
    ask(engine, "b", tokens)
    reply = run(engine)["b"]
    assert reply.usage.num_cached_tokens == len(TEMPLATE)
    reference_for(engine, "llama").judge(tokens, reply, bound=exact_bound("llama"), max_tokens=8)
    formats = {engine.backend.state_format}
    for load in ({"n_seq_max": 5, **OWN}, {"n_seq_max": 4}):
        formats.add(open_engine("llama", n_ctx=256, **load, **EXACT).backend.state_format)
    assert len(formats) == 3


def letters(tokens, _num_prompt) -> int:
    return 97 + sum(tokens) % 26


@pytest.mark.parametrize("batch", [True, False], ids=["rows", "people"])
def test_who_is_left_closes_ranks(batch):
    """Some end early. Of rows nothing is left behind, of a person's requests all is kept; whoever
    runs on has neighbouring slots in every batch, and what was kept is found again."""
    seen = []
    engine = make(
        n_ctx=200,
        n_batch=400,
        n_seq_max=8,
        kv_unified=False,
        fault=lambda rows: seen.append({slot for _, _, slot in rows}),
        script=letters,
    )
    prompts = {f"r{number}": [number + 1] * 40 for number in range(8)}
    limits = {name: 5 + 9 * (number % 3) for number, name in enumerate(prompts)}
    for turn in range(2):
        for name, tokens in prompts.items():
            ask_script(engine, name, tokens, batch=batch, max_tokens=limits[name])
        events = run_script(engine)
        assert {len(slots) for slots in seen} == {8, 5, 2}
        assert all(max(slots) - min(slots) == len(slots) - 1 for slots in seen)
        for name, tokens in prompts.items():
            assert text_of(events[name]) == expected_text(tokens, limits[name], 200, letters)
            cached = events[name][-1].reply.usage.num_cached_tokens
            assert cached == (39 if turn and not batch else 0)


def test_what_is_in_the_way_changes_places(open_engine, reference_for):
    """The same on a real model, and with a prefix that somebody asked to have there."""
    engine = open_engine("llama", n_ctx=256, n_seq_max=6, **OWN, **EXACT)
    reference = reference_for(engine, "llama")
    ask(engine, "t", TEMPLATE + prompt(3))
    run(engine)
    assert engine.prefixes.has(TEMPLATE)
    prompts = {f"r{n}": prompt(50 + n, seed=n) for n in range(3)}
    for name, limit in zip(prompts, (40, 4, 40), strict=True):
        ask(engine, name, prompts[name], max_tokens=limit)
    replies = run(engine)
    for name, limit in zip(prompts, (40, 4, 40), strict=True):
        reference.judge(prompts[name], replies[name], bound=exact_bound("llama"), max_tokens=limit)
    prompts |= {"t": TEMPLATE + prompt(9, seed=9)}
    for name, tokens in prompts.items():
        ask(engine, name, tokens)
    for name, reply in run(engine).items():
        reference.judge(prompts[name], reply, bound=exact_bound("llama"), max_tokens=8)
        assert reply.usage.num_cached_tokens >= (len(TEMPLATE) if name == "t" else 49)
