// @ts-check
/**
 * The page of `LiveCharts`: what the models and this machine do, while they do it.
 *
 * Promises: nothing is asked for before somebody sees it, nor while nobody does; of what comes only
 * so much is kept as is drawn; charts are drawn as often as a change could be seen, and no oftener;
 * a message that was missed is noticed; everything ends with the view. Leaves to others: figures and
 * what they mean (Python), one chart (_live_chart.js), the rows it draws (_live_data.js).
 *
 * Messages: see live_charts.py.
 */

import { Heartbeat, newMid } from "./_connection.js";
import { keepKeys } from "./_lab_keys.js";
import { Link } from "./_link.js";
import { LiveChart } from "./_live_chart.js";
import { LiveTable, liveAnswer } from "./_live_data.js";
import { LiveScreen } from "./_live_screen.js";
import { liveClock, liveDuration, liveShift } from "./_live_words.js";
import { giveFile } from "./_give_file.js";

/**
 * @import { LinkModel } from "./_link.js"
 * @import { LiveSession } from "./_live_bar.js"
 * @import { LiveView } from "./_live_chart.js"
 * @import { LiveAnswer } from "./_live_data.js"
 * @import { LiveList } from "./_live_now.js"
 * @typedef {{seq: number, points?: number[][], requests?: any[][], missed?: number, live?: LiveList, notices?: string[], missing?: Record<string, string>, ended?: boolean}} LiveTick
 */

const SHORTEST_S = 2; // that a zoom shows
const STEPS = 300; // in which a picture moves on: some two pixels of a chart each
const SOONEST_MS = 500;
const LATEST_MS = 3000;
const AWAY_MS = 500;
const OTHERS_MS = 10_000; // a session of another program is read again
const MOST_TICKS = 600;

