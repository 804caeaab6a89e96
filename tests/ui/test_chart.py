"""The chart that all widgets share, alone on a page: plotly.js once, few drawings, an end."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from support.browser import Watched

from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._plotly import plotly_piece

OpenPage = Callable[..., Watched]

STATIC = Path(esm.__code__.co_filename).parent / "static"
ENTRY = """
import { Chart } from "%s";
export default { Chart };
"""
# Two widgets of a page have a copy of the module each. A module loader and another plotly are there
# already, as in JupyterLab and Voila.
SETTING = """
<style>%s</style>
<body data-jp-theme-light="true">
<div class="gw-batch" id="one" style="width: 400px"></div>
<div style="height: 3000px"></div>
<div class="gw-batch" id="two" style="width: 400px"></div>
<script>
  window.define = () => { window.wasDefined = true; };
  window.define.amd = {};
  window.Plotly = "another one";
  window.asked = [];
  window.slow = 0;
  window.askFor = (who) => async (offset) => {
    window.asked.push(who + offset);
    const { size, data } = await window.piece(offset);
    if (window.slow) await new Promise((done) => setTimeout(done, window.slow));
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    return { size, buffers: [new DataView(bytes.buffer)] };
  };
  window.charts = {};
  window.errors = [];
  window.make = (who, place = who) => {
    const controller = new AbortController();
    const chart = new window.Widgets[who].Chart({
      ask: window.askFor(who), signal: controller.signal,
      failed: (error) => window.errors.push(String(error)),
    });
    document.getElementById(place).append(chart.root);
    window.charts[who] = { chart, controller };
    return chart;
  };
  window.line = (y) => (theme) => ({
    data: [{ mode: "lines", x: y.map((_, i) => i), y, line: { color: theme.colors[0] } }],
    layout: {},
  });
