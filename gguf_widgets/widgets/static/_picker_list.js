// @ts-check
/**
 * The list of models, and above it what finds one of many: words, an order, and what is shown.
 *
 * Promises: what is typed and chosen outlives news; a row that has the focus keeps it; an empty
 * result says why and how to see all again. Leaves to others: the rows themselves.
 */

import { h, setChildren } from "./_dom.js";

/**
 * @typedef {{
 *   words: string, name: string, can: string[], sources: string[], size: number, parameters: number,
 *   used: number, usable: boolean, fit: {verdict: string} | null, status: string,
 * }} Listed
 * @typedef {{root: HTMLElement, row: Listed | null}} Listing
 */

const FIND_FROM = 5; // fewer models are found by looking

/** @type {[string, string, (a: Listed, b: Listed) => number][]} */
const ORDERS = [
  ["found", "By place", () => 0],
  ["used", "Last used first", (a, b) => b.used - a.used],
  ["name", "By name", (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })],
  ["small", "Smallest first", (a, b) => a.size - b.size],
  ["large", "Largest first", (a, b) => b.size - a.size],
];

/** @type {[string, string, (row: Listed) => boolean][]} */
const KINDS = [
  ["all", "All", () => true],
  ["fits", "Fits this computer", (row) => row.status !== "idle" || row.fit?.verdict === "yes" || row.fit?.verdict === "some"],
  ["vision", "Sees images", (row) => row.can.includes("vision")],
  ["tools", "Uses tools", (row) => row.can.includes("tools")],
  ["reasoning", "Thinks first", (row) => row.can.includes("reasoning")],
  ["embeddings", "Texts to vectors", (row) => row.can.includes("embeddings")],
  ["unusable", "Cannot be used", (row) => !row.usable],
];

/** @param {string} text @param {string} word whether it occurs, a number only at its beginning */
function occurs(text, word) {
  if (!/^\d/.test(word)) return text.includes(word);
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    if (!/[\d.]/.test(text[at - 1] ?? "")) return true; // "4b" is not in "14b"
  }
  return false;
}

export class ListElement {
  constructor() {
    const still = { "data-lm-suppress-shortcuts": "true" };
    this.find = h("input", { type: "search", class: "gw-field gw-find", placeholder: "Find a model", "aria-label": "Find a model", "data-gw": "picker-find", ...still });
    this.find.title = "Words from its name, architecture, number format or place, such as: qwen 4b q4";
    this.order = h("select", { class: "gw-field gw-select", "aria-label": "Order", "data-gw": "picker-order", ...still });
    this.order.append(...ORDERS.map(([value, text]) => h("option", { value, text })));
    this.kind = h("select", { class: "gw-field gw-select", "aria-label": "Show", "data-gw": "picker-show", ...still });
    for (const part of [this.find, this.order, this.kind]) {
      part.addEventListener("input", () => {
        this.refresh();
        this.rows.scrollTop = 0;
      });
    }
    this.tools = h("div", { class: "gw-tools", hidden: true }, [this.find, h("div", { class: "gw-selects" }, [this.kind, this.order])]);
    this.rows = h("ul", { class: "gw-rows", role: "list", "aria-label": "Models on this computer" });
    this.noneText = h("span");
    this.all = h("button", { type: "button", class: "gw-link", text: "Show all" });
    this.all.addEventListener("click", () => {
      this.reset();
      this.find.focus();
    });
    this.none = h("p", { class: "gw-none", role: "status", hidden: true }, [this.noneText, " ", this.all]);
    /** @type {Listing[]} */
    this.listings = [];
  }

  /** @param {Listing[]} listings in the order in which they were found */
  show(listings) {
    this.listings = listings;
    this.tools.hidden = listings.length < FIND_FROM;
    if (this.tools.hidden) [this.find.value, this.kind.value] = ["", "all"];
    this.offer();
    this.refresh();
  }

  /** Show all again. */
  reset() {
    this.find.value = "";
    this.kind.value = "all";
    this.refresh();
  }

  /** Whether models fit is known of some more: only that may change what is offered and shown. */
  judged() {
    this.offer();
    if (this.kind.value === "fits") this.refresh();
  }

  /** Offer what there is at least one model of; what is chosen stays offered. */
  offer() {
    const rows = this.listings.flatMap(({ row }) => row ?? []);
    const chosen = this.kind.value || "all";
    const kinds = KINDS.filter(([value, , fits]) => value === "all" || value === chosen || rows.some(fits));
    const sources = [...new Set(rows.flatMap((row) => row.sources))];
    const options = [...kinds.map(([value, text]) => [value, text]), ...(sources.length > 1 ? sources.map((name) => [`in ${name}`, `In ${name}`]) : [])];
    if (options.map(([value]) => value).join("\n") === [...this.kind.options].map(({ value }) => value).join("\n")) return;
    this.kind.replaceChildren(...options.map(([value, text]) => h("option", { value: value ?? "", text: text ?? "" })));
    this.kind.value = chosen;
    if (this.kind.selectedIndex < 0) this.kind.value = "all";
  }

  refresh() {
    const words = this.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = this.kind.value;
    const fits = KINDS.find(([value]) => value === kind)?.[2] ?? ((/** @type {Listed} */ row) => row.sources.some((name) => `in ${name}` === kind));
    const order = ORDERS.find(([value]) => value === this.order.value)?.[2] ?? (() => 0);
    let shown = 0;
    for (const { root, row } of this.listings) {
      root.hidden = !row || !fits(row) || !words.every((word) => occurs(row.words, word));
      if (!root.hidden) shown += 1;
    }
    // What can be loaded comes first in any order.
    const sorted = this.listings.toSorted((a, b) => (a.row && b.row ? Number(b.row.usable) - Number(a.row.usable) || order(a.row, b.row) : 0));
    const focused = document.activeElement;
    const had = this.rows.contains(focused);
    setChildren(this.rows, sorted.map(({ root }) => root));
    // A row that had to move took its focus away with it.
    if (had && focused !== document.activeElement) /** @type {HTMLElement} */ (focused).focus();
    this.none.hidden = shown > 0 || !this.listings.length;
    const what = kind === "all" ? "" : ` under “${this.kind.selectedOptions[0]?.textContent ?? ""}”`;
    this.noneText.textContent = words.length ? `No model${what} has ${words.length > 1 ? "all of these words" : "this word"}.` : `There is no model${what}.`;
  }

  /** Show a row that is further down; only the list itself is scrolled. @param {HTMLElement} row */
  reveal(row) {
    const below = row.offsetTop + row.offsetHeight - this.rows.clientHeight;
    if (below > this.rows.scrollTop) this.rows.scrollTop = below;
  }
}
