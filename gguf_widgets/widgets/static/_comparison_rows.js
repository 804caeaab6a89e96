// @ts-check
/**
 * The prompts of a comparison, a window at a time, and one of them opened with all its answers.
 *
 * Promises: the page holds the prompts that it shows; arrow keys go through them, Enter opens one,
 * Esc closes it; what is opened is drawn anew when its answers come. Leaves to others: texts and
 * figures (Python), where answers part (`_comparison_split`).
 */

import { BlocksElement } from "./_chat_blocks.js";
import { SIDE_LETTERS, sideBadge } from "./_comparison_form.js";
import { splitPanel } from "./_comparison_split.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{number: number, prompt: string, answers: {text: string, status: string}[], isSame: boolean}} PromptLine
 */

const LINE_PX = 32;
const AROUND_LINES = 20;
const MOST_HEIGHT_PX = 12_000_000;
const SPLIT_MS = 600_000;

export class PromptList {
  /** @param {Link} link @param {(number: number) => void} open @param {AbortSignal} signal */
  constructor(link, open, signal) {
    this.link = link;
    this.open = open;
    /** @type {Map<number, PromptLine>} */
    this.lines = new Map();
    this.total = 0;
    this.at = -1;
    this.opened = -1;
    this.version = -1;
    this.isAsking = this.isStale = false;
    /** @type {number | undefined} */
    this.frame = undefined;
    this.head = h("div", { class: "gw-bt-head", role: "row" });
    this.body = h("div", { class: "gw-bt-body", role: "rowgroup" });
    this.space = h("div", { class: "gw-bt-space", role: "presentation" }, [this.body]);
    this.scroller = h("div", { class: "gw-bt-grid gw-cmp-list", role: "grid", tabindex: "0", "aria-label": "Prompts", "data-gw": "comparison-rows" }, [h("div", { class: "gw-bt-sticky", role: "rowgroup" }, [this.head]), this.space]);
    this.error = h("p", { class: "gw-error", role: "alert" });
    this.root = h("div", { class: "gw-bt-stack" }, [this.scroller, this.error]);
    this.scroller.addEventListener("scroll", () => this.later(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.onKey(event));
    const observer = new ResizeObserver(() => this.later());
    observer.observe(this.scroller);
    signal.addEventListener("abort", () => {
      observer.disconnect();
      if (this.frame !== undefined) cancelAnimationFrame(this.frame);
    });
  }

  /** Another comparison. @param {string[]} labels @param {number} total @param {string} heading over what tells the prompts apart */
  reset(labels, total, heading) {
    this.lines.clear();
    this.total = total;
    this.at = this.opened = this.version = -1;
    this.scroller.scrollTop = 0;
    const widths = ["56px", "minmax(160px, 2fr)", ...labels.map(() => "minmax(140px, 2fr)")];
    this.scroller.style.setProperty("--gw-bt-columns", widths.join(" "));
    this.scroller.style.setProperty("--gw-bt-width", `${216 + 140 * labels.length}px`);
    this.scroller.style.height = `${Math.min(360, (total + 1) * LINE_PX + 2)}px`;
    this.head.replaceChildren(
      h("div", { role: "columnheader", class: "gw-bt-right", text: "No." }),
      h("div", { role: "columnheader", text: heading, title: heading }),
      ...labels.map((label, i) => h("div", { role: "columnheader", class: "gw-cmp-headcell", title: label }, [sideBadge(i), h("span", { class: "gw-bt-cut", text: label })])),
    );
  }

  /** @param {number} version */
  refresh(version) {
    if (version === this.version) return;
    this.version = version;
    void this.fetch();
  }

  get height() {
    return Math.min(this.total * LINE_PX, MOST_HEIGHT_PX);
  }

  get scale() {
    return this.height ? (this.total * LINE_PX) / this.height : 1;
  }

  window() {
    const seen = Math.ceil(this.scroller.clientHeight / LINE_PX) + 1;
    const first = Math.floor((this.scroller.scrollTop * this.scale) / LINE_PX);
    return { first: Math.max(0, Math.min(first, this.total - 1)), seen };
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
      const { first, seen } = this.window();
      for (let i = first; i < Math.min(first + seen, this.total); i += 1) if (!this.lines.has(i)) return void this.fetch();
    });
  }

  async fetch() {
    if (this.isAsking) {
      this.isStale = true;
      return;
    }
    this.isAsking = true;
    const { first, seen } = this.window();
    const start = Math.max(0, first - AROUND_LINES);
    try {
      const { rows } = await this.link.ask("rows", { start, stop: start + seen + 2 * AROUND_LINES });
      this.lines = new Map(rows.map((/** @type {PromptLine} */ line) => [line.number, line]));
      this.error.textContent = "";
      this.draw();
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
    this.isAsking = false;
    if (!this.isStale) return;
    this.isStale = false;
    void this.fetch();
  }

  draw() {
    this.scroller.setAttribute("aria-rowcount", String(this.total + 1));
    this.space.style.height = `${this.height}px`;
    const { first, seen } = this.window();
    const drawn = [];
    for (let i = first; i < Math.min(first + seen, this.total); i += 1) drawn.push(this.line(i));
    this.body.replaceChildren(...drawn);
    const top = this.scroller.scrollTop;
    const inside = this.scale > 1 ? top - ((top * this.scale) % LINE_PX) : first * LINE_PX;
    this.body.style.transform = `translateY(${Math.min(inside, Math.max(0, this.height - drawn.length * LINE_PX))}px)`;
    const active = this.at >= 0 ? `${this.link.page}-p${this.at}` : "";
    if (active && this.body.querySelector(`#${active}`)) this.scroller.setAttribute("aria-activedescendant", active);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  /** @param {number} number */
  line(number) {
    const line = this.lines.get(number);
    const root = h("div", { role: "row", class: "gw-bt-row", id: `${this.link.page}-p${number}`, "aria-rowindex": String(number + 2), "data-gw": "comparison-row", "data-number": String(number) });
    if (number === this.at) root.classList.add("gw-bt-at");
    if (number === this.opened) root.setAttribute("aria-selected", "true");
    const cell = (/** @type {string} */ text, name = "") => h("div", { role: "gridcell", class: name, text, title: text });
    root.append(cell((number + 1).toLocaleString("en"), "gw-bt-right"), cell(line ? line.prompt : "…"));
    for (const { text, status } of line?.answers ?? []) {
      const isOff = status !== "done";
      const made = cell(text || (status === "waiting" ? "not asked yet" : "—"), isOff ? "gw-bt-none" : "");
      made.dataset.status = status;
      root.append(made);
    }
    root.addEventListener("click", () => {
      this.at = number;
      this.choose(number);
    });
    return root;
  }

  /** @param {number} number */
  choose(number) {
    this.opened = number;
    this.draw();
    this.open(number);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.target !== this.scroller) return;
    const { seen } = this.window();
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1, PageDown: seen - 2, PageUp: 2 - seen, Home: -Infinity, End: Infinity });
    if (event.key in steps) {
      this.at = Math.max(0, Math.min(this.total - 1, (this.at < 0 ? -1 : this.at) + steps[event.key]));
      const room = this.scroller.clientHeight - LINE_PX;
      const top = (this.at * LINE_PX) / this.scale;
      if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
      else if (top + LINE_PX > this.scroller.scrollTop + room) this.scroller.scrollTop = top + LINE_PX - room;
      this.later();
    } else if ((event.key === "Enter" || event.key === " ") && this.at >= 0) this.choose(this.at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** One prompt, opened. */
export class PromptDetail {
  /** @param {Link} link @param {() => void} closed */
  constructor(link, closed) {
    this.link = link;
    this.closed = closed;
    this.number = -1;
    this.key = "";
    this.isParting = false;
    this.root = h("section", { class: "gw-cmp-detail", hidden: true, "aria-label": "One prompt", "data-gw": "comparison-row-detail" });
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
      this.closed();
    });
  }

  close() {
    this.number = -1;
    this.key = "";
    this.root.hidden = true;
    this.root.replaceChildren();
  }

  /** @param {number} number */
  async open(number) {
    this.number = number;
    this.key = "";
    this.root.hidden = false;
    await this.refresh(true);
  }

  /** @param {boolean} [isNew] */
  async refresh(isNew = false) {
    const { number } = this;
    if (number < 0) return;
    try {
      const { row } = await this.link.ask("row", { number });
      if (number !== this.number) return;
      const key = JSON.stringify(row);
      if (key === this.key) return;
      this.key = key;
      const hadFocus = this.root.contains(document.activeElement);
      this.draw(row);
      if (isNew) this.root.scrollIntoView({ block: "nearest" });
      if (isNew || hadFocus) /** @type {HTMLElement} */ (this.root.querySelector("h4")).focus({ preventScroll: true });
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "gw-error", role: "alert", text: wordsOf(error) }));
    }
  }

  /** @param {any} row */
  draw(row) {
    const closing = ghostButton("close", "Close", { "data-gw": "comparison-row-close" });
    closing.addEventListener("click", () => {
      this.close();
      this.closed();
    });
    const split = h("div", {});
    const parts = [];
    for (let a = 0; a < row.answers.length; a += 1) for (let b = a + 1; b < row.answers.length; b += 1) parts.push([a, b]);
    const buttons = parts.map(([a, b]) => {
      const text = parts.length === 1 ? "Where do they part?" : `Where do ${SIDE_LETTERS[a]} and ${SIDE_LETTERS[b]} part?`;
      const isReady = row.answers[a].status === "done" && row.answers[b].status === "done";
      const button = h("button", { type: "button", class: "gw-button", text, disabled: !isReady, title: isReady ? "Both are asked once more, with the same seeds, so that the probabilities are known; models that are not loaded are loaded for it" : "Both sides must have answered", "data-gw": "comparison-row-part", "data-pair": `${a},${b}` });
      button.addEventListener("click", () => void this.part(row.number, a, b, split, button));
      return button;
    });
    const heading = h("h4", { class: "gw-bt-grow", tabindex: "-1", text: `Prompt ${(row.number + 1).toLocaleString("en")}` });
    const asked = h("details", { class: "gw-subfold" }, [
      h("summary", {}, [icon("open"), h("span", { text: "What each side is asked, word for word" })]),
      ...row.asked.map((/** @type {string} */ text, /** @type {number} */ i) => h("div", { class: "gw-cmp-asktext" }, [sideBadge(i), h("p", { class: "gw-bt-text", text })])),
    ]);
    this.root.replaceChildren(
      h("div", { class: "gw-bt-line" }, [heading, closing]),
      h("p", { class: "gw-bt-quote gw-bt-text", dir: "auto", text: row.prompt }),
      ...(row.reference ? [h("p", {}, [h("strong", { text: "Right: " }), h("span", { class: "gw-bt-text", dir: "auto", text: row.reference })])] : []),
      ...(row.isSame ? [h("p", { class: "gw-dim", text: "All sides answered the same, word for word." })] : []),
      h("div", { class: "gw-cmp-grid", "data-count": String(row.answers.length) }, row.answers.map((/** @type {any} */ answer, /** @type {number} */ i) => this.card(answer, i))),
      h("div", { class: "gw-bt-buttons" }, buttons),
      split,
      asked,
    );
  }

  /** @param {any} answer @param {number} number */
  card(answer, number) {
    const body = h("div", { class: "gw-body" });
    new BlocksElement(body).set(answer.blocks);
    const scores = answer.scores.map((/** @type {any} */ one) => h("span", { title: one.why }, [`${one.label}: `, h("strong", { text: one.value }), ...(one.why ? [h("span", { text: ` (${one.why})` })] : [])]));
    return h("section", { class: "gw-cmp-card", "data-status": answer.status, "data-gw": "comparison-row-answer", "data-number": String(number) }, [
      h("div", { class: "gw-cmp-name" }, [sideBadge(number), h("span", { class: "gw-bt-cut gw-bt-grow", text: answer.label, title: answer.label })]),
      h("div", { class: "gw-chat gw-cmp-answer", tabindex: "0", role: "region", "aria-label": `Answer ${answer.letter}` }, [body]),
      h("p", { class: "gw-error", text: answer.error }),
      h("p", { class: "gw-dim", text: answer.note }),
      h("p", { class: "gw-cmp-figures" }, scores),
      h("p", { class: "gw-dim gw-bt-num gw-cmp-figures" }, answer.figures.map((/** @type {any} */ one) => h("span", { text: one.value, title: one.title }))),
    ]);
  }

  /** @param {number} number @param {number} a @param {number} b @param {HTMLElement} place @param {HTMLButtonElement} button */
  async part(number, a, b, place, button) {
    if (this.isParting) return; // a button that is switched off would lose the focus
    this.isParting = true;
    place.replaceChildren(h("p", { class: "gw-dim", role: "status", text: "Looking where they part: both sides are asked once more…" }));
    try {
      const { split } = await this.link.ask("split", { number, a, b }, [], SPLIT_MS);
      const close = () => {
        place.replaceChildren();
        button.focus();
      };
      place.replaceChildren(splitPanel(split, [a, b], sideBadge, close));
      place.scrollIntoView({ block: "nearest" });
    } catch (error) {
      place.replaceChildren(h("p", { class: "gw-error", role: "alert", text: wordsOf(error) }));
    }
    this.isParting = false;
  }
}
