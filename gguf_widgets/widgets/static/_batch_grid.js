// @ts-check
/**
 * A window of a run's rows: as many as fit are asked for and drawn, whatever their number.
 *
 * Promises: the page holds the rows that it shows and a few around them; a scroll shows frames of
 * rows at once and their text when it comes; what is chosen by keyboard is read out. Leaves to
 * others: finding rows (Python), a row's details (_batch_row.js).
 */

import { wordsOf } from "./_link.js";
import { h, icon } from "./_dom.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{number: number, row: number, prompt: number, model: number, sample: number, status: string, values: Record<string, string | null>, outputs: Record<string, string | null>, certainty: number | null, error: string | null, edited: boolean}} GridRow
 * @typedef {{status: string, words: string, where: Record<string, any>, sort: string, descending: boolean}} GridQuery
 * @typedef {{id: string, label: string, width: string, isNumber?: boolean, isStatus?: boolean, of: (row: GridRow) => string | null}} GridColumn
 */

const ROW_PX = 32;
const MOST_PX = 12_000_000; // browsers draw nothing beyond some 16 to 33 million
const AROUND = 20;
const AGAIN_MS = 500; // while a run goes on
export const STATUS_WORDS = /** @type {Record<string, string>} */ ({ done: "Done", failed: "Failed", skipped: "Left out", waiting: "Waiting" });
const STATUS_ICONS = /** @type {Record<string, string>} */ ({ done: "done", failed: "warn", skipped: "close", waiting: "" });

