"""The whole monitor with real workers: what it records, who hears it, and how it ends (15 s)."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gguf_widgets.core import figures
from gguf_widgets.core.errors import (
    ContextOverflowError,
    InvalidValueError,
    MissingDependencyError,
    TableFileError,
    WorkerDiedError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.monitor import export
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.recorder import Heard
from gguf_widgets.core.monitor.values import Point, RequestMetrics
from gguf_widgets.core.store.store import Store
from tests.core.conftest import our_threads, processes_of, wait_for

FAST_S = 0.1


@pytest.fixture
def monitor(manager: ModelManager) -> Iterator[PerformanceMonitor]:
    with PerformanceMonitor(interval_s=FAST_S) as monitor:
        yield monitor


def test_each_request_has_a_row_with_the_replys_own_figures(
    monitor: PerformanceMonitor, manager: ModelManager
) -> None:
    model = manager.load("demo")
    replies = [model.chat("Tell me a story", max_tokens=number) for number in (1, 2, 30)]
    with pytest.raises(ContextOverflowError):
        model.chat("lamp " * 20_000)
    frame = monitor.requests()
    assert list(frame["finish_reason"]) == ["length", "length", "length", "error"]
    assert list(frame["error"])[3] == "ContextOverflowError"
    for reply, row in zip(replies, frame.itertuples(), strict=False):
        assert row.ttft_s == reply.timings.ttft_s
        assert row.num_completion_tokens == reply.usage.num_completion_tokens
        assert row.num_cached_tokens + row.num_computed_tokens == row.num_prompt_tokens
        assert row.wall_s >= row.total_s
        if reply.timings.itl_p99_s is None:
            assert pd.isna(row.itl_p99_s)
        else:
            assert row.itl_p50_s <= row.itl_p95_s <= row.itl_p99_s == reply.timings.itl_p99_s
    assert set(frame["model"]) == {"demo"}
    assert set(frame["n_ctx"]) == {model.settings.n_ctx}
    assert frame["num_prompt_tokens"].dtype == "Int64"
    now = pd.Timestamp.now("UTC")
    assert frame["ended_at"].is_monotonic_increasing
    assert (now - frame["ended_at"]).max() < pd.Timedelta(minutes=10)
    # Filters, with each kind of time that people have at hand.
    middle = frame["ended_at"][1]
    for time_ in (middle, middle.to_pydatetime(), middle.timestamp()):
        assert len(monitor.requests(since=time_)) == 3
        assert len(monitor.requests(until=time_)) == 2
    assert len(monitor.requests(until=datetime.now() - timedelta(hours=1))) == 0  # noqa: DTZ005 - as people give it
    assert len(monitor.requests(model="another")) == 0
    assert len(monitor.request_metrics(session="all")) == 4
    for wrong in ("yesterday", float("nan"), True):
        with pytest.raises(InvalidValueError, match="since is"):
            monitor.requests(since=wrong)  # type: ignore[arg-type]


def test_the_machine_and_every_models_scheduler_are_seen_also_those_of_others(
    monitor: PerformanceMonitor, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "1")
    with Store() as second, PerformanceMonitor(store=second, interval_s=FAST_S) as other:
        heard: list[Heard] = []
        other.subscribe(heard.append)
        model = manager.load("demo")
        stream = model.stream("Tell me a story", max_tokens=200)
        next(stream)
        (live,) = monitor.live()
        assert (live.model, live.priority) == ("demo", "interactive")
        for one in (monitor, other):
            wait_for(lambda one=one: one.last and one.last.num_running, "the running sequence")
        wait_for(lambda: monitor.last and monitor.last.decode_tok_per_s, "its speed")
        wait_for(lambda: monitor.live()[0].tok_per_s, "its speed as this process sees it")
        point = monitor.last
        assert point is not None
        assert {part.kind: part.pid for part in point.processes} == {
            "this": os.getpid(), "model": model.pid,
        }  # fmt: skip
        assert point.rss_bytes == sum(part.rss_bytes or 0 for part in point.processes)
        assert point.num_cells == model.stats().engine.num_cells
        assert monitor.stop_request(live.request_id)
        assert stream.result().finish_reason == "aborted"
        assert not monitor.stop_request(live.request_id)
        wait_for(lambda: any(isinstance(one, RequestMetrics) for one in heard), "the request")
        wait_for(lambda: other.last and other.last.num_running == 0, "the end of the sequence")
    metrics = [one for one in heard if isinstance(one, RequestMetrics)]
    assert [one.finish_reason for one in metrics] == ["aborted"]
    points = [one for one in heard if isinstance(one, Point)]
    assert [one.at for one in points] == sorted(one.at for one in points)
    # What was written, by the scheduler's own count, is what the speeds add up to.
    written = sum((one.decode_tok_per_s or 0) * (one.interval_s or 0) for one in points)
    assert metrics[0].num_completion_tokens == pytest.approx(written, rel=0.3, abs=2)
    system, engines = monitor.system(), monitor.engines()
    assert system["num_running"].max() == 1
    assert set(engines["model"]) == {"demo"}
    assert len(engines) <= len(system)
    assert set(monitor.processes()["kind"]) == {"this", "model"}


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_that_is_killed_or_stands_still_stops_nothing(
    monitor: PerformanceMonitor, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "1")
    model = manager.load("demo")
    stream = model.stream("Tell me a story")
    next(stream)
    assert model.pid is not None
    os.kill(model.pid, signal.SIGSTOP)
    wait_for(
        lambda: monitor.last and [one.state for one in monitor.last.engines] == ["stuck"],
        "that it stands still",
    )
    last = monitor.last
    assert last is not None
    assert last.num_running is None, "it is not known, so it is not 0"
    wait_for(lambda: monitor.last and monitor.last.at > last.at, "the next point")
    os.kill(model.pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        stream.result()
    wait_for(lambda: monitor.last and not monitor.last.engines, "that it is gone")
    assert monitor.last is not None
    assert monitor.last.num_running == 0
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")
    model.chat("Hello", max_tokens=30)
    wait_for(
        lambda: monitor.last and any(one.state == "ready" for one in monitor.last.engines),
        "the new one",
    )
    first, second = monitor.request_metrics()
    assert (first.finish_reason, first.error) == ("error", "WorkerDiedError")
    assert second.load_s > first.load_s
    assert all((one.decode_tok_per_s or 0) >= 0 for one in monitor.points())
    assert monitor.live() == []


def test_many_monitors_hear_every_request_once_while_others_come_and_go(
    manager: ModelManager,
) -> None:
    model = manager.load("demo")
    monitors = [PerformanceMonitor(interval_s=FAST_S, keep=number % 2 == 0) for number in range(6)]
    going = True

    def come_and_go() -> None:
        while going:
            with PerformanceMonitor(interval_s=FAST_S, keep=False) as brief:
                brief.subscribe(lambda _heard: None)
                brief.points()

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    num = 40
    for number in range(num):
        model.chat(f"Hello {number}", max_tokens=2)
    # Closed while they sample, by several at once.
    closers = [threading.Thread(target=one.close) for one in monitors for _ in range(2)]
    for thread in closers:
        thread.start()
    going = False
    for thread in [*closers, *threads]:
        thread.join(30)
    for one in monitors:
        assert one.closed
        found = one.request_metrics()
        assert len({metrics.request_id for metrics in found}) == len(found) == num
        assert one.session_list()[-1].id
    assert not [thread for thread in our_threads() if "monitor" in thread.name]
    ended = {session.id: session.state for session in monitors[0].session_list()}
    assert {ended[one.session_id] for one in monitors[::2]} == {"ended"}


def test_one_that_is_forgotten_ends_and_a_listener_may_end_it_and_fail(
    manager: ModelManager, caplog: pytest.LogCaptureFixture
) -> None:
    def monitor_threads() -> list[threading.Thread]:
        return [thread for thread in our_threads() if thread.name == "gguf-widgets-monitor"]

    forgotten = PerformanceMonitor(interval_s=FAST_S)
    forgotten.serve()
    assert len(monitor_threads()) == 1
    del forgotten
    gc.collect()
    wait_for(lambda: not monitor_threads(), "the end of the forgotten one")

    heard: list[Heard] = []
    monitor = PerformanceMonitor(interval_s=FAST_S)

    def fail(_heard: Heard) -> None:
        raise RuntimeError("a fault of the listener")

    def end(_heard: Heard) -> None:
        if len(heard) > 3:
            monitor.close()

    for listener in (fail, heard.append, end):
        monitor.subscribe(listener)
    leave = monitor.subscribe(heard.append)
    leave()
    leave()
    wait_for(lambda: monitor.closed and not monitor_threads(), "the end by a listener")
    assert len(heard) == 4
    assert "a fault of the listener" in caplog.text
    assert monitor.session_list()[-1].state == "ended"


def test_the_shared_one_is_one_until_it_is_closed(home: Path) -> None:
    first = PerformanceMonitor.shared()
    assert PerformanceMonitor.shared() is first
    first.close()
    second = PerformanceMonitor.shared()
    assert second is not first
    assert not second.closed
    second.close()


PROGRAM = """
import os, sys, time
import gguf_widgets as gw
monitor = gw.PerformanceMonitor(interval_s=0.1)
with gw.load("demo") as model:
    model.chat("Hello", max_tokens=2)
    if sys.argv[1] == "fork":
        pid = os.fork()
        if not pid:
            # In the child: nothing is recorded for the parent, and nothing hangs.
            model.chat("Hello", max_tokens=2)
            monitor.close()
            assert monitor.closed and len(monitor.requests()) <= 1
            with gw.PerformanceMonitor(interval_s=0.1) as own:
                model.chat("Hello", max_tokens=2)
                assert len(own.requests()) == 1
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        model.chat("Hello", max_tokens=2)
    print(monitor.session_id, len(monitor.requests()), flush=True)
    if sys.argv[1] == "killed":
        time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals and forks")
