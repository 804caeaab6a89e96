// @ts-check
/**
 * Choosing the size of a smaller copy of a model.
 *
 * Promises: one size is recommended where one is worth it; what cannot be made says why; the new
 * file's name is shown before it is made. Leaves to others: sizes and reasons (Python).
 */

import { h, icon } from "./_dom.js";
import { button, isBusy, onEscape, setBusy, showError, toTop } from "./_picker_parts.js";

/**
 * @import { Line } from "./_picker_line.js"
 *
 * @typedef {{
 *   name: string, size: number, about: string, percent: number, meaning: string, title: string,
 *   refusal: string, usual: boolean, recommended: boolean, file: string,
 * }} Form
 * @typedef {{path: string, forms: Form[], notes: string[], requantize: boolean, present: string, folder: string, room: string}} Forms
 */

let numForms = 0;

export class ConvertForm {
  /** @param {Line} line @param {() => string} path @param {() => void} close */
  constructor(line, path, close) {
    this.line = line;
    this.path = path;
    this.close = close;
    /** @type {Forms | null} */
    this.forms = null;
    this.group = `gw-size-${(numForms += 1)}`;
    this.isTyped = false;
    this.head = h("p", {}, [h("strong", { text: "Make a smaller copy" })]);
    this.waiting = h("p", { class: "gw-dim", role: "status", text: "Looking which sizes it can have…" });
    this.sizes = h("div", { class: "gw-sizes", role: "radiogroup", "aria-label": "Size of the copy" });
    this.name = h("input", { type: "text", class: "gw-field", spellcheck: "false", autocomplete: "off", "data-gw": "convert-name", "data-lm-suppress-shortcuts": "true" });
    this.name.addEventListener("input", () => (this.isTyped = true));
    this.where = h("p", { class: "gw-dim" });
    this.error = h("div", { class: "gw-form-error", hidden: true });
    this.go = h("button", { type: "submit", class: "gw-button gw-primary", "data-gw": "convert-go", text: "Make the copy" });
    this.cancel = button("Cancel", "convert-cancel");
    this.cancel.addEventListener("click", close);
    this.body = h("div", { class: "gw-form-body", hidden: true }, [
      this.sizes,
      h("label", { class: "gw-form-label" }, [h("span", { text: "Name of the copy" }), this.name]),
      this.where,
    ]);
    this.buttons = h("div", { class: "gw-ask-buttons" }, [this.go, this.cancel]);
    this.root = h("form", { class: "gw-form", "data-gw": "convert-form", "aria-label": "Make a smaller copy" }, [this.head, this.waiting, this.body, this.error, this.buttons]);
    this.root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    onEscape(this.root, close);
    this.go.hidden = true;
  }

  /** Ask which sizes there are. */
  open() {
    this.cancel.focus();
    this.line.ask("forms", { path: this.path() }, (answer) => {
      this.waiting.hidden = true;
      if (answer.error) showError(this.error, answer.error.text);
      else if (answer.forms) this.show(answer.forms);
    });
  }

  /** @param {Forms} forms */
  show(forms) {
    this.forms = forms;
    const hadFocus = this.root.contains(document.activeElement);
    const notes = forms.notes.map((text) => h("p", { class: "gw-dim", text }));
    this.head.replaceChildren(h("strong", { text: "Make a smaller copy" }), ` The model has ${forms.present} now and stays as it is.`);
    this.head.after(...notes);
    if (!forms.forms.length) return;
    const usual = forms.forms.filter((form) => form.usual && !form.refusal);
    const others = forms.forms.filter((form) => !usual.includes(form));
    this.sizes.append(...usual.map((form) => this.choice(form)));
    if (others.length) {
      const fold = h("details", { class: "gw-subfold", "data-gw": "convert-more" }, [h("summary", {}, [icon("open"), usual.length ? "More sizes" : "All sizes"]), ...others.map((form) => this.choice(form))]);
      fold.open = !usual.length;
      this.sizes.append(fold);
    }
    this.where.textContent = `It is saved in ${forms.folder}${forms.room ? `, where ${forms.room} can be used` : ""}.`;
    this.go.textContent = forms.requantize ? "Make it all the same" : "Make the copy";
    this.body.hidden = this.go.hidden = false;
    this.named();
    toTop(this.root);
    const first = this.sizes.querySelector("input:checked") ?? this.sizes.querySelector("input:enabled");
    if (hadFocus && first instanceof HTMLElement) {
      first.focus({ preventScroll: true });
      first.scrollIntoView({ block: "nearest" });
    }
  }

  /** @param {Form} form */
  choice(form) {
    const input = h("input", { type: "radio", name: this.group, value: form.name, disabled: Boolean(form.refusal), checked: form.recommended, "data-lm-suppress-shortcuts": "true" });
    input.addEventListener("change", () => this.named());
    const share = form.refusal || !form.percent ? "" : ` (${form.percent}%)`;
    const head = [h("span", { class: "gw-size-name", text: form.name }), h("span", { class: "gw-size-about", text: `${form.about}${share}` })];
    const tag = form.recommended ? [h("span", { class: "gw-size-tag", text: "Recommended. " })] : [];
    return h("label", { class: "gw-size", title: form.title, "data-gw": "convert-size", "data-name": form.name, "data-possible": String(!form.refusal) }, [
      input,
      h("span", { class: "gw-size-text" }, [h("span", { class: "gw-size-head" }, head), h("span", { class: "gw-size-meaning" }, [...tag, form.refusal || form.meaning])]),
    ]);
  }

  /** @returns {Form | undefined} the size that is chosen */
  get chosen() {
    const value = /** @type {HTMLInputElement | null} */ (this.sizes.querySelector("input:checked"))?.value;
    return this.forms?.forms.find((form) => form.name === value);
  }

  /** A size was chosen: its copy's name, unless the person has written one. */
  named() {
    if (!this.isTyped) this.name.value = this.chosen?.file ?? "";
    showError(this.error, "");
  }

  submit() {
    const { chosen, forms } = this;
    if (!forms || isBusy(this.go)) return;
    if (!chosen) {
      showError(this.error, "Choose a size first.");
      /** @type {HTMLElement | null} */ (this.sizes.querySelector("input:enabled"))?.focus();
      return;
    }
    setBusy(this.go, true);
    this.line.ask("convert", { path: this.path(), form: chosen.name, name: this.name.value, requantize: forms.requantize }, (answer) => {
      setBusy(this.go, false);
      if (!answer.error) return this.close();
      const { suggestion, text } = answer.error;
      const way = suggestion ? button(`Call it “${suggestion}”`, "convert-suggested") : undefined;
      way?.addEventListener("click", () => {
        this.name.value = suggestion;
        this.isTyped = true;
        this.submit();
      });
      showError(this.error, text, way);
      this.name.focus();
      return undefined;
    });
  }
}
