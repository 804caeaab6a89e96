"""A prefix out of one engine's cache and into another one's, as if it had been computed there."""

from __future__ import annotations

import contextlib

import llama_cpp as lib
import pytest
from support.histories import ask as ask_script
from support.histories import (
    assert_accounts_agree,
    assert_nothing_left,
    expected_text,
    make,
    repeatable,
)
from support.histories import run as run_script
from support.reference import EXACT, bound, exact_bound
from support.tiny_engine import ask, prompt, run
from support.tiny_models import KINDS

from gguf_widgets.core.engine.state_prompt import conversation_prefix, text_prefix
from gguf_widgets.core.errors import DecodeError, StateFileError, WorkerBusyError
from gguf_widgets.core.types import Failed, Finished, Reply

PREFIX = list(range(1, 61)) * 2  # 120 tokens


def computed(engine, tokens) -> None:
    ask(engine, "prefix", tokens, max_tokens=1)
    run(engine)


# --- on llama.cpp ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_replies_after_a_restored_prefix_are_llama_cpps_own(kind, open_engine, reference_for):
    first, again = open_engine(kind, **EXACT), open_engine(kind, **EXACT)
    prefix = prompt(200)
    computed(first, prefix)
    state = first.prefixes.copy(prefix)
    again.prefixes.put(prefix, state)
    reference = reference_for(again, kind)
    # One alone, then several side by side: each begins where the prefix ends.
    for number in range(4):
        ask(again, f"{number}", prefix + prompt(20, seed=number + 1), max_tokens=12)
        if number == 0:
            replies = run(again)
    replies |= run(again)
    for number in range(4):
        reply = replies[str(number)]
        assert reply.usage.num_cached_tokens == 200
        tokens = prefix + prompt(20, seed=number + 1)
        reference.judge(tokens, reply, bound=exact_bound(kind), max_tokens=12)
    # And it can be put away from there once more, with the same bytes or as good.
    once_more = again.prefixes.copy(prefix)
    assert once_more.size == state.size


@pytest.mark.parametrize("kind", ["llama", "gemma3", "lfm2"])
@pytest.mark.parametrize("flash_attn", [True, False])
def test_so_are_they_where_cells_lie_scattered_and_numbers_are_small(
    kind, flash_attn, open_engine, reference_for
):
    kv = {"type_k": "q8_0", "type_v": "q8_0"} if flash_attn else {"type_k": "f32"}
    engines = [open_engine(kind, n_ctx=512, flash_attn=flash_attn, **kv) for _ in range(2)]
    prefix = prompt(150)
    for engine in engines:  # what is computed side by side lies in each other's gaps
        for number in range(3):
            ask(engine, f"other {number}", prompt(30, seed=50 + number), max_tokens=40)
        for _ in range(20):
            engine.step()
    ask(engines[0], "prefix", prefix, max_tokens=1)
    while not engines[0].prefixes.has(prefix):
        engines[0].step()
    state = engines[0].prefixes.copy(prefix)
    engines[1].prefixes.put(prefix, state)
    tokens = prefix + prompt(10, seed=9)
    ask(engines[1], "after", tokens, max_tokens=12)
    reply = run(engines[1])["after"]
    assert reply.usage.num_cached_tokens == 150
    reference_for(engines[1], kind).judge(tokens, reply, bound=bound("q8_0"), max_tokens=12)


@pytest.mark.parametrize("kind", ["llama", "deepseek2", "gemma3"])
def test_a_prefix_that_lies_inside_a_longer_text_is_cut_out_of_it(kind, open_engine, reference_for):
    first, again = open_engine(kind, **EXACT), open_engine(kind, **EXACT)
    prefix = prompt(100)
    for name, length in (("kept", 20), ("running", 40)):
        ask(first, name, prefix + prompt(length, seed=3), max_tokens=30)
        if name == "kept":
            run(first)
    for _ in range(3):
        first.step()
    again.prefixes.put(prefix, first.prefixes.copy(prefix))
    ask(again, "after", prefix + prompt(10, seed=4), max_tokens=16)
    replies = run(again) | run(first)
    assert replies["after"].usage.num_cached_tokens == 100
    reference = reference_for(again, kind)
    for name, rest in (
        ("after", prompt(10, seed=4)),
        ("running", prompt(40, seed=3)),
    ):
        most = 30 if name == "running" else 16
        reference.judge(prefix + rest, replies[name], bound=exact_bound(kind), max_tokens=most)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mamba", "jamba"])
