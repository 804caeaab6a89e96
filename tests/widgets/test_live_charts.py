"""LiveCharts without a browser: what is told to a page, when, and how much.

A page is played; the monitor's figures are made up (support/live_monitor.py). A few seconds.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.live_monitor import OWN, START, PlayedMonitor, finished, under_way

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.values import Point
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets import _plotly
from gguf_widgets.widgets._live_data import MAX_POINTS, MAX_REQUESTS
from gguf_widgets.widgets._live_series import CHARTS, fields, gap_s, row, rows
from gguf_widgets.widgets.live_charts import Feed, LiveCharts

WAIT_S = 60.0  # for whatever depends on how busy the machine is


class Page:
    """What the widget's own page does: asks, watches, and keeps what comes."""

    def __init__(self, widget: LiveCharts, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widget = widget
        self.messages: list[tuple[dict[str, Any], Any]] = []
        self._changed = threading.Condition()
        self._mid = 0
        monkeypatch.setattr(widget, "send", self._take)
        monkeypatch.setattr(widget._feed, "_send", self._take)

    def _take(self, content: dict[str, Any], buffers: Any = None) -> None:
        json.dumps(content)  # as it travels
        with self._changed:
            self.messages.append((content, buffers))
            self._changed.notify_all()

    def tell(self, kind: str, **content: Any) -> str:
        self._mid += 1
        message = {"kind": kind, "mid": f"m{self._mid}", "page": "one", **content}
        self.widget._on_page(self.widget, message, [])
        return str(message["mid"])

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        mid = self.tell(kind, **content)
        answer, buffers = self.until(
            lambda message: message["kind"] in ("answer", "pong") and message["mid"] == mid
        )
        return {**answer, "buffers": buffers}

    def until(self, found: Callable[[dict[str, Any]], object]) -> tuple[dict[str, Any], Any]:
        with self._changed:
            end = time.monotonic() + WAIT_S
            while True:
                for message in self.messages:
                    if found(message[0]):
                        return message
                assert self._changed.wait(end - time.monotonic()), "no such message came"

    def ticks(self) -> list[dict[str, Any]]:
        with self._changed:
            return [message for message, _ in self.messages if message["kind"] == "tick"]


@pytest.fixture
def monitor() -> PlayedMonitor:
    return PlayedMonitor()


@pytest.fixture
def page(monitor: PlayedMonitor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    widget = LiveCharts(monitor)
    yield Page(widget, monkeypatch)
    widget.close()


def unpacked(answer: dict[str, Any]) -> tuple[list[float], dict[str, list[float]]]:
    """Read the numbers of a stretch as the page does."""
    times, numbers = answer["buffers"]
    num = answer["num"]
    at = list(struct.unpack(f"<{num}d", times))
    flat = struct.unpack(f"<{num * len(answer['fields'])}f", numbers)
    return at, {
        name: list(flat[place * num : (place + 1) * num])
        for place, name in enumerate(answer["fields"])
    }


# -- what is told, and when ------------------------------------------------------------------------


def test_nothing_is_sent_and_nobody_listens_before_a_page_looks_and_after(
    page: Page, monitor: PlayedMonitor
) -> None:
    assert page.ask("ping")["seq"] == 0
    monitor.work(30)
    assert monitor.listeners == []
    page.tell("watch")
    page.until(lambda message: message["kind"] == "tick")
    assert len(monitor.listeners) == 1
    page.tell("watch", page="two")
    page.tell("unwatch")
    monitor.work(31)
    page.until(lambda message: message["kind"] == "tick" and "points" in message)
    assert len(monitor.listeners) == 1
    page.tell("unwatch", page="two")
    page.ask("ping")
    assert monitor.listeners == []
    num = len(page.messages)
    monitor.work(32)
    page.ask("ping")
    assert len(page.messages) == num + 1


def test_what_comes_is_told_once_in_order_and_at_most_ten_times_a_second(
    page: Page, monitor: PlayedMonitor
) -> None:
    page.tell("watch")
    page.ask("ping")
    began = time.monotonic()
    for number in range(200):
        monitor.work(number)
        if number % 20 == 7:
            monitor.answer(ttft_s=0.2, itl_p50_s=0.03)
        time.sleep(0.002)
    page.until(lambda message: any(one[0] == monitor.now for one in message.get("points", [])))
    ticks = page.ticks()
    assert len(ticks) <= 10 * (time.monotonic() - began) + 2
    assert [tick["seq"] for tick in ticks] == list(range(1, len(ticks) + 1))
    points = [point for tick in ticks for point in tick.get("points", [])]
    assert [point[0] for point in points] == [START + 1 + i for i in range(200)]
    assert [len(point) for point in points] == [1 + len(fields(0))] * 200
    assert sum(len(tick.get("requests", [])) for tick in ticks) == 10
    # A number that is not known is none, and never 0.
    assert Point(at=START).decode_tok_per_s is None
    assert all(math.isnan(value) for value in row(Point(at=START), 1, 2))


def test_a_page_that_goes_without_a_word_is_forgotten(monitor: PlayedMonitor) -> None:
    now = [100.0]
    sent: list[dict[str, Any]] = []
    feed = Feed(sent.append, lambda: now[0])
    feed.watch("one", monitor, lambda _point: None)
    for _ in range(6):
        now[0] += 3
        feed.heard()  # a ping
        assert feed.tick() is not None
    now[0] += 20
    assert feed.tick() is None
    assert monitor.listeners == []


def test_more_answers_than_a_message_takes_are_counted(monitor: PlayedMonitor) -> None:
    sent: list[dict[str, Any]] = []
    feed = Feed(sent.append, lambda: 100.0)
    feed.watch("one", monitor, lambda _point: None)
    for number in range(250):
        feed.add(finished(START + number, number))
    feed.tick()
    assert (len(sent[0]["requests"]), sent[0]["missed"]) == (100, 150)
    assert sent[0]["requests"][-1][0] == START + 249


def test_requests_under_way_are_told_and_can_be_stopped(page: Page, monitor: PlayedMonitor) -> None:
    monitor.under_way = [
        under_way(1, num_completion_tokens=120, tok_per_s=31.2),
        under_way(2, prefill_fraction=0.45, num_prompt_tokens=1024),
        under_way(3, run_id="a run", model="<b>bold</b>\u202e"),
    ]
    live = page.ask("series")["live"]
    assert [one["doing"] for one in live["rows"]] == [
        "Writing: 120 tokens, 31 tokens/s",
        "Reading the prompt: 45% of 1,024 tokens",
        "Waiting its turn",
    ]
    assert live["rows"][2]["table"] is True
    assert live["rows"][2]["model"] == "<b>bold</b> "
    page.tell("watch")
    assert page.ask("stop", request_id="1/live-1")["stopped"] is True
    page.until(lambda message: message.get("live", {}).get("num") == 2)
    assert page.ask("stop", request_id="1/live-1")["stopped"] is False
    assert "has to be one's id" in page.ask("stop", request_id=7)["error"]["message"]
    monitor.under_way = [under_way(number) for number in range(80)]
    told, _ = page.until(lambda message: message.get("live", {}).get("num") == 80)
    assert len(told["live"]["rows"]) == 50


def test_what_a_person_should_know_is_told_when_it_changes(
    page: Page, monitor: PlayedMonitor
) -> None:
    monitor.unknown = {"processes": "The system lets nobody look at processes."}
    monitor.told = ["The store is full."]
    answer = page.ask("series")
    assert answer["notices"] == ["The store is full."]
    assert answer["missing"] == monitor.unknown
    monitor.close()
    assert page.ask("series")["ended"] is True
    known = {name for chart in CHARTS for name in chart.missing}
    assert known >= {"engines", "processes", "cpu_total_percent", "free_memory_bytes"}


# -- a stretch of figures --------------------------------------------------------------------------


def test_a_stretch_is_what_was_recorded(page: Page, monitor: PlayedMonitor) -> None:
    for number in range(600):
        monitor.work(number, cards=2)
    for number in range(3):
        monitor.answers[OWN].append(finished(monitor.now - number, number))
    answer = page.ask("series", last_s=60)
    at, columns = unpacked(answer)
    assert at == [START + 540 + i for i in range(61)]
    points = monitor.kept[OWN][-61:]
    for name in ("decode_tok_per_s", "num_waiting", "num_cells", "cpu_total_percent"):
        wanted = [getattr(point, name) for point in points]
        assert columns[name] == pytest.approx(wanted, rel=1e-6)
    assert columns["memory_models"] == [49_000_000.0] * 61
    assert columns["card1_power"] == [120.0] * 61
    assert [chart["key"] for chart in answer["charts"]][-3:] == [
        "card-use",
        "card-memory",
        "card-power",
    ]
    drawn = {
        line["field"] for chart in answer["charts"] if not chart["dots"] for line in chart["lines"]
    }
    assert drawn == set(answer["fields"])
    assert len(answer["requests"]) == 3
    assert answer["note"] == ""


def test_a_long_stretch_is_thinned_and_says_so(page: Page, monitor: PlayedMonitor) -> None:
    for number in range(3 * MAX_POINTS):
        monitor.work(number)
    for number in range(MAX_REQUESTS + 7):
        monitor.answers[OWN].append(finished(START + number, number))
    answer = page.ask("series", last_s=None)
    at, _ = unpacked(answer)
    assert MAX_POINTS / 2 < len(at) <= MAX_POINTS
    assert "stands for up to 3" in answer["note"]
    assert (len(answer["requests"]), answer["left_out"]) == (MAX_REQUESTS, 7)
    assert answer["gap_s"] == gap_s(1.0, 3)


def test_what_was_left_out_while_idle_does_not_make_a_line_rise_too_early() -> None:
    idle = [Point(at=START + 10.0 * i, interval_s=1.0, decode_tok_per_s=0.0) for i in range(3)]
    busy = Point(at=START + 29.0, interval_s=1.0, decode_tok_per_s=30.0)
    later = Point(at=START + 500.0, interval_s=1.0, decode_tok_per_s=30.0)
    found = [(at - START, values[0]) for at, values in rows([*idle, busy, later], 0, 2, gap_s(1.0))]
    assert found == [(0, 0), (9, 0), (10, 0), (19, 0), (20, 0), (28, 0), (29, 30), (500, 30)]


def test_earlier_sessions_are_listed_the_newest_first_and_can_be_read(
    page: Page, monitor: PlayedMonitor
) -> None:
    monitor.earlier("old", START - 90_000, 100)
    monitor.earlier("new", START - 5_000, 50, state="cut off", program="<i>a</i>\n")
    monitor.earlier("nothing", START - 4_000, 0)
    for number in range(60):
        monitor.earlier(f"many{number}", START - 200_000 - number, 5)
    told = page.ask("sessions")
    assert [one["id"] for one in told["sessions"]][:2] == ["new", "old"]
    assert told["sessions"][0]["program"] == "<i>a</i> "
    assert (len(told["sessions"]), told["older"]) == (50, 12)
    at, _ = unpacked(page.ask("series", session="old"))
    assert at == [START - 90_000 + i for i in range(100)]
    at, _ = unpacked(page.ask("series", session="old", last_s=10))
    assert len(at) == 11
    at, _ = unpacked(page.ask("series", session="old", since=START - 89_990, until=START - 89_980))
    assert len(at) == 11


def test_figures_of_another_machine_are_not_measured_by_this_ones_processors(
    page: Page, monitor: PlayedMonitor
) -> None:
    monitor.earlier("there", START - 5_000, 50, host="another-machine")
    answer = page.ask("series", session="there")
    _, columns = unpacked(answer)
    assert all(math.isnan(value) for value in columns["cpu_ours"])
    assert "another machine" in answer["more"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"session": "gone"}, "not kept any more"),
        ({"session": 5}, "one of the list"),
        ({"session": "x" * 1000}, "one of the list"),
        ({"since": "yesterday"}, "number of seconds"),
        ({"until": True}, "number of seconds"),
        ({"last_s": -1}, "cannot be shown"),
        ({"last_s": 1e12}, "cannot be shown"),
    ],
)
def test_what_a_page_asks_for_is_checked(page: Page, asked: dict[str, Any], words: str) -> None:
    assert words in page.ask("series", **asked)["error"]["message"]
    assert words in page.ask("file", what="system", **asked)["error"]["message"]
    assert page.ask("series")["num"] == 0


