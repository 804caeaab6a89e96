// @ts-check
/**
 * The charts of a run: labels counted, how long rows took, how many tokens they had.
 *
 * Promises: at most one question a second, and none while nobody sees this part of the page; each
 * chart has its main figures in words below it, and these come without plotly as well; sizes stay
 * while figures come. Leaves to others: figures and words (Python), plotly.js (_chart.js).
 */

import { wordsOf } from "./_link.js";
import { Chart } from "./_chart.js";
import { ghostButton, h, icon } from "./_dom.js";

/**
 * @import { Link } from "./_link.js"
 * @import { ChartTheme } from "./_chart.js"
 * @typedef {{name: string, counts: number[]}} ChartSeries
 * @typedef {{key: string, kind: string, title: string, column: string | null, unit: string, names: string[], values: any[], edges: number[], isSingle: boolean, hasMore: boolean, series: ChartSeries[], left: [number, number], words: string}} ChartView
 */

const ASK_EVERY_MS = 1000;
const LONGEST_NAME = 22;
const BAR_PX = 24;
const LEAST_PX = 168;
const LEAST_BARS = 8;

/** @param {string} name */
const nameCut = (name) => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name);
// plotly.js reads some tags in a text, and what a model wrote is a text.
/** @param {string} text */
const plainForPlotly = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** @param {ChartView} view @param {ChartTheme} theme @param {any} chosen */
function labelFigure({ names, values, series }, theme, chosen) {
  const places = names.map((_, i) => i);
  const isAlone = series.length === 1;
  const data = series.map(({ name, counts }, i) => ({
    type: "bar",
    orientation: "h",
    name: plainForPlotly(name),
    y: places,
    x: counts,
    text: isAlone ? counts.map((count) => count.toLocaleString("en")) : undefined,
    textposition: "outside",
    textfont: { color: theme.dim },
    cliponaxis: false,
    customdata: names.map(plainForPlotly),
    hovertemplate: `%{customdata}: %{x:,}${isAlone ? "" : `, ${plainForPlotly(name)}`}<extra></extra>`,
    marker: { color: theme.colors[i], opacity: values.map((value) => (chosen === undefined || chosen === value ? 1 : 0.35)) },
  }));
  const layout = {
    bargap: 0.25,
    showlegend: !isAlone,
    margin: { l: 8, r: isAlone ? 40 : 8, t: 4, b: 4, pad: 6 },
    yaxis: { tickvals: places, ticktext: names.map((name) => plainForPlotly(nameCut(name))), autorange: "reversed", showgrid: false, zeroline: false, tickfont: { color: theme.text, size: 12 } },
    xaxis: { rangemode: "tozero", nticks: 5, tickformat: "~s", showticklabels: !isAlone, showgrid: !isAlone, zeroline: !isAlone },
  };
  return { data, layout };
}

/** @param {ChartView} view @param {ChartTheme} theme @param {any} chosen */
function numberFigure({ edges, isSingle, hasMore, series, unit }, theme, chosen) {
  const isAlone = series.length === 1;
  const step = edges.length > 1 ? edges[1] - edges[0] : 1;
  const starts = edges.slice(0, -1);
  const after = unit ? ` ${unit}` : "";
  const told = starts.map((start, i) => {
    const from = start.toLocaleString("en");
    if (hasMore && i === starts.length - 1) return `${from}${after} or more`;
    return isSingle ? `${from}${after}` : `${from} to ${edges[i + 1].toLocaleString("en")}${after}`;
  });
  const data = series.map(({ name, counts }, i) => ({
    type: "bar",
    name: plainForPlotly(name),
    x: isSingle ? starts : starts.map((start) => start + step / 2),
    y: counts,
    width: isAlone ? step * (isSingle ? 0.8 : 0.94) : undefined,
    customdata: told,
    hovertemplate: `%{customdata}: %{y:,}${isAlone ? "" : `, ${plainForPlotly(name)}`}<extra></extra>`,
    marker: { color: theme.colors[i], opacity: starts.map((start, at) => (chosen !== undefined && chosen !== start ? 0.35 : hasMore && at === starts.length - 1 ? 0.6 : 1)) },
  }));
  const hasFew = isSingle && starts.length <= 12;
  // One bar alone would be a wall.
  const room = Math.max(0, LEAST_BARS - starts.length) * step * 0.5;
  const range = room && starts.length ? [starts[0] - room - (isSingle ? step / 2 : 0), edges[edges.length - 1] + room - (isSingle ? step / 2 : 0)] : undefined;
  const layout = {
    barmode: "group",
    bargap: isSingle ? 0.2 : 0.08,
    showlegend: !isAlone && series.length > 0,
    margin: { l: 8, r: 8, t: hasMore ? 24 : 12, b: 8, pad: 2 },
    xaxis: { showgrid: false, zeroline: false, visible: starts.length > 0, nticks: 6, ...(range ? { range } : {}), ticksuffix: unit === "s" ? " s" : "", ...(hasFew ? { tickvals: starts, ticktext: starts.map(String) } : {}) },
    yaxis: { rangemode: "tozero", nticks: 4, tickformat: ",d", visible: starts.length > 0 },
    annotations: hasMore ? [{ text: `Last bar: ${told[told.length - 1]}`, x: 1, y: 1, xref: "paper", yref: "paper", xanchor: "right", yanchor: "bottom", showarrow: false, font: { color: theme.dim, size: 11 } }] : [],
  };
  return { data, layout };
}