</script>
"""


@pytest.fixture
def page(open_page: OpenPage, tmp_path: Path) -> Page:
    watched = open_page("about:blank")
    page = watched.page

    def piece(offset: int) -> dict[str, Any]:
        told, (data,) = plotly_piece({"offset": offset})
        return {"size": told["size"], "data": base64.b64encode(data).decode()}

    page.expose_function("piece", piece)
    entry = tmp_path / "entry.js"
    target = os.path.relpath(STATIC / "_chart.js", tmp_path)
    entry.write_text(ENTRY.strip() % target, encoding="utf-8")
    code = esm(entry, package=Path("/"))
    page.set_content(SETTING % css(STATIC / "batch_table.css"))
    page.evaluate(
        """async (code) => {
          window.Widgets = {};
          for (const who of ["one", "two"]) {
            const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
            window.Widgets[who] = (await import(url)).default;
          }
        }""",
        code,
    )
    return page


def drawn(page: Page, who: str) -> None:
    page.wait_for_function("(who) => window.charts[who].chart.isDrawn", arg=who)


def test_plotly_comes_once_when_a_chart_is_seen_and_disturbs_nothing(page: Page) -> None:
    page.evaluate("make('two').show(line([1, 2]), 'Words')")  # far below what is seen
    page.wait_for_timeout(300)
    assert page.evaluate("asked") == []
    page.evaluate("make('one').show(line([3, 1, 2]), 'A line.')")
    drawn(page, "one")
    once = page.evaluate("asked")
    assert once[0] == "one0"
    page.locator("#two").scroll_into_view_if_needed()
    drawn(page, "two")
    assert page.evaluate("asked") == once
    assert page.evaluate("[window.Plotly, window.wasDefined, errors]") == ["another one", None, []]
    chart = page.locator("#one .gw-chart")
    assert chart.get_attribute("aria-label") == "A line."
    assert chart.get_attribute("role") == "img"


def test_who_fetches_plotly_may_go(page: Page) -> None:
    page.evaluate("slow = 200")
    page.evaluate("make('one').show(line([1, 2]), ''); make('two', 'one').show(line([1, 2]), '')")
    page.wait_for_function("asked.length > 0")
    first = page.evaluate("asked[0][0] === 'o' ? 'one' : 'two'")
    second = "two" if first == "one" else "one"
    page.evaluate("(who) => charts[who].controller.abort()", first)
    drawn(page, second)
    assert page.evaluate("errors") == []
    assert f"{second}0" in page.evaluate("asked")


def test_a_failure_is_told_and_can_be_tried_again(page: Page) -> None:
    page.evaluate(
        """() => {
          window.goodPiece = window.piece;
          window.piece = async () => { throw new Error("no way"); };
        }"""
    )
    page.evaluate("make('one').show(line([1, 2]), '')")
    page.wait_for_function("errors.length === 1")
    page.evaluate("() => { window.piece = goodPiece; charts.one.chart.tryAgain(); }")
    drawn(page, "one")


def test_much_comes_and_little_is_drawn_and_kept(page: Page) -> None:
    page.evaluate("make('one').show(line([0]), '')")
    drawn(page, "one")
    counts = page.evaluate(
        """async () => {
          const { chart } = charts.one;
          const counts = { react: 0, extend: 0 };
          const { react, extendTraces } = chart.plotly;
          chart.plotly = { ...chart.plotly,
            react: (...a) => { counts.react++; return react(...a); },
            extendTraces: (...a) => { counts.extend++; return extendTraces(...a); } };
          for (let i = 0; i < 50; i++) chart.show(line([i, i + 1]), "");
          await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame);
          const shown = [...chart.drawn.data[0].y];
          for (let i = 0; i < 300; i++) chart.append([{ x: [i, i], y: [i, i] }], 100);
          await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame);
          const { y } = chart.drawn.data[0];
          return { ...counts, shown, kept: y.length, last: y.at(-1) };
        }"""
    )
    assert counts["shown"] == [49, 50]
    assert counts["react"] == 1
    assert counts["extend"] == 1
    assert (counts["kept"], counts["last"]) == (100, 299)

    # In other colours it is the same line, with the points that came.
    color = "() => charts.one.chart.drawn.data[0].line.color"
    before = page.evaluate(color)
    page.evaluate(
        "document.body.dataset.jpThemeLight = 'false';"
        "document.body.style.setProperty('--jp-brand-color1', 'rgb(1, 2, 3)')"
    )
    page.wait_for_function(f"(before) => ({color})() !== before", arg=before)
    assert page.evaluate(color) == "rgb(1, 2, 3)"
    assert page.evaluate("charts.one.chart.drawn.data[0].y.length") == 100


def test_what_a_model_wrote_is_no_formula_for_the_pages_mathjax(page: Page) -> None:
    page.evaluate(
        """() => {
          window.touched = [];
          window.MathJax = new Proxy({ version: "3.2.2" }, {
            get: (all, key) => {
              if (key !== "version") touched.push(String(key));
              return all[key];
            },
          });
          const text = "$\\\\href{https://example.org}{5}$";
          const figure = () => ({
            data: [{ type: "bar", x: [0], y: [2], text: [text] }],
            layout: { xaxis: { tickvals: [0], ticktext: [text] } },
          });
          make("one").show(figure, "");
        }"""
    )
    drawn(page, "one")
    shown = "Array.from(document.querySelectorAll('#one svg text'), (one) => one.textContent)"
    assert page.evaluate(shown).count("$\\href{https://example.org}{5}$") == 2
    with page.expect_download():
        page.evaluate("charts.one.chart.save('chart')")
    assert page.evaluate("touched") == []


def test_nothing_of_a_chart_stays_behind(page: Page) -> None:
    page.evaluate("make('one').show(line([1, 2]), '')")
    drawn(page, "one")
    assert page.locator("#one svg").count() > 0
    page.evaluate("charts.one.controller.abort()")
    assert page.locator("#one .gw-chart svg").count() == 0
    left = page.evaluate(
        """async () => {
          const { chart } = charts.one;
          chart.show(line([5]), ""); chart.append([{ x: [1], y: [1] }], 10); chart.refresh();
          await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame);
          return [chart.root._fullLayout === undefined, chart.root.querySelector("svg") === null];
        }"""
    )
    assert left == [True, True]
