// @ts-check
/**
 * What was done just now, above the list, with Undo; and the trash, at its end.
 *
 * Promises: the last removal can be undone, then the one before it; what stands there stays until it
 * is closed; nothing is deleted for good before a question that says how much room that gives. Leaves
 * to others: the files (Python).
 */

import { ghostButton, h, icon, setChildren } from "./_dom.js";
import { JobElement } from "./_picker_job.js";
import { askBox, button, isBusy, setBusy, showError } from "./_picker_parts.js";

/**
 * @import { Job } from "./_picker_job.js"
 * @import { Line, Refusal } from "./_picker_line.js"
 *
 * @typedef {{id: string, name: string, text: string}} Removed
 * @typedef {{id: string, name: string, size: string, at: number | null, missing: string}} TrashedModel
 * @typedef {{entries: TrashedModel[], room: string}} Trash
 * @typedef {(path: string) => void} Restored
 */

/**
 * Ask for something to be put back, and show why it was not.
 * @param {Line} line @param {string} id @param {HTMLButtonElement} pressed @param {HTMLElement} place
 * @param {Restored} then @param {string} [name] another name
 */
function putBack(line, id, pressed, place, then, name) {
  if (isBusy(pressed)) return;
  if (place.contains(document.activeElement)) pressed.focus();
  showError(place, "");
  setBusy(pressed, true);
  line.ask("restore", name === undefined ? { id } : { id, name }, (answer) => {
    setBusy(pressed, false);
    if (answer.restored) then(answer.restored.path);
    else if (answer.error) refuse(answer.error);
  });
  const refuse = (/** @type {Refusal} */ { text, suggestion }) => {
    const way = suggestion ? button(`Put it back as “${suggestion}”`, "restore-suggested") : undefined;
    way?.addEventListener("click", () => putBack(line, id, pressed, place, then, suggestion));
    showError(place, text, way);
    (way ?? pressed).focus();
  };
}

export class NewsElement {
  /** @param {Line} line @param {Restored} restored @param {() => void} leave */
  constructor(line, restored, leave) {
    /** @type {Removed | null} */
    this.last = null;
    /** An id whose Undo gets the focus when it is shown. */
    this.wanted = "";
    this.text = h("span", { class: "gw-news-text" });
    this.undo = button("Undo", "picker-undo");
    this.error = h("div", { class: "gw-form-error", "data-gw": "undo-error", hidden: true });
    this.undo.addEventListener("click", () => this.last && putBack(line, this.last.id, this.undo, this.error, restored));
    this.close = ghostButton("close", "Close this", { "data-gw": "news-close" });
    this.close.addEventListener("click", () => {
      line.post("hush");
      this.root.hidden = true;
      leave();
    });
    this.root = h("div", { class: "gw-news", "data-gw": "picker-news", hidden: true }, [
      h("div", { class: "gw-news-line" }, [h("div", { class: "gw-news-words", role: "status" }, [this.text]), this.undo, this.close]),
      this.error,
    ]);
  }

  /** @param {Removed[]} removed @param {string} said */
  show(removed, said) {
    const last = removed[removed.length - 1] ?? null;
    if (last?.id !== this.last?.id) showError(this.error, "");
    this.last = last;
    // What was said last is about what was done last.
    this.text.textContent = said || last?.text || "";
    const hadFocus = this.undo === document.activeElement;
    this.undo.hidden = !last;
    if (last) this.undo.textContent = said ? `Undo removing ${last.name}` : "Undo";
    this.undo.title = last ? `Put ${last.name} back` : "";
    this.root.hidden = !this.text.textContent;
    if (hadFocus && !last && !this.root.hidden) this.close.focus();
    if (this.wanted && last?.id === this.wanted) {
      this.wanted = "";
      this.undo.focus();
    }
  }

  /** Give Undo the focus, now or when it comes. @param {string} id */
  want(id) {
    if (this.last?.id === id) this.undo.focus();
    else this.wanted = id;
  }
}

/** @param {number} at seconds since 1970 @returns {string} the day; of today the time */
function dayOf(at) {
  const date = new Date(at * 1000);
  if (date.toDateString() !== new Date().toDateString()) return `on ${date.toLocaleDateString("en", { day: "numeric", month: "long", year: "numeric" })}`;
  return `today at ${date.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })}`;
}

