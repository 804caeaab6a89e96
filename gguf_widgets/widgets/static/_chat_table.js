// @ts-check
/**
 * From a conversation to a table: the button, and the cell of code where there is no table to go to.
 *
 * Promises: the part of the last message that is marked stays marked when the button is clicked; the
 * focus goes to what opens, and back to the button; everything is set as text. Leaves to others: the
 * template and its cell (Python), where the table is (the dashboard's frame).
 */

import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h, icon } from "./_dom.js";

/** @typedef {{is_there?: boolean, cell?: string, left?: string[], fault?: string}} TableAnswer */

const LABEL = "Run this over a table";
const HINT =
  "Ask this of each row of a table. Mark the part of your last message that differs from row to row first: a column takes its place.";

/** The button, and what opens above the place to type. */
export class TableElement {
  constructor() {
    this.button = h("button", { type: "button", class: "gw-quiet gw-quiet-folds", "data-gw": "chat-over-table", "aria-label": LABEL }, [
      icon("table"),
      h("span", { text: LABEL }),
    ]);
    this.copy = ghostButton("copy", "Copy this cell", { "data-gw": "chat-cell-copy" });
    this.close = ghostButton("close", "Close (Esc)", { "data-gw": "chat-cell-close" });
    this.words = h("p");
    this.code = h("code");
    this.pre = h("pre", { tabindex: "0", role: "region", "aria-label": "The cell" }, [this.code]);
    this.root = h("section", { class: "gw-cell", "aria-label": LABEL, "data-gw": "chat-cell", hidden: true }, [
      h("div", { class: "gw-cell-head" }, [h("strong", { text: LABEL }), this.copy, this.close]),
      this.words,
      this.pre,
    ]);
    // A click would take the mark away, and with it what the button is about.
    this.button.addEventListener("mousedown", (event) => event.preventDefault());
    this.close.addEventListener("click", () => this.hide());
    this.copy.addEventListener("click", async () => {
      if (await copyText(this.code.textContent ?? "")) confirmCopy(this.copy);
    });
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation(); // it closes this, and stops no answer
      this.hide();
    });
  }

  /** @param {boolean} canAsk */
  enable(canAsk) {
    this.button.disabled = !canAsk;
    this.button.title = canAsk ? HINT : "Write a message first";
  }

  /** @param {TableAnswer} answer @param {boolean} hasMark */
  show(answer, hasMark) {
    const { cell, left = [], fault } = answer;
    const words = fault ? [fault] : cell ? ["Copy this into a new cell."] : ["The prompt is in your table now."];
    if (cell && !hasMark) words.push("Mark a part of your last message first, and a column takes its place.");
    if (left.length) words.push(`Not taken over, as a table's replies cannot have it: ${left.join(", ")}.`);
    this.words.textContent = words.join(" ");
    this.words.className = fault ? "gw-cell-fault" : "";
    this.code.textContent = cell ?? "";
    this.pre.hidden = this.copy.hidden = !cell;
    this.root.hidden = false;
    this.pre.scrollTop = 0;
    (cell ? this.copy : this.close).focus();
  }

  hide() {
    const hadFocus = this.root.contains(document.activeElement);
    this.root.hidden = true;
    if (hadFocus) this.button.focus();
  }
}

/**
 * Where the marked part of a text begins and ends; null if the mark does not begin in it. A triple
 * click's mark ends at the beginning of what comes next.
 * @param {HTMLElement} body
 * @returns {{start: number, end: number} | null}
 */
export function markedIn(body) {
  const selection = document.getSelection();
  if (!selection || selection.isCollapsed || selection.rangeCount !== 1) return null;
  const range = selection.getRangeAt(0);
  if (!body.contains(range.startContainer)) return null;
  const before = document.createRange();
  before.selectNodeContents(body);
  const length = before.toString().length;
  before.setEnd(range.startContainer, range.startOffset);
  const start = before.toString().length;
  const end = body.contains(range.endContainer) ? start + range.toString().length : length;
  return end > start ? { start, end } : null;
}
