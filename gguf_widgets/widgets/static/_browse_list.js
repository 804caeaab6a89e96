// @ts-check
/**
 * What is in a folder, as a list from which one is chosen.
 *
 * Promises: one row is the active one, and it is seen; of a folder that is shown again it stays the
 * same one; every name is set as text. Leaves to others: the keys' focus, and what choosing does.
 */

import { newMid } from "./_connection.js";
import { h, icon } from "./_dom.js";
import { sizeText } from "./_upload_words.js";

/**
 * @typedef {{name: string, path: string, kind: "folder" | "file", size: number | null, changed: number | null, num_parts: number, is_listed: boolean, note: string}} BrowseRow
 * @typedef {{path: string, crumbs: [string, string][], rows: BrowseRow[], num_left_out: number, is_cut: boolean, num_outside: number, num_hidden: number}} BrowseListing
 */

const PAGE_ROWS = 7;

/** A path fit to be shown: without what turns the direction of writing or cannot be seen. @param {string} path */
export const plainPath = (path) => path.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");

/** @param {number} number @param {string} one @param {string} [many] */
const counted = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** The rows of one folder. */
export class BrowseList {
  /** @param {(row: BrowseRow) => void} choose */
  constructor(choose) {
    this.choose = choose;
    this.id = `gw-br-${newMid()}`;
    /** @type {BrowseListing | null} */
    this.listing = null;
    /** @type {BrowseRow[]} */
    this.rows = [];
    this.at = -1;
    this.root = h("ul", { class: "gw-br-list", role: "listbox", id: this.id, "aria-label": "Folders and models", "data-gw": "browse-list" });
    this.root.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays in the field
    this.root.addEventListener("click", (event) => {
      const item = event.target instanceof Element ? event.target.closest("li[data-at]") : null;
      const at = item instanceof HTMLElement ? Number(item.dataset.at) : -1;
      const row = this.rows[at];
      if (!row) return;
      this.activate(at);
      this.choose(row);
    });
  }

  /** @returns {BrowseRow | undefined} */
  get active() {
    return this.rows[this.at];
  }

  get activeId() {
    return this.at < 0 ? "" : `${this.id}-${this.at}`;
  }

  /** @param {BrowseListing} listing @param {string} words in small letters @param {boolean} isNew */
  show(listing, words, isNew) {
    const before = isNew ? "" : this.active?.path;
    this.listing = listing;
    this.rows = listing.rows.filter((row) => row.name.toLowerCase().includes(words));
    this.root.replaceChildren(...this.rows.map((row, at) => this.item(row, at)));
    if (!this.rows.length) {
      const text = words ? "Nothing here has that in its name." : "No folders and no model files (.gguf) here.";
      this.root.append(h("li", { class: "gw-br-empty", role: "presentation", text }));
    }
    if (isNew) this.root.scrollTop = 0;
    const same = this.rows.findIndex((row) => row.path === before);
    this.activate(before && same >= 0 ? same : this.rows.length ? 0 : -1);
  }

  /** @param {BrowseRow} row @param {number} at */
  item(row, at) {
    const item = h("li", { class: "gw-br-row", role: "option", id: `${this.id}-${at}`, "data-at": String(at), "data-gw": "browse-row", "data-name": row.name, "data-kind": row.kind, "aria-selected": "false", "aria-disabled": row.path ? null : "true", title: tooltip(row) }, [
      icon(row.kind === "folder" ? "folder" : "file"),
      h("span", { class: "gw-br-name", text: row.name }),
      h("span", { class: "gw-br-said" }, [row.note]),
      h("span", { class: "gw-br-size", text: row.size === null ? "" : sizeText(row.size) }),
    ]);
    if (row.is_listed) item.children[2]?.append(icon("done"), h("span", { class: "gw-br-known", text: "in the list" }));
    if (row.kind === "folder") item.append(icon("open"));
    return item;
  }

  /** @param {number} at */
  activate(at) {
    this.root.querySelector('[aria-selected="true"]')?.setAttribute("aria-selected", "false");
    this.at = at;
    const item = this.root.children[at];
    if (at < 0 || !(item instanceof HTMLElement)) return;
    item.setAttribute("aria-selected", "true");
    // Not scrollIntoView: that would move the page as well.
    const { root } = this;
    if (item.offsetTop < root.scrollTop) root.scrollTop = item.offsetTop;
    const below = item.offsetTop + item.offsetHeight - root.clientHeight;
    if (below > root.scrollTop) root.scrollTop = below;
  }

  /** Move the active row. @param {string} key @returns {boolean} whether the key is one of ours */
  move(key) {
    const last = this.rows.length - 1;
    /** @type {Record<string, number>} */
    const to = { ArrowDown: this.at + 1, ArrowUp: this.at - 1, PageDown: this.at + PAGE_ROWS, PageUp: this.at - PAGE_ROWS };
    const next = to[key];
    if (next === undefined) return false;
    if (last >= 0) this.activate(Math.min(last, Math.max(0, next)));
    return true;
  }

  /** What is there, in a sentence. */
  summary() {
    if (!this.listing) return "";
    const { num_left_out: left, is_cut: isCut, num_outside: outside, num_hidden: hidden } = this.listing;
    const folders = this.rows.filter((row) => row.kind === "folder").length;
    const said = [`${counted(folders, "folder")}, ${counted(this.rows.length - folders, "model file")}`];
    if (left > 0 || isCut) said.push(`${left > 0 ? `${left.toLocaleString("en")}${isCut ? " or more" : ""}` : "some"} not shown: type a part of the name`);
    if (outside > 0) said.push(`${counted(outside, "link")} out of the allowed folders left out`);
    if (hidden > 0) said.push(`${hidden.toLocaleString("en")} hidden`);
    return `${said.join("; ")}.`;
  }
}

/** @param {BrowseRow} row */
function tooltip({ name, note, num_parts: parts, changed, is_listed: isListed, kind }) {
  const said = [name];
  if (parts > 1) said.push(`${parts} files`);
  if (changed !== null) said.push(`changed ${new Date(changed * 1000).toLocaleString()}`);
  if (isListed) said.push(kind === "folder" ? "looked through already" : "in the list of models already");
  if (note) said.push(note);
  return said.join("\n");
}
