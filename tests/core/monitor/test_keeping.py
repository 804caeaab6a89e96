"""Figures are kept, each once, whatever is wrong with the store (8 s)."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gguf_widgets.core import config
from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.monitor import keeping as keeping_module
from gguf_widgets.core.monitor.history import ALL, Span, read_points, read_requests, read_sessions
from gguf_widgets.core.monitor.keeping import KEPT_DAYS, Keeping
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.values import Point, RequestMetrics
from gguf_widgets.core.store import owners
from gguf_widgets.core.store.store import BUSY_S, Store, default_store
from tests.core.conftest import takes_at_most, without_root

DAY_S = 24 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(store: Store, clock: Clock, name: str = "s1", at: float | None = None) -> Keeping:
    data: dict[str, Any] = {"owner": msgspec.to_builtins(owners.this_process())}
    return Keeping(
        store,
        session_id=name,
        program="test",
        started_at=time.time() if at is None else at,
        data=data,
        clock=clock,
    )


def metrics(number: int, at: float | None = None, model: str = "demo") -> RequestMetrics:
    return RequestMetrics(
        request_id=f"r{number}", ended_at=time.time() if at is None else at, model=model
    )


def ids(keeping: Keeping, session: str = ALL) -> list[str]:
    """Everything that can be seen: what is kept, then what waits."""
    kept, unreadable = read_requests(keeping.store, Span(session))
    assert unreadable == 0
    return [one.value.request_id for one in [*kept]] + [
        one.request_id for one in keeping.waiting_requests
    ]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def test_what_is_flushed_is_there_for_another_program_with_all_its_figures(
    store: Store, clock: Clock
) -> None:
    keeping = make(store, clock)
    full = RequestMetrics(
        request_id="r", ended_at=5.0, model='a "model"\n\u2028', run_id="x", ttft_s=0.25,
        num_prompt_tokens=3, finish_reason="stop",
    )  # fmt: skip
    keeping.add_request(full)
    point = Point(at=7.0, decode_tok_per_s=3.5, num_running=2)
    keeping.add_point(point)
    assert keeping.flush()
    keeping.end(9.0)
    with Store() as other:
        assert [one.value for one in read_requests(other, Span("s1"))[0]] == [full]
        assert [one.value for one in read_points(other, Span("s1"))[0]] == [point]
        assert read_points(other, Span("s2"))[0] == []
        assert read_requests(other, Span(ALL, since=5.1))[0] == []
        assert read_requests(other, Span(ALL, until=5.0), "another")[0] == []
        (session,) = read_sessions(other)
    assert (session.state, session.ended_at, session.last_at) == ("ended", 9.0, 7.0)
    assert (session.num_requests, session.num_points, session.pid) == (1, 1, os.getpid())


def test_a_locked_store_holds_nobody_up_and_gets_everything_once_it_is_free(
    store: Store, clock: Clock
) -> None:
    keeping = make(store, clock)
    keeping.add_request(metrics(0))
    assert keeping.flush()
    with locked(config.store_path()):

        def attempt() -> float:
            began = time.perf_counter()
            assert not keeping.flush(now=True)
            return time.perf_counter() - began

        for number in range(1, 4):
            keeping.add_request(metrics(number))
            assert not keeping.flush(now=True)
        takes_at_most(BUSY_S / 2, attempt)  # much less than whoever else waits for the store
        assert "in use by another program" in keeping.note
        assert "wait in memory" in keeping.note
        assert ids(keeping) == ["r0", "r1", "r2", "r3"], "all can be read meanwhile"
        # It is not tried each time: the pauses grow.
        tries = 0
        for _ in range(120):
            clock.now += 1
            before = keeping._num_failed
            keeping.flush()
            tries += keeping._num_failed - before
        assert 2 <= tries <= 10
    clock.now += 100
    assert keeping.flush()
    assert keeping.note == ""
    assert [one.value.request_id for one in read_requests(store, Span(ALL))[0]] == [
        "r0", "r1", "r2", "r3",
    ]  # fmt: skip
    assert not keeping.waiting_requests


def test_a_store_that_is_busy_for_a_moment_is_not_worth_a_word(store: Store, clock: Clock) -> None:
    keeping = make(store, clock)
    keeping.add_request(metrics(0))
    with locked(config.store_path()):
        assert not keeping.flush()
    assert keeping.note == ""
    clock.now += 5
    assert keeping.flush()


def test_a_full_disk_is_told_and_what_waits_is_bounded_and_its_loss_is_told(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping_module, "MOST_WAITING", 50)
    keeping = make(store, clock)
    with store.transaction() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    store._connected().execute(f"PRAGMA max_page_count = {pages}")
    for number in range(200):
        keeping.add_request(metrics(number, model="m" * 200))
    assert not keeping.flush(now=True)
    assert "full" in keeping.note
    assert len(keeping.waiting_requests) == 50
    assert not keeping.flush(now=True)
    assert "oldest 150 figures of this session were dropped" in keeping.note
    store._connected().execute("PRAGMA max_page_count = 1000000")
    assert keeping.flush(now=True)
    assert "oldest 150 figures" in keeping.note, "also when there is room again"
    assert "wait in memory" not in keeping.note
    assert ids(keeping) == [f"r{number}" for number in range(150, 200)]


def test_a_store_that_breaks_in_use_is_left_alone_and_the_figures_go_on_in_memory(
    home: Path, clock: Clock
) -> None:
    path = config.store_path()
    with Store() as store:
        keeping = make(store, clock)
        keeping.add_request(metrics(0))
        assert keeping.flush()
        # What the disk did: every page of the file is other than it was, and nothing is in memory.
        store._connected().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"not a database any more! " * (size // 25))
        store._connected().execute("PRAGMA shrink_memory")
        keeping.add_request(metrics(1))
        keeping.flush(now=True)
        assert "in memory only" in keeping.note
        keeping.add_request(metrics(2))
        assert keeping.flush()
        assert ids(keeping) == ["r1", "r2"]
        assert read_sessions(keeping.store)[0].id == "s1"
    # The next program keeps a copy of the broken file and starts a new one.
    with PerformanceMonitor(system=False) as monitor:
        assert monitor.session_list()[-1].state == "running"
        assert len(list(home.glob("store.damaged-*"))) == 1


def test_a_file_that_is_removed_in_use_is_begun_anew_with_the_session(
    store: Store, clock: Clock
) -> None:
    keeping = make(store, clock)
    keeping.add_request(metrics(0))
    assert keeping.flush()
    for path in config.store_path().parent.glob("store.sqlite3*"):
        path.unlink()
    keeping.add_request(metrics(1))
    keeping.flush(now=True)
    assert ids(keeping) == ["r1"]
    with Store() as other:
        assert [session.id for session in read_sessions(other)] == ["s1"]


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_a_store_that_cannot_be_written_is_told_and_the_monitor_works_in_memory(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    pd.DataFrame({"a": [1.0]}).describe()  # all that is needed later, while it may be read
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(open_folder / "home"))
    with Store():
        pass
    for path in [*(open_folder / "home").glob("store*")]:
        path.chmod(0o444)
    (open_folder / "home").chmod(0o555)
    try:
        with without_root():
            monitor = PerformanceMonitor(system=False)
            try:
                (notice,) = monitor.notices
                assert notice.startswith("Speeds and figures are kept in memory only")
                assert "store.sqlite3" in notice
                assert monitor.session_list()[0].id == monitor.session_id
                assert len(monitor.requests()) == 0
            finally:
                monitor.close()
    finally:
        (open_folder / "home").chmod(0o755)


def test_a_store_that_is_closed_under_it_and_a_fault_while_reading_are_told(
    home: Path, clock: Clock
) -> None:
    store = Store()
    keeping = make(store, clock)
    store.close()
    keeping.add_request(metrics(0))
    keeping.flush()
    assert ids(keeping) == ["r0"]
    assert "was closed" in keeping.note
    with pytest.raises(StoreError, match="was closed"):
        read_requests(store, Span(ALL))


# -- how long things are kept ----------------------------------------------------------------------


def fill(store: Store, clock: Clock, name: str, times: list[float]) -> None:
    keeping = make(store, clock, name, at=times[0])
    for number, at in enumerate(times):
        keeping.add_request(metrics(number, at))
        keeping.add_point(Point(at=at))
    keeping.flush(now=True)
    keeping.end(times[-1])


def times_kept(store: Store) -> list[float]:
    points = [one.value.at for one in read_points(store, Span(ALL))[0]]
    assert points == [one.value.ended_at for one in read_requests(store, Span(ALL))[0]]
    return points


def clean_all(keeping: Keeping, clock: Clock, now: float) -> None:
    for _ in range(100):
        keeping.clean(now)
        clock.now += 4000


def test_what_is_older_than_30_days_goes_with_its_session_and_the_rest_stays(
    store: Store, clock: Clock
) -> None:
    now = time.time()
    fill(store, clock, "long ago", [now - 40 * DAY_S, now - 35 * DAY_S])
    fill(store, clock, "both", [now - 31 * DAY_S, now - 29 * DAY_S])
    fill(store, clock, "late", [now - DAY_S, now - 60])
    keeping = make(store, clock, "this")
    keeping.flush(now=True)
    clean_all(keeping, clock, now)
    assert times_kept(store) == [now - 29 * DAY_S, now - DAY_S, now - 60]
    assert [session.id for session in read_sessions(store)] == ["both", "late", "this"]


def test_a_clock_that_is_set_far_ahead_deletes_nothing(store: Store, clock: Clock) -> None:
    now = time.time()
    fill(store, clock, "last week", [now - 7 * DAY_S, now - 6 * DAY_S])
    keeping = make(store, clock, "this", at=now + 9000 * DAY_S)
    keeping.add_point(Point(at=now + 9000 * DAY_S))
    keeping.flush(now=True)
    clean_all(keeping, clock, now + 9000 * DAY_S)
    assert now - 7 * DAY_S in [one.value.at for one in read_points(store, Span(ALL))[0]]
    # And when it is right again, the figures from "the future" do not drive out the others.
    keeping = make(store, clock, "next", at=now)
    clean_all(keeping, clock, now)
    assert now - 7 * DAY_S in [one.value.at for one in read_points(store, Span(ALL))[0]]


def test_above_a_bound_the_oldest_go_first(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping_module, "MOST_REQUESTS", 30)
    monkeypatch.setattr(keeping_module, "MOST_POINTS", 30)
    monkeypatch.setattr(keeping_module, "_CLEAN_AT_ONCE", 7)
    now = time.time()
    times = [now - 100 + number for number in range(100)]
    fill(store, clock, "much", times)
    clean_all(make(store, clock, "this"), clock, now)
    assert times_kept(store) == times[-30:]
    assert KEPT_DAYS == 30  # the README says so


def test_figures_of_another_version_are_left_out_and_that_is_told(store: Store) -> None:
    with PerformanceMonitor(store=store, system=False) as monitor:
        monitor._keeping.add_request(metrics(1))
        monitor._keeping.add_point(Point(at=time.time()))
        assert len(monitor.requests()) == 1
        with store.transaction() as connection:
            for text in ('{"future": 1}', '{"at": "x"}', "\u00e9{", "[]"):
                values = (monitor.session_id, time.time(), text)
                connection.execute(
                    "INSERT INTO machine_sample (session_id, at, data) VALUES (?, ?, ?)", values
                )
                connection.execute(
                    "INSERT INTO request_metric (session_id, ended_at, model, finish_reason, data) "
                    "VALUES (?, ?, 'm', 'stop', ?)",
                    values,
                )
        assert len(monitor.requests()) == len(monitor.points()) == 1
        (notice,) = monitor.notices
        assert "4 figures" in notice
        assert default_store() is not store  # the test's own
