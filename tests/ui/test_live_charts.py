"""The live charts in a browser: on a Voila page and in JupyterLab, with figures that are played.

A page for the acts of a person (20 s), JupyterLab with a real monitor and model (30 s), the
dashboard's tab (20 s), and two hours at five points a second with a clock of their own (20 s).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from playwright.sync_api import Page, expect
from support.axe import serious_faults
from support.browser import LONG_MS, Chat, Watched
from support.lab_page import reload, run_cell, save
from support.live_page import AT_WORK, Charts, Played
from support.screen_check import faults_of
from support.servers import Home, dashboard, lab, voila, wait_until

from gguf_widgets.widgets._esm import css, esm

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
STATIC = Path(esm.__code__.co_filename).parent / "static"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


def photograph(
    watched: Watched, name: str, widths: tuple[int, ...] = (400, 800, 1280)
) -> list[str]:
    """Keep a picture in these widths; return what is wrong with it."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    found = []
    for width in widths:
        watched.page.set_viewport_size({"width": width, "height": 800})
        watched.page.wait_for_timeout(300)
        watched.page.screenshot(path=SCREENS / f"speed-{name}-{width}.png")
        found += faults_of(watched.page, ".gw-speed")
    return found


def test_what_a_person_does_with_the_charts(home: Home, open_page: OpenPage) -> None:
    played = Played(home.folder / "acts")
    path = home.folder / "charts.ipynb"
    nbformat.write(
        played.notebook('monitor.earlier("e", time.time() - 100_000, 3000, program="<b>x</b>")'),
        path,
    )
    with voila(home, path) as server:
        watched = open_page(server.url)
        page, charts = watched.page, Charts(watched)
        gw = watched.gw

        # First: nothing has happened, and it says what to do.
        charts.wait_until_drawn()
        expect(gw("live-hint")).to_contain_text("Nothing has been asked yet.")
        expect(gw("live-hint")).to_contain_text('model.chat("Hello")')
        charts.expect_words("writing", "No answer was written in this time.")
        assert photograph(watched, "first-light") == []

        # At work: figures in words and pictures, which go along.
        played.do(AT_WORK)
        expect(charts.tile("writing")).to_have_text(re.compile(r"^\d+ tokens/s$"))
        charts.expect_words("writing", re.compile(r"^Now \d+ tokens/s, \d+ tokens/s on average"))
        charts.expect_words("first", re.compile(r"^Half of \d+ answers began within \d+ ms"))
        charts.expect_words("memory", re.compile(r"Models now 49 MB; this program now 120 MB"))
        expect(gw("live-hint")).to_have_text("Nothing at the moment.")
        charts.expect_span(299, 301)
        assert charts.moves()
        assert photograph(watched, "at-work-light") == []
        assert serious_faults(page, ".gw-speed") == []
        charts.window("60").click()
        expect(charts.window("60")).to_have_attribute("aria-pressed", "true")
        charts.expect_span(59, 61)
        charts.window("all").click()
        charts.expect_span(300, 3000)

        # What is under way, and Stop.
        played.do(
            "monitor.under_way = [under_way(1, num_completion_tokens=120, tok_per_s=31.2),"
            " under_way(2, prefill_fraction=0.45, num_prompt_tokens=1024),"
            " under_way(3, run_id='r')]"
        )
        expect(gw("live-request")).to_have_count(3)
        expect(gw("live-request").nth(1)).to_contain_text("Reading the prompt: 45% of 1,024 tokens")
        height = gw("live-way").bounding_box()
        gw("live-stop").nth(0).focus()
        page.keyboard.press("Enter")
        expect(gw("live-request")).to_have_count(2)
        played.do("assert monitor.stopped == ['1/live-1']; monitor.under_way = []")
        expect(gw("live-request")).to_have_count(0)
        assert gw("live-way").bounding_box() == height  # nothing has jumped

        # Pause: the charts stand still, and go on with what was recorded meanwhile.
        charts.window("300").click()
        charts.expect_span(299, 301)
        gw("live-pause").click()
        expect(gw("live-pause")).to_have_text("Go on")
        page.wait_for_timeout(500)
        assert not charts.moves()
        expect(gw("live-state")).to_contain_text("recording goes on")
        gw("live-pause").click()
        assert charts.moves()
        ends = charts.drawn("writing")["x"]
        assert all(0 < b - a <= 1100 for a, b in zip(ends[-20:], ends[-19:], strict=False))

        # Zoom, with the mouse and without: all charts together, and back.
        charts.wait_until_drawn("processor")
        charts.drag("processor", 0.4, 0.6)
        charts.expect_span(50, 75, "processor")
        expect(gw("live-back")).to_have_text("Back to now")
        expect(gw("live-state")).to_contain_text("Zoomed in")
        charts.expect_span(50, 75, "memory")
        gw("live-closer").focus()
        page.keyboard.press("Enter")
        charts.expect_span(25, 38)
        gw("live-wider").click()
        charts.expect_span(50, 75)
        assert page.locator(".plotly-notifier").count() == 0
        gw("live-back").click()
        charts.expect_span(299, 301)
        assert charts.moves()
        charts.drag("writing", 0.4, 0.6)
        charts.expect_span(50, 75)
        charts.chart("writing").locator(".nsewdrag").first.dblclick()
        charts.expect_span(299, 301)

        # A laptop that slept: a gap in the figures is one in the line.
        played.do("monitor.now += 100")
        charts.chart("processor").scroll_into_view_if_needed()
        wait_until(lambda: None in charts.drawn("processor")["y"], 60, "a gap in the line")
        line = charts.drawn("processor")
        hole = line["y"].index(None)
        assert line["x"][hole + 1] - line["x"][hole - 1] >= 100_000
        assert line["gaps"] is False

        # What is not known is said where it would be.
        played.do("monitor.unknown = {'processes': 'The system lets nobody look at processes.'}")
        expect(charts.words("memory")).to_contain_text("lets nobody look", timeout=LONG_MS)
        played.do("monitor.told = ['<i>The store</i> is full: figures are in memory only.']")
        expect(gw("live-notices")).to_contain_text("<i>The store</i> is full")

        # Saved: the picture, and the figures of the time that is shown.
        charts.window("60").click()
        charts.expect_span(59, 61)
        charts.chart("writing").hover()
        with page.expect_download() as picture:
            charts.chart("writing").locator('[data-gw="live-chart-save"]').click()
        assert picture.value.suggested_filename == "Writing speed.png"
        gw("live-save").locator("summary").click()
        page.keyboard.press("Escape")
        expect(gw("live-save-file").first).to_be_hidden()
        gw("live-save").locator("summary").click()
        with page.expect_download() as download:
            gw("live-save-file", what="system").click()
        saved = home.folder / "figures.csv"
        download.value.save_as(saved)
        frame = pd.read_csv(saved)
        assert 10 < len(frame) <= 62  # a point a second of a minute, but for the gap
        assert frame["at"].max() - frame["at"].min() <= 61
        assert frame["at"].is_monotonic_increasing

        # Hover tells in words.
        charts.chart("writing").scroll_into_view_if_needed()
        charts.chart("writing").locator(".nsewdrag").first.hover()
        expect(charts.chart("writing").locator(".hoverlayer")).to_contain_text(
            "tokens/s all models"
        )

        # An earlier session, by its name as text; then back to now.
        gw("live-session").focus()
        option = gw("live-session").locator("option", has_text="<b>x</b>")
        gw("live-session").select_option(option.get_attribute("value"))
        expect(gw("live-past")).to_contain_text("Recorded by <b>x</b>: 300 answers.")
        charts.expect_span(2990, 3010)
        assert photograph(watched, "earlier-light") == []
        gw("live-to-now").click()
        charts.expect_span(299, 301)

        # While nobody looks nothing comes; who looks again sees what was.
        page.evaluate(
            """() => {
              document.querySelector('[data-gw="live"]').parentElement.style.display = "none";
            }"""
        )
        played.do(
            "import time as t; t.sleep(1.5); assert monitor.listeners == [], monitor.listeners"
        )
        page.evaluate(
            """() => {
              document.querySelector('[data-gw="live"]').parentElement.style.display = "";
            }"""
        )
        assert charts.moves() or charts.moves()

        # Recording ends.
        played.do("plays = False; monitor.close()")
        expect(gw("live-notices")).to_contain_text("Recording has ended", timeout=LONG_MS)
        watched.assert_clean()

        # Python ends: the page says so.
        for kernel in home.kernels():
            kernel.kill()
        expect(gw("live-gone")).to_be_visible(timeout=LONG_MS)


