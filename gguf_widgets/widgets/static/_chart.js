// @ts-check
/**
 * A small chart, and the one copy of plotly.js that all charts of a page share.
 *
 * Promises: plotly.js is fetched once a page, from Python and not from a network, and only when a
 * chart is first seen; what is drawn follows light and dark; however often figures come, a chart is
 * drawn once a frame, and not at all while nobody sees it; with the view everything of it is gone.
 * Leaves to others: figures and words (Python), what a chart is made of (whoever uses it).
 */

import { h } from "./_dom.js";

/**
 * @typedef {(offset: number) => Promise<{size: number, buffers: DataView[]}>} AskPiece
 * @typedef {{text: string, dim: string, line: string, colors: string[], font: string, isDark: boolean}} ChartTheme
 * @typedef {(theme: ChartTheme) => {data: any[], layout: any}} ChartFigure
 * @typedef {{promise: Promise<any>}} SharedPlotly
 */

const PLOTLY_KEY = Symbol.for("gguf-widgets.plotly");
// Texts may be what a model wrote: between dollars they are no formulas for a MathJax of the page,
// which would take them for markup, with links.
const CHART_CONFIG = { displayModeBar: false, responsive: false, doubleClick: false, showTips: false, locale: "en", typesetMath: false };
// Read on white and on near black; the first is the accent.
const LIGHT_COLORS = ["#ef6c00", "#2e7d32", "#8e24aa", "#c2185b", "#00838f"];
const DARK_COLORS = ["#ffb74d", "#81c784", "#ce93d8", "#f48fb1", "#4dd0e1"];

/** What is said when the view that fetched plotly.js has gone: whoever waits fetches it. */
class FetcherGone extends Error {
  name = "FetcherGone"; // each widget of a page has its own copy of this class
}

/** @param {AskPiece} ask @param {AbortSignal} signal */
async function fetchPlotly(ask, signal) {
  const gone = new Promise((_resolve, reject) => {
    const end = () => reject(new FetcherGone("The view is gone."));
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { once: true });
  });
  gone.catch(() => {});
  const pieces = [];
  for (let offset = 0, size = 1; offset < size; ) {
    const answer = await Promise.race([ask(offset), gone]);
    const piece = answer.buffers[0];
    pieces.push(piece);
    offset += piece.byteLength;
    size = answer.size;
  }
  const stream = new Blob(pieces).stream().pipeThrough(new DecompressionStream("gzip"));
  return await runScript(await new Response(stream).blob());
}

/** Run plotly.js where neither a module loader nor another plotly of the page sees it. @param {Blob} text */
function runScript(text) {
  const scope = /** @type {any} */ (window);
  const place = `gw${Math.random().toString(36).slice(2)}`;
  const parts = [`(function (module, exports, define) {`, text, `\nwindow[${JSON.stringify(place)}] = module.exports;\n}).call(window, { exports: {} });`];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  const before = Object.getOwnPropertyDescriptor(scope, "Plotly");
  return new Promise((resolve, reject) => {
    const script = h("script", { src: url });
    const end = () => {
      URL.revokeObjectURL(url);
      script.remove();
      const plotly = scope[place];
      delete scope[place];
      // It puts itself there, whoever was there before.
      if (before) Object.defineProperty(scope, "Plotly", before);
      else delete scope.Plotly;
      if (plotly?.react) resolve(plotly);
      else reject(new Error("The browser could not run plotly.js, which draws the charts."));
    };
    script.addEventListener("load", end);
    script.addEventListener("error", end);
    document.head.append(script);
  });
}

/**
 * Return plotly.js: the page's, or fetched now.
 * @param {AskPiece} ask @param {AbortSignal} signal @returns {Promise<any>}
 */