def test_the_data_come_as_a_file_piece_by_piece(page: Page, monitor: PlayedMonitor) -> None:
    for number in range(5000):
        monitor.work(number)
    file = page.ask("file", what="system", last_s=4000)["file"]
    assert file["name"].startswith("speed figures ")
    text = b""
    while len(text) < file["size"]:
        (piece,) = page.ask("piece", key=file["key"], offset=len(text))["buffers"]
        assert 0 < len(piece) <= 1 << 20
        text += piece
    assert len(text.splitlines()) == 1 + 4001  # none is thinned
    assert "once more" in page.ask("piece", key="another", offset=0)["error"]["message"]
    assert "once more" in page.ask("piece", key=file["key"], offset=-1)["error"]["message"]
    assert "system or requests" in page.ask("file", what="../x")["error"]["message"]


def test_the_files_of_a_real_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    with PerformanceMonitor(store=Store.in_memory(), interval_s=0.1) as monitor:
        widget = LiveCharts(monitor)
        page = Page(widget, monkeypatch)
        page.tell("watch")
        page.until(lambda message: message.get("points"))
        answer = page.ask("series", last_s=60)
        assert answer["num"] >= 1
        file = page.ask("file", what="system", last_s=60)["file"]
        (piece,) = page.ask("piece", key=file["key"], offset=0)["buffers"]
        assert b"cpu_total_percent" in piece
        assert page.ask("sessions") | {"mid": "", "buffers": 0} == {
            "kind": "answer", "mid": "", "sessions": [], "older": 0, "buffers": 0,
        }  # fmt: skip
        widget.close()
        assert not monitor.closed