def test_without_plotly_the_figures_are_there_in_words(home: Home, open_page: OpenPage) -> None:
    played = Played(home.folder / "acts")
    path = home.folder / "charts.ipynb"
    hide = "import importlib.util as u; find = u.find_spec; "
    hide += "u.find_spec = lambda name, *more: None if name == 'plotly' else find(name, *more)"
    nbformat.write(played.notebook(hide + AT_WORK), path)
    with voila(home, path, "dark") as server:
        watched = open_page(server.url)
        charts = Charts(watched)
        expect(watched.gw("live-error")).to_contain_text('pip install "gguf-widgets[charts]"')
        charts.expect_words("writing", re.compile(r"^Now \d+ tokens/s"))
        expect(charts.tile("processor")).to_have_text(re.compile(r"^\d+%$"))
        assert photograph(watched, "no-plotly-dark") == []
        played.do("u.find_spec = find")
        watched.gw("live-again").click()
        charts.wait_until_drawn()
        expect(watched.gw("live-error")).to_be_hidden()
        assert photograph(watched, "at-work-dark") == []
        watched.assert_clean()


ENDLESS = """
import threading
import gguf_widgets as gw

charts = gw.LiveCharts(gw.PerformanceMonitor(interval_s=0.2), height=700)
model = gw.load("demo", n_ctx=32768)
vocabulary = gw.read_header(model.info.path).metadata["tokenizer.ggml.token_type"].values()
never = {token: float("-inf") for token, kind in enumerate(vocabulary) if kind == 3}

def ask():
    reply = model.chat("Tell me a long story", logit_bias=never, max_tokens=30_000)
    print(reply.finish_reason)

threading.Thread(target=ask).start()
charts
"""