def test_a_program_that_ends_keeps_everything_and_one_that_is_killed_is_told_from_it(
    scripted: None, home: Path
) -> None:
    said: dict[str, list[str]] = {}
    for how in ("ends", "fork", "killed"):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            said[how] = process.stdout.readline().split()
            if how == "killed":
                process.kill()
            assert process.wait(30) == (-signal.SIGKILL if how == "killed" else 0)
    for process_left in processes_of(home, "gguf_widgets.core.worker"):
        process_left.kill()
    assert [said[how][1] for how in ("ends", "fork", "killed")] == ["1", "2", "1"]
    with PerformanceMonitor(system=False) as monitor:
        sessions = {session.id: session for session in monitor.session_list()}
        states = {how: sessions[said[how][0]].state for how in said}
        assert states == {"ends": "ended", "fork": "ended", "killed": "cut off"}
        assert sessions[monitor.session_id].state == "running"
        for how, num in (("ends", 1), ("fork", 2), ("killed", 1)):
            session = sessions[said[how][0]]
            assert session.num_requests == num == len(monitor.requests(session=session.id))
            assert len(monitor.points(session=session.id)) == session.num_points >= 1
        assert len(sessions) == 5, "the forked child's own is one, too"
        assert len(monitor.requests(session="all")) == 5
        assert list(monitor.sessions()["id"]) == list(sessions)


