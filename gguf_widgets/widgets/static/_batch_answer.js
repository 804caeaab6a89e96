// @ts-check
/**
 * What an answer is: free text, one of some choices, yes or no, a number, several columns, a schema.
 *
 * Promises: what was typed for one kind is kept while another is looked at. Leaves to others: what is
 * wrong with it (Python).
 */

import { ghostButton, h } from "./_dom.js";

const ANSWER_KINDS = /** @type {[string, string, string][]} */ ([
  ["text", "Text", "Whatever the model writes"],
  ["choice", "One of these choices", "The model can write nothing else, and tells how probable each is"],
  ["yesno", "Yes or no", "With how probable each is"],
  ["number", "A number", "From one number to another"],
  ["columns", "Several columns", "A form: a name and a kind for each"],
  ["schema", "JSON schema", "For whoever knows what that is"],
]);
const COLUMN_KINDS = /** @type {[string, string][]} */ ([
  ["text", "Text"],
  ["choice", "One of some choices"],
  ["integer", "Whole number"],
  ["number", "Number"],
  ["yesno", "Yes or no"],
  ["date", "Date"],
]);
const QUIET = { "data-lm-suppress-shortcuts": "true", autocomplete: "off", spellcheck: "false" };

/** @param {string} text @returns {string[]} */
const linesOf = (text) => text.split("\n").filter((one) => one.trim());

export class AnswerPart {
  /** @param {() => void} changed @param {string} group a name that no other table of the page has */
  constructor(changed, group) {
    this.changed = changed;
    this.group = group;
    /** @type {Map<string, HTMLInputElement>} */
    this.radios = new Map();
    this.kinds = h("div", { class: "gw-bt-kinds", role: "radiogroup", "aria-label": "What an answer is" });
    for (const [kind, label, title] of [...ANSWER_KINDS, ["kept", "As before", "What the run that you opened had"]]) {
      const radio = h("input", { type: "radio", name: this.group, value: kind, "data-gw": `batch-answer-${kind}` });
      radio.addEventListener("change", () => {
        this.reveal();
        this.changed();
      });
      this.radios.set(kind, radio);
      this.kinds.append(h("label", { class: "gw-bt-kind", title }, [radio, h("span", { text: label })]));
    }
    this.choices = h("textarea", { class: "gw-bt-area", rows: "3", placeholder: "positive\nnegative", "aria-label": "Choices, one on each line", "data-gw": "batch-choices", ...QUIET });
    this.low = h("input", { class: "gw-field", inputmode: "decimal", "data-gw": "batch-low", ...QUIET });
    this.high = h("input", { class: "gw-field", inputmode: "decimal", "data-gw": "batch-high", ...QUIET });
    this.whole = h("input", { type: "checkbox" });
    this.schema = h("textarea", { class: "gw-bt-area gw-bt-mono", rows: "8", "aria-label": "JSON schema", placeholder: '{"type": "object", "properties": {"city": {"type": "string"}}}', "data-gw": "batch-schema", ...QUIET });
    this.lines = h("div", { class: "gw-bt-stack" });
    const add = h("button", { type: "button", class: "gw-button", text: "Add a column", "data-gw": "batch-add-column" });
    add.addEventListener("click", () => {
      const line = this.addLine({ name: "", kind: "text", choices: [] });
      line.querySelector("input")?.focus();
      this.changed();
    });
    this.kept = h("p", { class: "gw-dim" });
    this.bodies = /** @type {Record<string, HTMLElement>} */ ({
      choice: h("div", { class: "gw-bt-stack" }, [h("p", { class: "gw-dim", text: "One choice on each line" }), this.choices]),
      number: h("div", { class: "gw-bt-fields" }, [
        h("label", { class: "gw-bt-label" }, [h("span", { text: "From" }), this.low]),
        h("label", { class: "gw-bt-label" }, [h("span", { text: "To" }), this.high]),
        h("label", { class: "gw-bt-tick" }, [this.whole, h("span", { text: "Whole numbers only" })]),
      ]),
      columns: h("div", { class: "gw-bt-stack" }, [this.lines, h("div", {}, [add])]),
      schema: h("div", { class: "gw-bt-stack" }, [this.schema]),
      kept: this.kept,
    });
    for (const one of [this.choices, this.low, this.high, this.whole, this.schema]) one.addEventListener("input", () => this.changed());
    this.fault = h("p", { class: "gw-error", role: "alert", "data-gw": "batch-fault-answer" });
    this.root = h("fieldset", { class: "gw-bt-fieldset" }, [
      h("legend", { text: "An answer is" }),
      this.kinds,
      ...Object.values(this.bodies),
      this.fault,
    ]);
    this.set({ kind: "text", choices: [], low: "", high: "", whole: true, columns: [], schema: "" }, "");
  }

