// @ts-check
/**
 * The comparisons of before: opened, called something else, deleted.
 *
 * Promises: what is being typed stays while the list changes; deleting asks once more, as it cannot
 * be undone. Leaves to others: what may be deleted (Python).
 */

import { titleForm } from "./_batch_earlier.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/** @import { Link } from "./_link.js" */

const COMPARISON_WORDS = /** @type {Record<string, string>} */ ({ ready: "not started", running: "at work", stopped: "stopped", interrupted: "interrupted", finished: "finished", failed: "could not go on" });

export class EarlierComparisons {
  /** @param {Link} link */
  constructor(link) {
    this.link = link;
    this.key = "";
    this.isBusy = false; // a title is typed, or a deletion asked about
    /** @type {any} */
    this.part = { list: [], hasMore: false };
    this.current = "";
    this.count = h("span", { class: "gw-dim" });
    this.list = h("ul", { class: "gw-bt-earlier", role: "list" });
    this.more = h("button", { type: "button", class: "gw-link", text: "Show more", hidden: true });
    this.more.addEventListener("click", () => link.tell("earlier", { more: true }));
    this.error = h("p", { class: "gw-error", role: "alert" });
    this.fold = h("details", { class: "gw-fold", "data-gw": "comparison-earlier" }, [
      h("summary", {}, [icon("open"), h("span", { text: "Earlier comparisons" }), this.count]),
      h("div", { class: "gw-fold-body gw-bt-stack" }, [this.error, this.list, h("div", {}, [this.more])]),
    ]);
    this.fold.addEventListener("toggle", () => this.fold.open && link.tell("earlier"));
    this.root = h("div", { class: "gw-bt-part", hidden: true }, [this.fold]);
  }

  /** @param {any} part @param {string} current */
  show(part, current) {
    this.part = part;
    this.current = current;
    const key = JSON.stringify([part, current]);
    if (this.isBusy || key === this.key) return;
    this.key = key;
    const others = part.list.filter((/** @type {any} */ one) => one.id !== current);
    this.count.textContent = others.length ? ` ${others.length}${part.hasMore ? " or more" : ""}` : "";
    this.more.hidden = !part.hasMore;
    const focused = this.list.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset : undefined;
    const lines = others.map((/** @type {any} */ one) => this.line(one));
    if (!lines.length) lines.push(h("li", { class: "gw-dim", text: "None yet. Each comparison over many prompts is kept here, with its answers." }));
    this.list.replaceChildren(...lines);
    if (!focused) return;
    const again = /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-gw="${focused.gw}"][data-id="${focused.id}"]`) ?? this.list.querySelector("button"));
    (again ?? /** @type {HTMLElement} */ (this.fold.firstElementChild)).focus();
  }

  /** @param {any} one */
  line(one) {
    const prompts = `${one.prompts.toLocaleString("en")} ${one.prompts === 1 ? "prompt" : "prompts"}`;
    const open = h("button", { type: "button", class: "gw-bt-open", disabled: Boolean(one.error), title: one.error || null, "data-gw": "comparison-open", "data-id": one.id }, [
      h("span", { class: "gw-bt-grow gw-bt-cut", text: one.title }),
      h("span", { class: "gw-dim gw-bt-num", text: one.error ? one.error : `${prompts}, ${COMPARISON_WORDS[one.status] ?? one.status}, ${one.when}` }),
    ]);
    open.addEventListener("click", () => void this.do("open", { id: one.id }));
    const rename = ghostButton("edit", `Rename “${one.title}”`, { "data-gw": "comparison-rename", "data-id": one.id });
    const remove = ghostButton("bin", `Delete “${one.title}”`, { "data-gw": "comparison-delete", "data-id": one.id });
    const line = h("li", { class: "gw-bt-line" }, [open, rename, remove]);
    rename.addEventListener("click", () => {
      this.isBusy = true;
      line.replaceChildren(titleForm(one.title, (title) => this.link.ask("rename", { id: one.id, title }), () => this.done(one.id, "comparison-rename")));
    });
    remove.addEventListener("click", () => this.askToDelete(line, one));
    return line;
  }

  /** @param {HTMLElement} line @param {any} one */
  askToDelete(line, one) {
    this.isBusy = true;
    const yes = h("button", { type: "button", class: "gw-button gw-danger", text: "Delete it", "data-gw": "comparison-delete-yes" });
    const no = h("button", { type: "button", class: "gw-button", text: "Keep it" });
    yes.addEventListener("click", async () => {
      await this.do("delete", { id: one.id });
      this.done(one.id, "comparison-delete");
    });
    no.addEventListener("click", () => this.done(one.id, "comparison-delete"));
    line.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.done(one.id, "comparison-delete");
    });
    line.replaceChildren(h("span", { class: "gw-bt-grow", text: `Delete “${one.title}” with its scores and votes? The answers stay as runs under “Table”.` }), yes, no);
    no.focus();
  }

  /** @param {string} id @param {string} hook */
  done(id, hook) {
    this.isBusy = false;
    this.key = "";
    this.show(this.part, this.current);
    /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-gw="${hook}"][data-id="${id}"]`) ?? this.fold.firstElementChild)?.focus();
  }

  /** @param {string} kind @param {object} content */
  async do(kind, content) {
    this.error.textContent = "";
    try {
      await this.link.ask(kind, content);
    } catch (error) {
      this.error.textContent = wordsOf(error);
      this.fold.open = true;
    }
  }
}
