"""`monitor.figure(kind)`: ordinary Plotly figures of what was recorded. A second."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime

import msgspec
import pytest
from support.live_monitor import OWN, START, PlayedMonitor, finished

import gguf_widgets as gw
from gguf_widgets.core import figures
from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError
from gguf_widgets.widgets._live_data import MAX_REQUESTS
from gguf_widgets.widgets._monitor_figures import KINDS

assert gw.PerformanceMonitor  # the name brings the makers of figures with it


@pytest.fixture
def monitor() -> PlayedMonitor:
    """An hour: at work, then nothing for ten minutes, then at work."""
    monitor = PlayedMonitor()
    for number in range(300):
        monitor.work(number, cards=1)
        if number % 10 == 5:
            given = msgspec.structs.asdict(finished(monitor.now, number))
            monitor.answer(
                **{k: v for k, v in given.items() if k not in ("request_id", "ended_at")}
            )
    monitor.now += 600
    for number in range(300):
        monitor.work(number, cards=1)
    return monitor


def test_every_kind_is_drawn_with_units_and_its_lines(monitor: PlayedMonitor) -> None:
    assert figures.figure_kinds("monitor") == sorted(KINDS)
    units = {
        "speed": ["tokens/s", "tokens/s"],
        "latency": ["ms", "ms"],
        "memory": ["GB", "GB"],
        "processor": ["%", "%", "W"],
        "batch": ["rows/min", "tokens/s"],
        "scheduler": ["answers", "tokens"],
    }
    for kind, wanted in units.items():
        for theme in ("light", "dark"):
            figure = monitor.figure(kind, theme=theme)
            layout = figure.to_dict()["layout"]
            axes = sorted(name for name in layout if name.startswith("yaxis"))
            assert [layout[name]["title"]["text"] for name in axes] == wanted
            assert len({layout[name]["domain"][0] for name in axes}) == len(axes)
            assert all(trace.x is not None and len(trace.x) for trace in figure.data)
    memory = monitor.figure("memory")
    assert [trace.name for trace in memory.data] == ["models", "this program", "free", "A card"]
    assert memory.data[0].y[0] == pytest.approx(0.049)
    assert memory.data[0].x[0] == datetime.fromtimestamp(START + 1)  # noqa: DTZ006 - as drawn


def test_where_nothing_was_recorded_no_line_is_drawn(monitor: PlayedMonitor) -> None:
    (line, _) = monitor.figure("speed").data
    assert line.connectgaps is False
    holes = [place for place, value in enumerate(line.y) if value is None]
    assert len(holes) == 1
    assert (line.x[holes[0] + 1] - line.x[holes[0] - 1]).total_seconds() == 601


def test_answers_are_told_of_in_words_and_names_are_text() -> None:
    monitor = PlayedMonitor()
    monitor.answers[OWN] = [
        finished(START + number, number, model="<b>x</b>" * 20)
        for number in range(MAX_REQUESTS + 12)
    ]
    figure = monitor.figure("latency")
    told = figure.data[0].customdata[0]
    assert told.startswith("<b>&lt;b&gt;x&lt;/b&gt;")
    assert "512 tokens read<br>60 tokens written" in told
    assert "12 before them are left out" in figure.layout.title.text
    assert len(figure.data[0].x) == MAX_REQUESTS


def test_thinned_points_are_told_of(monitor: PlayedMonitor) -> None:
    figure = monitor.figure("speed", max_points=100, title="<i>Mine</i>")
    assert "stands for up to 6" in figure.layout.title.text
    assert figure.layout.title.text.startswith("&lt;i&gt;Mine&lt;/i&gt;")
    assert len(figure.data[0].x) < 150


def test_earlier_sessions(monitor: PlayedMonitor) -> None:
    monitor.earlier("old", START - 9_000, 200)
    figure = monitor.figure("speed", session="old", since=START - 8_950)
    assert len(figure.data[0].x) == 150
    monitor.earlier("there", START - 5_000, 50, host="another-machine")
    there = monitor.figure("processor", session="there")
    assert [trace.name for trace in there.data] == ["models", "everything"]
    assert set(there.data[0].y) == {None}
    assert "another machine" in there.layout.title.text


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("sped", {}, "there are: batch, latency, memory, processor, scheduler, speed"),
        ("speed", {"theme": "blue"}, "'light' or 'dark'"),
        ("speed", {"session": "gone"}, r"monitor\.sessions\(\)"),
        ("speed", {"session": "all"}, "one session"),
        ("speed", {"since": START + 10_000}, "Nothing was recorded"),
        ("latency", {"since": START + 10_000}, "No answer has ended"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    monitor: PlayedMonitor, kind: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidValueError, match=words):
        monitor.figure(kind, **options)


def test_without_plotly_it_says_what_to_install(
    monitor: PlayedMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingDependencyError, match=r"gguf-widgets\[charts\]"):
        monitor.figure("speed")


def test_plotly_is_imported_only_for_a_figure() -> None:
    names = "gw.PerformanceMonitor, gw.LiveCharts"
    code = f"import sys, gguf_widgets as gw; {names}; print('plotly' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "False"
