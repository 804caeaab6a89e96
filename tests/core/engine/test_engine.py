"""The engine's promises, one by one, on scripted replies; `test_histories` mixes them all."""

from __future__ import annotations

from collections import defaultdict

import pytest
from support.histories import (
    POISON,
    Faults,
    ask,
    assert_nothing_left,
    assert_well_formed,
    expected_text,
    make,
    repeatable,
    run,
)

from gguf_widgets.core.engine.scripted import EOS, Fault
from gguf_widgets.core.errors import ContextOverflowError, InvalidValueError
from gguf_widgets.core.types import Finished, FinishReason, PrefillProgress


@pytest.mark.parametrize("can_cut", [True, False])
def test_only_the_request_at_fault_fails_whatever_runs_beside_it(can_cut):
    engine = make(fault=Faults(repeatable(1), 0.0, 32), can_cut=can_cut)
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


def test_the_texts_of_the_log_probabilities_are_those_of_the_tokens_with_their_blanks(monkeypatch):
    words = b"a blank before each word"
    engine = make(script=lambda tokens, n: words[len(tokens) - n] if len(tokens) < n + 24 else EOS)
    detokenize = engine.backend.detokenize

    def as_some_vocabularies_do(tokens, *, special):
        return detokenize(tokens, special=special).removeprefix(" ")

    monkeypatch.setattr(engine.backend, "detokenize", as_some_vocabularies_do)
    ask(engine, "x", [1, 2, 3], max_tokens=40, logprobs=1)
    reply = run(engine)["x"][-1].reply
    assert reply.text == words.decode()
    assert "".join(one.text for one in reply.logprobs) == reply.text
    assert "".join(one.top[0].text for one in reply.logprobs) == reply.text


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
    ask(engine, "alone", [5] * 60, max_tokens=5, reproducible=True)
    assert run(engine)["alone"][-1].reply.usage.num_cached_tokens == 0
    for name, cached in (("next", 0), ("last", 59)):  # what was kept before it is gone
        ask(engine, name, [5] * 60, max_tokens=5, seed=7)
        assert run(engine)[name][-1].reply.usage.num_cached_tokens == cached


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


def test_a_lone_reply_that_fails_with_guesses_is_computed_again_without():
    sizes = []

    def fails_with_guesses(rows):
        sizes.append(len(rows))
        return Fault(-1) if 1 < len(rows) < 5 else None

    engine = make(n_draft=3, script=lambda *_: 97, fault=fails_with_guesses)
    engine._drafts.length = lambda _: 3
    ask(engine, "x", [1] * 10, max_tokens=20)
    assert run(engine)["x"][-1].reply.text == "a" * 20
    assert 2 in sizes


def test_guesses_there_is_no_room_for_do_not_end_a_reply():
    engine = make(n_draft=3, script=lambda *_: 97)
    engine._drafts.length = lambda _: 3
    engine.backend._fault = lambda rows: Fault(1) if 1 < len(rows) < 5 else None
    ask(engine, "x", [1] * 10, max_tokens=20)
    assert run(engine, 100)["x"][-1].reply.text == "a" * 20


@pytest.mark.parametrize("can_cut", [True, False])
def test_prompts_come_to_their_end_though_others_never_stop_being_aborted(can_cut):
    engine = make(n_batch=8, can_cut=can_cut)
    stopped = engine.backend._interrupted
    engine.backend._fault = lambda rows: Fault(2, len(rows) // 2) if stopped.is_set() else None
    ask(engine, "x", [5] * 100, max_tokens=5)
    engine.step()
    for number in range(40):
        if number % 3 == 0:
            engine.interrupt()
        engine.step()
    assert "x" not in engine._by_id


def test_a_schema_that_nobody_turned_into_a_grammar_is_not_left_out_in_silence():
    with pytest.raises(InvalidValueError, match="would not follow it"):
        ask(make(), "x", [1], schema={"type": "integer"})


def test_after_a_batch_that_failed_all_go_on_together_as_soon_as_each_went_well_alone():
    sizes = []

    def fails_once(rows):
        sizes.append(len(rows))
        return Fault(-1) if len(sizes) == 6 else None

    engine = make(script=lambda *_: 97, fault=fails_once)
    for name in "abcd":
        ask(engine, name, [ord(name)] * 5, max_tokens=20)
    run(engine)
    assert sizes[5:12] == [4, 1, 1, 1, 1, 4, 4]


def test_a_taken_over_prompt_that_had_to_be_computed_after_all_is_not_told_as_cached():
    engine = make(can_cut=False)
    ask(engine, "one", [5] * 60, max_tokens=1)
    run(engine)
    fault = iter([Fault(2, 1)])
    engine.backend._fault = lambda _: next(fault, None)
    ask(engine, "two", [5] * 60 + [6] * 10, max_tokens=5)
    reply = run(engine)["two"][-1].reply
    assert reply.text == expected_text([5] * 60 + [6] * 10, 5, 256)
    assert reply.usage.num_cached_tokens == 0
