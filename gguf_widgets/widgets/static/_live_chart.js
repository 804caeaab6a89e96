// @ts-check
/**
 * One of the live charts: its title, its picture, its main figures in words.
 *
 * Promises: the words come without plotly.js as well; zooming in one chart zooms all; a name that
 * came from outside is text; sizes stay while figures come. Leaves to others: the figures
 * (_live_data.js), when to draw (live_charts.js), plotly.js (_chart.js).
 */

import { Chart } from "./_chart.js";
import { ghostButton, h } from "./_dom.js";
import { liveDuration, liveNumber, liveScale } from "./_live_words.js";

/**
 * @import { AskPiece, ChartTheme } from "./_chart.js"
 * @import { LiveAnswer, LiveTable } from "./_live_data.js"
 * @typedef {{field: string, name: string, term: string}} LiveLine
 * @typedef {{key: string, title: string, unit: string, lines: LiveLine[], empty: string, tells: string, missing: string[], dots: boolean}} LiveView
 * @typedef {{table: LiveTable, shift: number, from: number, to: number, isNow: boolean, missing: Record<string, string>, missed: number}} LiveFrame
 */

const DAY_S = 86_400;
const LIVE_DASHES = ["solid", "solid", "dot", "dash"];

/** @param {string} text @returns {string} a text in which plotly.js finds no tags */
const livePlain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** A chart that tells of a zoom with the mouse. */
class ZoomChart extends Chart {
  /** @param {{ask: AskPiece, signal: AbortSignal, failed: (error: unknown) => void, zoomed: (range: [number, number] | null) => void}} options times as plotly.js has them, in ms; null: all again */
  constructor({ zoomed, ...options }) {
    super(options);
    this.zoomed = zoomed;
    this.isListening = false;
  }

  draw() {
    super.draw();
    if (this.isListening || !this.isDrawn) return;
    this.isListening = true;
    this.drawn.on("plotly_relayout", (/** @type {any} */ event) => {
      if (event["xaxis.range[0]"] === undefined) return;
      // It writes times without a zone, which stand for those of London.
      const at = (/** @type {any} */ given) => (typeof given === "number" ? given : Date.parse(`${String(given).replace(" ", "T")}Z`));
      const range = [at(event["xaxis.range[0]"]), at(event["xaxis.range[1]"])];
      if (range.every(Number.isFinite)) this.zoomed([Math.min(...range), Math.max(...range)]);
    });
    this.drawn.on("plotly_doubleclick", () => this.zoomed(null));
  }
}

export class LiveChart {
  /**
   * @param {LiveView} view
   * @param {{ask: AskPiece, signal: AbortSignal, failed: (error: unknown) => void, zoomed: (range: [number, number] | null) => void}} options
   */
  constructor(view, options) {
    this.view = view;
    const save = ghostButton("down", `Save the chart “${view.title}” as a picture`, { "data-gw": "live-chart-save" });
    save.addEventListener("click", () => void this.chart.save(view.title));
    this.words = h("p", { class: "gw-dim", "data-gw": "live-chart-words" });
    this.chart = new ZoomChart(options);
    const terms = view.lines.map(({ name, term }) => (view.lines.length > 1 ? `${name}: ${term}` : term)).join("\n");
    this.root = h("section", { class: "gw-lc-chart", "data-gw": "live-chart", "data-key": view.key }, [
      h("div", { class: "gw-lc-head" }, [h("h3", { class: "gw-lc-grow", text: view.title, title: terms }), save]),
      this.chart.root,
      this.words,
    ]);
  }

  /** @param {LiveFrame} frame */
  show(frame) {
    const said = this.view.dots ? this.answerWords(frame) : this.lineWords(frame);
    if (this.words.textContent !== said) this.words.textContent = said;
    this.chart.show((theme) => (this.view.dots ? this.dots(frame, theme) : this.lines(frame, theme)), `Chart: ${this.view.title}. ${said}`);
  }