export async function sharedPlotly(ask, signal) {
  const scope = /** @type {Record<symbol, SharedPlotly | undefined>} */ (/** @type {any} */ (window));
  for (;;) {
    let shared = scope[PLOTLY_KEY];
    if (!shared) {
      const own = (shared = { promise: fetchPlotly(ask, signal) });
      scope[PLOTLY_KEY] = own;
      own.promise.catch(() => {
        if (scope[PLOTLY_KEY] === own) delete scope[PLOTLY_KEY]; // the next one tries again
      });
    }
    try {
      return await shared.promise;
    } catch (error) {
      if (signal.aborted || /** @type {any} */ (error)?.name !== "FetcherGone") throw error;
    }
  }
}

/** @param {string} color @returns {boolean} */
function isDarkColor(color) {
  const [r, g, b] = (color.match(/[\d.]+/g) ?? ["255", "255", "255"]).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b < 128;
}

/** @param {Element} element @returns {ChartTheme} */
function themeOf(element) {
  const style = getComputedStyle(element);
  const probe = h("span", { hidden: true });
  element.append(probe);
  const color = (/** @type {string} */ name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color; // resolved: plotly.js knows no variables
  };
  const isDark = !isDarkColor(color("--gw-text"));
  const theme = { text: color("--gw-text"), dim: color("--gw-dim"), line: color("--gw-line"), colors: [color("--gw-accent"), ...(isDark ? DARK_COLORS : LIGHT_COLORS)], font: style.fontFamily, isDark };
  probe.remove();
  return theme;
}

/** The colour behind an element, for a picture of it. @param {Element | null} element @returns {string} */
function backgroundOf(element) {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (!/^(transparent|rgba\(.*, 0\))$/.test(color)) return color;
  }
  return "#fff";
}

/** What all charts look like. @param {ChartTheme} theme @param {any} layout */
function withLook(theme, layout) {
  const axis = (/** @type {any} */ given) => ({ gridcolor: theme.line, linecolor: theme.line, zerolinecolor: theme.line, tickfont: { color: theme.dim, size: 12 }, automargin: true, fixedrange: true, ...given });
  return {
    autosize: true,
    margin: { l: 8, r: 8, t: 8, b: 8, pad: 4 },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: theme.font, size: 12, color: theme.text },
    colorway: theme.colors,
    hoverlabel: { bgcolor: theme.isDark ? "#424242" : "#fff", bordercolor: theme.line, font: { family: theme.font, size: 13, color: theme.text } },
    dragmode: false,
    showlegend: false,
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { color: theme.dim } },
    ...layout,
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
  };
}