/** One chart with its title and its words. */
class ChartBlock {
  /** @param {ChartsPart} part @param {ChartView} view */
  constructor(part, view) {
    this.part = part;
    this.view = view;
    this.title = h("h4", { class: "gw-bt-grow", text: view.title });
    const save = ghostButton("down", `Save the chart “${view.title}” as a picture`, { "data-gw": "batch-chart-save" });
    save.addEventListener("click", () => void this.chart.save(view.title));
    this.words = h("p", { class: "gw-dim", "data-gw": "batch-chart-words" });
    this.chart = new Chart({
      ask: (offset) => part.link.ask("plotly", { offset }),
      signal: part.signal,
      failed: (error) => part.fail(error),
      clicked: (point) => this.click(point),
    });
    this.root = h("section", { class: "gw-bt-chart", "data-gw": "batch-chart", "data-key": view.key }, [
      h("div", { class: "gw-bt-line" }, [this.title, save]),
      h("div", { class: "gw-bt-plot" }, [this.chart.root]),
      this.words,
    ]);
  }

  /** @param {any} point */
  click(point) {
    const { column, kind, values, edges } = this.view;
    if (column === null) return;
    const value = kind === "labels" ? values[point.pointNumber] : edges[point.pointNumber];
    this.part.filter(column, this.part.where()[column] === value ? undefined : value);
  }

  /** @param {ChartView} view */
  show(view) {
    this.view = view;
    const { kind, column, words, title } = view;
    const chosen = column === null ? undefined : this.part.where()[column];
    const bars = kind === "labels" ? view.names.length * Math.max(1, view.series.length) : 0;
    this.chart.root.style.height = `${Math.max(LEAST_PX, bars * BAR_PX + 16)}px`;
    this.root.classList.toggle("gw-bt-clickable", column !== null);
    const more = kind === "labels" && view.left[0] ? ` Not drawn: ${view.left[0].toLocaleString("en")} more values with ${view.left[1].toLocaleString("en")} rows.` : "";
    if (this.words.textContent !== words + more) this.words.textContent = words + more;
    const make = kind === "labels" ? labelFigure : numberFigure;
    this.chart.show((theme) => make(view, theme, chosen), `Chart: ${title}. ${words}${more}`);
  }
}

export class ChartsPart {
  /**
   * @param {Link} link @param {AbortSignal} signal
   * @param {() => Record<string, any>} where what the rows are chosen by
   * @param {(column: string, value: any) => void} filter
   * @param {(views: ChartView[]) => void} counted called with new figures
   */
  constructor(link, signal, where, filter, counted) {
    this.link = link;
    this.signal = signal;
    this.where = where;
    this.filter = filter;
    this.counted = counted;
    this.runId = "";
    this.version = -1;
    this.shown = -1;
    this.turn = 0;
    this.isAsking = false;
    this.isSeen = false;
    this.askedAt = -Infinity;
    /** @type {number | undefined} */
    this.timer = undefined;
    /** @type {Map<string, ChartBlock>} */
    this.blocks = new Map();
    /** @type {ChartView[]} */
    this.views = [];
    this.error = h("div", { class: "gw-bt-mind", role: "alert", hidden: true, "data-gw": "batch-charts-error" });
    this.grid = h("div", { class: "gw-bt-charts" });
    this.root = h("details", { class: "gw-fold", open: true, "data-gw": "batch-charts" }, [
      h("summary", {}, [icon("open"), h("span", { text: "Charts" })]),
      h("div", { class: "gw-fold-body gw-bt-stack" }, [this.error, this.grid]),
    ]);
    const observer = new IntersectionObserver((entries) => {
      this.isSeen = entries[entries.length - 1].isIntersecting;
      this.ask();
    });
    observer.observe(this.root);
    signal.addEventListener("abort", () => {
      observer.disconnect();
      clearTimeout(this.timer);
    });
  }

  /** @param {string} runId @param {number} version of its rows */
  show(runId, version) {
    if (runId !== this.runId) {
      this.runId = runId;
      this.turn++;
      this.shown = -1;
      this.views = [];
      for (const block of this.blocks.values()) block.chart.remove();
      this.blocks.clear();
      this.grid.replaceChildren();
      this.counted([]);
    }
    this.version = version;
    this.ask();
  }

  /** Ask for the figures, if there are new ones that somebody sees, and not too often. */
  ask() {
    if (this.isAsking || this.timer !== undefined || !this.runId || this.signal.aborted) return;
    if (!this.isSeen || this.shown === this.version) return;
    const wait = this.askedAt + ASK_EVERY_MS - performance.now();
    if (wait > 0) {
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.ask();
      }, wait);
    } else void this.fetch();
  }

  async fetch() {
    this.isAsking = true;
    this.askedAt = performance.now();
    const turn = this.turn;
    try {
      const { charts, version } = await this.link.ask("charts");
      if (turn === this.turn) {
        this.shown = version;
        this.views = charts;
        this.draw();
        this.counted(charts);
      }
    } catch (error) {
      if (turn === this.turn) {
        this.shown = this.version; // asked again when something changes
        this.fail(error);
      }
    }
    this.isAsking = false;
    this.ask();
  }

  /** Draw what is known, such as when rows are chosen by another value. */
  draw() {
    for (const view of this.views) {
      let block = this.blocks.get(view.key);
      if (!block) {
        block = new ChartBlock(this, view);
        this.blocks.set(view.key, block);
        this.grid.append(block.root);
      }
      block.show(view);
    }
  }

  /** @param {unknown} error */
  fail(error) {
    const again = h("button", { type: "button", class: "gw-link", text: "Try again", "data-gw": "batch-charts-again" });
    again.addEventListener("click", () => {
      this.error.hidden = true;
      this.root.classList.remove("gw-bt-undrawn");
      this.shown = -1;
      this.ask();
      for (const { chart } of this.blocks.values()) chart.tryAgain();
    });
    this.error.replaceChildren(icon("warn"), h("span", { text: wordsOf(error) }), again);
    this.error.hidden = false;
    this.root.classList.add("gw-bt-undrawn");
  }
}
