// @ts-check
/**
 * The conversations on the panel: one row each, in groups, with the menu of a row and its name's field.
 *
 * Promises: a row is a list's item with a button that opens the conversation and one for its menu; one
 * row can be reached by Tab and the others by the arrow keys; a row that stays is not made anew, so
 * that the focus and a name that is being typed survive a refresh; titles and what was found are set
 * as text. Leaves to others: what is done (`_chat_library.js`), which rows there are (Python).
 */

import { isComposing } from "./_chat_input.js";
import { ghostButton, h, icon, setChildren } from "./_dom.js";

/**
 * @typedef {{
 *   id: string, title: string, model: string, at: number, deletedAt: number | null, pinned: boolean,
 *   running: boolean, message?: string | null, snippet?: [string, boolean][], count?: number,
 * }} LibraryRow
 * @typedef {{name: string, label: string, detail: string}} LibraryFormat
 * @typedef {object} LibraryActs
 * @property {(row: LibraryRow) => void} open
 * @property {(row: LibraryRow, title: string) => Promise<boolean>} rename whether it was kept
 * @property {(row: LibraryRow) => void} pin
 * @property {(row: LibraryRow) => void} remove
 * @property {(row: LibraryRow) => void} restore
 * @property {(row: LibraryRow, format: string) => void} save
 */

const DAY_MS = 86_400_000;
const MAX_NAME = 200;

/** @param {LibraryRow} row @param {number} midnight of today @returns {string} */
export function groupOf(row, midnight) {
  if (row.pinned) return "Pinned";
  const at = row.at * 1000;
  if (at >= midnight) return "Today";
  if (at >= midnight - DAY_MS) return "Yesterday";
  return at >= midnight - 7 * DAY_MS ? "Last 7 days" : "Older";
}

/** @param {number} seconds @param {number} midnight */
function timeWords(seconds, midnight) {
  const at = new Date(seconds * 1000);
  if (at.getTime() >= midnight - DAY_MS) return at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (at.getTime() >= midnight - 7 * DAY_MS) return at.toLocaleDateString([], { weekday: "long" });
  return at.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
}

export function midnightOfToday() {
  const day = new Date();
  day.setHours(0, 0, 0, 0);
  return day.getTime();
}

/** One conversation. */
class RowElement {
  /** @param {LibraryRow} row @param {LibraryList} list */
  constructor(row, list) {
    this.list = list;
    this.row = row;
    this.title = h("span", { class: "gw-lib-title", dir: "auto" });
    this.about = h("span", { class: "gw-lib-about" });
    this.open = h("button", { type: "button", class: "gw-lib-open", tabindex: "-1", "data-gw": "library-open" }, [this.title, this.about]);
    this.more = ghostButton("more", "Actions", { class: "gw-ghost gw-lib-more", tabindex: "-1", "aria-haspopup": "menu", "aria-expanded": "false", "data-gw": "library-more" });
    this.field = h("input", { class: "gw-lib-name", type: "text", maxlength: String(MAX_NAME), "aria-label": "Name of the conversation", hidden: true, "data-gw": "library-name", "data-lm-suppress-shortcuts": "true" });
    this.root = h("li", { class: "gw-lib-row", "data-gw": "library-row", "data-id": row.id }, [this.open, this.field, this.more]);
    this.open.addEventListener("click", () => list.acts.open(this.row));
    this.open.addEventListener("focus", () => list.setCurrent(this));
    this.more.addEventListener("focus", () => list.setCurrent(this));
    this.more.addEventListener("click", () => list.menu.toggle(this));
    this.field.addEventListener("keydown", (event) => this.onFieldKey(event));
    this.field.addEventListener("blur", () => void this.keepName(false));
    this.update(row);
  }

  /** @param {LibraryRow} row */
  update(row) {
    this.row = row;
    const name = row.title.trim() || "Without a name";
    const { midnight, shownId, isDeleted } = this.list;
    const when = isDeleted && row.deletedAt !== null ? `Deleted ${timeWords(row.deletedAt, midnight)}` : timeWords(row.at, midnight);
    if (this.title.textContent !== name) this.title.textContent = name;
    this.open.title = name;
    const parts = [row.running ? "Being answered…" : when, row.model].filter(Boolean).join(" · ");
    const shown = JSON.stringify([parts, row.snippet, row.running]);
    if (this.about.dataset.shown !== shown) {
      this.about.dataset.shown = shown;
      const dot = row.running ? [h("span", { class: "gw-lib-dot", "aria-hidden": "true" })] : [];
      this.about.replaceChildren(...dot, parts, ...(row.snippet ? [snippetOf(row.snippet)] : []));
    }
    this.more.setAttribute("aria-label", `Actions for “${name}”`);
    this.root.classList.toggle("gw-lib-pinned", row.pinned);
    if (row.id === shownId) this.open.setAttribute("aria-current", "true");
    else this.open.removeAttribute("aria-current");
  }

