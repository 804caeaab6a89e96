"""Replies whose prompts were not computed but taken over are llama.cpp's own, too.

F32 throughout (see `test_correctness.py`): a cell too many or too few in what is taken over shows
in the first log probability.
"""

from __future__ import annotations

import pytest
from support.reference import EXACT, exact_bound
from support.tiny_engine import ask, prompt, run
from support.tiny_models import FAMILIES, HYBRID, KINDS, RECURRENT

from gguf_widgets.core.types import Priority

STATES = (*RECURRENT, *HYBRID)
TEMPLATE = prompt(100, seed=1000)  # three windows long


def written(reply) -> list[int]:
    return [entry.token for entry in reply.logprobs]


@pytest.fixture
def check(reference_for):
    """Return a function that judges replies: (engine, kind, prompts, replies)."""

    def check_all(engine, kind, prompts, replies, max_tokens=8, **more) -> None:
        reference = reference_for(engine, kind)
        assert replies.keys() == prompts.keys()
        for name, tokens in prompts.items():
            reference.judge(
                tokens, replies[name], bound=exact_bound(kind), max_tokens=max_tokens, **more
            )

    return check_all


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_turns_of_a_conversation(open_engine, check, kind):
    engine = open_engine(kind, **EXACT)
    history, known = prompt(60), 0
    for turn in range(4):
        ask(engine, "a", history)
        reply = run(engine)["a"]
        check(engine, kind, {"a": history}, {"a": reply})
        assert reply.usage.num_cached_tokens == known
        history = history + written(reply)
        known = len(history) - 1  # the last token written was never computed
        history = history + prompt(10, seed=turn)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_earlier_turn_written_anew(open_engine, check, kind):
    engine = open_engine(kind, **EXACT)
    first = prompt(60)
    ask(engine, "a", first)
    run(engine)
    for kept in (45, 59, 20):  # each time the beginning of the first
        anew = first[:kept] + prompt(15, seed=kept)
        ask(engine, "a", anew)
        reply = run(engine)["a"]
        check(engine, kind, {"a": anew}, {"a": reply})
        assert reply.usage.num_cached_tokens == (0 if kind in STATES else kept)


@pytest.mark.parametrize("kind", KINDS)
def test_32_rows_of_one_template(open_engine, check, kind):
    engine = open_engine(kind, n_ctx=2048, n_seq_max=32, **EXACT)
    rows = {f"r{n}": TEMPLATE + prompt(1 + n % 9, seed=n) for n in range(32)}
    for name, tokens in rows.items():
        ask(engine, name, tokens, priority=Priority.BATCH)
    replies = run(engine)
    check(engine, kind, rows, replies)
    # The first one computes the template, and the others wait for it.
    cached = sorted(reply.usage.num_cached_tokens for reply in replies.values())
    assert cached[0] == 0
    assert cached[1] >= len(TEMPLATE)


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind not in STATES])
def test_rows_that_come_one_after_another(open_engine, check, kind):
    """With fewer slots than rows; and again when all are done."""
    engine = open_engine(kind, **EXACT)
    for wave in range(2):
        rows = {f"r{n}": TEMPLATE + prompt(1 + n % 9, seed=100 * wave + n) for n in range(12)}
        for name, tokens in rows.items():
            ask(engine, name, tokens, priority=Priority.BATCH)
        replies = run(engine)
        check(engine, kind, rows, replies)
        cached = sorted(reply.usage.num_cached_tokens for reply in replies.values())
        assert cached[1 - wave] >= len(TEMPLATE)


@pytest.mark.parametrize("kind", FAMILIES)
def test_several_replies_to_one_prompt(open_engine, check, kind):
    engine = open_engine(kind, **EXACT)
    for length in (100, 2):
        tokens = prompt(length, seed=length)
        for n in range(4):
            ask(engine, f"r{n}", tokens, temperature=1.0, seed=n)
        replies = run(engine)
        check(engine, kind, dict.fromkeys(replies, tokens), replies, greedy=False)
        assert len({reply.text for reply in replies.values()}) > 1
        if length == 100:
            cached = [reply.usage.num_cached_tokens for reply in replies.values()]
            assert sorted(cached) == [0, 99, 99, 99]
        engine.clear_cache()


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_tree_of_prefixes_that_arrives_all_at_once(open_engine, check, kind):
    engine = open_engine(kind, n_ctx=2048, n_seq_max=16, n_batch=64, **EXACT)
    rows = {}
    for branch in range(4):
        stem = TEMPLATE[:60] + prompt(40, seed=2000 + branch)
        for leaf in range(4):
            tail = prompt(3 + 5 * leaf, seed=3000 + leaf)
            rows[f"r{branch}{leaf}"] = stem + tail
    rows["root"] = TEMPLATE[:60]
    rows["inside"] = rows["r00"][:80]
    for name, tokens in rows.items():
        ask(engine, name, tokens)
    replies = run(engine)
    check(engine, kind, rows, replies)
    cached = [reply.usage.num_cached_tokens for reply in replies.values()]
    total = sum(map(len, rows.values()))
    assert sum(cached) > total / 2