def test_llama_cpps_refusal_leaves_the_engine_as_it_was(kind, open_engine, reference_for):
    engine = open_engine(kind, **EXACT)
    prefix = prompt(100)
    computed(engine, prefix)
    state = engine.prefixes.copy(prefix)
    engine.clear_cache()
    ask(engine, "meanwhile", prompt(50, seed=1), max_tokens=30)
    for _ in range(3):
        engine.step()
    used = engine.stats().num_cells_used
    wrong_length = {"mamba": 0}.get(kind, 99)  # a running state says its position itself
    for tokens, bad in (
        (prefix, state[:-1]),
        (prefix, state[: len(state) // 2]),
        (prefix, state[:4]),
        (prefix, state[:0]),
        (prompt(wrong_length or 99), state),
    ):
        with pytest.raises(DecodeError, match="Save it again"):
            engine.prefixes.put(tokens, bad)
        stats = engine.stats()
        assert (stats.num_cells_used, stats.num_cells_kept) == (used, 0)
    engine.prefixes.put(prefix, state)
    ask(engine, "after", [*prefix, 7, 8, 9], max_tokens=16)
    replies = run(engine)
    assert replies["after"].usage.num_cached_tokens == 100
    reference = reference_for(engine, kind)
    for name, tokens in (("meanwhile", prompt(50, seed=1)), ("after", [*prefix, 7, 8, 9])):
        most = 30 if name == "meanwhile" else 16
        reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=most)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mamba", "jamba"])
def test_whatever_is_saved_and_restored_while_others_run(kind, open_engine, reference_for):
    reference = None
    for seed in range(2):
        luck = repeatable(seed)
        n_seq_max = luck.choice([1, 2, 4])
        engine = open_engine(kind, n_ctx=256, n_batch=64, n_seq_max=n_seq_max, **EXACT)
        reference = reference or reference_for(engine, kind)
        stems = [prompt(luck.randint(20, 150), seed=10 * seed + number) for number in range(3)]
        prompts, replies, saved = {}, {}, []
        for step in range(50):
            move, stem = luck.random(), luck.choice(stems)
            stem = stem[: luck.choice([len(stem), luck.randint(1, len(stem))])]
            if move < 0.3:
                name = f"r{len(prompts)}"
                prompts[name] = stem + prompt(luck.randint(1, 30), seed=luck.randint(100, 120))
                ask(engine, name, prompts[name], max_tokens=5)
            elif move < 0.45:
                state = engine.prefixes.copy(stem)
                if state is None:  # as the worker does
                    ask(engine, f"s{step}", stem, max_tokens=1)
                    while f"s{step}" not in replies:
                        replies |= finished(engine.step())
                    state = engine.prefixes.copy(stem)
                saved += [(stem, state)] if state is not None else []
            elif move < 0.6 and saved:
                if luck.random() < 0.4:
                    engine.clear_cache()
                with contextlib.suppress(WorkerBusyError):
                    engine.prefixes.put(*luck.choice(saved))
            else:
                replies |= finished(engine.step())
        replies |= run(engine)
        assert saved
        for name, tokens in prompts.items():
            reference.judge(tokens, replies[name], bound=exact_bound(kind), max_tokens=5)
        engine.clear_cache()
        slots = range(engine.backend.memory.n_slots)
        assert {engine.backend.seq_pos_max(slot) for slot in slots} == {-1}
        assert engine.stats().num_cells_kept == 0


def finished(events) -> dict[str, Reply]:
    assert not any(isinstance(event, Failed) for event in events)
    return {event.request_id: event.reply for event in events if isinstance(event, Finished)}


def test_a_window_is_not_taken_over_with_a_gap_in_it(open_engine):
    """What the source has let go of, the slot that takes over must not seem to have."""
    engine = open_engine("gemma3", n_ctx=512)
    cache, backend = engine._cache, engine.backend
    tokens = prompt(60)

    def hold(count) -> int:
        slot, _ = cache.acquire(tokens)
        batch = backend.batch
        batch.tokens[:count], batch.positions[:count] = tokens[:count], range(count)
        batch.seq_ids[:count], batch.logits[:count] = slot, 0
        assert backend.decode(count) == 0
        cache.grow(slot, count)
        return slot

    source, target = hold(60), hold(10)
    lib.llama_memory_seq_rm(backend._cells, source, 0, 20)  # as when others took its old cells
    assert cache.take_over(source, target, 40) == 10  # the window of token 40 begins at 9
    assert (backend.seq_pos_min(target), backend.seq_pos_max(target)) == (0, 9)
    assert cache.take_over(source, target, 60) == 60
    assert (backend.seq_pos_min(target), backend.seq_pos_max(target)) == (20, 59)
    assert cache.cut(target, 45) == 0  # not to where the window would reach into the gap


# --- the account, on scripted replies ----------------------------------------------------------


def restored(engine, tokens=PREFIX):
    """Put a prefix into an engine as another one would have computed it."""
    other = make(n_ctx=1024, n_batch=512)
    ask_script(other, "x", tokens, max_tokens=1)
    run_script(other)
    engine.prefixes.put(tokens, other.prefixes.copy(tokens))


def reply_to(engine, name, tokens, **more):
    ask_script(engine, name, tokens, **({"max_tokens": 4} | more))
    reply = run_script(engine)[name][-1].reply
    assert reply.text == expected_text(tokens, 4, engine.settings.n_ctx)
    assert_accounts_agree(engine)
    return reply


@pytest.mark.parametrize("can_cut", [True, False])
def test_a_restored_prefix_outlives_other_conversations_and_leaves_when_room_is_wanted(can_cut):
    engine = make(n_ctx=400, n_batch=64, can_cut=can_cut)
    restored(engine)
    for number in range(12):  # they would fill the cache three times
        reply = reply_to(engine, f"other {number}", [61 + number] * 80)
        assert reply.usage.num_cached_tokens == 0
        if number % 3 == 0:
            reply = reply_to(engine, f"mine {number}", [*PREFIX, 99, number + 1])
            assert reply.usage.num_cached_tokens == 120
    reply_to(engine, "large", [7] * 390)
    assert reply_to(engine, "late", [*PREFIX, 98]).usage.num_cached_tokens == 0
    assert_nothing_left(engine)


def test_where_states_are_copied_whole_each_request_gets_its_copy():
    engine = make(n_ctx=1024, n_batch=64, n_seq_max=4, can_cut=False)
    restored(engine)
    for number in range(3):
        ask_script(engine, str(number), [*PREFIX, number + 70], max_tokens=4)
    replies = {name: events[-1].reply for name, events in run_script(engine).items()}
    assert [reply.usage.num_cached_tokens for reply in replies.values()] == [120] * 3
    assert engine.prefixes.has(PREFIX)


@pytest.mark.parametrize("can_cut", [True, False])
def test_a_prefix_is_refused_while_those_that_run_have_its_room(can_cut):
    engine = make(n_ctx=200, n_batch=64, n_seq_max=2, can_cut=can_cut, kept_slots=0)
    other = make(n_ctx=200)
    ask_script(other, "x", PREFIX, max_tokens=1)
    run_script(other)
    state = other.prefixes.copy(PREFIX)
    ask_script(engine, "runs", [9] * 90, max_tokens=4)
    for _ in range(2):
        engine.step()
    with pytest.raises(WorkerBusyError, match=r"no room now for a prefix of 120 tokens.*110|109"):
        engine.prefixes.put(PREFIX, state)
    assert_accounts_agree(engine)
    run_script(engine)
    engine.prefixes.put(PREFIX, state)
    assert_accounts_agree(engine)
    for tokens in ([5] * 200, [5] * 500):
        with pytest.raises(StateFileError, match="nothing could follow") as caught:
            engine.prefixes.put(tokens, state)
        assert caught.value.details["problem"] == "no_room"
    assert engine.prefixes.has(PREFIX)


def test_a_fault_while_a_prefix_is_put_back_costs_nothing_but_the_prefix(monkeypatch):
    engine = make(n_ctx=400, n_batch=64)
    put = engine.backend.state_seq_set

    def part_of_it(slot, state):
        put(slot, state[: 4 * 50])
        return False

    def lies(slot, state):
        put(slot, state[: 4 * 50])
        return True

    def breaks(slot, state):
        put(slot, state)
        raise MemoryError

    for fault in (part_of_it, lies, breaks):
        monkeypatch.setattr(engine.backend, "state_seq_set", fault)
        with pytest.raises((DecodeError, MemoryError)):
            restored(engine)
        assert_accounts_agree(engine)
        assert engine.stats().num_cells_kept == 0
    monkeypatch.setattr(engine.backend, "state_seq_set", put)
    restored(engine)
    assert reply_to(engine, "after", [*PREFIX, 99]).usage.num_cached_tokens == 120
    assert_nothing_left(engine)


def test_a_prefix_that_cannot_be_taken_over_is_not_said_to_be_there(monkeypatch):
    engine = make(n_ctx=400, n_batch=64)
    reply_to(engine, "longer", [*PREFIX, 1, 2, 3])
    monkeypatch.setattr(engine.backend, "seq_cp", lambda *_: None)
    assert engine.prefixes.copy(PREFIX) is None
    assert_accounts_agree(engine)
    assert engine.prefixes.copy([*PREFIX, 9]) is None


# --- which tokens ------------------------------------------------------------------------------


def by_words(text: str) -> list[str]:
    """A vocabulary that knows whole words: the last one of a text is never settled."""
    return [piece for word in text.split(" ") for piece in (word, " ")][:-1]


def test_a_prefix_of_a_text_ends_where_no_continuation_changes_its_tokens():
    assert text_prefix(by_words, "once upon a ti") == ["once", " ", "upon", " ", "a"]
    assert text_prefix(by_words, "中文, 中文. A") == ["中文,", " ", "中文."]
    with pytest.raises(StateFileError, match="no beginning") as caught:
        text_prefix(by_words, "once")
    assert caught.value.details["problem"] == "no_prefix"


def test_a_prefix_of_a_conversation_is_what_its_continuations_have_in_common():
    def tokenize(messages) -> list[str]:
        """A template that puts the system prompt into the first question."""
        system = "".join(m["content"] + " | " for m in messages if m["role"] == "system")
        text = "".join(f" <{m['role']}> {m['content']}" for m in messages if m["role"] != "system")
        return by_words("<s> " + text.replace(">", f"> {system}", 1) + " <assistant>")

    system = {"role": "system", "content": "Be kind"}
    user = {"role": "user", "content": "Read this: long text"}
    answer = {"role": "assistant", "content": "I did"}
    for messages, end in (
        ([system], "Be kind |"),
        ([system, user], "Read this: long"),
        ([system, user, answer], "I did <user>"),
    ):
        prefix = conversation_prefix(tokenize, messages)
        assert "".join(prefix).rstrip().endswith(end)
        rest = {"role": "user", "content": "And now?"}
        longer = messages if messages[-1]["role"] == "user" else [*messages, rest]
        assert tokenize(longer)[: len(prefix)] == prefix

    def newest_first(messages) -> list[str]:
        return by_words(" ".join(m["content"] for m in reversed(messages)))

    with pytest.raises(StateFileError, match="no beginning"):
        conversation_prefix(newest_first, [system])