def test_a_real_model_in_jupyterlab(home: Home, open_page: OpenPage) -> None:
    folder = home.folder / "notebooks"
    folder.mkdir()
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(ENDLESS.strip())]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "a.ipynb")
    with lab(home, folder) as server:
        watched = open_page(server.url.split("/lab")[0] + "/lab/tree/a.ipynb")
        charts = Charts(watched)
        run_cell(watched)
        charts.wait_until_drawn()
        row = watched.gw("live-request")
        expect(row).to_contain_text(re.compile(r"Writing: [\d,]+ tokens, [\d,]+ tokens/s"))
        expect(charts.tile("writing")).to_have_text(re.compile(r"^[1-9][\d,.]* tokens/s$"))
        expect(charts.tile("sequences")).to_have_text("1")
        assert photograph(watched, "lab-light", (800, 1280)) == []
        watched.gw("live-stop").click()
        expect(row).to_have_count(0)
        charts.expect_words("first", re.compile("^One answer began after"))
        # A reload of the page: the kernel lives on, and the charts show what was.
        save(watched)
        go_dark(home)
        reload(watched, charts.words("first"))
        charts.expect_words("first", re.compile("^One answer began after"))
        charts.wait_until_drawn()
        assert photograph(watched, "lab-dark", (800, 1280)) == []
        watched.assert_clean()


def go_dark(home: Home) -> None:
    """Choose JupyterLab's dark theme, as its menu does; the next page has it."""
    folder = "jupyter-config/lab/user-settings/@jupyterlab/apputils-extension"
    path = home.folder / folder / "themes.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"theme": "JupyterLab Dark"}', encoding="utf-8")