class LiveChartsView {
  /** @param {LinkModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    this.signal = signal;
    this.page = `l${newMid()}`;
    this.link = new Link(model, this.page, signal);
    this.table = new LiveTable();
    /** @type {LiveChart[]} */
    this.charts = [];
    this.seq = -1;
    this.turn = 0; // of asking for figures: what an earlier one brings is too late
    this.isSeen = this.isWatching = this.isLoading = this.hasData = this.isPaused = this.isHeld = false;
    this.hasAsked = false; // somebody, in this session
    /** @type {LiveTick[]} */
    this.waiting = [];
    /** @type {string | null} */
    this.session = null;
    /** @type {number | null} */
    this.seconds = 300;
    /** @type {[number, number] | null} */
    this.zoom = null;
    /** @type {LiveSession[]} */
    this.sessions = [];
    /** @type {LiveList} */
    this.live = { num: 0, rows: [] };
    /** @type {Record<string, string>} */
    this.missing = {};
    /** @type {number[]} the last point of this session, without its time */
    this.now = [];
    /** @type {string[]} */
    this.fields = [];
    /** @type {LiveAnswer | undefined} */
    this.lastAnswer = undefined;
    this.missed = 0;
    this.note = "";
    this.drawnAt = -Infinity;
    /** @type {number | undefined} */
    this.drawTimer = undefined;
    /** @type {number | undefined} */
    this.awayTimer = undefined;
    /** @type {number | undefined} */
    this.othersTimer = undefined;
    /** @type {Heartbeat | null} */
    this.heartbeat = null;
    this.sessionsKey = this.chartsKey = "";
    this.screen = new LiveScreen(el, model.get("height"), signal, {
      window: (seconds) => this.go({ seconds, zoom: null, isPaused: false }),
      pause: () => (this.isPaused ? this.go({ isPaused: false }) : this.standStill()),
      zoom: (factor) => this.zoomBy(factor),
      back: () => this.go({ zoom: null, isPaused: false }),
      session: (session) => this.go({ session, seconds: session === null ? 300 : null, zoom: null, isPaused: false }),
      opened: () => void this.askSessions(),
      save: (what) => void this.save(what),
      stop: (id) => void this.stop(id),
    });
    this.root = this.screen.root;
    this.listen(model, signal);
  }

  /** @param {LinkModel} model @param {AbortSignal} signal */
  listen(model, signal) {
    const onMessage = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => this.receive(content, buffers);
    model.on("msg:custom", onMessage);
    keepKeys(this.root, signal);
    const observer = new IntersectionObserver((entries) => {
      this.isSeen = entries[entries.length - 1].isIntersecting;
      this.look();
    });
    observer.observe(this.root);
    // A chart that is drawn anew under the mouse would lose what is being drawn over it.
    this.screen.grid.addEventListener("pointerdown", () => (this.isHeld = true), { signal });
    for (const name of ["pointerup", "pointercancel", "blur"]) addEventListener(name, () => this.release(), { signal });
    document.addEventListener("visibilitychange", () => this.look(), { signal });
    signal.addEventListener("abort", () => {
      observer.disconnect();
      model.off("msg:custom", onMessage);
      for (const timer of [this.drawTimer, this.awayTimer, this.othersTimer]) clearTimeout(timer);
      if (this.isWatching) this.link.tell("unwatch");
      this.root.remove();
    });
  }

  /** Somebody looks, or does so no longer: then nothing has to come. */
  look() {
    const isLooked = this.isSeen && !document.hidden;
    clearTimeout(this.awayTimer);
    if (isLooked && !this.isWatching) this.watch();
    else if (!isLooked && this.isWatching) {
      this.awayTimer = setTimeout(() => {
        this.isWatching = false;
        this.link.tell("unwatch");
      }, AWAY_MS);
    }
  }

  watch() {
    this.isWatching = true;
    this.heartbeat ??= new Heartbeat(this.model, (state) => this.showConnection(state), () => this.watch(), this.signal);
    this.seq = -1;
    this.link.tell("watch");
    if (!this.isPaused || !this.hasData) void this.load();
    void this.askSessions();
  }

  // -- from Python --------------------------------------------------------------------------------

  /** @param {any} content @param {DataView[]} buffers */
  receive(content, buffers) {
    this.heartbeat?.heard();
    if (content.kind === "answer") this.link.receive(content, buffers);
    else if (content.kind === "tick") this.take(content);
    else if (content.kind === "pong" && this.isWatching && this.seq >= 0 && content.seq > this.seq) this.missedSome();
  }

  /** @param {LiveTick} tick */
  take(tick) {
    if (!this.isWatching) return;
    if (this.seq >= 0 && tick.seq !== this.seq + 1) return this.missedSome();
    this.seq = tick.seq;
    if (this.isLoading) {
      this.waiting.push(tick); // and is added to what is being asked for
      if (this.waiting.length > MOST_TICKS) this.waiting.shift();
    } else this.apply(tick);
  }

  /** The charts begin again with all there is. */
  missedSome() {
    this.seq = -1;
    if (this.isFollowing) void this.load();
  }

  /** @returns {boolean} whether the charts go along with what comes */
  get isFollowing() {
    return this.session === null && !this.zoom && !this.isPaused;
  }

  /** @param {LiveTick} tick */
  apply({ points = [], requests = [], missed = 0, live, notices, missing, ended }) {
    if (live) this.live = live;
    if (missing) this.missing = missing;
    if (notices) this.screen.showNotices(notices, Boolean(ended));
    const last = points[points.length - 1];
    if (last && this.fields.length && last.length - 1 !== this.fields.length) {
      this.now = [];
      if (this.isFollowing) void this.load(); // a graphics card more, or one less
      return;
    }
    if (last) this.now = last.slice(1);
    if (requests.length) {
      this.lastAnswer = liveAnswer(requests[requests.length - 1]);
      this.hasAsked = true;
    }
    if (this.isFollowing) {
      for (const [at, ...values] of points) this.table.add(at, values);
      for (const row of requests) this.table.addAnswer(row);
      this.missed += missed;
      if (this.seconds !== null) this.table.forget(this.table.last - this.seconds);
      if (this.table.isFull) void this.load();
      if (points.length || requests.length) this.later();
    }
    this.showNow();
  }

  // -- asking -------------------------------------------------------------------------------------

  /** What the charts are to show, as Python is asked for it. */
  query() {
    if (this.zoom) {
      const [since, until] = this.zoom;
      const margin = (until - since) / 50; // a line goes on beyond the picture
      return { session: this.session, since: since - margin, until: until + margin };
    }
    return { session: this.session, last_s: this.seconds };
  }

  /** @param {Partial<{session: string | null, seconds: number | null, zoom: [number, number] | null, isPaused: boolean}>} change */
  go(change) {
    Object.assign(this, change);
    this.showBar();
    void this.load();
  }

  async load() {
    const turn = ++this.turn;
    this.isLoading = true;
    clearTimeout(this.othersTimer);
    try {
      const told = await this.link.ask("series", this.query());
      if (turn !== this.turn) return;
      this.screen.error.hidden = true;
      this.fill(told);
    } catch (error) {
      if (turn !== this.turn) return;
      this.isLoading = false;
      this.screen.fail(error, () => void this.load());
      this.screen.showState("");
    }
  }

  /** @param {any} told */
  fill(told) {
    this.hasData = true;
    this.isLoading = false;
    this.missed = 0;
    this.note = [told.note, told.more].filter(Boolean).join(" ");
    this.live = told.live;
    this.missing = told.missing;
    this.screen.showNotices(told.notices, told.ended);
    this.table.fill(told, told.buffers);
    if (this.session === null) {
      this.fields = told.fields;
      if (!this.zoom && this.table.length) this.now = told.fields.map((/** @type {string} */ field) => this.table.now(field));
      this.lastAnswer = this.table.answers[this.table.answers.length - 1] ?? this.lastAnswer;
      this.hasAsked ||= this.table.answers.length > 0;
    }
    this.makeCharts(told.charts);
    for (const tick of this.waiting.splice(0)) this.apply(tick);
    this.showBar();
    this.showNow();
    this.draw();
    const chosen = this.chosen();
    if (chosen?.state === "running") this.othersTimer = setTimeout(() => this.isWatching && !this.zoom && void this.load(), OTHERS_MS);
  }

  async askSessions() {
    try {
      const { sessions, older } = await this.link.ask("sessions");
      const key = JSON.stringify([sessions, older]);
      if (key === this.sessionsKey) return;
      this.sessionsKey = key;
      this.sessions = sessions;
      this.screen.newest = sessions[0];
      this.screen.bar.showSessions(sessions, older, this.session);
      this.showNow();
    } catch (error) {
      this.screen.fail(error, () => void this.askSessions());
    }
  }

  /** @param {string} id */
  async stop(id) {
    try {
      const { stopped } = await this.link.ask("stop", { request_id: id });
      this.screen.say(stopped ? "Stopped." : "It had ended already.");
    } catch (error) {
      this.screen.fail(error);
    }
  }

  /** @param {string} what */
  async save(what) {
    try {
      this.screen.say("Saving…");
      const { file } = await this.link.ask("file", { what, ...this.query() }, [], 300_000);
      const pieces = [];
      for (let offset = 0; offset < file.size; ) {
        const { buffers } = await this.link.ask("piece", { key: file.key, offset });
        if (!buffers[0].byteLength) throw new Error("The file was cut off. Save it once more.");
        pieces.push(buffers[0]);
        offset += buffers[0].byteLength;
      }
      giveFile(pieces, file.name, "text/csv");
      this.screen.say(`Saved as ${file.name}.`);
    } catch (error) {
      this.screen.fail(error);
    }
  }

  // -- which time ---------------------------------------------------------------------------------

  /** @returns {[number, number]} the time that is shown */
  range() {
    if (this.zoom) return this.zoom;
    const { answers } = this.table;
    const ends = [this.table.last, answers.length ? answers[answers.length - 1].at : NaN].filter(Number.isFinite);
    const begins = [this.table.first, answers.length ? answers[0].at : NaN].filter(Number.isFinite);
    const to = ends.length ? Math.max(...ends) : Date.now() / 1000;
    if (this.seconds !== null) return [to - this.seconds, to];
    const from = begins.length ? Math.min(...begins) : to;
    return [Math.min(from, to - SHORTEST_S), to];
  }

  standStill() {
    this.isPaused = true;
    this.showBar();
    this.draw();
  }

  /** @param {number} factor */
  zoomBy(factor) {
    const [from, to] = this.range();
    const isWhole = !this.zoom;
    const middle = isWhole && this.session === null ? to : (from + to) / 2;
    const span = Math.max(SHORTEST_S, (to - from) * factor);
    // What happens now is at the right end: closer means closer to that.
    const right = isWhole && this.session === null ? middle : middle + span / 2;
    this.go({ zoom: [right - span, right] });
  }

  /** @param {[number, number] | null} range in milliseconds, moved as the charts have them */
  zoomed(range) {
    if (!range) {
      if (this.zoom) this.go({ zoom: null, isPaused: false });
      return;
    }
    const shift = liveShift(this.range()[1]);
    const [from, to] = range.map((at) => (at - shift) / 1000);
    const more = Math.max(0, SHORTEST_S - (to - from)) / 2;
    this.go({ zoom: [from - more, to + more] });
  }

  // -- showing ------------------------------------------------------------------------------------

  /** @returns {LiveSession | undefined} the earlier session that is shown */
  chosen() {
    return this.sessions.find(({ id }) => id === this.session);
  }

  /** @param {LiveView[]} views */
  makeCharts(views) {
    const key = JSON.stringify(views);
    if (key === this.chartsKey) return;
    this.chartsKey = key;
    for (const { chart } of this.charts) chart.remove();
    this.charts = views.map(
      (view) =>
        new LiveChart(view, {
          ask: (offset) => this.link.ask("plotly", { offset }),
          signal: this.signal,
          failed: (error) => this.failedToDraw(error),
          zoomed: (range) => this.zoomed(range),
        }),
    );
    this.screen.grid.replaceChildren(...this.charts.map(({ root }) => root));
  }

  /** Draw, unless that was done just now. */
  later() {
    if (this.drawTimer !== undefined) return;
    const [from, to] = this.range();
    const every = Math.min(LATEST_MS, Math.max(SOONEST_MS, ((to - from) / STEPS) * 1000));
    const wait = Math.max(0, this.drawnAt + every - performance.now());
    this.drawTimer = setTimeout(() => {
      this.drawTimer = undefined;
      this.draw();
    }, wait);
  }

  release() {
    if (!this.isHeld) return;
    this.isHeld = false;
    this.later();
  }

  draw() {
    if (!this.hasData || this.isHeld) return;
    this.drawnAt = performance.now();
    const [from, to] = this.range();
    const shift = liveShift(to);
    const frame = { table: this.table, shift, from, to, isNow: this.isFollowing, missing: this.missing, missed: this.missed };
    for (const chart of this.charts) chart.show(frame);
    this.showState(from, to);
  }

  /** @param {number} from @param {number} to */
  showState(from, to) {
    const span = `${liveDuration(Math.round(to - from))}, ${liveClock(from)} to ${liveClock(to)}`;
    const parts = [];
    if (this.zoom) parts.push(`Zoomed in: ${span}.`);
    else if (this.isPaused) parts.push("Paused: the charts stand still, recording goes on.");
    if (this.note) parts.push(this.note);
    if (!parts.length && this.session === null && this.seconds === null) parts.push(`This session so far: ${span}.`);
    this.screen.showState(parts.join(" "));
  }

  showBar() {
    this.screen.bar.show({ seconds: this.seconds, isPaused: this.isPaused, isZoomed: Boolean(this.zoom), session: this.session });
  }

  showNow() {
    const isNow = this.session === null;
    this.screen.showWhich(isNow);
    if (!isNow) return this.screen.showPast(this.chosen());
    this.screen.tiles.show((field) => this.now[this.fields.indexOf(field)] ?? NaN, this.lastAnswer);
    const isElsewhere = !this.live.num && this.now[this.fields.indexOf("num_running")] > 0;
    this.screen.showUnderWay(this.live, this.hasAsked, isElsewhere);
  }

  /** plotly.js did not come: the figures in words are there without it. @param {unknown} error */
  failedToDraw(error) {
    this.root.classList.add("gw-lc-undrawn");
    this.screen.fail(error, () => {
      this.root.classList.remove("gw-lc-undrawn");
      for (const { chart } of this.charts) chart.tryAgain();
    });
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    this.screen.gone.hidden = state !== "gone";
  }
}

export default {
  /** @param {{model: LinkModel, el: HTMLElement}} context */
  render({ model, el }) {
    const controller = new AbortController();
    new LiveChartsView(model, el, controller.signal);
    return () => controller.abort();
  },
};
