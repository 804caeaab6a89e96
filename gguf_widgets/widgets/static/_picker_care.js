// @ts-check
/**
 * What can be done to a model's file, in its row: rename, check, make a smaller copy, remove.
 *
 * Promises: what is not allowed has no button but a sentence that says whose file it is and how it is
 * removed there; one form at a time; an error stands where it happened; Esc closes a form and the
 * focus goes back to the button that opened it. Leaves to others: whether it is allowed and how it
 * is done (Python), long work (_picker_job.js).
 */

import { h } from "./_dom.js";
import { ConvertForm } from "./_picker_convert.js";
import { askBox, button, isBusy, onEscape, setBusy, showError } from "./_picker_parts.js";

/**
 * @import { Line, Question } from "./_picker_line.js"
 * @import { Where } from "./_picker_where.js"
 *
 * @typedef {"rename" | "check" | "convert" | "remove"} Action
 */

/** @type {[Action, string, string][]} */
const ACTIONS = [
  ["rename", "Rename", "Give the model's file another name"],
  ["check", "Check the file", "Read the whole file and see whether it is what it should be"],
  ["convert", "Make a smaller copy", "Write the model once more with less exact numbers (quantization), to a new file"],
  ["remove", "Remove", "Move the file to the trash; it can be put back"],
];

/** @param {string} name what was typed @returns {string} without spaces around it and its ending */
const bareName = (name) => name.trim().replace(/\.gguf$/i, "");

export class CareElement {
  /** @param {Line} line @param {() => string} path of the model, which changes with its name */
  constructor(line, path) {
    this.line = line;
    this.path = path;
    /** @type {Where | null} */
    this.where = null;
    /** @type {Map<Action, HTMLButtonElement>} */
    this.buttons = new Map();
    for (const [action, text, title] of ACTIONS) {
      const one = button(text, `picker-${action}`);
      one.title = title;
      one.addEventListener("click", () => this.act(action));
      this.buttons.set(action, one);
    }
    this.actions = h("div", { class: "gw-care-actions", role: "group", "aria-label": "What can be done with this file" }, [...this.buttons.values()]);
    this.foreign = h("p", { class: "gw-dim", "data-gw": "picker-foreign", hidden: true });
    this.place = h("div", { class: "gw-care-place" });
    /** Where the row puts what is under way while this is open. */
    this.work = h("div", { class: "gw-care-work" });
    this.error = h("div", { class: "gw-form-error", "data-gw": "care-error", hidden: true });
    this.root = h("div", { class: "gw-care", "data-gw": "picker-care", hidden: true }, [this.actions, this.foreign, this.place, this.error, this.work]);
  }

  /** @param {Where} where */
  show(where) {
    this.where = where;
    this.root.hidden = false;
    for (const [action, one] of this.buttons) one.hidden = !where.can.includes(action);
    this.actions.hidden = !where.can.length;
    this.foreign.hidden = !where.how;
    this.foreign.textContent = `${where.whose} ${where.how}`;
  }

  /** @param {Action} action */
  act(action) {
    showError(this.error, "");
    if (action === "rename") this.openRename();
    else if (action === "convert") this.openConvert();
    else if (action === "remove") this.remove(false);
    else this.check();
  }

  /** @param {HTMLElement} what a form or a question, in the place of the one before */
  open(what) {
    this.place.replaceChildren(what);
    what.scrollIntoView({ block: "nearest" });
  }

  /** Close what is open and give the focus back. @param {Action} action the button that opened it */
  close(action) {
    const hadFocus = this.place.contains(document.activeElement) || document.activeElement === document.body;
    this.place.replaceChildren();
    if (hadFocus) this.buttons.get(action)?.focus();
  }

  // -- another name --------------------------------------------------------------------------------

  openRename() {
    const { where } = this;
    if (!where) return;
    const form = new RenameForm(where, (name, confirm, answered) => {
      this.line.ask("rename", { path: this.path(), name, confirm }, (answer) => {
        if (answer.renamed) this.close("rename");
        else answered(answer);
      });
    }, () => this.close("rename"));
    this.open(form.root);
    form.open();
  }

  // -- check and copy ------------------------------------------------------------------------------

  check() {
    this.place.replaceChildren();
    this.line.ask("check", { path: this.path() }, (answer) => showError(this.error, answer.error?.text ?? ""));
  }

  openConvert() {
    const form = new ConvertForm(this.line, this.path, () => this.close("convert"));
    this.open(form.root);
    form.open();
  }