/** One thing in the trash. */
class TrashRow {
  /** @param {Line} line @param {Restored} restored */
  constructor(line, restored) {
    this.id = "";
    this.name = h("span", { class: "gw-trash-name" });
    this.about = h("p", { class: "gw-dim" });
    this.back = button("Put back", "trash-restore");
    this.error = h("div", { class: "gw-form-error", "data-gw": "trash-error", hidden: true });
    this.back.addEventListener("click", () => putBack(line, this.id, this.back, this.error, restored));
    this.job = new JobElement(line, () => this.back.focus());
    this.root = h("li", { class: "gw-trash-row", "data-gw": "trash-row" }, [h("div", { class: "gw-trash-head" }, [this.name, this.back]), this.about, this.job.root, this.error]);
  }

  /** @param {TrashedModel} entry */
  update(entry) {
    this.id = entry.id;
    this.root.dataset.name = entry.name;
    this.name.textContent = entry.name;
    this.back.setAttribute("aria-label", `Put back ${entry.name}`);
    const when = entry.at === null ? "" : `removed ${dayOf(entry.at)}`;
    this.about.textContent = [entry.size, when, entry.missing].filter(Boolean).join(", ");
  }
}

export class TrashElement {
  /** @param {Line} line @param {Restored} restored @param {() => void} emptied */
  constructor(line, restored, emptied) {
    this.line = line;
    this.restored = restored;
    this.emptied = emptied;
    /** @type {Map<string, TrashRow>} */
    this.rows = new Map();
    /** @type {Trash} */
    this.trash = { entries: [], room: "" };
    this.count = h("span", { class: "gw-trash-count" });
    this.list = h("ul", { class: "gw-trash-rows", role: "list", "aria-label": "Models in the trash" });
    this.notice = h("p", { class: "gw-error" });
    this.place = h("div");
    this.error = h("div", { class: "gw-form-error", hidden: true });
    this.empty = button("Empty the trash", "trash-empty");
    this.empty.addEventListener("click", () => this.ask());
    this.root = h("details", { class: "gw-fold", "data-gw": "picker-trash", hidden: true }, [
      h("summary", {}, [icon("open"), "Trash", this.count]),
      h("div", { class: "gw-fold-body" }, [this.notice, this.list, this.empty, this.place, this.error]),
    ]);
  }

  /** @param {Trash} trash @param {string} notice */
  show(trash, notice) {
    this.trash = trash;
    const { entries, room } = trash;
    this.root.hidden = !entries.length && !notice;
    this.count.textContent = entries.length ? `${entries.length === 1 ? "1 model" : `${entries.length} models`}, ${room}` : "";
    this.notice.textContent = notice;
    this.notice.hidden = !notice;
    const known = this.rows;
    this.rows = new Map();
    for (const entry of entries) {
      const row = known.get(entry.id) ?? new TrashRow(this.line, this.restored);
      row.update(entry);
      this.rows.set(entry.id, row);
    }
    setChildren(this.list, [...this.rows.values()].map(({ root }) => root));
    this.empty.hidden = !entries.length || this.place.childElementCount > 0;
    if (!entries.length) this.place.replaceChildren();
  }

  /** @param {Job} job of something that is put back, "trash:" and its id */
  showJob(job) {
    const row = this.rows.get(job.key.replace(/^trash:/, ""));
    row?.job.show(job, row.name.textContent ?? "");
  }

  ask() {
    const { entries, room } = this.trash;
    const ids = entries.map(({ id }) => id);
    const what = ids.length === 1 ? `“${entries[0]?.name}”` : `all ${ids.length} models in the trash`;
    const close = () => {
      this.place.replaceChildren();
      this.empty.hidden = !this.trash.entries.length;
      this.empty.focus();
    };
    const yes = () => {
      this.place.replaceChildren();
      this.empty.hidden = false;
      this.empty.focus();
      setBusy(this.empty, true);
      this.line.ask("empty", { ids }, (answer) => {
        setBusy(this.empty, false);
        showError(this.error, answer.error?.text ?? "");
        if (answer.emptied) this.emptied();
        else this.empty.focus();
      });
    };
    const text = `Delete ${what} for good? That gives ${room} of room on the disk back, and cannot be undone.`;
    const box = askBox({ text, yes: "Delete for good", no: ids.length === 1 ? "Keep it" : "Keep them" }, { hook: "empty", danger: true, yes, no: close });
    this.empty.hidden = true;
    this.place.replaceChildren(box.root);
    box.root.scrollIntoView({ block: "nearest" });
    box.keep.focus();
  }
}
