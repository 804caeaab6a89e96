// @ts-check
/**
 * The form of the answer: free, any JSON, parts with names and kinds, a JSON schema, or a grammar.
 *
 * Promises: what was filled in for one form is kept while another is looked at; it counts when the
 * engine has said that the model can keep to it, and what is wrong is said here. Leaves to others:
 * judging (Python).
 */

import { SETTINGS_INPUT } from "./_chat_settings_fields.js";
import { ghostButton, h } from "./_dom.js";
import { wordsOf } from "./_link.js";

const FORM_KINDS = /** @type {[string, string, string][]} */ ([
  ["off", "Free", "Whatever the model writes"],
  ["json", "Any JSON", "An object in braces, with whatever the model puts into it"],
  ["form", "A form", "Parts with a name and a kind each"],
  ["schema", "JSON schema", "For whoever knows what that is (schema in Python)"],
  ["grammar", "Grammar", "llama.cpp's own notation, GBNF (grammar in Python)"],
]);
const PART_KINDS = /** @type {[string, string][]} */ ([
  ["text", "Text"],
  ["choice", "One of some choices"],
  ["integer", "Whole number"],
  ["number", "Number"],
  ["yesno", "Yes or no"],
  ["date", "Date"],
  ["texts", "List of texts"],
]);
const FORM_TYPING_MS = 700;

/** @typedef {{name: string, kind: string, choices: string[], required: boolean}} FormPart */
/** @typedef {{kind: string, parts: FormPart[], schema: string, grammar: string}} FormView */

export class SettingsAnswer {
  /**
   * @param {string} page @param {(answer: FormView) => Promise<{judged: boolean, schema: string | null}>} use
   * @param {() => Promise<void>} reset
   */
  constructor(page, use, reset) {
    this.use = use;
    this.timer = 0;
    this.number = 0;
    /** @type {Promise<void>} */
    this.sent = Promise.resolve();
    this.waiting = 0;
    this.inForce = "";
    /** @type {Map<string, HTMLInputElement>} */
    this.radios = new Map();
    const kinds = h("div", { class: "gw-cs-pills", role: "radiogroup", "aria-label": "Form of the answer" });
    for (const [kind, label, title] of FORM_KINDS) {
      const radio = h("input", { type: "radio", name: `${page}-form`, value: kind, "data-gw": `settings-form-${kind}` });
      radio.addEventListener("change", () => {
        this.reveal();
        this.changed(this.isEmpty ? 0 : 1);
        this.root.scrollIntoView({ block: "nearest" }); // what was chosen opens below
      });
      this.radios.set(kind, radio);
      kinds.append(h("label", { class: "gw-cs-pill", title }, [radio, h("span", { text: label })]));
    }
    this.lines = h("div", { class: "gw-cs-stack" });
    const add = h("button", { type: "button", class: "gw-button", text: "Add a part", "data-gw": "settings-form-add" });
    add.addEventListener("click", () => {
      this.addLine({ name: "", kind: "text", choices: [], required: true }).querySelector("input")?.focus();
    });
    this.schema = this.area("JSON schema", '{"type": "object", "properties": {"city": {"type": "string"}}}', "settings-form-text");
    this.grammar = this.area("Grammar (GBNF)", 'root ::= "yes" | "no"', "settings-form-gbnf");
    this.bodies = /** @type {Record<string, HTMLElement>} */ ({
      form: h("div", { class: "gw-cs-stack" }, [this.lines, h("div", {}, [add])]),
      schema: this.schema,
      grammar: this.grammar,
    });
    this.back = ghostButton("undo", "Reset the form of the answer", { class: "gw-ghost gw-cs-back", hidden: true });
    this.back.addEventListener("click", () => {
      this.drop();
      void reset();
      this.radios.get("off")?.focus();
    });
    this.state = h("p", { class: "gw-cs-about", role: "status", "data-gw": "settings-form-state" });
    this.fault = h("p", { class: "gw-fault gw-cs-fault", role: "alert", hidden: true, "data-gw": "settings-form-fault" });
    const heading = h("div", { class: "gw-cs-line" }, [h("span", { class: "gw-cs-label", text: "The answer is", title: "schema or grammar in Python" }), this.back]);
    this.root = h("div", { class: "gw-cs-field", "data-gw": "settings-field", "data-name": "answer" }, [heading, kinds, ...Object.values(this.bodies), this.state, this.fault]);
    this.put({ kind: "off", parts: [], schema: "", grammar: "" });
  }

  /** @param {string} label @param {string} placeholder @param {string} hook */
  area(label, placeholder, hook) {
    const made = h("textarea", { class: "gw-cs-area gw-cs-mono", rows: "7", "aria-label": label, placeholder, "data-gw": hook, ...SETTINGS_INPUT });
    made.addEventListener("input", () => this.changed(FORM_TYPING_MS));
    return made;
  }

  get isWrong() {
    return !this.fault.hidden;
  }

  /** @returns {HTMLElement} */
  get control() {
    return /** @type {HTMLElement} */ (this.bodies[this.kind]?.querySelector("input, textarea") ?? this.bodies[this.kind] ?? this.radios.get(this.kind));
  }

  get kind() {
    return [...this.radios].find(([, radio]) => radio.checked)?.[0] ?? "off";
  }

  /** Whether there is nothing to judge yet. */
  get isEmpty() {
    const answer = this.get();
    if (this.kind === "form") return answer.parts.every((part) => !part.name.trim());
    return (this.kind === "schema" && !answer.schema.trim()) || (this.kind === "grammar" && !answer.grammar.trim());
  }

