from __future__ import annotations

import pytest
from support.sequences import sequence

from gguf_widgets.core.engine.waiting import BATCH_TURN, MOST_PASSED, Service, WaitingQueue


@pytest.fixture
def service() -> Service:
    return Service()


def queue_of(service, *sequences) -> WaitingQueue:
    queue = WaitingQueue(service)
    for one in sequences:
        service.enter(one.client_id)
        queue.add(one)
    return queue


def take(queue) -> int:
    one = queue.next()
    queue.admitted(one)
    return one.order


def test_the_client_that_had_least_is_next_and_one_that_was_put_back_before_all(service):
    queue = queue_of(service, *(sequence(n, client, 5) for n, client in enumerate("aabcb")))
    service.charge("a", 100, 0)
    service.charge("b", 0, 60)  # a written token counts twice
    assert take(queue) == 3
    service.charge("c", 200, 0)
    assert [take(queue), take(queue)] == [0, 1]
    back = sequence(0, "a", 5)
    back.num_preempted = 1
    queue.put_back(back)
    assert [take(queue), take(queue), take(queue)] == [0, 2, 4]
    assert queue.next() is None
    assert len(queue) == 0


def test_who_comes_later_starts_where_the_others_are(service):
    queue = queue_of(service, sequence(0, "old", 5))
    service.charge("old", 10_000, 0)
    queue.add(sequence(1, "new", 5))
    service.enter("new")
    assert service.had("new") == service.had("old")
    service.leave("new")
    service.charge("old", 500, 0)
    service.enter("new")  # having been away earns nothing
    assert service.had("new") == service.had("old")


def test_people_go_before_tables_but_each_eighth_place_is_a_tables(service):
    rows = [sequence(n, "table", 5, batch=True) for n in range(3)]
    people = [sequence(n, "person", 5) for n in range(10, 40)]
    queue = queue_of(service, *rows, *people)
    order = [take(queue) for _ in range(24)]
    assert [n for n, one in enumerate(order) if one < 3] == [7, 15, 23]
    assert [one for one in order if one < 3] == [0, 1, 2]
    assert BATCH_TURN == 8


def test_a_table_takes_every_place_nobody_else_wants(service):
    queue = queue_of(service, *(sequence(n, "table", 5, batch=True) for n in range(5)))
    assert [take(queue) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_client_that_had_much_has_its_turn_though_new_ones_never_stop_coming(service):
    queue = queue_of(service, sequence(0, "old", 5), sequence(1, "old", 5))
    service.charge("old", 10_000, 0)
    queue.add(sequence(2, "new 2", 5))
    service._open["new 2"], service._had["new 2"] = 1, 0.0
    order = []
    for number in range(3, 3 + 3 * MOST_PASSED):
        service.enter(f"new {number}")
        queue.add(sequence(number, f"new {number}", 5))
        order.append(take(queue))
    assert order.index(0) == MOST_PASSED
    assert order.index(1) == 2 * MOST_PASSED + 1  # it is counted anew for the next


def test_thousands_of_clients_that_have_gone_are_forgotten(service):
    for n in range(3000):
        service.enter(f"c{n}")
        service.charge(f"c{n}", 10, 0)
        service.leave(f"c{n}")
    assert len(service._had) <= 1001
    assert not service._open
