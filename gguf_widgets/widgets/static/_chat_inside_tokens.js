// @ts-check
/**
 * An answer's text as its tokens, and what there is to say of the one that is chosen.
 *
 * Promises: one stop for the Tab key, arrows go from token to token; a long answer comes in pieces
 * and its lines are laid out when they come near; colour is never the only sign of how likely a token
 * was. Leaves to others: the numbers (Python), the chosen token (`_chat_inside_panel.js`), whether it
 * is shown (`_chat_inside.js`).
 */

import { TokenPanel } from "./_chat_inside_panel.js";
import { h } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 *
 * @typedef {{
 *   start: number, total: number, texts: string[], chances: number[],
 *   parts: Record<string, [number, number]>, cut: number[], leastSure?: number[], before?: string, after?: string,
 * }} TokensPiece
 */

/** From this probability on, and what the legend says of it. @type {[number, string][]} */
const BANDS = [
  [0.9, "over 90%"],
  [0.6, "60 to 90%"],
  [0.3, "30 to 60%"],
  [0.1, "10 to 30%"],
  [0, "under 10%"],
];
const PANEL_AFTER_MS = 60; // an arrow key that is held down asks for no token on the way

/** @param {number} chance @returns {number} */
const bandOf = (chance) => BANDS.findIndex(([least]) => chance >= least);

/** What a token shows: blanks stay blanks, line ends are seen. @param {string} text */
const marked = (text) => text.replaceAll("\t", "⇥\t").replaceAll("\n", "↵\n");

/** A probability in few characters. @param {number} chance */
function percentOf(chance) {
  if (chance >= 0.9995 && chance < 1) return "over 99.9%";
  if (chance > 0 && chance < 0.0001) return "under 0.01%";
  return `${Number((chance * 100).toPrecision(chance >= 0.99 ? 3 : 2))}%`;
}

