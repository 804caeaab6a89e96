// @ts-check
/**
 * What is set up for a comparison, as the page holds it: changed here at once, told to Python a
 * moment later.
 *
 * Promises: what is typed is never overwritten by what Python says of an earlier moment; what is
 * still to be told is told before anything is started. Leaves to others: fields (`_comparison_sides`,
 * `_comparison_one`, `_comparison_many`), what is wrong with them (Python).
 */

import { h } from "./_dom.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{model: string, label: string, temperature: string, top_p: string, seed: string, n_ctx: string, system: string, wording: string}} SideDraft
 * @typedef {{sides: SideDraft[], mode: "one" | "many", prompt: string, order: "together" | "turns", max_tokens: string, template: string, reference: string, scores: string[], pattern: string, similarity: string, judge: string, early: boolean, strict: boolean}} ComparisonDraft
 */

const TELL_AFTER_MS = 200;
export const SIDE_LETTERS = "ABCD";

export class ComparisonForm {
  /** @param {Link} link @param {() => void} changed called when the page's own draft has changed */
  constructor(link, changed) {
    this.link = link;
    this.changed = changed;
    /** @type {ComparisonDraft} */
    this.draft = { sides: [], mode: "one", prompt: "", order: "together", max_tokens: "256", template: "", reference: "", scores: [], pattern: "", similarity: "", judge: "", early: false, strict: false };
    /** @type {number | undefined} */
    this.timer = undefined;
    this.isFirst = true;
  }

  /** What Python says. @param {{by: string, draft: ComparisonDraft}} told @returns {boolean} whether it is another one */
  take(told) {
    const isOwn = told.by === this.link.page && !this.isFirst;
    if (isOwn || this.timer !== undefined) return false;
    this.isFirst = false;
    const isSame = JSON.stringify(told.draft) === JSON.stringify(this.draft);
    this.draft = told.draft;
    return !isSame;
  }

  /** @param {Partial<ComparisonDraft>} part @param {boolean} [isTyped] a key was pressed: more may come */
  set(part, isTyped = false) {
    this.draft = { ...this.draft, ...part };
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), isTyped ? TELL_AFTER_MS : 0);
    this.changed();
  }

  /** @param {number} number @param {Partial<SideDraft>} part @param {boolean} [isTyped] */
  setSide(number, part, isTyped = false) {
    this.set({ sides: this.draft.sides.map((side, i) => (i === number ? { ...side, ...part } : side)) }, isTyped);
  }

  /** Tell Python now. */
  flush() {
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.link.tell("draft", { draft: this.draft });
  }
}

/**
 * A field with its name above it and what is wrong below.
 * @param {HTMLElement} control @param {string} label @param {string} [title]
 */
export function labelled(control, label, title) {
  const fault = h("span", { class: "gw-error", role: "alert" });
  return { root: h("label", { class: "gw-bt-label", title: title ?? null }, [h("span", { text: label }), control, fault]), fault };
}

/** @param {HTMLElement} fault @param {HTMLElement} control @param {string | undefined} words */
export function showFault(fault, control, words) {
  const text = words ?? "";
  if (fault.textContent !== text) fault.textContent = text;
  if (text) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
}

/** The letter of a side, in its colour. @param {number} number */
export function sideBadge(number) {
  return h("span", { class: "gw-cmp-badge", "data-side": String(number), "aria-hidden": "true", text: SIDE_LETTERS[number] });
}

/**
 * A list to choose from; what is chosen stays, even if it has gone from the list.
 * @param {HTMLSelectElement} select @param {[string, string][]} choices @param {string} value
 */
export function setChoices(select, choices, value) {
  const key = JSON.stringify(choices);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...choices.map(([one, text]) => h("option", { value: one, text })));
  }
  if (select.value !== value) select.value = value;
}