def test_the_dashboards_tab(home: Home, open_page: OpenPage) -> None:
    with dashboard(home) as server:
        watched = open_page(server.url)
        page, charts, chat = watched.page, Charts(watched), Chat(watched)
        chat.wait_until_shown()
        assert page.locator(".gw-speed").count() == 0  # made when it is opened
        chat.load_demo()
        answer = chat.ask("Tell me a story about Emma.")
        chat.wait_for_status(answer, "done", "stopped", "finished", "complete")
        watched.gw("tab-speed").click()
        charts.wait_until_drawn()
        charts.expect_words("writing", re.compile("tokens/s on average"))
        assert photograph(watched, "dashboard-light") == []
        page.reload(wait_until="commit")
        expect(watched.gw("tab-speed")).to_have_attribute("aria-selected", "true", timeout=LONG_MS)
        charts.wait_until_drawn()
        # Coming back: a new session, and the earlier one to look at.
        expect(watched.gw("live-to-chat")).to_be_visible()
        watched.gw("live-to-last").click()
        expect(watched.gw("live-past")).to_contain_text("a page of the dashboard: 1 answer")
        charts.expect_words("first", re.compile("^One answer began after"))
        watched.gw("live-to-now").click()
        watched.gw("live-to-chat").click()
        expect(watched.gw("tab-chat")).to_have_attribute("aria-selected", "true")
        watched.assert_clean()


# -- two hours -------------------------------------------------------------------------------------

# The widget's own code, alone on a page, with a model that says what Python would; a point is a
# fifth of a second of its time, which passes much faster.
HOURS = """
<style>%s</style>
<body data-jp-theme-light="true"><div id="place" style="width: 1000px"></div>
<script>
  const FIELDS = %s, CHARTS = %s;
  window.drawn = 0;
  window.fake = (piece) => {
    const listeners = [];
    const tell = (content, buffers = []) => listeners.forEach((each) => each(content, buffers));
    const answers = {
      plotly: piece,
      sessions: async () => ({ sessions: [], older: 0 }),
      series: async () => ({
        charts: CHARTS, fields: FIELDS, cards: 0, num: 0, gap_s: 25, note: "", more: "",
        requests: [], left_out: 0, session: "s", interval_s: 0.2, looks: true, notices: [],
        missing: {}, ended: false, live: { num: 0, rows: [] },
        buffers: [new DataView(new ArrayBuffer(0)), new DataView(new ArrayBuffer(0))],
      }),
    };
    return {
      get: () => "", on: (_name, listener) => listeners.push(listener), off: () => {}, tell,
      send: async (content) => {
        const { buffers, ...told } = (await answers[content.kind]?.(content)) ?? {};
        if (answers[content.kind]) tell({ kind: "answer", mid: content.mid, ...told }, buffers);
      },
    };
  };
  let at = 1.7e9, number = 0, seq = 0;
  window.pass = async (model, num, each) => {
    for (let i = 0; i < num; i += each) {
      for (let j = 0; j < each; j++) {
        at += 0.2;
        number++;
        const wave = Math.sin(number / 40);
        const point = [at, ...FIELDS.map((_, f) => (f + 1) * (2 + wave))];
        const tick = { kind: "tick", seq: ++seq, points: [point] };
        const ttft = 0.2 + wave / 10;
        const answer = [at, "demo", false, "stop", ttft, 0.03, 0.04, 0.07, 0, 512, 0, 60, 31];
        if (number %% 25 === 0) tick.requests = [answer];
        model.tell(tick);
      }
      await new Promise(requestAnimationFrame);
    }
  };
</script>
"""


def open_alone(page: Page, tmp_path: Path) -> None:
    """Open the widget's page without Python behind it."""
    import base64
    import json

    from gguf_widgets.widgets._live_data import _chart_view
    from gguf_widgets.widgets._live_series import CHARTS, fields
    from gguf_widgets.widgets._plotly import plotly_piece

    def piece(offset: int) -> dict[str, Any]:
        told, (data,) = plotly_piece({"offset": offset})
        return {"size": told["size"], "data": base64.b64encode(data).decode()}

    page.expose_function("piece", piece)
    views = json.dumps([_chart_view(chart) for chart in CHARTS])
    page.set_content(HOURS % (css(STATIC / "live_charts.css"), json.dumps(fields(0)), views))
    page.evaluate(
        """async (code) => {
          const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
          const widget = (await import(url)).default;
          window.model = fake(async ({ offset }) => {
            const { size, data } = await window.piece(offset);
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            return { size, buffers: [new DataView(bytes.buffer)] };
          });
          window.end = widget.render({ model, el: document.getElementById("place") });
        }""",
        esm(STATIC / "live_charts.js"),
    )
    page.locator('[data-gw="live-chart"] .main-svg').first.wait_for()