  // -- remove --------------------------------------------------------------------------------------

  /** @param {boolean} confirm whether the person was asked */
  remove(confirm) {
    const one = this.buttons.get("remove");
    if (!one || isBusy(one)) return;
    const asked = this.place.contains(document.activeElement);
    this.place.replaceChildren();
    if (asked) one.focus();
    setBusy(one, true);
    this.line.ask("remove", { path: this.path(), confirm }, (answer) => {
      setBusy(one, false);
      if (answer.ask) this.askRemove(answer.ask);
      else if (answer.error) {
        showError(this.error, answer.error.text);
        one.focus();
      }
    });
  }

  /** @param {Question} question */
  askRemove(question) {
    const box = askBox(question, {
      hook: "remove",
      danger: true,
      yes: () => this.remove(true),
      no: () => {
        this.place.replaceChildren();
        this.buttons.get("remove")?.focus();
      },
    });
    this.open(box.root);
    box.keep.focus();
  }
}

/** The form for another name. */
class RenameForm {
  /**
   * @param {Where} where
   * @param {(name: string, confirm: boolean, answered: (answer: import("./_picker_line.js").Answer) => void) => void} send
   * @param {() => void} close
   */
  constructor(where, send, close) {
    this.where = where;
    this.send = send;
    this.close = close;
    this.input = h("input", { type: "text", class: "gw-field", spellcheck: "false", autocomplete: "off", "data-gw": "rename-input", "data-lm-suppress-shortcuts": "true" });
    this.input.value = where.stem;
    this.input.addEventListener("input", () => this.preview());
    this.says = h("p", { class: "gw-dim", "data-gw": "rename-preview" });
    this.error = h("div", { class: "gw-form-error", "data-gw": "rename-error", hidden: true });
    this.save = h("button", { type: "submit", class: "gw-button gw-primary", text: "Save", "data-gw": "rename-save" });
    const cancel = button("Cancel", "rename-cancel");
    cancel.addEventListener("click", close);
    this.buttons = h("div", { class: "gw-ask-buttons" }, [this.save, cancel]);
    this.question = h("div");
    this.root = h("form", { class: "gw-form", "data-gw": "rename-form", "aria-label": "Rename" }, [
      h("label", { class: "gw-form-label" }, [h("span", { text: "New name" }), this.input]),
      this.says,
      this.error,
      this.buttons,
      this.question,
    ]);
    this.root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(false);
    });
    onEscape(this.root, close);
    this.preview();
  }

  open() {
    this.input.focus();
    this.input.select();
  }

  preview() {
    const { ending, numMore } = this.where;
    const name = bareName(this.input.value);
    const more = numMore > 0 ? ` ${numMore === 1 ? "1 more file" : `${numMore} more files`} of it get the new name, too.` : "";
    this.says.textContent = name ? `Its file will be called “${name}${ending}”.${more}` : "Write a name.";
    this.fault("");
  }

  /** @param {string} text @param {HTMLButtonElement} [way] */
  fault(text, way) {
    this.input.setAttribute("aria-invalid", String(Boolean(text)));
    showError(this.error, text, way);
  }

  /** @param {boolean} confirm */
  submit(confirm) {
    if (isBusy(this.save)) return;
    if (bareName(this.input.value) === this.where.stem) return this.close();
    setBusy(this.save, true);
    this.send(this.input.value, confirm, (answer) => {
      setBusy(this.save, false);
      if (answer.ask) this.ask(answer.ask);
      else if (answer.error) this.refused(answer.error);
    });
  }

  /** @param {import("./_picker_line.js").Refusal} error */
  refused({ text, suggestion }) {
    this.buttons.hidden = false;
    this.question.replaceChildren();
    const way = suggestion ? button(`Call it “${suggestion}”`, "rename-suggested") : undefined;
    way?.addEventListener("click", () => {
      this.input.value = suggestion;
      this.preview();
      this.submit(false);
    });
    this.fault(text, way);
    this.open();
    this.buttons.scrollIntoView({ block: "nearest" });
  }

  /** @param {Question} question */
  ask(question) {
    const back = () => {
      this.question.replaceChildren();
      this.buttons.hidden = false;
      this.input.readOnly = false;
      this.open();
    };
    const box = askBox(question, { hook: "rename", yes: () => this.submit(true), no: back });
    this.buttons.hidden = true;
    this.input.readOnly = true; // the question is about this name
    this.question.replaceChildren(box.root);
    box.root.scrollIntoView({ block: "nearest" });
    box.keep.focus();
  }
}
