"""Who gets a slot and what is not computed again, on scripted replies."""

from __future__ import annotations

import pytest
from support.histories import ask, assert_accounts_agree, assert_nothing_left, expected_text, make
from support.histories import run as run_to_end

from gguf_widgets.core.engine import scheduler
from gguf_widgets.core.engine.scripted import Fault
from gguf_widgets.core.types import Finished

TEMPLATE = list(range(1, 61)) * 2  # 120 tokens


def row(number: int, length: int = 10) -> list[int]:
    return [*TEMPLATE, *[number % 60 + 1] * length]


class Counted:
    """Counts the tokens that the backend computes, by nothing but looking at the batches."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.batches: list[list[tuple[int, int, int]]] = []

    def __call__(self, rows) -> Fault | None:
        self.num_tokens += len(rows)
        self.batches.append(rows)
        return None


def run(engine) -> dict:
    return {name: events[-1].reply for name, events in run_to_end(engine).items()}


@pytest.mark.parametrize("can_cut", [True, False])
@pytest.mark.parametrize("batch", [True, False])
def test_a_template_is_computed_once_for_rows_that_come_together(can_cut, batch):
    counted = Counted()
    engine = make(n_ctx=1024, n_batch=64, n_seq_max=8, can_cut=can_cut, fault=counted)
    for number in range(8):
        ask(engine, str(number), row(number), batch=batch, max_tokens=3)
    replies = run(engine)
    for number in range(8):
        assert replies[str(number)].text == expected_text(row(number), 3, 1024)
        assert replies[str(number)].usage.num_cached_tokens == (0 if number == 0 else 120)
    assert counted.num_tokens < 120 + 8 * (10 + 3)


def test_a_template_is_computed_once_for_any_number_of_rows():
    counted = Counted()
    engine = make(n_ctx=512, n_batch=64, n_seq_max=4, fault=counted)
    for number in range(100):
        ask(engine, str(number), row(number), batch=True, max_tokens=3)
    replies = run(engine)
    for number in range(100):
        assert replies[str(number)].text == expected_text(row(number), 3, 512)
    assert counted.num_tokens < 120 + 100 * (10 + 3)
    # What stays is the template, once; not a hundred rows.
    assert engine._cache.num_kept_cells <= 133
    assert_nothing_left(engine)


@pytest.mark.parametrize("batch", [True, False])
def test_a_table_that_is_asked_row_by_row_finds_its_template_again(batch):
    counted = Counted()
    engine = make(n_ctx=512, n_batch=64, fault=counted)
    for number in range(20):
        ask(engine, str(number), row(number), batch=batch, max_tokens=3)
        run(engine)
    assert counted.num_tokens < 120 + 20 * (10 + 3)


@pytest.mark.parametrize("num_common", [0, 1, 20])
def test_rows_with_little_in_common_leave_nothing_behind(num_common):
    # Leftovers high up in the cache would make attention look past all the cells below them.
    engine = make(n_ctx=512, n_batch=64, n_seq_max=4)
    for number in range(20):
        ask(engine, str(number), [*[3] * num_common, *[number % 60 + 1] * 9], batch=True)
    run(engine)
    assert engine._cache.num_kept_cells == 0
    ask(engine, "alone", row(1), batch=True, max_tokens=9)
    run(engine)
    assert engine._cache.num_kept_cells == 130  # its prompt may be a template; its reply is not
    assert_nothing_left(engine)


def test_choices_of_one_prompt_compute_it_once():
    engine = make(n_ctx=512, n_batch=64, n_seq_max=4)
    for number in range(4):
        ask(engine, str(number), TEMPLATE, max_tokens=3, seed=number)
    cached = sorted(reply.usage.num_cached_tokens for reply in run(engine).values())
    assert cached == [0, 119, 119, 119]  # the last token's logits are wanted by each


def test_an_earlier_turn_that_is_edited_keeps_what_is_before_it_and_both_branches_stay():
    engine = make(n_ctx=1024, n_batch=64)
    first = [*TEMPLATE, *[7] * 40]
    edited = [*TEMPLATE, *[8] * 40]
    ask(engine, "first", first, max_tokens=5)
    run(engine)
    ask(engine, "edited", edited, max_tokens=5)
    assert run(engine)["edited"].usage.num_cached_tokens == 120
    for name, prompt in (("first", first), ("edited", edited)):
        ask(engine, name, [*prompt, 9], max_tokens=5)
        assert run(engine)[name].usage.num_cached_tokens == 160


def test_the_kept_prefix_that_was_used_longest_ago_leaves_first():
    engine = make(n_ctx=400, n_batch=64)
    prompts = {name: [number] * 60 for number, name in enumerate("abc", start=1)}
    for name in "abca":  # a is used again, so b is the oldest
        ask(engine, name, prompts[name], max_tokens=1)
        run(engine)
    ask(engine, "large", [9] * 70, max_tokens=1)
    run(engine)
    kept = {}
    for name in "bca":
        match = engine._cache.find([*prompts[name], 50])
        kept[name] = match.length
    assert kept == {"b": 0, "c": 60, "a": 60}


def test_a_follower_does_not_wait_for_a_leader_that_has_gone():
    engine = make(n_ctx=1024, n_batch=16, n_seq_max=4)
    for name in "abc":
        ask(engine, name, row(ord(name)), max_tokens=3)
    engine.step()
    assert [one.leader is not None for one in engine._running] == [False, True, True]
    engine.abort("a")
    replies = run(engine)
    for name in "bc":
        assert replies[name].text == expected_text(row(ord(name)), 3, 1024)
    assert replies["b"].usage.num_cached_tokens == 16  # what the first had computed is not lost
    assert replies["c"].usage.num_cached_tokens == 120


@pytest.mark.parametrize("lengths", [(40, 80), (80, 40)])
def test_a_state_is_handed_on_at_each_place_where_somebody_goes_another_way(lengths):
    engine = make(n_ctx=1024, n_batch=64, n_seq_max=4, can_cut=False)
    ask(engine, "leader", [*TEMPLATE, 1], max_tokens=3)
    for length in lengths:
        ask(engine, str(length), [*TEMPLATE[:length], *[61] * 20], max_tokens=3)
    replies = run(engine)
    assert replies["leader"].usage.num_cached_tokens == 0
    for length in lengths:
        assert replies[str(length)].usage.num_cached_tokens == length


def test_nobody_who_waits_for_an_answer_follows_a_row_of_a_table():
    engine = make(n_ctx=1024, n_batch=16, n_seq_max=4)
    ask(engine, "row", row(1), batch=True, max_tokens=3)
    engine.step()
    ask(engine, "person", row(2), max_tokens=3)
    engine.step()
    person = next(one for one in engine._running if one.request_id == "person")
    assert person.leader is None


def test_somebody_who_waits_gets_a_slot_though_a_table_has_them_all():
    counted = Counted()
    engine = make(n_ctx=2048, n_batch=64, n_seq_max=4, script=lambda *_: 97, fault=counted)
    for number in range(12):
        ask(engine, f"row {number}", [number + 1] * 50, client="table", batch=True, max_tokens=60)
    for _ in range(10):
        engine.step()
    ask(engine, "person", [40] * 20, client="person", max_tokens=5)
    before = [one.request_id for one in engine._running]
    events = engine.step()
    assert "person" in [one.request_id for one in engine._running]
    assert before == [f"row {n}" for n in range(4)]  # the youngest of them has given way
    assert "row 3" in [one.request_id for one in engine._waiting]
    ends = [e.request_id for e in events if isinstance(e, Finished)]
    computed = counted.num_tokens
    for _ in range(6):
        ends += [e.request_id for e in engine.step() if isinstance(e, Finished)]
        assert_accounts_agree(engine)
    assert ends == ["person"]
    replies = run(engine)
    assert all(reply.text == "a" * 60 for name, reply in replies.items() if name != "person")
    # What it had computed was still there when it came back.
    assert counted.num_tokens - computed < 12 * (50 + 60) - 4 * (50 + 5)
    assert engine.stats().num_preemptions == 1


def steps_until_done(engine, name) -> int:
    steps = 0
    while name in engine._by_id:
        engine.step()
        steps += 1
    return steps


def test_somebody_who_waits_gets_a_slot_though_it_is_a_tables_turn():
    engine = make(n_ctx=4096, n_batch=64, n_seq_max=2, script=lambda *_: 97)
    for number in range(4):
        ask(engine, f"row {number}", [number + 1] * 5, client="table", batch=True, max_tokens=500)
    engine.step()
    engine._waiting._num_before_batch = 7  # the next place is a table's, but there is none
    ask(engine, "person", [50] * 5, client="person", max_tokens=3)
    assert steps_until_done(engine, "person") < 6


def test_somebody_who_waits_gets_a_slot_though_cells_ran_short_among_rows():
    engine = make(n_ctx=400, n_batch=64, script=lambda *_: 97)
    for number in range(3):
        ask(engine, f"row {number}", [number + 1] * 5, client="table", batch=True)
    while not engine.stats().num_preemptions:
        engine.step()
    ask(engine, "person", [50] * 5, client="person", max_tokens=3)
    assert steps_until_done(engine, "person") < 6
    assert all(reply.text for reply in run(engine).values())


def test_no_row_gives_way_where_that_would_not_make_enough_room():
    engine = make(n_ctx=400, n_batch=64, script=lambda *_: 97)
    ask(engine, "large", [1] * 250, client="person", max_tokens=100)
    ask(engine, "row", [2] * 10, client="table", batch=True, max_tokens=30)
    engine.step()
    ask(engine, "too large now", [3] * 200, client="person", max_tokens=5)
    ask(engine, "too large and alone", [3] * 20, client="p", max_tokens=5, reproducible=True)
    steps_until_done(engine, "row")
    assert engine.stats().num_preemptions == 0
    run(engine)


def test_rows_run_beside_each_other_though_their_template_fills_most_of_the_cache():
    template = [number % 60 + 1 for number in range(300)]
    engine = make(n_ctx=512, n_batch=64, n_seq_max=8, script=lambda *_: 97)
    ask(engine, "first", [*template, 1], batch=True, max_tokens=1)
    run(engine)
    assert engine.prefixes.has(template)  # now it stays
    for number in range(8):
        ask(engine, str(number), [*template, number + 1], batch=True, max_tokens=8)
    engine.step()
    assert len(engine._running) == 8
    # But cells that only the kept slot has are not counted twice.
    run(engine)
    ask(engine, "large", [50] * 200, max_tokens=12)
    engine.step()
    ask(engine, "after it", [*template, 9], max_tokens=8)
    engine.step()
    assert [one.request_id for one in engine._running] == ["large"]
    run(engine)


def test_nobody_waits_for_the_prompt_of_a_client_who_has_others_to_be_computed_first():
    engine = make(n_ctx=4096, n_batch=64, n_seq_max=8, script=lambda *_: 97)
    for number in range(4):
        ask(engine, f"long {number}", [number + 1] * 500, client="much", max_tokens=1)
    ask(engine, "last", row(1), client="much", max_tokens=1)
    engine.step()
    ask(engine, "quick", row(2), client="little", max_tokens=1)
    assert steps_until_done(engine, "quick") < 8  # 130 tokens, of which each batch has 32


def test_who_waits_for_a_prefix_goes_on_when_its_leader_gives_way_in_the_same_step():
    engine = make(n_ctx=200, n_batch=16, n_seq_max=2, script=lambda *_: 97)
    ask(engine, "leader", row(1), batch=True, max_tokens=5)
    ask(engine, "follower", row(2), batch=True, max_tokens=5)
    engine.step()
    leader, follower = engine._running
    assert follower.leader is leader
    follower.num_preempted = scheduler.PATIENCE  # so the older one is the first to give way
    # Something that the engine does not see takes the rest of the cells, as far as it can tell.
    engine._cache.grow(follower.slot, engine._cache.num_free_cells)
    engine._placement.catch_up()
    engine._plan()
    assert engine._running == [follower]
    assert follower.leader is None


def test_a_repeatable_row_is_not_computed_in_two_parts():
    engine = make(n_ctx=400, script=lambda *_: 97)
    ask(engine, "row", [1] * 5, client="table", batch=True, reproducible=True, max_tokens=50)
    for _ in range(5):
        engine.step()
    ask(engine, "person", [50] * 5, client="person", max_tokens=3)
    ends = [e.request_id for _ in range(60) for e in engine.step() if isinstance(e, Finished)]
    assert ends == ["row", "person"]
    assert engine.stats().num_preemptions == 0


def test_a_table_comes_to_its_end_beside_people_who_never_stop_asking():
    engine = make(n_ctx=1024, n_batch=32, n_seq_max=3, script=lambda *_: 97)
    for number in range(6):
        ask(engine, f"row {number}", [number + 1] * 30, client="table", batch=True, max_tokens=20)
    ended, number = [], 0
    while sum(name.startswith("row") for name in ended) < 6:
        assert number < 3000
        while sum(one.client_id != "table" for one in engine._by_id.values()) < 6:
            ask(engine, f"person {number}", [50] * 10, client=f"p{number % 3}", max_tokens=5)
            number += 1
        ended += [e.request_id for e in engine.step() if isinstance(e, Finished)]
    # It had some places of each eight, and people had the others.
    assert number > 40


def test_clients_are_served_alike_though_one_asks_for_much_more():
    engine = make(n_ctx=4096, n_batch=32, n_seq_max=2, script=lambda *_: 97)
    for number in range(60):
        ask(engine, f"greedy {number}", [1 + number % 50] * 100, client="greedy", max_tokens=40)
    for number in range(10):
        ask(engine, f"modest {number}", [1 + number % 50] * 10, client="modest", max_tokens=40)
    order = []
    while engine.has_work:
        order += [e.request_id for e in engine.step() if isinstance(e, Finished)]
    last_modest = max(place for place, name in enumerate(order) if name.startswith("modest"))
    assert last_modest < 18  # ten requests, each about half as costly: before ten of the others


def test_a_repeatable_request_runs_when_nothing_else_does_and_nothing_else_meanwhile():
    engine = make(n_ctx=2048, n_batch=32, n_seq_max=8, script=lambda *_: 97)
    for number in range(3):
        ask(engine, f"before {number}", row(number), max_tokens=20)
    engine.step()
    ask(engine, "alone", row(3), reproducible=True, max_tokens=20)
    for number in range(3):
        ask(engine, f"after {number}", row(number), client="other", max_tokens=20)
    ends = []
    while engine.has_work:
        names = {one.request_id for one in engine._running}
        assert "alone" not in names or names == {"alone"}
        if "alone" in names:
            assert engine._cache.num_kept_cells == 0
        ends += [e for e in engine.step() if isinstance(e, Finished)]
    order = [end.request_id for end in ends]
    assert {"before 0", "before 1", "before 2"} <= set(order[: order.index("alone")])
    assert len(order) == 7
    by_name = {end.request_id: end.reply for end in ends}
    assert by_name["alone"].usage.num_cached_tokens == 0
