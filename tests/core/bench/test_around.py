"""What is around the figures: a busy machine, the time left, tables, pictures, words."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from typing import Any

import msgspec
import psutil
import pytest
from support.bench_rows import make_row

import gguf_widgets.widgets._bench_figures as figures
from gguf_widgets.core.bench import progress as progress_module
from gguf_widgets.core.bench import table
from gguf_widgets.core.bench.compare import change_of
from gguf_widgets.core.bench.machine import Busy, Machine, Watch, this_engine, this_machine
from gguf_widgets.core.bench.notes import notes_of
from gguf_widgets.core.bench.plan import BenchTest
from gguf_widgets.core.bench.progress import Estimate, Progress
from gguf_widgets.core.bench.result import BenchResult
from gguf_widgets.core.bench.show import Shown, as_html
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.figures import figure_kinds, make_figure

# -- the machine ----------------------------------------------------------------------------------


def test_what_others_use_is_counted_and_what_is_ours_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            process = psutil.Process(other.pid)
            began, before = time.perf_counter(), sum(process.cpu_times()[:2])
            all_others, but_that = Watch(), Watch([other.pid])
            time.sleep(1.0)
            seconds, after = time.perf_counter() - began, sum(process.cpu_times()[:2])
            counted, left = all_others.cores_of_others(), but_that.cores_of_others()
        finally:
            other.kill()
    assert counted is not None
    assert left is not None
    assert counted - left == pytest.approx((after - before) / seconds, abs=0.1)
    assert after - before > 0  # or nothing was shown
    gone = Watch([other.pid])
    time.sleep(0.15)
    assert gone.cores_of_others() is None  # nothing is guessed


@pytest.mark.parametrize(
    ("cores", "load", "busy"),
    [(0.1, 0.2, False), (0.5, 0.0, True), (0.3, 3.5, True), (0.1, 3.9, False), (0.3, None, False)],
)
def test_a_machine_is_busy_by_what_is_used_now_or_by_its_load(
    cores: float, load: float | None, busy: bool
) -> None:
    found = Busy(cores, 4, load)
    assert found.is_busy is busy
    assert f"{cores:.1f} of 4 cores" in found.words()


def test_a_machine_is_told_by_what_decides_speed() -> None:
    here = this_machine()
    assert here.num_cores >= 1
    assert here.memory_gib >= 1
    assert here.digest == Machine(**msgspec.to_builtins(here)).digest
    assert msgspec.structs.replace(here, num_cores=here.num_cores + 1).digest != here.digest
    assert this_engine().package


# -- the time that is left ------------------------------------------------------------------------


def test_the_time_left_follows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    # A prompt token takes 2 ms and a written one 30 ms; the second model is twice as large.
    tests = [BenchTest(n_prompt=500, n_gen=0), BenchTest(n_prompt=0, n_gen=100, n_depth=250)]
    planned = [(number, test) for number in (0, 1) for test in tests]
    estimate = Estimate(planned, 3, warmup=True)
    estimate.size(0, 1000)
    estimate.size(1, 2000)

    def cost(number: int, test: BenchTest, *, warm: bool) -> float:
        n_gen = min(16, test.n_gen) if warm else test.n_gen
        return (number + 1) * (0.002 * (test.n_depth + test.n_prompt) + 0.03 * n_gen)

    steps = [(n, t, warm) for n, t in planned for warm in (True, False, False, False)]
    total = sum(cost(n, t, warm=warm) for n, t, warm in steps)
    assert estimate.look() == (0.0, 0.0, None)
    fractions, off = [], []
    for number, test, warm in steps:
        estimate.begin(number, test, warm=warm)
        half = cost(number, test, warm=warm) / 2
        now += half
        fractions.append(estimate.look()[0])
        now += half
        estimate.end(clean=True)
        fraction, elapsed, left = estimate.look()
        assert elapsed == pytest.approx(now)
        fractions.append(fraction)
        if left is not None and (number, test) != planned[0]:
            off.append(abs(elapsed + left - total) / total)
    estimate.done(1)
    assert fractions == sorted(fractions)
    assert max(off[1:]) < 0.1  # as soon as both kinds are known
    assert estimate.look() == (pytest.approx(1), pytest.approx(total), 0.0)


def test_a_model_that_fails_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    test = BenchTest(n_prompt=100, n_gen=0)
    estimate = Estimate([(0, test), (1, test)], 1, warmup=False)
    estimate.begin(0, test, warm=False)
    now = 10.0
    estimate.end(clean=True)
    estimate.done(0, test)
    assert estimate.look()[2] == pytest.approx(10)
    estimate.done(1)
    assert estimate.look()[2] == 0


def make_progress(**changes: Any) -> Progress:
    given: dict[str, Any] = {
        "status": "running", "model": "tiny", "test": "tg8", "phase": "2 of 5", "fraction": 0.25,
        "elapsed_s": 10.0, "left_s": 30.0, "num_done": 1, "num_total": 4, "num_failed": 0,
    }  # fmt: skip
    return Progress(**{**given, **changes})


def test_progress_reads_as_a_sentence() -> None:
    assert str(make_progress()) == "tiny, tg8, 2 of 5 (1 of 4 tests done), about 30 s left"
    assert str(make_progress(left_s=None, num_failed=2)) == (
        "tiny, tg8, 2 of 5 (1 of 4 tests done, 2 could not be measured)"
    )
    assert str(make_progress(status="stopping")).endswith("done), stopping")
    assert str(make_progress(status="stopped")) == "1 of 4 tests, stopped after 10 s"
    hostile = as_html(make_progress(model="<script>alert(1)</script>"))
    assert "<script>" not in hostile
    assert 'aria-valuenow="25"' in hostile


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_is_drawn_over_and_a_file_has_only_what_is_said() -> None:
    terminal, file, silent = Terminal(), io.StringIO(), Terminal()
    for stream, wanted in ((terminal, None), (file, True), (silent, False)):
        with Shown(wanted, stream) as shown:
            shown.update(make_progress())
            shown.update(make_progress(fraction=0.5), ["It\x1b[2J is busy."])
            shown.update(make_progress(fraction=0.6), ["It\x1b[2J is busy."])
    assert terminal.getvalue().count("\r 25%") == 1
    assert terminal.getvalue().count("It [2J is busy.\n") == 1  # once, and no control characters
    assert terminal.getvalue().endswith("\r")
    assert file.getvalue() == "It [2J is busy.\n"
    assert silent.getvalue() == ""


# -- tables ---------------------------------------------------------------------------------------

HOSTILE = "=cmd|' /C calc'!A0 <img src=x onerror=alert(1)> \x1b[2J"


def test_a_table_shows_what_differs_and_obeys_nothing() -> None:
    rows = [
        make_row(name=HOSTILE),
        make_row(settings={"n_threads": 4, "type_k": "q8_0"}, test=BenchTest(
            n_prompt=8, n_gen=0, n_depth=5, n_seq=4), samples=[5000.0], repetitions=1),
    ]  # fmt: skip
    headings, cells = table.cells(rows)
    assert headings == [
        "Model", "Size", "Parameters", "Backend", "Threads", "type_k", "Test", "Tokens/s", "Each",
    ]  # fmt: skip
    assert cells[1][2:] == ["3 M", "CPU", "4", "q8_0", "pp8 @ d5 x 4", "5,000", "5,000"]
    assert cells[0][-2:] == ["100.00 ± 0.79", ""]
    assert "\x1b" not in table.as_text(rows)
    for text in (table.as_html(rows), table.as_markdown(rows)):
        assert "<img" not in text
    lines = table.as_markdown(rows).splitlines()
    assert lines[1].count("|") == lines[0].count("|") == 10
    assert lines[2].count("|") - lines[2].count("\\|") == 10
    read = list(csv.DictReader(io.StringIO(table.as_csv(rows))))
    assert read[0]["model"].startswith("'=cmd")
    assert float(read[0]["avg_tok_per_s"]) == pytest.approx(100)
    assert [float(one) for one in read[0]["samples_tok_per_s"].split()] == rows[0].samples
    assert json.loads(table.as_json(rows))["results"][1]["stdev_tok_per_s"] is None
    assert table.as_csv([]).startswith("model,")


def test_many_rows_have_few_sentences() -> None:
    slow = make_row((80.0, 81.0, 80.5, 80.2, 80.1))
    rows = [
        *[make_row((50.0, 100.0, 70.0, 90.0, 60.0), name=f"m{number}") for number in range(20)],
        make_row(name="b", other_cores=2.5),
        make_row([100.0, 101.0], name="c"),
        msgspec.structs.replace(slow, change=change_of(slow, [make_row(at=slow.at - 1e6)])),
    ]
    notes = notes_of(rows)
    assert notes[0] == "c, tg128: Stopped after 2 of 5 repetitions."
    assert "b, tg128 (2.5)" in notes[1]
    assert "m0, tg128 (28%); " in notes[2]
    assert "; and 8 more. Something may have disturbed them" in notes[2]
    assert notes[3].startswith("a, tg128: 20% slower than on ")
    assert len(notes) == 4
    assert notes_of([make_row()]) == []


def test_a_result_that_has_nothing_yet_shows_itself() -> None:
    result = BenchResult("id")
    assert "0 of 0 tests" in repr(result)
    assert "0 of 0 tests" in result._repr_html_()
    assert len(result.to_frame()) == 0
    with pytest.raises(InvalidValueError, match="Nothing was measured"):
        result.figure()


# -- pictures -------------------------------------------------------------------------------------


def several() -> list[Any]:
    return [
        make_row(
            [speed, speed * 1.02],
            name=name,
            test=BenchTest(n_prompt=prompt, n_gen=gen, n_depth=depth, n_seq=n_seq),
            settings={"n_threads": threads},
        )
        for name, threads in (("a", 1), ("a", 2), ("<b>x</b>", 1))
        for depth in (0, 100)
        for n_seq in (1, 4)
        for prompt, gen, speed in ((512, 0, 900.0), (0, 128, 30.0))
    ]


def test_bars_have_their_spread_units_and_one_colour_for_each_model() -> None:
    pytest.importorskip("plotly")
    figure = make_figure("bench.speed", several())
    assert [trace.name for trace in figure.data[:3]] == [
        "a Q8_0, n_threads=1", "a Q8_0, n_threads=2", "&lt;b&gt;x&lt;/b&gt; Q8_0, n_threads=1",
    ]  # fmt: skip
    reading, writing = figure.data[0], figure.data[3]
    assert list(reading.x) == ["pp512", "pp512 x 4", "pp512 @ d100", "pp512 @ d100 x 4"]
    assert reading.y[0] == pytest.approx(909)
    assert reading.error_y.array[0] == pytest.approx(several()[0].stdev_tok_per_s)
    assert (reading.xaxis, writing.xaxis) == ("x", "x2")
    assert reading.marker.color == writing.marker.color
    assert len({trace.marker.color for trace in figure.data}) == 3
    assert [trace.showlegend for trace in figure.data] == [True] * 3 + [False] * 3
    assert figure.layout.yaxis.title.text == "tokens/s"
    assert "512 tokens" in reading.customdata[0]
    dark = make_figure("bench.speed", several(), theme="dark")
    assert dark.layout.paper_bgcolor != figure.layout.paper_bgcolor


def test_lines_go_over_depth_sequences_and_time() -> None:
    pytest.importorskip("plotly")
    assert figure_kinds("bench") == ["depth", "history", "sequences", "speed"]
    depth = make_figure("bench.depth", several())
    assert {tuple(trace.x) for trace in depth.data} == {(0, 100)}
    assert depth.data[0].name == "a Q8_0, n_threads=1, pp512"
    assert {tuple(trace.x) for trace in make_figure("bench.sequences", several()).data} == {(1, 4)}
    rows = [make_row(at=make_row().at + day * 86_400.0) for day in (2, 0, 1)]
    history = make_figure("bench.history", rows)
    assert list(history.data[0].x) == sorted(history.data[0].x)


@pytest.mark.parametrize(
    ("maker", "rows", "options", "words"),
    [
        (figures.draw_speed, [], {}, "Nothing was measured"),
        (figures.draw_speed, [make_row()], {"theme": "red"}, "theme is 'red'"),
        (figures.draw_depth, [make_row()], {}, "measured at one depth"),
        (figures.draw_sequences, [make_row()], {}, "as many sequences at once"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    maker: Any, rows: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidValueError, match=words):
        maker(rows, **options)
