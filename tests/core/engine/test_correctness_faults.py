"""Replies that were put back, broken off or guessed ahead are llama.cpp's own, and so are those
beside them.

F32 throughout, see `test_correctness.py`.
"""

from __future__ import annotations

import pytest
from support.reference import EXACT, exact_bound
from support.tiny_engine import ask, prompt, run
from support.tiny_models import FAMILIES, HYBRID, RECURRENT

from gguf_widgets.core.engine.backend import DecodeStatus
from gguf_widgets.core.types import FinishReason, Priority

STATES = (*RECURRENT, *HYBRID)


def written(reply) -> list[int]:
    return [entry.token for entry in reply.logprobs]


@pytest.mark.parametrize("kind", FAMILIES)
def test_after_preemption(open_engine, reference_for, kind):
    """Three replies that grow by 85 tokens in room for 256: the youngest gives way, and is back."""
    engine = open_engine(kind, n_ctx=256, n_seq_max=3, **EXACT)
    reference = reference_for(engine, kind)
    prompts = {f"r{n}": prompt(10 + 3 * n, seed=n) for n in range(3)}
    for name, tokens in prompts.items():
        ask(engine, name, tokens, client=name, max_tokens=85)
    replies = run(engine)
    assert engine.stats().num_preemptions > 0
    for name, tokens in prompts.items():
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=85)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_table_gives_way_to_a_person(open_engine, reference_for, kind):
    engine = open_engine(kind, n_seq_max=3, **EXACT)
    reference = reference_for(engine, kind)
    template = prompt(40, seed=99)
    prompts = {f"row{n}": template + prompt(5, seed=n) for n in range(5)}
    for name, tokens in prompts.items():
        ask(engine, name, tokens, client="table", priority=Priority.BATCH, max_tokens=20)

    def each_step(step: int) -> None:
        if step in (4, 8, 12):
            prompts[f"chat{step}"] = prompt(20 + step, seed=step)
            ask(engine, f"chat{step}", prompts[f"chat{step}"], client="chat", max_tokens=20)

    replies = run(engine, each_step)
    assert engine.stats().num_preemptions > 0
    for name, tokens in prompts.items():
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=20)


@pytest.mark.parametrize("kind", FAMILIES)
def test_beside_a_neighbour_that_is_aborted(open_engine, reference_for, kind):
    """One is aborted that others wait for, one with a long prompt, and one while it writes."""
    engine = open_engine(kind, n_batch=16, n_seq_max=8, **EXACT)
    reference = reference_for(engine, kind)
    shared = prompt(90, seed=7)
    prompts = {
        "leader": shared + prompt(5, seed=1),
        "follower": shared + prompt(6, seed=2),
        "second": shared + prompt(7, seed=3),
        "long": prompt(200, seed=4),
        "writes": prompt(9, seed=5),
        "bystander": prompt(12, seed=6),
    }
    for name, tokens in prompts.items():
        ask(engine, name, tokens, client=name, max_tokens=20)
    victims = {3: "leader", 8: "long", 16: "writes"}

    def each_step(step: int) -> None:
        if step in victims:
            assert engine.abort(victims[step])

    replies = run(engine, each_step)
    for name, tokens in prompts.items():
        reason = replies[name].finish_reason
        assert (reason is FinishReason.ABORTED) == (name in victims.values())
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=20)


@pytest.mark.parametrize("kind", FAMILIES)
def test_with_batches_that_are_broken_off(open_engine, reference_for, kind):
    engine = open_engine(kind, n_batch=32, n_ubatch=8, **EXACT)
    reference = reference_for(engine, kind)
    prompts = {f"r{n}": prompt(70, seed=n) + prompt(60, seed=50) for n in range(3)}
    prompts["r3"] = prompts["r0"][:100] + prompt(20, seed=9)
    for name, tokens in prompts.items():
        ask(engine, name, tokens, client=name)

    codes = []
    decode = engine.backend.decode

    def decode_and_note(num_tokens: int) -> int:
        codes.append(decode(num_tokens))
        return codes[-1]

    engine.backend.decode = decode_and_note

    def each_step(step: int) -> None:
        # Where a prompt would begin anew, only the first part of one is ever broken off.
        if step < 3 if kind in STATES else step % 3 == 1 and step < 20:
            engine.interrupt()

    replies = run(engine, each_step)
    assert codes.count(DecodeStatus.ABORTED) >= 3 or kind in STATES
    for name, tokens in prompts.items():
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=8)