  /** @param {LiveFrame} frame @param {ChartTheme} theme @param {any[]} data @param {number} most @param {string} unit */
  figure({ from, to, shift }, theme, data, most, unit) {
    const isTouched = matchMedia("(pointer: coarse)").matches; // a finger moves the page
    const span = to - from;
    const layout = {
      // The words below have what a legend would have for one line.
      showlegend: data.length > 1,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: theme.dim, size: 12 }, itemclick: false, itemdoubleclick: false, bgcolor: "transparent" },
      margin: { l: 8, r: 12, t: data.length > 1 ? 28 : 10, b: 4, pad: 4 },
      dragmode: isTouched ? false : "zoom",
      hovermode: this.view.dots ? "closest" : "x unified",
      hoverdistance: 30,
      selectdirection: "h",
      xaxis: { type: "date", range: [from * 1000 + shift, to * 1000 + shift], fixedrange: isTouched, nticks: 5, showgrid: false, tickformatstops: liveTicks(span), hoverformat: span > DAY_S ? "%-d %b, %H:%M:%S" : "%H:%M:%S", tickangle: 0 },
      yaxis: { rangemode: "tozero", nticks: 4, ticksuffix: unit ? ` ${unit}` : "", showticksuffix: "last", separatethousands: true, ...(most > 0 ? {} : { range: [0, 1], showticklabels: false }), ...(this.view.unit === "percent" && most > 0 && most <= 100 ? { range: [0, 105] } : {}), ...(this.view.unit === "count" && most > 0 && most < 4 ? { dtick: 1 } : {}) },
    };
    return { data, layout };
  }

  /** @param {LiveFrame} frame @param {ChartTheme} theme */
  lines(frame, theme) {
    const columns = this.view.lines.map(({ field }) => frame.table.numbers(field));
    let most = 0;
    for (const column of columns) for (const value of column) if (value > most) most = value;
    const { by, unit } = liveScale(this.view.unit, most);
    const shape = ["count", "tokens"].includes(this.view.unit) ? "hv" : "linear";
    // Copies, made now: a chart is drawn some time after it was asked for, and the table goes on.
    const xs = frame.table.times().map((at) => at * 1000 + frame.shift);
    const data = this.view.lines.map(({ name }, i) => ({
      type: "scatter",
      mode: "lines",
      name: livePlain(name),
      x: xs,
      y: columns[i].map((value) => value / by),
      connectgaps: false,
      line: { color: theme.colors[i % theme.colors.length], width: 1.5, shape, dash: LIVE_DASHES[i % LIVE_DASHES.length] },
      hovertemplate: `%{y:,.3~r}${unit ? ` ${unit}` : ""} ${livePlain(name)}<extra></extra>`,
    }));
    return this.figure(frame, theme, data, most, unit);
  }

  /** @param {LiveFrame} frame @param {ChartTheme} theme */
  dots(frame, theme) {
    // Each dot is an element of the page: those beside the picture are left out.
    const answers = frame.table.answers.filter(({ at }) => at >= frame.from && at <= frame.to);
    /** @type {(answer: LiveAnswer, field: string) => number | null} */
    const value = (answer, field) => /** @type {any} */ (answer)[field];
    let most = 0;
    for (const answer of answers) for (const { field } of this.view.lines) most = Math.max(most, value(answer, field) ?? 0);
    const { by, unit } = liveScale(this.view.unit, most);
    const data = this.view.lines.map(({ field, name }, i) => {
      const those = answers.filter((answer) => value(answer, field) !== null);
      return {
        type: "scatter",
        mode: "markers",
        name: livePlain(name),
        x: those.map(({ at }) => at * 1000 + frame.shift),
        y: those.map((answer) => (value(answer, field) ?? 0) / by),
        customdata: those.map((answer) => this.hoverWords(answer, field, name)),
        hovertemplate: "%{x}<br>%{customdata}<extra></extra>",
        marker: { color: theme.colors[i % theme.colors.length], size: 6, symbol: ["circle", "diamond", "triangle-up"][i % 3], opacity: 0.8 },
      };
    });
    return this.figure(frame, theme, data, most, unit);
  }

  /** @param {LiveAnswer} answer @param {string} field @param {string} name */
  hoverWords(answer, field, name) {
    const value = /** @type {any} */ (answer)[field];
    const said = [`<b>${livePlain(answer.model)}</b>`];
    if (this.view.key === "first") {
      said.push(`first token after ${liveDuration(value)}`);
      if (answer.queue_s) said.push(`of which it waited ${liveDuration(answer.queue_s)} for its turn`);
    } else said.push(`${name}: ${liveDuration(value)}`);
    if (answer.prompt !== null) said.push(`${answer.prompt.toLocaleString("en")} tokens read${answer.cached ? `, ${answer.cached.toLocaleString("en")} of them known before` : ""}`);
    if (answer.written !== null) said.push(`${answer.written.toLocaleString("en")} tokens written${answer.speed === null ? "" : `, ${liveNumber("tokens/s", answer.speed)}`}`);
    if (answer.isTable) said.push("a row of a table");
    if (answer.reason === "aborted") said.push("stopped");
    return said.join("<br>");
  }

  // -- in words -----------------------------------------------------------------------------------

  /** @param {LiveFrame} frame @returns {string} */
  why({ missing }) {
    return this.view.missing.flatMap((name) => (missing[name] ? [missing[name]] : [])).join(" ");
  }

  /** @param {LiveFrame} frame @returns {string} */
  lineWords(frame) {
    const { view } = this;
    const { table, from, to, isNow } = frame;
    const times = table.times();
    const figures = view.lines.map(({ field, name }) => {
      const numbers = table.numbers(field);
      let [most, sum, num, isKnown, last] = [0, 0, 0, false, NaN];
      for (let i = 0; i < numbers.length; i++) {
        const value = numbers[i];
        if (value !== value || times[i] < from || times[i] > to) continue;
        isKnown = true;
        last = value;
        if (value > most) most = value;
        if (value > 0) [sum, num] = [sum + value, num + 1];
      }
      return { name, most, mean: num ? sum / num : 0, isKnown, last };
    });
    const why = this.why(frame);
    const known = figures.filter(({ isKnown }) => isKnown);
    const isNothing = view.key === "processor" || view.key === "memory" ? !known.length : known.every(({ most }) => most === 0);
    if (isNothing) return [why || view.empty].join(" ");
    const say = (/** @type {number} */ value) => liveNumber(view.unit, value);
    const told = known.map(({ name, most, mean, last }) => {
      if (view.tells === "speed" && !most) return `${name} nothing`;
      const now = `${isNow ? "now" : "at the end"} ${say(last)}`;
      const what = view.tells === "speed" ? `${now}, ${say(mean)} on average while there was any, at most ${say(most)}` : say(most) === say(last) ? now : `${now}, at most ${say(most)}`;
      return view.lines.length > 1 ? `${name} ${what}` : what;
    });
    const text = told.join("; ");
    return `${text[0].toUpperCase()}${text.slice(1)}.${why ? ` ${why}` : ""}`;
  }

  /** @param {LiveFrame} frame @returns {string} */
  answerWords({ table, from, to, missed }) {
    const answers = table.answers.filter(({ at }) => at >= from && at <= to);
    /** @param {string} field @param {number} share */
    const at = (field, share) => {
      const values = answers.flatMap((answer) => (/** @type {any} */ (answer)[field] === null ? [] : [/** @type {any} */ (answer)[field]])).sort((a, b) => a - b);
      return values.length ? values[Math.min(values.length - 1, Math.ceil(share * values.length) - 1)] : NaN;
    };
    const { view } = this;
    const more = table.leftOut || missed ? ` Only the latest ${table.answers.length.toLocaleString("en")} answers are drawn; ${(table.leftOut + missed).toLocaleString("en")} are not.` : "";
    const num = answers.length.toLocaleString("en");
    if (view.tells === "wait") {
      const [half, most] = [at("ttft_s", 0.5), at("ttft_s", 0.95)];
      if (Number.isNaN(half)) return view.empty;
      if (answers.length === 1) return `One answer began after ${liveDuration(half)}.${more}`;
      return `Half of ${num} answers began within ${liveDuration(half)}, 95% within ${liveDuration(most)}.${more}`;
    }
    const [usual, rare] = [at("itl_p50_s", 0.5), at("itl_p99_s", 0.5)];
    if (Number.isNaN(usual)) return answers.length ? "These answers were too short to tell." : view.empty;
    return `Usually ${liveDuration(usual)}; one pause in 100 takes ${liveDuration(rare)} or longer.${more}`;
  }
}

/** @param {number} span in seconds */
function liveTicks(span) {
  // Where one day is shown, the date would only take the room.
  const [short, long] = span > DAY_S ? ["%-d %b\n%H:%M", "%-d %b"] : ["%H:%M", "%H:%M"];
  return [
    { dtickrange: [null, 1000], value: "%H:%M:%S" },
    { dtickrange: [1000, 60_000], value: "%H:%M:%S" },
    { dtickrange: [60_000, DAY_S * 500], value: short },
    { dtickrange: [DAY_S * 500, null], value: long },
  ];
}