  /** @param {boolean} isTabStop */
  setTabStop(isTabStop) {
    this.open.tabIndex = this.more.tabIndex = isTabStop ? 0 : -1;
  }

  askName() {
    this.field.value = this.row.title;
    this.field.hidden = false;
    this.open.hidden = true;
    this.field.focus();
    this.field.select();
  }

  /** @param {KeyboardEvent} event */
  onFieldKey(event) {
    if (isComposing(event)) return;
    event.stopPropagation(); // the list's keys, and JupyterLab's, are not for a name
    if (event.key === "Enter") {
      event.preventDefault();
      void this.keepName(true);
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.endNaming(true);
    }
  }

  /** @param {boolean} takesFocus */
  async keepName(takesFocus) {
    if (this.field.hidden) return;
    const title = this.field.value.trim();
    if (!title || title === this.row.title) {
      this.endNaming(takesFocus);
      return;
    }
    this.endNaming(takesFocus);
    this.title.textContent = title; // until Python says so, too
    if (!(await this.list.acts.rename(this.row, title))) this.title.textContent = this.row.title;
  }

  /** @param {boolean} takesFocus */
  endNaming(takesFocus) {
    this.field.hidden = true;
    this.open.hidden = false;
    if (takesFocus) this.open.focus();
  }
}

/** @param {[string, boolean][]} pieces */
function snippetOf(pieces) {
  const words = pieces.map(([text, isHit]) => (isHit ? h("mark", { text }) : text));
  return h("span", { class: "gw-lib-snippet", dir: "auto" }, words);
}

/** What can be done with a row; opened at it. */
class RowMenu {
  /** @param {LibraryList} list */
  constructor(list) {
    this.list = list;
    /** @type {RowElement | null} */
    this.of = null;
    this.root = h("div", { class: "gw-lib-menu", role: "menu", hidden: true, "data-gw": "library-menu" });
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.root.addEventListener("focusout", (event) => {
      const to = /** @type {Node | null} */ (event.relatedTarget);
      if (!this.root.hidden && !this.root.contains(to) && to !== this.of?.more) this.close(false);
    });
  }

  /** @param {RowElement} of */
  toggle(of) {
    if (this.of === of) this.close(true);
    else this.open(of);
  }

  /** @param {RowElement} of */
  open(of) {
    this.close(false);
    this.of = of;
    of.more.setAttribute("aria-expanded", "true");
    const { row } = of;
    const { acts, formats, isDeleted } = this.list;
    /** @type {[string, string, string, string, () => void][]} */
    const entries = isDeleted
      ? [["restore", "again", "Restore", "", () => acts.restore(row)]]
      : [
          ["rename", "edit", "Rename", "F2", () => of.askName()],
          ["pin", "pin", row.pinned ? "Unpin" : "Pin", "", () => acts.pin(row)],
          ["delete", "bin", "Delete", "Del", () => acts.remove(row)],
        ];
    const items = entries.map(([kind, sign, label, key, act]) => this.item(kind, [icon(sign), h("span", { text: label }), h("kbd", { text: key })], "", act, kind === "rename" || kind === "delete"));
    const saves = isDeleted ? [] : formats.map(({ name, label, detail }) => this.item(`export-${name}`, [h("span", { text: label })], detail, () => acts.save(row, name)));
    const heading = h("span", { class: "gw-lib-menu-head", "aria-hidden": "true", text: "Export as" });
    const group = saves.length ? [h("div", { role: "group", "aria-label": "Export as" }, [heading, ...saves])] : [];
    this.root.setAttribute("aria-label", of.more.getAttribute("aria-label") ?? "Actions");
    this.root.replaceChildren(...items, ...group);
    of.root.append(this.root);
    this.root.hidden = false;
    items[0]?.focus({ preventScroll: true });
    this.root.scrollIntoView({ block: "nearest" });
  }

  /** @param {string} kind @param {Node[]} parts @param {string} title @param {() => void} act @param {boolean} [movesFocus] */
  item(kind, parts, title, act, movesFocus = false) {
    const item = h("button", { type: "button", role: "menuitem", tabindex: "-1", title: title || null, "data-gw": `library-${kind}` }, parts);
    item.addEventListener("click", () => {
      this.close(!movesFocus);
      act();
    });
    return item;
  }