def test_while_nothing_happens_few_points_are_kept_and_all_are_told(home: Path) -> None:
    heard: list[Heard] = []
    with PerformanceMonitor(interval_s=FAST_S) as monitor:
        monitor._recorder._is_worth_keeping = (  # type: ignore[method-assign] - whatever else runs
            lambda point, clock, real=monitor._recorder._is_worth_keeping: real(
                Point(at=point.at), clock
            )
        )
        monitor.subscribe(heard.append)
        wait_for(lambda: len(heard) >= 8, "some points")
        assert len(monitor.points()) <= 2


def test_files_hold_what_the_tables_hold(
    manager: ModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PerformanceMonitor(interval_s=FAST_S) as monitor:
        model = manager.load("demo")
        model.chat("Hello", max_tokens=5)
        with contextlib.suppress(ContextOverflowError):
            model.chat("lamp " * 20_000)
        wait_for(lambda: monitor.last and monitor.last.engines, "a point")
    names = ("requests", "system", "processes", "engines", "gpus", "runs", "sessions")
    for name in names:
        frame: pd.DataFrame = getattr(monitor, name)()
        path = monitor.export(tmp_path / f"{name}.parquet", name)
        again = pd.read_parquet(path)
        assert list(again.columns) == list(frame.columns)
        assert plain(again) == plain(frame)
        rows = json.loads(monitor.export(tmp_path / f"{name}.json", name).read_text())
        assert len(rows) == len(frame)
        assert all(list(row) == list(frame.columns) for row in rows)
        text = monitor.export(str(tmp_path / f"{name}.csv"), name).read_text()
        assert text.splitlines()[0] == ",".join(frame.columns)
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(frame)
    (first, failed) = json.loads((tmp_path / "requests.json").read_text())
    row = monitor.request_metrics()[0]
    assert first["ttft_s"] == pytest.approx(row.ttft_s, abs=1e-14)
    at = datetime.fromisoformat(first["ended_at"])
    assert at == datetime.fromtimestamp(row.ended_at, UTC)
    assert failed["ttft_s"] is None
    only = monitor.export(tmp_path / "later.csv", since=row.ended_at + 1e-6)
    assert len(pd.read_csv(only)) == 1

    before = (tmp_path / "requests.csv").read_bytes()
    with pytest.raises(InvalidValueError, match=r"\.csv, \.json or \.parquet"):
        monitor.export(tmp_path / "requests.xlsx")
    with pytest.raises(InvalidValueError, match="it can be requests, system"):
        monitor.export(tmp_path / "requests.csv", "everything")
    with pytest.raises(TableFileError, match="no/such"):
        monitor.export(tmp_path / "no/such/folder.csv")
    monkeypatch.setattr(export, "_csv", _fill_and_fail)
    monkeypatch.setitem(export.ENDINGS, ".csv", _fill_and_fail)
    with pytest.raises(TableFileError, match="No space left"):
        monitor.export(tmp_path / "requests.csv")
    assert (tmp_path / "requests.csv").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r'"gguf-widgets\[tables\]"'):
        monitor.export(tmp_path / "new.parquet")
    assert not (tmp_path / "new.parquet").exists()