def test_without_plotly_the_figures_come_and_the_charts_say_what_is_missing(
    page: Page, monitor: PlayedMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_plotly, "_library", _plotly._library.__wrapped__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monitor.work(30)
    assert page.ask("series")["num"] == 1
    error = page.ask("plotly", offset=0)["error"]
    assert 'pip install "gguf-widgets[charts]"' in error["message"]


def test_a_monitor_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"gguf_widgets\.PerformanceMonitor\(\)"):
        LiveCharts("monitor")  # type: ignore[arg-type]


# -- for hours -------------------------------------------------------------------------------------


def test_two_hours_at_five_points_a_second_take_no_memory_here() -> None:
    now = [0.0]
    num_bytes = [0]
    monitor = PlayedMonitor(interval_s=0.2, num_kept=50)
    feed = Feed(lambda message: num_bytes.append(len(json.dumps(message))), lambda: now[0])
    feed.watch("one", monitor, feed.add)

    def hour(number: int) -> int:
        for i in range(18_000):
            monitor.work(number * 18_000 + i)
            if i % 100 == 0:
                monitor.answers[OWN].clear()
                monitor.answer(ttft_s=0.2)
                feed.heard()
            now[0] += 0.2
            feed.tick()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        num_bytes.clear()
        first = hour(0)
        sent = sum(num_bytes)
        num_bytes.clear()
        second = hour(1)
    finally:
        tracemalloc.stop()
    # The lengths of the messages are kept by this test.
    assert second - first < 300_000
    assert sent / 18_000 < 300  # bytes a point, for all charts together