def test_two_hours_at_five_points_a_second_keep_the_page_as_it_is(
    open_page: OpenPage, tmp_path: Path
) -> None:
    watched = open_page("about:blank")
    page = watched.page
    open_alone(page, tmp_path)
    session = watched.context.new_cdp_session(page)

    def heap() -> float:
        """Return the page's heap in MB, and what is drawn on it, after a clean-up."""
        page.wait_for_timeout(600)  # what waits to be drawn is
        for _ in range(2):
            session.send("HeapProfiler.collectGarbage")
        return float(session.send("Runtime.getHeapUsage")["usedSize"]) / 1e6

    def nodes() -> int:
        return int(page.evaluate("document.querySelectorAll('*').length"))

    num_points = 5 * 7200
    page.evaluate("pass(model, 6000, 60)")  # twenty minutes: all windows are full
    before, drawn = heap(), nodes()
    page.evaluate(f"pass(model, {num_points - 6000}, 60)")
    after = heap()
    assert after - before < 2
    assert nodes() - drawn < 400
    span = page.evaluate(
        """() => {
          const chart = document.querySelector('[data-key="writing"] .gw-chart');
          const { x } = chart.data[0];
          const words = document.querySelector('[data-key="first"] p').textContent;
          return [x.length, (x[x.length - 1] - x[0]) / 1000, words];
        }"""
    )
    assert span[0] == pytest.approx(1501, abs=2)
    assert span[1] == pytest.approx(300, abs=1)
    assert "Half of 60 answers" in span[2] or "Half of 61 answers" in span[2]
    # With the view all of it goes.
    page.evaluate("end()")
    assert page.locator(".gw-speed").count() == 0
    watched.assert_clean()


def test_a_message_that_was_missed_and_names_that_are_no_markup(
    open_page: OpenPage, tmp_path: Path
) -> None:
    watched = open_page("about:blank")
    page = watched.page
    open_alone(page, tmp_path)
    page.evaluate(
        """async () => {
          window.asked = 0;
          const { send } = model;
          model.send = (content) => {
            if (content.kind === "series") window.asked++;
            return send(content);
          };
          await pass(model, 300, 50);
        }"""
    )
    assert page.evaluate("asked") == 0
    name = "<img src=x onerror=alert(1)><a href='https://example.org'>$\\\\href{x}{5}$</a>"
    page.evaluate(
        """(name) => {
          const answer = [at - 3, name, false, "stop", 0.4, 0.03, 0.04, 0.07, 0, 512, 0, 60, 31];
          const row = { id: "1", model: name, doing: name, age: "3 s", table: false };
          const live = { num: 1, rows: [row] };
          model.tell({ kind: "tick", seq: ++seq, requests: [answer], live });
        }""",
        name,
    )
    expect(watched.gw("live-request")).to_contain_text(name)
    dot = watched.gw("live-chart", key="first").locator(".points path").last
    expect(dot).to_be_visible()
    box = dot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hover = watched.gw("live-chart", key="first").locator(".hoverlayer")
    expect(hover).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator(".gw-speed img, .gw-speed a").count() == 0
    # One is missed: all of it is asked for again, once.
    page.evaluate("seq += 1; pass(model, 50, 50)")
    page.wait_for_function("asked === 1")
    # A pong that tells of one that never came does the same.
    page.evaluate("pass(model, 50, 50).then(() => model.tell({ kind: 'pong', seq: seq + 1 }))")
    page.wait_for_function("asked === 2")
    watched.assert_clean()