export class Grid {
  /** @param {Link} link @param {(number: number) => void} open @param {AbortSignal} signal */
  constructor(link, open, signal) {
    this.link = link;
    this.open = open;
    /** @type {GridQuery} */
    this.query = { status: "", words: "", where: {}, sort: "row", descending: false };
    /** @type {GridColumn[]} */
    this.columns = [];
    /** @type {Map<number, GridRow>} position to row */
    this.rows = new Map();
    this.total = 0;
    this.version = -1;
    this.turn = 0;
    this.isAsking = false;
    this.at = -1;
    this.opened = -1;
    this.columnsKey = "";
    /** @type {number | undefined} */
    this.frame = undefined;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.isStale = false;
    this.isAskedAgain = false;
    /** Called with how many rows there are. @type {(total: number) => void} */
    this.told = () => {};
    this.head = h("div", { class: "gw-bt-head", role: "row" });
    this.space = h("div", { class: "gw-bt-space", role: "presentation" });
    this.body = h("div", { class: "gw-bt-body", role: "rowgroup" });
    this.space.append(this.body);
    this.scroller = h("div", { class: "gw-bt-grid", role: "grid", tabindex: "0", "aria-label": "Rows", "data-gw": "batch-grid" }, [
      h("div", { class: "gw-bt-sticky", role: "rowgroup" }, [this.head]),
      this.space,
    ]);
    this.nothing = h("p", { class: "gw-dim gw-bt-nothing", hidden: true, "data-gw": "batch-nothing" });
    this.root = h("div", { class: "gw-bt-gridbox" }, [this.scroller, this.nothing]);
    this.scroller.addEventListener("scroll", () => this.later(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    const observer = new ResizeObserver(() => this.later());
    observer.observe(this.scroller);
    signal.addEventListener("abort", () => {
      observer.disconnect();
      clearTimeout(this.timer);
      if (this.frame) cancelAnimationFrame(this.frame);
    });
  }

  // -- what is shown ---------------------------------------------------------------------------------

  /** @param {any} columns */
  setColumns(columns) {
    const key = JSON.stringify(columns);
    if (key === this.columnsKey) return;
    this.columnsKey = key;
    /** @type {GridColumn[]} */
    const listed = [
      { id: "row", label: "Row", width: "72px", isNumber: true, of: (row) => (row.row + 1).toLocaleString("en") },
      { id: "", isStatus: true, label: "Status", width: "104px", of: (row) => STATUS_WORDS[row.status] },
    ];
    const input = (/** @type {string} */ name, width = "minmax(160px, 1fr)") => ({ id: name, label: name, width, of: (/** @type {GridRow} */ row) => row.values[name] ?? null });
    // What tells several answers to one row apart.
    if (columns.models.length) listed.push({ id: "", label: "Model", width: "minmax(120px, 1fr)", of: (row) => columns.models[row.model] ?? null });
    if (columns.prompts.length) listed.push({ id: "", label: "Prompt", width: "minmax(96px, 1fr)", of: (row) => columns.prompts[row.prompt] ?? null });
    if (columns.samples > 1) listed.push({ id: "", label: "Answer", width: "72px", isNumber: true, of: (row) => String(row.sample + 1) });
    for (const name of columns.used) listed.push(input(name, "minmax(240px, 3fr)"));
    for (const { name } of columns.new) listed.push({ id: name, label: name, width: "minmax(120px, 1fr)", of: (row) => row.outputs[name] ?? null });
    if (columns.hasCertainty) listed.push({ id: "certainty", label: "Certainty", width: "116px", isNumber: true, of: (row) => (row.certainty === null ? null : `${Math.round(row.certainty * 100)}%`) });
    for (const name of columns.other.slice(0, 50)) listed.push(input(name));
    this.columns = listed;
    this.scroller.style.setProperty("--gw-bt-columns", listed.map((one) => one.width).join(" "));
    const least = listed.reduce((sum, one) => sum + parseInt(one.width.replace("minmax(", ""), 10), 0);
    this.scroller.style.setProperty("--gw-bt-width", `${least}px`);
    this.scroller.setAttribute("aria-colcount", String(listed.length));
    this.drawHead();
    this.rows.clear();
  }

  drawHead() {
    const hadFocus = this.head.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.id : undefined;
    this.head.replaceChildren(
      ...this.columns.map(({ id, label, isNumber }) => {
        const isSorted = id !== "" && this.query.sort === id;
        const way = isSorted ? (this.query.descending ? "descending" : "ascending") : "none";
        const cell = h("div", { role: "columnheader", class: isNumber ? "gw-bt-right" : "", "aria-sort": way });
        if (!id) cell.textContent = label;
        else {
          const button = h("button", { type: "button", class: "gw-bt-sort", "data-id": id, "data-gw": "batch-sort", title: `Sort by ${label}` }, [h("span", { text: label })]);
          if (isSorted) button.append(icon("down"));
          if (isSorted && !this.query.descending) button.classList.add("gw-bt-up");
          button.addEventListener("click", () => this.sort(id, isSorted ? !this.query.descending : false));
          cell.append(button);
        }
        return cell;
      }),
    );
    if (hadFocus !== undefined) /** @type {HTMLElement | null} */ (this.head.querySelector(`[data-id="${CSS.escape(hadFocus)}"]`))?.focus();
  }

  /** @param {string} id @param {boolean} descending */
  sort(id, descending) {
    this.change({ sort: id, descending });
    this.drawHead();
  }

  /** Choose other rows. @param {Partial<GridQuery>} part */
  change(part) {
    this.query = { ...this.query, ...part };
    this.scroller.scrollTop = 0;
    this.at = -1;
    this.turn++;
    this.isStale = true;
    this.fetch();
  }

  /** Another run. */
  reset() {
    this.query = { status: "", words: "", where: {}, sort: "row", descending: false };
    this.rows.clear();
    this.total = 0;
    this.version = -1;
    this.at = this.opened = -1;
    this.turn++;
    this.scroller.scrollTop = 0;
    this.drawHead();
  }

  /** Rows have changed. @param {number} version */
  refresh(version) {
    if (version === this.version) return;
    this.version = version;
    this.isStale = true;
    if (this.timer !== undefined) return;
    this.fetch();
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (this.isStale) this.fetch();
    }, AGAIN_MS);
  }

  // -- the window ------------------------------------------------------------------------------------

  get height() {
    return Math.min(this.total * ROW_PX, MOST_PX);
  }

  /** How many times more there is than can be drawn. */
  get scale() {
    return this.height ? (this.total * ROW_PX) / this.height : 1;
  }