def plain(frame: pd.DataFrame) -> list[list[Any]]:
    return [[None if pd.isna(value) else value for value in row] for row in frame.to_numpy()]


def _fill_and_fail(_frame: Any, path: Path) -> None:
    path.write_text("half of")
    raise OSError(28, "No space left on device")


def test_what_is_wrong_with_what_it_is_told_is_said(home: Path) -> None:
    for wrong in (0, 0.05, 4000, float("nan"), "1", True, None):
        with pytest.raises(InvalidValueError, match=r"interval_s is .*0\.1 seconds to an hour"):
            PerformanceMonitor(interval_s=wrong)  # type: ignore[arg-type]
    with PerformanceMonitor(system=False, keep=False) as monitor:
        for most in (0, -1, 2.5, 10**9):
            with pytest.raises(InvalidValueError, match="max_points"):
                monitor.points(max_points=most)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="session is ''"):
            monitor.requests(session="")
        with pytest.raises(InvalidValueError, match="no figure 'nonsense'"):
            monitor.figure("nonsense")
        figures.register_figure("monitor.test", lambda what, **options: (what, options))
        assert monitor.figure("test", height=3) == (monitor, {"height": 3})
        assert monitor.last is None
        assert monitor.points() == []
        assert monitor.missing() == {}
        time.sleep(0)
    assert not (home / "store.sqlite3").exists() or monitor.session_list()