  /** @param {FormPart} part */
  addLine(part) {
    const name = h("input", { class: "gw-cs-text", placeholder: "Name", "aria-label": "Name of the part", "data-gw": "settings-form-name", ...SETTINGS_INPUT });
    const kind = h("select", { class: "gw-cs-select", "aria-label": "Kind of the part", "data-gw": "settings-form-kind" }, PART_KINDS.map(([value, text]) => h("option", { value, text })));
    const required = h("input", { type: "checkbox", "data-gw": "settings-form-required" });
    const choices = h("textarea", { class: "gw-cs-area", rows: "2", placeholder: "One choice on each line", "aria-label": "Choices of the part, one on each line", "data-gw": "settings-form-choices", ...SETTINGS_INPUT });
    const remove = ghostButton("close", "Remove this part");
    const tick = h("label", { class: "gw-cs-tick" }, [required, h("span", { text: "Always there" })]);
    const line = h("div", { class: "gw-cs-part", "data-gw": "settings-form-part" }, [name, remove, kind, tick, choices]);
    name.value = part.name;
    kind.value = part.kind;
    required.checked = part.required;
    choices.value = part.choices.join("\n");
    choices.hidden = part.kind !== "choice";
    name.addEventListener("input", () => this.changed(FORM_TYPING_MS));
    choices.addEventListener("input", () => this.changed(FORM_TYPING_MS));
    required.addEventListener("change", () => this.changed(1));
    kind.addEventListener("change", () => {
      choices.hidden = kind.value !== "choice";
      if (!choices.hidden && !choices.value) return choices.focus();
      this.changed(1);
    });
    remove.addEventListener("click", () => {
      const next = line.nextElementSibling ?? line.previousElementSibling;
      line.remove();
      /** @type {HTMLElement | null} */ ((next ?? this.bodies.form)?.querySelector("input, button"))?.focus();
      this.changed(1);
    });
    this.lines.append(line);
    return line;
  }

  reveal() {
    for (const [kind, body] of Object.entries(this.bodies)) body.hidden = kind !== this.kind;
    if (this.kind === "form" && !this.lines.children.length) this.addLine({ name: "", kind: "text", choices: [], required: true });
  }

  /** @returns {FormView} */
  get() {
    const parts = [...this.lines.children].map((line) => ({
      name: /** @type {HTMLInputElement} */ (line.querySelector("input")).value,
      kind: /** @type {HTMLSelectElement} */ (line.querySelector("select")).value,
      choices: /** @type {HTMLTextAreaElement} */ (line.querySelector("textarea")).value.split("\n").filter((one) => one.trim()),
      required: /** @type {HTMLInputElement} */ (line.querySelector("input[type=checkbox]")).checked,
    }));
    return { kind: this.kind, parts, schema: this.schema.value, grammar: this.grammar.value };
  }

  /** @param {FormView} answer */
  put(answer) {
    for (const [kind, radio] of this.radios) radio.checked = kind === answer.kind;
    // What was typed for another form stays to be found.
    if (answer.schema || answer.kind === "schema") this.schema.value = answer.schema;
    if (answer.grammar || answer.kind === "grammar") this.grammar.value = answer.grammar;
    if (answer.parts.length || answer.kind === "form") {
      this.lines.replaceChildren();
      for (const part of answer.parts) this.addLine(part);
    }
    this.reveal();
    this.say("", "");
  }

  /** @param {string} fault @param {string} state */
  say(fault, state) {
    this.fault.textContent = fault;
    this.fault.hidden = !fault;
    this.state.textContent = state;
    this.state.hidden = !state;
    for (const one of [this.schema, this.grammar]) one.setAttribute("aria-invalid", String(Boolean(fault)));
    // Whoever types it reads what is wrong; in a low chat that would stand below what is seen.
    if (fault && this.root.contains(document.activeElement)) this.fault.scrollIntoView({ block: "nearest" });
  }

  /** @param {FormView} answer @param {boolean} changed */
  show(answer, changed) {
    this.root.toggleAttribute("data-changed", changed);
    this.back.hidden = !changed;
    const told = JSON.stringify(answer);
    if (told === this.inForce) return;
    this.inForce = told;
    if (this.timer || this.waiting || this.isWrong) return;
    if (JSON.stringify(this.get()) !== told) this.put(answer);
  }

  drop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.say("", "");
    if (this.inForce) this.put(JSON.parse(this.inForce));
  }

  /** @param {number} wait 0: there is nothing to judge yet */
  changed(wait) {
    clearTimeout(this.timer);
    this.timer = 0;
    const empty = { form: "Name the parts that the answer has.", schema: "Write a JSON schema.", grammar: "Write a grammar." };
    if (!wait || this.isEmpty) return this.say("", `${empty[/** @type {"form"} */ (this.kind)] ?? ""} Until then the answer is as before.`);
    this.say("", "");
    this.timer = window.setTimeout(() => void this.flush(), wait);
  }

  /** @returns {Promise<void>} when it counts, or is refused */
  flush() {
    if (this.timer) {
      clearTimeout(this.timer);
      this.timer = 0;
      this.sent = this.judge();
    }
    return this.sent;
  }

  async judge() {
    const number = (this.number += 1);
    const answer = this.get();
    this.say("", answer.kind === "off" ? "" : "Checking…");
    this.waiting += 1;
    let [fault, state] = ["", ""];
    try {
      const { judged, schema } = await this.use(answer);
      if (schema) this.schema.value = schema; // the way from a form to a schema of one's own
      if (answer.kind !== "off") state = judged ? "The model can keep to this." : "It is checked when a model is there.";
      this.inForce = JSON.stringify(answer);
    } catch (error) {
      fault = wordsOf(error);
    } finally {
      this.waiting -= 1;
    }
    if (number === this.number && !this.timer) this.say(fault, state);
  }
}