  window() {
    const seen = Math.ceil(this.scroller.clientHeight / ROW_PX) + 1;
    const first = Math.floor((this.scroller.scrollTop * this.scale) / ROW_PX);
    return { first: Math.max(0, Math.min(first, this.total - 1)), seen };
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
      this.fetchIfMissing();
    });
  }

  fetchIfMissing() {
    const { first, seen } = this.window();
    for (let i = first; i < Math.min(first + seen, this.total); i++) {
      if (!this.rows.has(i)) {
        void this.fetch();
        return;
      }
    }
  }

  async fetch() {
    if (this.isAsking) {
      this.isAskedAgain = true;
      return;
    }
    this.isAsking = true;
    const { first, seen } = this.window();
    const start = Math.max(0, first - AROUND);
    const turn = this.turn;
    this.isStale = false;
    try {
      const answer = await this.link.ask("rows", { query: this.query, start, stop: start + seen + 2 * AROUND });
      if (turn === this.turn) {
        this.rows.clear();
        this.total = answer.total;
        answer.rows.forEach((/** @type {GridRow} */ row, /** @type {number} */ i) => this.rows.set(start + i, row));
        this.say("");
        this.draw();
        this.told(answer.total);
      }
    } catch (error) {
      if (turn === this.turn) this.say(wordsOf(error));
    }
    this.isAsking = false;
    if (this.isAskedAgain || turn !== this.turn) {
      this.isAskedAgain = false;
      void this.fetch();
    } else this.fetchIfMissing();
  }

  /** @param {string} text */
  say(text) {
    const isChosen = this.query.status || this.query.words || Object.keys(this.query.where).length;
    this.nothing.textContent = text || (this.total ? "" : isChosen ? "No row fits. Show all rows again, or search for something else." : "");
    this.nothing.hidden = !this.nothing.textContent;
  }

  draw() {
    this.scroller.setAttribute("aria-rowcount", String(this.total + 1));
    this.space.style.height = `${this.height}px`;
    const { first, seen } = this.window();
    const lines = [];
    for (let i = first; i < Math.min(first + seen, this.total); i++) lines.push(this.line(i));
    this.body.replaceChildren(...lines);
    const top = this.scroller.scrollTop;
    const inside = this.scale > 1 ? top - ((top * this.scale) % ROW_PX) : first * ROW_PX;
    this.body.style.transform = `translateY(${Math.min(inside, Math.max(0, this.height - lines.length * ROW_PX))}px)`;
    const active = this.at >= 0 ? `${this.link.page}-r${this.at}` : "";
    if (active && this.body.querySelector(`#${active}`)) this.scroller.setAttribute("aria-activedescendant", active);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  /** @param {number} position */
  line(position) {
    const row = this.rows.get(position);
    const line = h("div", { role: "row", class: "gw-bt-row", id: `${this.link.page}-r${position}`, "aria-rowindex": String(position + 2), "data-gw": "batch-row" });
    if (position === this.at) line.classList.add("gw-bt-at");
    if (!row) {
      line.append(h("div", { role: "gridcell", class: "gw-dim", text: "…" }));
      return line;
    }
    line.dataset.number = String(row.number);
    line.dataset.status = row.status;
    if (row.number === this.opened) line.setAttribute("aria-selected", "true");
    for (const column of this.columns) {
      const text = column.of(row);
      const cell = h("div", { role: "gridcell", class: column.isNumber ? "gw-bt-right" : "" });
      if (column.isStatus) {
        cell.append(icon(STATUS_ICONS[row.status]), h("span", { text: text ?? "" }));
        cell.classList.add("gw-bt-status");
        if (row.error) cell.title = row.error;
      } else if (text === null) {
        cell.textContent = "—";
        cell.classList.add("gw-bt-none");
      } else {
        cell.textContent = text;
        cell.title = text;
      }
      if (row.edited && column.id && row.outputs[column.id] !== undefined && !(column.id in row.values)) cell.classList.add("gw-bt-edited");
      line.append(cell);
    }
    line.addEventListener("click", () => {
      this.at = position;
      this.choose(row.number);
    });
    return line;
  }

  /** @param {number} number */
  choose(number) {
    this.opened = number;
    this.draw();
    this.open(number);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.target !== this.scroller) return;
    const { seen } = this.window();
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1, PageDown: seen - 2, PageUp: 2 - seen, Home: -Infinity, End: Infinity });
    if (event.key in steps) {
      this.at = Math.max(0, Math.min(this.total - 1, (this.at < 0 ? -1 : this.at) + steps[event.key]));
      this.bring(this.at);
    } else if (event.key === "Enter" || event.key === " ") {
      const row = this.rows.get(this.at);
      if (row) this.choose(row.number);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Scroll a row into sight. @param {number} position */
  bring(position) {
    const room = this.scroller.clientHeight - ROW_PX; // the heading covers the first
    const top = (position * ROW_PX) / this.scale;
    const { scrollTop } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + ROW_PX > scrollTop + room) this.scroller.scrollTop = top + ROW_PX - room;
    this.draw();
    this.fetchIfMissing();
  }
}