@pytest.mark.parametrize("how", ["interrupted", "failed"])
@pytest.mark.parametrize("kind", STATES)
def test_a_batch_that_does_not_end_spoils_no_state_of_others(open_engine, reference_for, kind, how):
    """llama.cpp moves the states of others, too, and leaves them where they were half moved."""
    engine = open_engine(kind, n_seq_max=4, **EXACT)
    reference = reference_for(engine, kind)
    talks = {f"talk{n}": prompt(20 + n, seed=n) for n in range(4)}

    def go_on(name: str) -> None:
        tokens = talks[name]
        ask(engine, name, tokens)
        reply = run(engine)[name]
        reference.judge(tokens, reply, bound=exact_bound(kind), max_tokens=8)
        talks[name] = tokens + written(reply) + prompt(3, seed=len(tokens))

    for name in (*talks, "talk1", "talk3"):
        go_on(name)
    # Two more want slots, and those used longest ago are not side by side.
    for n in range(2):
        ask(engine, f"other{n}", prompt(30, seed=10 + n), client=f"other{n}")
    decode = engine.backend.decode

    def fail_once(num_tokens: int) -> int:
        engine.backend.decode = decode
        engine.backend.interrupt()
        code = decode(num_tokens)
        engine.backend.clear_interrupt()
        assert code == DecodeStatus.ABORTED
        return -3  # what llama_decode answers when the computation itself failed

    if how == "interrupted":
        engine.interrupt()
    else:
        engine.backend.decode = fail_once
    engine.step()
    for n in range(2):
        engine.abort(f"other{n}")
    engine.step()
    for name in ("talk1", "talk3"):
        go_on(name)


@pytest.mark.parametrize("kind", FAMILIES)
def test_with_guesses(open_engine, reference_for, kind):
    """Replies of three letters only repeat themselves, so some guesses are right and some wrong."""
    engine = open_engine(kind, n_draft=8, n_seq_max=2, **EXACT)
    reference = reference_for(engine, kind)
    engine._drafts.length = lambda num_decoding: 8  # whether or not it pays
    bias = {97: 8.0, 98: 8.0, 99: 8.0}
    prompts = {f"r{n}": prompt(40, seed=n) for n in range(4)}
    for name, tokens in prompts.items():
        ask(engine, name, tokens, max_tokens=40, logit_bias=bias)
    replies = run(engine)
    for name, tokens in prompts.items():
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=40, bias=bias)
    num_right = engine._drafts.num_right
    assert num_right == 0 if kind in STATES else num_right > 10


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_full_context_and_what_comes_after_it(open_engine, reference_for, kind):
    engine = open_engine(kind, n_ctx=256, n_seq_max=2, **EXACT)
    reference = reference_for(engine, kind)
    for round_ in range(2):
        prompts = {
            "full": prompt(250, seed=1),
            "exact": prompt(256, seed=2),
            "after": prompt(30, seed=3),
        }
        for name, tokens in prompts.items():
            ask(engine, name, tokens, max_tokens=None if name != "after" else 8)
        replies = run(engine)
        lengths = {"full": 6, "exact": 1, "after": 8}
        for name, tokens in prompts.items():
            assert replies[name].usage.num_completion_tokens == lengths[name], round_
            reference.judge(
                tokens, replies[name], bound=exact_bound(kind), max_tokens=lengths[name]
            )
