// @ts-check
/**
 * The runs of before: opened, called something else, deleted and brought back.
 *
 * Promises: what is being typed stays while the list changes; where the focus was it goes on; what
 * was deleted can be brought back until that is dismissed. Leaves to others: what may be deleted
 * (Python).
 */

import { wordsOf } from "./_link.js";
import { ghostButton, h, icon } from "./_dom.js";

/** @import { Link } from "./_link.js" */

const RUN_WORDS = /** @type {Record<string, string>} */ ({ ready: "not started", running: "at work", paused: "paused", stopped: "stopped", interrupted: "interrupted", finished: "finished", failed: "could not go on" });

/**
 * A field for another title.
 * @param {string} title @param {(title: string) => Promise<unknown>} save @param {() => void} done
 */
export function titleForm(title, save, done) {
  const field = h("input", { class: "gw-field", "aria-label": "Title of the run", maxlength: "200", autocomplete: "off", "data-lm-suppress-shortcuts": "true", "data-gw": "batch-title-field" });
  const keep = h("button", { type: "submit", class: "gw-button", text: "Save", "data-gw": "batch-title-save" });
  const cancel = h("button", { type: "button", class: "gw-button", text: "Cancel" });
  const error = h("p", { class: "gw-error", role: "alert" });
  const form = h("form", { class: "gw-bt-titleform" }, [field, keep, cancel, error]);
  field.value = title;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim() === title.trim()) return done();
    save(field.value).then(done, (problem) => {
      error.textContent = wordsOf(problem);
    });
  });
  form.addEventListener("keydown", (event) => {
    event.stopPropagation(); // no key of the list, or of the notebook
    if (event.key === "Escape") done();
  });
  cancel.addEventListener("click", done);
  requestAnimationFrame(() => {
    field.focus();
    field.select();
  });
  return form;
}

export class EarlierPart {
  /** @param {Link} link */
  constructor(link) {
    this.link = link;
    this.key = "";
    this.deletedKey = "";
    this.renaming = "";
    /** @type {any} */
    this.part = { runs: [], hasMore: false, deleted: [] };
    this.current = "";
    this.count = h("span", { class: "gw-dim" });
    this.list = h("ul", { class: "gw-bt-earlier", role: "list" });
    this.more = h("button", { type: "button", class: "gw-link", text: "Show more", hidden: true, "data-gw": "batch-earlier-more" });
    this.more.addEventListener("click", () => this.link.tell("earlier", { more: true }));
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": "batch-earlier-error" });
    this.deleted = h("div", { class: "gw-bt-stack", role: "status" });
    this.fold = h("details", { class: "gw-fold", "data-gw": "batch-earlier" }, [
      h("summary", {}, [icon("open"), h("span", { text: "Earlier runs" }), this.count]),
      h("div", { class: "gw-fold-body gw-bt-stack" }, [this.error, this.list, h("div", {}, [this.more])]),
    ]);
    this.fold.addEventListener("toggle", () => {
      if (this.fold.open) link.tell("earlier");
    });
    this.root = h("div", { class: "gw-bt-part", hidden: true }, [this.deleted, this.fold]);
  }

  /** @param {any} part @param {string} current */
  show(part, current) {
    this.part = part;
    this.current = current;
    this.showDeleted(part.deleted);
    if (this.renaming) return; // what is typed stays
    const key = JSON.stringify([part, current]);
    if (key === this.key) return;
    this.key = key;
    const others = part.runs.filter((/** @type {any} */ one) => one.id !== current);
    this.count.textContent = others.length ? ` ${others.length}${part.hasMore ? " or more" : ""}` : "";
    this.more.hidden = !part.hasMore;
    const focused = this.list.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement) : undefined;
    const [hook, id] = [focused?.dataset.gw, focused?.dataset.id];
    const lines = others.map((/** @type {any} */ one) => this.line(one));
    if (!lines.length) lines.push(h("li", { class: "gw-dim", text: "None yet. Each run is kept here, with its rows." }));
    this.list.replaceChildren(...lines);
    if (!focused) return;
    const again = /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-gw="${hook}"][data-id="${id}"]`) ?? this.list.querySelector("button"));
    (again ?? /** @type {HTMLElement} */ (this.fold.firstElementChild)).focus();
  }

  /** @param {any} one */
  line(one) {
    const open = h("button", { type: "button", class: "gw-bt-open", "data-gw": "batch-open", "data-id": one.id }, [
      h("span", { class: "gw-bt-grow gw-bt-cut", text: one.title }),
      h("span", { class: "gw-dim gw-bt-num", text: `${one.done.toLocaleString("en")} of ${one.total.toLocaleString("en")}, ${RUN_WORDS[one.status] ?? one.status}, ${one.when}` }),
    ]);
    open.addEventListener("click", () => this.do("open", one.id));
    const rename = ghostButton("fresh", `Rename “${one.title}”`, { "data-gw": "batch-rename", "data-id": one.id });
    const remove = ghostButton("bin", `Delete “${one.title}”`, { "data-gw": "batch-delete", "data-id": one.id });
    const line = h("li", { class: "gw-bt-line" }, [open, rename, remove]);
    rename.addEventListener("click", () => {
      this.renaming = one.id;
      const save = (/** @type {string} */ title) => this.link.ask("rename", { id: one.id, title });
      line.replaceChildren(titleForm(one.title, save, () => this.renamed(one.id)));
    });
    remove.addEventListener("click", () => this.do("delete", one.id));
    return line;
  }

  /** @param {string} id */
  renamed(id) {
    this.renaming = this.key = "";
    this.show(this.part, this.current);
    /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-gw="batch-rename"][data-id="${id}"]`))?.focus();
  }

  /** @param {{id: string, title: string}[]} deleted */
  showDeleted(deleted) {
    const key = JSON.stringify(deleted);
    if (key === this.deletedKey) return;
    this.deletedKey = key;
    const hadFocus = this.deleted.contains(document.activeElement);
    const lines = deleted.map(({ id, title }) => {
      const back = h("button", { type: "button", class: "gw-link", text: "Bring it back", "data-gw": "batch-restore", "data-id": id });
      back.addEventListener("click", () => this.do("restore", id));
      return h("p", { class: "gw-bt-undo" }, [h("span", { class: "gw-bt-grow", text: `“${title}” is deleted.` }), back]);
    });
    if (lines.length) {
      const dismiss = h("button", { type: "button", class: "gw-link", text: "Dismiss", "data-gw": "batch-forget-deleted" });
      dismiss.addEventListener("click", () => this.link.tell("forget-deleted"));
      lines[lines.length - 1].append(dismiss);
    }
    this.deleted.replaceChildren(...lines);
    if (hadFocus) /** @type {HTMLElement} */ (this.deleted.querySelector("button") ?? this.fold.firstElementChild).focus();
  }

  /** @param {string} kind @param {string} id */
  do(kind, id) {
    this.error.textContent = "";
    this.link.ask(kind, { id }).catch((error) => {
      this.error.textContent = wordsOf(error);
      this.fold.open = true;
    });
  }
}