export class TokensElement {
  /**
   * @param {Link} link @param {string} id the message's
   * @param {{branched: (id: string) => void, fault: (words: string) => void}} tell
   */
  constructor(link, id, tell) {
    this.link = link;
    this.id = id;
    this.tell = tell;
    this.total = 0;
    this.loaded = 0;
    /** @type {HTMLElement[]} */
    this.spans = [];
    /** @type {number[]} */
    this.leastSure = [];
    this.turn = -1;
    this.current = 0;
    this.timer = 0;
    /** @type {Promise<void> | null} */
    this.loading = null;
    this.least = h("button", { type: "button", class: "gw-button gw-small", text: "Least sure", "data-gw": "inside-least", title: "Go to the tokens of which the model was least sure, one after the other" });
    this.where = h("span", { class: "gw-inside-where", role: "status" });
    this.list = h("div", { class: "gw-toks", role: "listbox", "aria-label": "The answer, token by token", "data-gw": "inside-list" });
    this.more = h("button", { type: "button", class: "gw-button gw-small", hidden: true });
    this.panel = new TokenPanel(this);
    this.root = h("div", { class: "gw-inside-tokens", "data-gw": "inside-tokens", "aria-live": "off", hidden: true }, [
      h("div", { class: "gw-inside-bar" }, [legend(), this.where, this.least]),
      this.list,
      this.more,
      this.panel.root,
    ]);
    this.least.addEventListener("click", () => void this.nextLeastSure());
    this.more.addEventListener("click", () => void this.loadMore());
    this.list.addEventListener("click", (event) => this.onClick(event));
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    this.list.addEventListener("focusin", (event) => this.onFocus(event));
    this.list.addEventListener("pointerover", (event) => {
      const span = tokenOf(event.target);
      if (span && !span.title) span.title = span.getAttribute("aria-label") ?? "";
    });
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.panel.isOpen) return;
      event.preventDefault();
      event.stopPropagation(); // it closes this, and stops no answer
      this.panel.close();
    });
    const observer = new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting) && !this.more.hidden) void this.loadMore();
    });
    observer.observe(this.more);
    link.signal.addEventListener("abort", () => observer.disconnect());
  }

  /** Fetch the first tokens, if they are not there yet. @returns {Promise<boolean>} whether there are any */
  async open() {
    if (!this.loaded) await this.loadMore();
    this.root.hidden = this.loaded === 0;
    return this.loaded > 0;
  }

  /** @returns {Promise<void>} */
  loadMore() {
    this.loading ??= this.load().finally(() => {
      this.loading = null;
    });
    return this.loading;
  }

  async load() {
    /** @type {TokensPiece} */
    let piece;
    try {
      piece = await this.link.ask("inside-tokens", { message: this.id, start: this.loaded });
    } catch (error) {
      this.tell.fault(wordsOf(error));
      return;
    }
    this.tell.fault("");
    if (piece.start !== this.loaded) return;
    this.total = piece.total;
    if (piece.start === 0) {
      this.leastSure = piece.leastSure ?? [];
      this.least.hidden = this.leastSure.length === 0;
      if (piece.before) this.list.append(unrecorded(piece.before, "The answer was told to begin with this"));
    }
    this.add(piece);
    if (piece.after) this.list.append(unrecorded(piece.after, "The tokens of this part were not recorded"));
    this.loaded += piece.texts.length;
    const next = this.total - this.loaded;
    this.more.hidden = next <= 0;
    this.more.textContent = `Show more: ${next.toLocaleString("en")} of ${this.total.toLocaleString("en")} tokens are not shown yet`;
  }

  /** @param {TokensPiece} piece */
  add(piece) {
    const cut = new Set(piece.cut);
    const lines = document.createDocumentFragment();
    let line = this.list.lastElementChild;
    if (!line || line.hasAttribute("data-over")) line = null;
    piece.texts.forEach((text, i) => {
      if (!line) {
        line = h("div", { class: "gw-tok-line", role: "presentation" });
        lines.append(line);
      }
      const chance = piece.chances[i];
      const [part, count] = piece.parts[i] ?? [0, 1];
      const ends = text.endsWith("\n");
      const shown = part > 0 ? "⋯" : marked(text);
      const span = h("span", {
        class: `gw-tok gw-tok-${bandOf(chance)}${cut.has(i) ? " gw-tok-cut" : ""}`,
        role: "option",
        "aria-selected": "false",
        tabindex: "-1",
        "data-i": String(piece.start + i),
        "aria-label": `${spoken(text, part, count)}, ${percentOf(chance)}`,
        text: ends ? shown.slice(0, -1) : shown,
      });
      if (part > 0) span.classList.add("gw-tok-part");
      this.spans.push(span);
      line.append(span);
      if (!ends) return;
      line.setAttribute("data-over", "");
      line = null;
    });
    this.list.append(lines);
    if (piece.start === 0) this.spans[0]?.setAttribute("tabindex", "0");
  }

  /** @param {Event} event */
  onClick(event) {
    const span = tokenOf(event.target);
    if (!span) return;
    span.focus({ preventScroll: true });
    void this.panel.show(Number(span.dataset.i));
  }

  /** @param {Event} event */
  onFocus(event) {
    const span = tokenOf(event.target);
    if (!span) return;
    const before = this.spans[this.current];
    before.setAttribute("tabindex", "-1");
    before.setAttribute("aria-selected", "false");
    this.current = Number(span.dataset.i);
    span.setAttribute("tabindex", "0");
    span.setAttribute("aria-selected", "true");
    clearTimeout(this.timer);
    if (this.panel.isOpen) this.timer = setTimeout(() => void this.panel.show(this.current), PANEL_AFTER_MS);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !tokenOf(event.target)) return;
    if (event.key === "Enter" || event.key === " ") void this.panel.show(this.current);
    else if (event.key === "ArrowRight") void this.go(this.current + 1);
    else if (event.key === "ArrowLeft") void this.go(this.current - 1);
    else if (event.key === "ArrowDown") void this.go(this.onNextLine(1));
    else if (event.key === "ArrowUp") void this.go(this.onNextLine(-1));
    else if (event.key === "Home") void this.go(0);
    else if (event.key === "End") void this.go(this.total - 1);
    else return;
    event.preventDefault();
    event.stopPropagation(); // Enter sends nothing, and JupyterLab takes no key
  }

  /** @param {number} index */
  async go(index) {
    const wanted = Math.max(0, Math.min(index, this.total - 1));
    while (this.loaded <= wanted) {
      const before = this.loaded;
      await this.loadMore();
      if (this.loaded === before) return;
    }
    const span = this.spans[wanted];
    const isNear = Math.abs(wanted - this.current) < 200;
    span.focus({ preventScroll: true });
    span.scrollIntoView({ block: isNear ? "nearest" : "center" });
    if (isNear) return;
    // The lines on the way get their true height only now that they are near.
    requestAnimationFrame(() => requestAnimationFrame(() => span.scrollIntoView({ block: "nearest" })));
  }

  /** The token above or below. @param {1 | -1} step @returns {number} */
  onNextLine(step) {
    const here = this.spans[this.current].getBoundingClientRect();
    const middle = (here.left + here.right) / 2;
    let best = this.current;
    let distance = Infinity;
    /** @type {number | null} */
    let top = null;
    for (let i = this.current + step; i >= 0 && i < this.spans.length; i += step) {
      const box = this.spans[i].getClientRects()[0] ?? here;
      if (top === null && Math.abs(box.top - here.top) < 4) continue;
      top ??= box.top;
      if (Math.abs(box.top - top) >= 4) break;
      const away = Math.abs((box.left + box.right) / 2 - middle);
      if (away < distance) [best, distance] = [i, away];
    }
    return best;
  }

  async nextLeastSure() {
    if (!this.leastSure.length) return;
    this.turn = (this.turn + 1) % this.leastSure.length;
    this.where.textContent = `${this.turn + 1} of ${this.leastSure.length}`;
    const index = this.leastSure[this.turn];
    await this.panel.show(index);
    await this.go(index);
    this.least.focus({ preventScroll: true }); // pressed again it goes on
  }
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
function tokenOf(target) {
  return target instanceof Element ? target.closest(".gw-tok") : null;
}

/** What a screen reader says of a token's text. @param {string} text @param {number} part @param {number} count */
function spoken(text, part, count) {
  if (part > 0) return `part ${part + 1} of ${count} of a character`;
  if (text.trim()) return text.replaceAll("\n", " line end ");
  const ends = text.split("\n").length - 1;
  if (ends) return ends === 1 ? "line end" : `${ends} line ends`;
  return text ? "blank" : "nothing";
}

/** Text without tokens, on lines of its own. @param {string} text @param {string} why @returns {HTMLElement} */
function unrecorded(text, why) {
  const span = h("span", { class: "gw-tok-begin", title: why, text: marked(text) });
  return h("div", { class: "gw-tok-line", role: "presentation", "data-over": true }, [span]);
}

/** @returns {HTMLElement} */
function legend() {
  const bands = BANDS.map(([, words], i) => h("span", { class: `gw-tok gw-tok-${i}`, text: words }));
  return h("span", { class: "gw-inside-legend", title: "How likely the model thought each token, before the sampling settings" }, ["Probability: ", ...bands]);
}