  /** @param {{name: string, kind: string, choices: string[]}} column */
  addLine(column) {
    const name = h("input", { class: "gw-field", placeholder: "Name", "aria-label": "Name of the column", "data-gw": "batch-column-name", ...QUIET });
    const kind = h("select", { class: "gw-field", "aria-label": "Kind of the column", "data-gw": "batch-column-kind" }, COLUMN_KINDS.map(([value, text]) => h("option", { value, text })));
    const choices = h("textarea", { class: "gw-bt-area", rows: "2", placeholder: "One choice on each line", "aria-label": "Choices of the column, one on each line", ...QUIET });
    const remove = ghostButton("close", "Remove this column");
    const line = h("div", { class: "gw-bt-column", "data-gw": "batch-column" }, [name, kind, remove, choices]);
    name.value = column.name;
    kind.value = column.kind;
    choices.value = column.choices.join("\n");
    choices.hidden = column.kind !== "choice";
    const tell = () => {
      choices.hidden = kind.value !== "choice";
      this.changed();
    };
    for (const one of [name, kind, choices]) one.addEventListener("input", tell);
    remove.addEventListener("click", () => {
      const next = line.nextElementSibling ?? line.previousElementSibling;
      line.remove();
      /** @type {HTMLElement | null} */ ((next ?? this.lines.parentElement)?.querySelector("input, button"))?.focus();
      this.changed();
    });
    this.lines.append(line);
    return line;
  }

  get kind() {
    return [...this.radios].find(([, radio]) => radio.checked)?.[0] ?? "text";
  }

  reveal() {
    for (const [kind, body] of Object.entries(this.bodies)) body.hidden = kind !== this.kind;
    if (this.kind === "columns" && !this.lines.children.length) this.addLine({ name: "", kind: "text", choices: [] });
  }

  /** @returns {any} */
  get() {
    const columns = [...this.lines.children].map((line) => ({
      name: /** @type {HTMLInputElement} */ (line.querySelector("input")).value,
      kind: /** @type {HTMLSelectElement} */ (line.querySelector("select")).value,
      choices: linesOf(/** @type {HTMLTextAreaElement} */ (line.querySelector("textarea")).value),
    }));
    return {
      kind: this.kind,
      choices: linesOf(this.choices.value),
      low: this.low.value,
      high: this.high.value,
      whole: this.whole.checked,
      columns,
      schema: this.schema.value,
    };
  }

  /** @param {any} answer @param {string} kept */
  set(answer, kept) {
    for (const [kind, radio] of this.radios) radio.checked = kind === answer.kind;
    const before = /** @type {HTMLElement} */ (this.radios.get("kept")?.parentElement);
    before.hidden = !kept;
    this.kept.textContent = kept ? `An answer is ${kept}, as in the run that you opened.` : "";
    this.choices.value = answer.choices.join("\n");
    this.low.value = answer.low;
    this.high.value = answer.high;
    this.whole.checked = answer.whole;
    this.schema.value = answer.schema;
    this.lines.replaceChildren();
    for (const column of answer.columns) this.addLine(column);
    this.reveal();
  }
}
