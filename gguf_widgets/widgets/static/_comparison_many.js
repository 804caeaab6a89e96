// @ts-check
/**
 * Many prompts: the table they come from, what is asked about a row, what is right, what is scored.
 *
 * Promises: a score that needs something asks for it where it is chosen; what is wrong stands at its
 * field. Leaves to others: the table (`_batch_source`), scores (Python).
 */

import { SourcePart } from "./_batch_source.js";
import { labelled, setChoices, showFault } from "./_comparison_form.js";
import { h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @import { ComparisonForm } from "./_comparison_form.js"
 */

const SCORE_WAYS = /** @type {[string, string, string, boolean][]} */ ([
  ["exact", "The right answer, word for word", "Blanks at the ends do not count (exact match)", true],
  ["json", "The right fields, in JSON", "The share of the fields that are right", true],
  ["similarity", "As near as possible in meaning", "By the vectors of a model (cosine similarity)", true],
  ["regex", "A pattern that must be found", "A regular expression of Python's", false],
  ["judge", "Another model decides which is better", "Each pair is shown in both orders, so that the place decides nothing", false],
  ["length", "How long the answers are", "In tokens", false],
  ["time", "How long they take", "From the request to the end", false],
]);

export class ManyPart {
  /** @param {Link} link @param {ComparisonForm} form */
  constructor(link, form) {
    this.link = link;
    this.form = form;
    this.source = new SourcePart(link, () => {}, "comparison");
    this.template = h("textarea", { class: "gw-bt-area", rows: "3", "data-lm-suppress-shortcuts": "true", "data-gw": "comparison-template" });
    this.template.addEventListener("input", () => form.set({ template: this.template.value }, true));
    const template = labelled(this.template, "What to ask about each row", "A column's name in braces stands for its text");
    this.templateFault = template.fault;
    this.columns = h("div", { class: "gw-bt-chips", role: "group", "aria-label": "Columns to put in" });
    this.reference = h("select", { class: "gw-field", "data-gw": "comparison-reference" });
    this.reference.addEventListener("change", () => this.setReference(this.reference.value));
    const reference = labelled(this.reference, "Column that says what is right", "Some scores need it (references)");
    this.referenceFault = reference.fault;
    /** @type {Map<string, {box: HTMLInputElement, more: HTMLElement | null}>} */
    this.scores = new Map();
    this.pattern = h("input", { class: "gw-field", placeholder: "The answer is (\\w+)", "aria-label": "Pattern", autocomplete: "off", maxlength: "400", "data-lm-suppress-shortcuts": "true", "data-gw": "comparison-pattern" });
    this.pattern.addEventListener("input", () => form.set({ pattern: this.pattern.value }, true));
    this.patternFault = h("span", { class: "gw-error", role: "alert" });
    this.similarity = this.modelSelect("similarity", "Model for the vectors");
    this.judge = this.modelSelect("judge", "Model that judges");
    const mores = /** @type {Record<string, HTMLElement[]>} */ ({ regex: [this.pattern, this.patternFault], similarity: [this.similarity.select, this.similarity.fault], judge: [this.judge.select, this.judge.fault] });
    const ways = SCORE_WAYS.map(([name, text, title]) => {
      const box = h("input", { type: "checkbox", "data-gw": "comparison-score", "data-name": name });
      box.addEventListener("change", () => this.toggle(name, box.checked));
      const more = mores[name] ? h("div", { class: "gw-bt-stack gw-cmp-more", hidden: true }, mores[name]) : null;
      this.scores.set(name, { box, more });
      return h("div", {}, [h("label", { class: "gw-bt-tick", title }, [box, h("span", { text })]), ...(more ? [more] : [])]);
    });
    this.scoresFault = h("p", { class: "gw-error", role: "alert" });
    this.most = h("input", { class: "gw-field", inputmode: "numeric", autocomplete: "off", maxlength: "12", "data-lm-suppress-shortcuts": "true", "data-gw": "comparison-many-max" });
    this.most.addEventListener("input", () => form.set({ max_tokens: this.most.value }, true));
    const most = labelled(this.most, "Longest answer, in tokens", "Where an answer is cut off (max_tokens)");
    this.mostFault = most.fault;
    this.early = h("input", { type: "checkbox", "data-gw": "comparison-early" });
    this.early.addEventListener("change", () => form.set({ early: this.early.checked }));
    this.earlyFault = h("p", { class: "gw-error", role: "alert" });
    this.strict = h("input", { type: "checkbox", "data-gw": "comparison-strict" });
    this.strict.addEventListener("change", () => form.set({ strict: this.strict.checked }));
    this.start = h("button", { type: "button", class: "gw-button gw-primary", "data-gw": "comparison-start" }, [icon("play"), "Start"]);
    this.start.addEventListener("click", () => void this.begin());
    this.reason = h("span", { class: "gw-dim", "data-gw": "comparison-many-reason" });
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": "comparison-start-error" });
    this.rest = h("div", { class: "gw-bt-stack", hidden: true }, [
      template.root,
      this.columns,
      h("div", { class: "gw-bt-fields" }, [reference.root, most.root]),
      h("fieldset", { class: "gw-bt-fieldset" }, [h("legend", { text: "What is scored" }), h("div", { class: "gw-cmp-scores" }, ways), this.scoresFault]),
      h("label", { class: "gw-bt-tick", title: "Prompts are then asked in an order that is drawn. Equally good sides are called different in at most 5% of all cases, however often is looked." }, [this.early, h("span", { text: "Stop as soon as it is clear which side is best" })]),
      this.earlyFault,
      h("label", { class: "gw-bt-tick", title: "Each answer is computed by itself, so that it can be repeated to the last letter. Much slower." }, [this.strict, h("span", { text: "Strict: answers that can be repeated exactly (slow)" })]),
      h("div", { class: "gw-bt-buttons" }, [this.start, this.reason]),
    ]);
    this.root = h("div", { class: "gw-cmp-many" }, [this.source.root, this.rest, this.error]);
  }

  /** @param {"similarity" | "judge"} name @param {string} label */
  modelSelect(name, label) {
    const select = h("select", { class: "gw-field", "aria-label": label, "data-gw": `comparison-${name}` });
    select.addEventListener("change", () => this.form.set({ [name]: select.value }));
    return { select, fault: h("span", { class: "gw-error", role: "alert" }) };
  }

  /** @param {string} column */
  setReference(column) {
    const had = this.form.draft.reference;
    let { scores } = this.form.draft;
    // Who says what is right wants to know how often it was met.
    if (column && !had && !scores.some((name) => SCORE_WAYS.some(([way, , , needs]) => way === name && needs))) scores = ["exact", ...scores];
    if (!column) scores = scores.filter((name) => !SCORE_WAYS.some(([way, , , needs]) => way === name && needs));
    this.form.set({ reference: column, scores });
    this.fill();
  }

  /** @param {string} name @param {boolean} isOn */
  toggle(name, isOn) {
    const on = new Set(this.form.draft.scores);
    if (isOn) on.add(name);
    else on.delete(name);
    this.form.set({ scores: SCORE_WAYS.map(([way]) => way).filter((way) => on.has(way)) });
    this.fill();
  }

  async begin() {
    this.form.flush();
    this.error.textContent = "";
    try {
      await this.link.ask("start");
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }

  fill() {
    const { draft } = this.form;
    for (const [control, value] of /** @type {[HTMLInputElement | HTMLTextAreaElement, string][]} */ ([[this.template, draft.template], [this.pattern, draft.pattern], [this.most, draft.max_tokens]])) {
      if (control.value !== value) control.value = value;
    }
    this.early.checked = draft.early;
    this.strict.checked = draft.strict;
    for (const [name, { box, more }] of this.scores) {
      box.checked = draft.scores.includes(name);
      if (more) more.hidden = !box.checked;
    }
  }

  /** @param {any} state */
  show({ judged, table, models, blocked, busy }) {
    const { draft } = this.form;
    const { faults, columns, template } = judged;
    this.source.show(table, busy);
    this.rest.hidden = !table.given;
    if (this.template.placeholder !== template) this.template.placeholder = template;
    // The right answer does not belong into the question.
    this.showColumns(columns.filter((/** @type {string} */ name) => name !== draft.reference));
    setChoices(this.reference, [["", "None"], ...columns.map((/** @type {string} */ name) => [name, name])], draft.reference);
    for (const [name, { box }] of this.scores) {
      const needs = SCORE_WAYS.find(([way]) => way === name)?.[3] ?? false;
      const isOut = needs && !draft.reference && !box.checked;
      box.disabled = isOut;
      box.title = isOut ? "Choose the column that says what is right first" : "";
    }
    const names = /** @type {[string, string][]} */ ([["", "Choose a model"], ...models.list.map((/** @type {any} */ one) => [one.key, one.name])]);
    const known = new Set(models.list.map((/** @type {any} */ one) => one.key));
    const vectors = /** @type {[string, string][]} */ ([["", "Choose a model"], ...models.embedders.map((/** @type {string} */ name) => [name, known.has(name) ? name : `${name} (made for this)`])]);
    setChoices(this.judge.select, names, draft.judge);
    setChoices(this.similarity.select, vectors, draft.similarity);
    showFault(this.judge.fault, this.judge.select, faults.judge);
    showFault(this.similarity.fault, this.similarity.select, faults.similarity);
    showFault(this.patternFault, this.pattern, faults.pattern);
    showFault(this.templateFault, this.template, faults.template);
    showFault(this.referenceFault, this.reference, faults.reference);
    showFault(this.mostFault, this.most, faults.max_tokens);
    showFault(this.scoresFault, this.scoresFault, faults.scores);
    showFault(this.earlyFault, this.early, faults.early);
    let reason = blocked;
    if (!reason && !table.given) reason = "Choose the prompts first";
    else if (!reason && Object.keys(faults).length) reason = "Mend what is marked first";
    else if (!reason && busy) reason = busy === "starting" ? "Starting…" : "Just a moment…";
    this.reason.textContent = reason;
    this.start.disabled = Boolean(reason);
  }

  /** @param {string[]} columns */
  showColumns(columns) {
    const key = JSON.stringify(columns);
    if (this.columns.dataset.key === key) return;
    this.columns.dataset.key = key;
    this.columns.replaceChildren(
      ...columns.slice(0, 40).map((name) => {
        const chip = h("button", { type: "button", class: "gw-bt-chip", title: `Put the column “${name}” in`, "data-gw": "comparison-column", text: name });
        chip.addEventListener("click", () => this.put(name));
        return chip;
      }),
    );
  }

  /** Put a column in, in the syntax that the text has. @param {string} name */
  put(name) {
    const { template } = this;
    const isJinja = /\{%|\{\{\s*[\p{L}_]/u.test(template.value);
    const isPlain = /^[^{}[\]!:.]+$/.test(name) && !isJinja;
    const text = isPlain ? `{${name}}` : `{{ row[${JSON.stringify(name)}] }}`;
    template.setRangeText(text, template.selectionStart, template.selectionEnd, "end");
    template.focus();
    this.form.set({ template: template.value });
  }
}