  /** @param {boolean} givesBack */
  close(givesBack) {
    const { of } = this;
    if (!of) return;
    this.of = null;
    of.more.setAttribute("aria-expanded", "false");
    if (givesBack) of.more.focus({ preventScroll: true });
    this.root.hidden = true;
    this.root.remove();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const items = [...this.root.querySelectorAll("button")];
    const at = items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const to = { ArrowDown: (at + 1) % items.length, ArrowUp: (at + items.length - 1) % items.length, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) items[to]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") this.close(true);
    else return;
    event.stopPropagation();
    if (event.key !== "Tab") event.preventDefault();
  }
}

/** The rows in their groups. */
export class LibraryList {
  /** @param {LibraryActs} acts */
  constructor(acts) {
    this.acts = acts;
    /** @type {LibraryFormat[]} */
    this.formats = [];
    this.isDeleted = false;
    this.midnight = midnightOfToday();
    this.shownId = "";
    /** @type {Map<string, RowElement>} */
    this.rows = new Map();
    /** @type {RowElement | null} the one that Tab reaches */
    this.current = null;
    this.menu = new RowMenu(this);
    this.root = h("div", { class: "gw-lib-list", "data-gw": "library-list" });
    this.root.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** @param {LibraryRow[]} rows @param {boolean} areGrouped */
  show(rows, areGrouped) {
    this.midnight = midnightOfToday();
    const { activeElement } = document;
    const held = [...this.rows.values()].find((one) => one.root.contains(activeElement));
    const heldAt = held ? [...this.rows.keys()].indexOf(held.row.id) : -1;
    /** @type {Map<string, RowElement>} */
    const next = new Map();
    /** @type {Map<string, HTMLElement[]>} */
    const groups = new Map();
    for (const row of rows) {
      const element = this.rows.get(row.id) ?? new RowElement(row, this);
      element.update(row);
      next.set(row.id, element);
      const name = areGrouped ? groupOf(row, this.midnight) : "";
      groups.set(name, [...(groups.get(name) ?? []), element.root]);
    }
    if (this.menu.of && !next.has(this.menu.of.row.id)) this.menu.close(false);
    this.rows = next;
    setChildren(this.root, [...groups].map(([name, items]) => this.group(name, items)));
    if (!this.current || !next.has(this.current.row.id)) this.setCurrent([...next.values()][Math.max(0, Math.min(heldAt, next.size - 1))] ?? null);
    // The row that had the focus is gone, or stands in another group.
    if (held && !this.root.contains(document.activeElement)) (next.get(held.row.id) ?? this.current)?.open.focus({ preventScroll: true });
  }

  /** @param {string} name @param {HTMLElement[]} items */
  group(name, items) {
    const known = /** @type {HTMLElement | null} */ ([...this.root.children].find((one) => /** @type {HTMLElement} */ (one).dataset.group === name));
    const list = known?.querySelector("ul") ?? h("ul", { role: "list", "aria-label": name || "Conversations found" });
    setChildren(list, items);
    if (known) return known;
    const heading = name ? [h("h4", { class: "gw-lib-group", text: name })] : [];
    return h("div", { "data-group": name }, [...heading, list]);
  }

  /** @param {RowElement | null} row */
  setCurrent(row) {
    if (this.current !== row) this.current?.setTabStop(false);
    this.current = row;
    row?.setTabStop(true);
  }

  /** @param {string} id which conversation is on screen */
  setShown(id) {
    this.shownId = id;
    for (const row of this.rows.values()) row.update(row.row);
  }

  /** @param {string} id */
  focusRow(id) {
    this.rows.get(id)?.open.focus();
  }

  focusFirst() {
    [...this.rows.values()][0]?.open.focus();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const row = this.current;
    if (!row || !row.root.contains(document.activeElement) || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...this.rows.values()];
    const at = all.indexOf(row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) all[Math.max(0, Math.min(to, all.length - 1))]?.open.focus();
    else if (event.key === "ArrowRight") row.more.focus();
    else if (event.key === "ArrowLeft") row.open.focus();
    else if (event.key === "F2" && !this.isDeleted) row.askName();
    else if (event.key === "Delete" && !this.isDeleted) this.acts.remove(row.row);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The row that takes the focus when this one goes. @param {string} id @returns {string} */
  neighbour(id) {
    const all = [...this.rows.keys()];
    const at = all.indexOf(id);
    return all[at + 1] ?? all[at - 1] ?? "";
  }
}