/** One chart; it ends with the signal, or with `remove`. */
export class Chart {
  /**
   * @param {{ask: AskPiece, signal: AbortSignal, failed: (error: unknown) => void, clicked?: (point: any) => void}} options
   */
  constructor({ ask, signal, failed, clicked }) {
    this.ask = ask;
    this.failed = failed;
    this.clicked = clicked;
    /** @type {any} */
    this.plotly = undefined;
    /** @type {ChartFigure | undefined} */
    this.figure = undefined;
    /** @type {{x: number[], y: number[]}[]} */
    this.coming = [];
    this.most = 0;
    this.isDrawn = this.isSeen = this.isStale = this.isLoading = this.hasFailed = this.isResized = this.isGrown = false;
    /** @type {number | undefined} */
    this.frame = undefined;
    this.root = h("div", { class: "gw-chart", role: "img", "data-gw": "chart" });
    this.controller = new AbortController();
    const own = this.controller.signal;
    signal.addEventListener("abort", () => this.remove(), { once: true, signal: own });
    const seen = new IntersectionObserver((entries) => {
      this.isSeen = entries[entries.length - 1].isIntersecting;
      if (this.isSeen) this.later();
    });
    const sized = new ResizeObserver(() => {
      this.isResized = true;
      this.later();
    });
    const themed = new MutationObserver(() => this.refresh());
    seen.observe(this.root);
    sized.observe(this.root);
    themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh(), { signal: own });
    own.addEventListener("abort", () => {
      seen.disconnect();
      sized.disconnect();
      themed.disconnect();
      if (this.frame !== undefined) cancelAnimationFrame(this.frame);
      if (this.isDrawn) this.plotly.purge(this.root);
      this.figure = this.plotly = undefined;
      this.coming = [];
    });
  }

  /** Show this from now on; `words` are for whoever does not see it. @param {ChartFigure} figure @param {string} words */
  show(figure, words) {
    this.figure = figure;
    this.coming = [];
    this.isGrown = false;
    this.root.setAttribute("aria-label", words);
    this.refresh();
  }

  /**
   * Add points behind those that are shown, of which `most` stay.
   * @param {{x: number[], y: number[]}[]} points one for each line @param {number} most
   */
  append(points, most) {
    points.forEach(({ x, y }, i) => {
      const line = (this.coming[i] ??= { x: [], y: [] });
      line.x.push(...x);
      line.y.push(...y);
      // Nobody may be looking for hours.
      if (line.x.length > most) this.coming[i] = { x: line.x.slice(-most), y: line.y.slice(-most) };
    });
    this.most = most;
    this.later();
  }

  /** Draw again, such as in other colours. */
  refresh() {
    this.isStale = true;
    this.later();
  }

  later() {
    if (this.controller.signal.aborted || !this.isSeen || !this.figure) return;
    if (!this.plotly) void this.load();
    else this.frame ??= requestAnimationFrame(() => this.draw());
  }

  async load() {
    if (this.isLoading || this.hasFailed) return;
    this.isLoading = true;
    try {
      const plotly = await sharedPlotly(this.ask, this.controller.signal);
      if (!this.controller.signal.aborted) this.plotly = plotly;
      this.later();
    } catch (error) {
      this.hasFailed = true;
      if (!this.controller.signal.aborted) this.failed(error);
    }
    this.isLoading = false;
  }

  /** After what went wrong with plotly.js. */
  tryAgain() {
    this.hasFailed = false;
    this.later();
  }

  /** What plotly.js has put on the element. @returns {any} */
  get drawn() {
    return this.root;
  }

  draw() {
    this.frame = undefined;
    if (!this.figure || !this.plotly || !this.root.clientWidth) return;
    if (this.isStale || !this.isDrawn) {
      const theme = themeOf(this.root);
      const { data, layout } = this.figure(theme);
      if (this.isGrown) data.forEach((line, i) => Object.assign(line, { x: this.drawn.data[i].x, y: this.drawn.data[i].y }));
      void this.plotly.react(this.root, data, withLook(theme, layout), { ...CHART_CONFIG });
      if (!this.isDrawn && this.clicked) this.drawn.on("plotly_click", (/** @type {any} */ event) => this.clicked?.(event.points[0]));
      this.isDrawn = true;
      this.isStale = this.isResized = false;
    } else if (this.isResized) {
      this.isResized = false;
      void this.plotly.Plots.resize(this.root);
    }
    const lines = this.coming;
    this.coming = [];
    const numbers = lines.flatMap((line, i) => (line?.x.length ? [i] : []));
    if (!numbers.length) return;
    const update = { x: numbers.map((i) => lines[i].x), y: numbers.map((i) => lines[i].y) };
    this.isGrown = true;
    void this.plotly.extendTraces(this.root, update, numbers, this.most);
  }

  /** Keep it as a picture. @param {string} name */
  async save(name) {
    if (!this.isDrawn) return;
    const { width, height } = this.root.getBoundingClientRect();
    const { data, layout } = this.drawn;
    const figure = { data, layout: { ...layout, paper_bgcolor: backgroundOf(this.root) }, config: { ...CHART_CONFIG } };
    await this.plotly.downloadImage(figure, { format: "png", filename: name, width: Math.round(width), height: Math.round(height), scale: 2 });
  }

  remove() {
    this.controller.abort();
  }
}
