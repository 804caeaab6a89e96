"""The engine's promises, on scripted replies: thousands of random histories with faults."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.scripted import EOS, Fault, ScriptedBackend
from gguf_widgets.core.errors import ContextOverflowError, InvalidValueError
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    GenerationEvent,
    LoadSettings,
    PrefillProgress,
    SamplingSettings,
    TextDelta,
)

POISON = 250  # a token that makes the computation fail, alone or in company


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a history to repeat, not a secret


def next_letter(tokens, num_prompt) -> int:
    """A reply that depends on every token before it: wrong memory gives a wrong reply."""
    state = len(tokens)
    for token in tokens:
        state = (state * 31 + token) % 1_000_003
    return EOS if state % 23 == 0 else 97 + state % 26


def expected_text(prompt, limit, n_ctx) -> str:
    tokens, text = list(prompt), ""
    limit = min(limit or n_ctx, max(1, n_ctx - len(prompt)))
    while len(text) < limit:
        token = next_letter(tokens, 0)
        if token == EOS:
            break
        tokens.append(token)
        text += chr(token)
    return text


def make(n_ctx=256, n_batch=32, n_seq_max=4, script=next_letter, **more) -> Engine:
    load = LoadSettings(n_ctx=n_ctx, n_batch=n_batch, n_seq_max=n_seq_max)
    return Engine(ScriptedBackend(load, script, **more))


def ask(engine, name, prompt, client="c", **sampling) -> None:
    engine.add_request(
        GenerateRequest(
            request_id=name,
            client_id=client,
            prompt_tokens=list(prompt),
            sampling=SamplingSettings(**sampling),
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


def assert_nothing_left(engine) -> None:
    backend = engine.backend
    assert backend.num_open_samplers == 0
    stats = engine.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_cells_used) == (0, 0, 0)
    engine.clear_cache()
    slots = engine.settings.n_seq_max
    assert [backend.seq_pos_max(slot) for slot in range(slots)] == [-1] * slots
    # Every slot can be had again.
    for number in range(slots):
        ask(engine, f"again {number}", [number + 1], max_tokens=1)
    run(engine)


class Faults:
    """Answers a random decode with a random code, having done a random part of it; never hides
    the poison."""

    def __init__(self, rng: random.Random, rate: float) -> None:
        self.rng, self.rate = rng, rate
        self.n_batch = 0

    def __call__(self, rows):
        assert len(rows) <= self.n_batch
        if any(token == POISON for token, _, _ in rows):
            code = self.rng.choice([-1, -2, -3])
            return Fault(code, 0 if code == -1 else self.rng.randint(0, len(rows)))
        if self.rng.random() < self.rate:
            code = self.rng.choice([1, 1, 2, 2, 2])
            return Fault(code, self.rng.randint(0, len(rows)) if code == 2 else 0)
        return None


@settings(max_examples=250, deadline=None)
@given(seed=st.integers(0, 2**32), can_cut=st.booleans(), rate=st.sampled_from([0, 0.05, 0.3]))
def test_any_history_ends_every_request_once_with_the_right_text(seed, can_cut, rate):
    rng = repeatable(seed)
    n_ctx = rng.choice([16, 40, 100, 400])
    n_batch = rng.choice([1, 3, 16, 64])
    faults = Faults(rng, rate)
    faults.n_batch = n_batch
    engine = make(
        n_ctx=n_ctx,
        n_batch=n_batch,
        n_seq_max=rng.choice([1, 2, 5]),
        can_cut=can_cut,
        fault=faults,
    )
    events = defaultdict(list)
    asked, aborted, open_names = {}, set(), set()
    for _ in range(rng.randint(5, 60)):
        move = rng.random()
        if move < 0.35:
            name = f"r{len(asked)}"
            prompt = [rng.randint(1, 60) for _ in range(rng.randint(1, n_ctx))]
            if asked and rng.random() < 0.3:  # the next turn of a conversation
                prompt = (asked[rng.choice(list(asked))][0] + prompt)[:n_ctx]
            if rng.random() < 0.1:
                prompt[rng.randrange(len(prompt))] = POISON
            limit = rng.choice([None, 1, 5, 50])
            ask(engine, name, prompt, client=rng.choice("abc"), max_tokens=limit)
            asked[name] = (prompt, limit)
            open_names.add(name)
        elif move < 0.45 and open_names:
            name = rng.choice(sorted(open_names))
            assert engine.abort(name)
            aborted.add(name)
            open_names.discard(name)
        elif move < 0.5:
            engine.interrupt()
        else:
            for event in engine.step():
                events[event.request_id].append(event)
                if isinstance(event, Finished | Failed):
                    open_names.discard(event.request_id)
    faults.rate = min(faults.rate, 0.1)
    for name, more in run(engine).items():
        events[name] += more

    assert set(events) == set(asked)
    for name, (prompt, limit) in asked.items():
        assert_well_formed(events[name])
        end = events[name][-1]
        whole = expected_text(prompt, limit, n_ctx)
        if isinstance(end, Failed):
            assert POISON in prompt or rate > 0
            if POISON not in prompt:  # an injected "no room" may end even a lone sequence
                assert end.error["kind"] == "ContextOverflowError"
        elif end.reply.finish_reason is FinishReason.ABORTED:
            assert name in aborted
            assert whole.startswith(end.reply.text)
        elif rate == 0:
            assert end.reply.text == whole
        else:
            assert whole.startswith(end.reply.text)
            if end.reply.finish_reason is FinishReason.STOP:
                assert end.reply.text == whole
    assert engine.backend.num_open_samplers == 0
    faults.rate = 0
    assert_nothing_left(engine)


@pytest.mark.parametrize("can_cut", [True, False])
def test_only_the_request_at_fault_fails_whatever_runs_beside_it(can_cut):
    engine = make(fault=(faults := Faults(repeatable(1), 0.0)), can_cut=can_cut)
    faults.n_batch = 32
    prompts = {"a": [1, 2, 3], "b": [4, POISON, 5], "c": [6] * 40}
    for name, prompt in prompts.items():
        ask(engine, name, prompt, client=name, max_tokens=30)
    ends = {name: events[-1] for name, events in run(engine).items()}
    assert ends["b"].error["kind"] == "DecodeError"
    for name in "ac":
        assert ends[name].reply.text == expected_text(prompts[name], 30, 256)


@pytest.mark.parametrize("can_cut", [True, False])
def test_an_interrupt_costs_the_others_nothing_they_can_see(can_cut):
    rng = repeatable(3)
    engine = make(n_batch=8, can_cut=can_cut)
    prompts = {name: [rng.randint(1, 60) for _ in range(50)] for name in "abc"}
    for name, prompt in prompts.items():
        ask(engine, name, prompt, max_tokens=20)
    events = defaultdict(list)
    while engine.has_work:
        if rng.random() < 0.5:
            engine.interrupt()
        for event in engine.step():
            events[event.request_id].append(event)
    for name, prompt in prompts.items():
        assert events[name][-1].reply.text == expected_text(prompt, 20, 256)


def test_preempted_requests_come_back_and_lose_no_text():
    # Four that grow to 100 tokens each in a context of 150: they cannot all stay.
    engine = make(n_ctx=150, n_batch=16, script=lambda tokens, _: 97 + sum(tokens) % 26)
    preempted = set()
    for name in "abcd":
        ask(engine, name, [ord(name)] * 10, client=name, max_tokens=90)
    events = defaultdict(list)
    while engine.has_work:
        for event in engine.step():
            events[event.request_id].append(event)
        preempted |= {one.request_id for one in engine._waiting if one.num_output}
    assert preempted
    assert "a" not in preempted  # the oldest never gives way
    for name in "abcd":
        assert_well_formed(events[name])
        assert events[name][-1].reply.usage.num_completion_tokens == 90
    assert_nothing_left(engine)


def test_a_cache_with_less_room_than_it_says_is_used_as_far_as_it_goes():
    # llama.cpp may answer "no room" before all cells are taken (sliding windows).
    engine = make(n_ctx=200, n_batch=32, script=lambda *_: 97)
    backend = engine.backend
    full = []

    def no_room_above_100(rows):
        used = sum(backend.seq_pos_max(slot) + 1 for slot in range(4))
        full.append(used + len(rows) > 100)
        return Fault(1) if full[-1] else None

    backend._fault = no_room_above_100
    for name in "abcd":
        ask(engine, name, [ord(name)] * 20, client=name, max_tokens=40)
    ask(engine, "long", [1] * 150, client="e")
    ask(engine, "endless", [1] * 10, client="f")
    ends = {name: events[-1] for name, events in run(engine).items()}
    for name in "abcd":
        assert ends[name].reply.text == "a" * 40
    assert ends["long"].error["kind"] == "ContextOverflowError"
    assert ends["endless"].reply.finish_reason is FinishReason.LENGTH
    assert ends["endless"].reply.usage.num_context_tokens == pytest.approx(100, abs=1)
    assert sum(full) < 60  # it does not run against the wall again and again
    backend._fault = None
    assert_nothing_left(engine)


def test_nobody_starves_beside_a_client_that_never_stops_asking():
    engine = make(n_seq_max=2)
    ask(engine, "first", [1] * 20, client="greedy", max_tokens=10)
    ask(engine, "patient", [2] * 200, client="patient", max_tokens=10)
    number, ended = 0, []
    while "patient" not in ended:
        assert number < 300
        ask(engine, f"more {number}", [3] * 20, client="greedy", max_tokens=10)
        number += 1
        ended += [e.request_id for e in engine.step() if isinstance(e, Finished)]
    assert len(ended) < 60


def test_the_next_turn_of_a_conversation_computes_only_what_is_new():
    engine = make()
    first = [5] * 60
    ask(engine, "one", first, max_tokens=10)
    reply = run(engine)["one"][-1].reply
    turn = first + [ord(letter) for letter in reply.text] + [7] * 8
    ask(engine, "two", turn, max_tokens=10)
    ask(engine, "other", [9] * 30, max_tokens=10)
    ends = {name: events[-1].reply for name, events in run(engine).items()}
    assert ends["two"].usage.num_cached_tokens >= 60
    assert ends["two"].text == expected_text(turn, 10, 256)
    assert ends["other"].usage.num_cached_tokens == 0


def test_a_request_that_is_to_be_repeatable_computes_its_whole_prompt():
    engine = make()
    ask(engine, "first", [5] * 60, max_tokens=5)
    run(engine)
    for name, sampling in (("seed", {"seed": 7}), ("greedy", {"temperature": 0.0})):
        ask(engine, name, [5] * 60, max_tokens=5, **sampling)
        assert run(engine)[name][-1].reply.usage.num_cached_tokens == 0
    ask(engine, "last", [5] * 60, max_tokens=5)
    assert run(engine)["last"][-1].reply.usage.num_cached_tokens == 59


def test_old_conversations_keep_no_more_than_half_the_cache():
    engine = make(n_ctx=400, n_seq_max=8)
    for number in range(6):
        ask(engine, str(number), [number + 1] * 60, max_tokens=5)
        run(engine)
        assert engine._cache.num_kept_cells <= 200
    assert engine._cache.num_kept_cells > 120  # the latest ones are there
    ask(engine, "big", [9] * 350, max_tokens=5)
    run(engine)
    assert engine._cache.num_kept_cells == 354  # one alone may be larger


def test_a_prompt_may_fill_the_context_exactly_and_gets_one_token():
    engine = make(n_ctx=64, script=lambda *_: 97)
    ask(engine, "full", [1] * 64)
    reply = run(engine)["full"][-1].reply
    assert (reply.text, reply.finish_reason) == ("a", FinishReason.LENGTH)
    with pytest.raises(ContextOverflowError, match=r"65 tokens long .* room for 64: 1 too many"):
        ask(engine, "longer", [1] * 65)
    ask(engine, "room for four", [1] * 60)
    reply = run(engine)["room for four"][-1].reply
    assert (reply.text, reply.finish_reason) == ("aaaa", FinishReason.LENGTH)


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ([], {}, "prompt is empty"),
        ([1, 260], {}, "Token 260 does not exist; this model's tokens are 0 to 259"),
        ([-1], {}, "Token -1 does not exist"),
        ([1], {"temperature": 9.0}, "temperature is 9.0"),
        ([1], {"logit_bias": {5000: 1.0}}, "Token 5000 does not exist"),
        ([1], {"logit_bias": dict.fromkeys(range(260), float("-inf"))}, "forbids every token"),
    ],
)
def test_a_request_that_cannot_be_is_refused_and_leaves_nothing(prompt, sampling, message):
    engine = make()
    with pytest.raises(InvalidValueError, match=message):
        ask(engine, "bad", prompt, **sampling)
    assert not engine.has_work
    assert_nothing_left(engine)


def test_a_name_cannot_be_used_twice_at_a_time():
    engine = make()
    ask(engine, "x", [1], max_tokens=1)
    with pytest.raises(InvalidValueError, match="already under way"):
        ask(engine, "x", [1])
    run(engine)
    ask(engine, "x", [1], max_tokens=1)


def test_stop_strings_end_a_reply_and_what_was_held_back_comes_out_at_other_ends():
    reply = "one two three"
    script = lambda tokens, n: ord(reply[len(tokens) - n]) if len(tokens) - n < 13 else EOS  # noqa: E731
    engine = make(script=script)
    ask(engine, "a", [1], stop=("two",))
    ask(engine, "b", [1], stop=("threes",))
    ask(engine, "c", [1], stop=("two!",), max_tokens=7)
    ends = {name: events[-1].reply for name, events in run(engine).items()}
    assert (ends["a"].text, ends["a"].stop_string) == ("one ", "two")
    assert (ends["b"].text, ends["b"].stop_string) == (reply, None)
    assert (ends["c"].text, ends["c"].finish_reason) == ("one two", FinishReason.LENGTH)


def test_a_drawn_seed_is_reported_and_a_named_one_kept():
    engine = make()
    ask(engine, "drawn", [1], max_tokens=1)
    ask(engine, "named", [1], max_tokens=1, seed=42)
    ends = {name: events[-1].reply for name, events in run(engine).items()}
    assert ends["named"].seed == 42
    assert 0 <= ends["drawn"].seed < 2**32 - 1


def test_progress_is_told_while_a_long_prompt_is_computed():
    engine = make(n_batch=16)
    ask(engine, "long", [1] * 50, max_tokens=1)
    progress = [e for e in run(engine)["long"] if isinstance(e, PrefillProgress)]
    assert [(event.num_done, event.num_total) for event in progress] == [
        (16, 50),
        (32, 50),
        (48, 50),
    ]


def test_closing_ends_every_open_request():
    engine = make()
    for name in "abcdefgh":
        ask(engine, name, [1] * 30)
    engine.step()
    last = engine.close()
    assert sorted(e.request_id for e in last if isinstance(e, Finished)) == list("abcdefgh")
    assert engine.backend.num_open_samplers == 0
    assert engine.close() == []
    with pytest.raises(InvalidValueError, match="closed"):
        ask(engine, "late", [1])


def test_timings_add_up():
    engine = make(n_batch=16, tokens_per_s=2000, script=lambda *_: 97)
    ask(engine, "x", [1] * 40, max_tokens=5)
    t = run(engine)["x"][-1].reply.timings
    assert t.ttft_s == pytest.approx(t.queue_s + t.prefill_s)
    assert t.total_s == pytest.approx(t.queue_s + t.prefill_s + t.decode_s)
    assert t.decode_tok_per_s == pytest.approx(4 / t.decode_s)
    assert t.prefill_tok_per_s == pytest.approx(40 / t.prefill_s)
