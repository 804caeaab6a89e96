// @ts-check
/**
 * The fields of the settings panel: numbers with a slider, switches, choices.
 *
 * Promises: what is wrong is said beside the field while it is typed, and is not sent; what was sent
 * and refused is said there, too; a value that comes from Python does not write over what is being
 * typed. Leaves to others: limits and words (Python), lists (`_chat_settings_lists.js`), where fields
 * stand (`_chat_settings.js`).
 */

import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @typedef {object} SettingsFieldView
 * @property {string} name
 * @property {string} group
 * @property {string} title
 * @property {string} about
 * @property {"number" | "whole" | "switch" | "choice" | "texts" | "bias" | "answer"} kind
 * @property {[number, number, number] | null} [slider]
 * @property {string} none
 * @property {number | null} [first]
 * @property {[number, string][]} [choices]
 * @property {boolean} [expert]
 * @property {number | null} low
 * @property {number | null} high
 * @property {any} usual
 *
 * @typedef {object} SettingsHost
 * @property {string} page a name that no other view has
 * @property {(name: string, value: any) => Promise<void>} set
 * @property {(name: string) => Promise<void>} reset
 * @property {(content: object) => Promise<any>} tokens
 * @property {() => boolean} isBehind whether what is in force may be other than what was shown last
 */

export const SETTINGS_INPUT = { "data-lm-suppress-shortcuts": "true", autocomplete: "off", spellcheck: "false" };
const SETTINGS_TYPING_MS = 300;

/**
 * Put a text there; who had marked all of it, to write something else, has all of it marked again.
 * @param {HTMLInputElement | HTMLTextAreaElement} field @param {string} text
 */
export function settingsPut(field, text) {
  const isMarked = document.activeElement === field && field.selectionStart === 0 && field.selectionEnd === field.value.length;
  field.value = text;
  if (isMarked) field.select();
}

/** @param {string} text @returns {number} NaN for what is no number */
export function settingsNumber(text) {
  const plain = text.trim().replace(/^[+]/, "").replace("\u2212", "-").replace(",", ".");
  return /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain) ? Number(plain) : NaN;
}

/** @param {number} value */
const settingsShown = (value) => String(value);

/** What all fields have: a name, a sentence, a mark where they differ, and a way back. */
export class SettingsField {
  /** @param {SettingsFieldView} view @param {SettingsHost} host */
  constructor(view, host) {
    this.view = view;
    this.host = host;
    this.id = `${host.page}-${view.name}`;
    /** @type {any} */
    this.value = view.usual;
    this.timer = 0;
    /** @type {Promise<void>} */
    this.sent = Promise.resolve();
    this.waiting = 0;
    this.label = h("label", { class: "gw-cs-label", for: this.id, title: `${view.name} in Python`, text: view.title });
    this.back = ghostButton("undo", `Reset ${view.title}`, { class: "gw-ghost gw-cs-back", "data-gw": "settings-reset-one" });
    this.back.addEventListener("click", () => void this.reset());
    this.standard = h("span");
    this.about = h("p", { class: "gw-cs-about", id: `${this.id}-about` }, [`${view.about} `, this.standard]);
    this.remark = h("p", { class: "gw-cs-remark", hidden: true, "data-gw": "settings-remark" });
    this.fault = h("p", { class: "gw-fault gw-cs-fault", role: "alert", hidden: true, id: `${this.id}-fault`, "data-gw": "settings-fault" });
    this.line = h("div", { class: "gw-cs-line" }, [this.label, this.back]);
    this.root = h("div", { class: "gw-cs-field", "data-gw": "settings-field", "data-name": view.name }, [this.line]);
  }

  /** Finish the element. @param {HTMLElement[]} parts */
  finish(parts) {
    this.root.append(...parts, this.about, this.remark, this.fault);
    this.say("");
  }

  /** @returns {HTMLElement} what gets the focus */
  get control() {
    return /** @type {HTMLElement} */ (this.root.querySelector("input, select, button:not(.gw-cs-back)"));
  }

  /** @param {string} text */
  say(text) {
    this.fault.textContent = text;
    this.fault.hidden = !text;
    for (const one of this.root.querySelectorAll("input, select")) {
      if (one.getAttribute("type") === "range") continue;
      one.setAttribute("aria-invalid", String(Boolean(text)));
      one.setAttribute("aria-describedby", text ? this.fault.id : this.about.id);
    }
  }

  get isWrong() {
    return !this.fault.hidden;
  }

  /**
   * @param {any} value @param {any} standard @param {boolean} changed
   * @param {string} remark @param {string} preset
   */
  show(value, standard, changed, remark, preset) {
    this.value = value;
    this.root.toggleAttribute("data-changed", changed);
    this.back.disabled = !changed;
    this.standard.textContent = `Standard: ${this.inWords(standard)}.`;
    const way = `Reset to ${this.inWords(standard)}, as in "${preset}"`;
    this.back.title = way;
    this.back.setAttribute("aria-label", `${this.view.title}: ${way}`);
    const had = document.activeElement === this.back;
    this.back.hidden = !changed;
    if (had && !changed) this.control.focus();
    this.remark.textContent = remark;
    this.remark.hidden = !remark;
    this.root.toggleAttribute("data-idle", remark.startsWith("Without effect"));
    if (!this.timer && !this.waiting && !this.isWrong) this.put(value);
  }

  /** Put a value that is in force into the controls. @param {any} _value */
  put(_value) {}

  /** @param {any} value @returns {string} */
  inWords(value) {
    return value === null ? this.view.none.toLowerCase() : settingsShown(value);
  }

  /** @returns {Promise<void>} */
  reset() {
    this.drop();
    this.sent = this.track(this.host.reset(this.view.name));
    return this.sent;
  }

  /** What was typed and not sent does not count. */
  drop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.say("");
    this.put(this.value);
  }

  /** Send after a while, or at once by `flush`. */
  soon() {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.flush(), SETTINGS_TYPING_MS);
  }

  /** @returns {Promise<void>} when all that was typed has been taken or refused */
  flush() {
    if (this.timer) {
      clearTimeout(this.timer);
      this.timer = 0;
      this.commit();
    }
    return this.sent;
  }

  /** Send what the controls say, if it is right. */
  commit() {}

  /** @param {any} value @returns {Promise<void>} */
  send(value) {
    this.say("");
    if (JSON.stringify(value) === JSON.stringify(this.value) && !this.host.isBehind()) return Promise.resolve();
    const sent = this.track(this.host.set(this.view.name, value), value);
    this.sent = sent;
    return sent;
  }

  /** @param {Promise<void>} asked @param {any} [value] what it asks for; the state that says so comes later */
  async track(asked, value) {
    this.waiting += 1;
    try {
      await asked;
      if (value !== undefined) this.value = value;
    } catch (error) {
      this.say(wordsOf(error));
    } finally {
      this.waiting -= 1;
    }
    if (!this.waiting && !this.timer && !this.isWrong) this.put(this.value);
  }
}

/** A number, with a slider where that makes sense; or none at all where that is allowed. */
export class SettingsNumber extends SettingsField {
  /** @param {SettingsFieldView} view @param {SettingsHost} host */
  constructor(view, host) {
    super(view, host);
    this.input = h("input", { class: "gw-cs-number", id: this.id, inputmode: view.kind === "whole" ? "numeric" : "decimal", "data-gw": "settings-number", ...SETTINGS_INPUT });
    this.line.append(this.input);
    this.input.addEventListener("input", () => this.typed());
    this.input.addEventListener("change", () => void this.flush());
    /** @type {HTMLInputElement | null} */
    this.slider = null;
    /** @type {HTMLInputElement | null} */
    this.none = null;
    /** @type {HTMLElement[]} */
    const parts = [];
    if (view.slider) {
      const [low, high, step] = view.slider.map(String);
      this.slider = h("input", { type: "range", class: "gw-cs-slider", min: low, max: high, step, "aria-label": view.title, "aria-describedby": `${this.id}-about`, "data-gw": "settings-slider", "data-lm-suppress-shortcuts": "true" });
      this.slider.addEventListener("input", () => {
        this.input.value = this.slider?.value ?? "";
        this.typed();
      });
      this.slider.addEventListener("change", () => void this.flush());
      parts.push(this.slider);
    }
    if (view.none) {
      this.none = h("input", { type: "checkbox", "data-gw": "settings-none" });
      this.none.addEventListener("change", () => {
        const off = this.none?.checked ?? false;
        this.input.hidden = off;
        if (!off && !this.input.value) this.input.value = String(view.first ?? view.low ?? 0);
        this.typed();
        void this.flush();
        if (!off) this.input.focus();
      });
      parts.push(h("label", { class: "gw-cs-tick" }, [this.none, h("span", { text: view.none })]));
    }
    this.finish(parts);
  }

  get control() {
    return this.input.hidden && this.none ? this.none : this.input;
  }

  typed() {
    const value = this.read();
    this.say(typeof value === "string" ? value : "");
    if (typeof value === "number" && this.slider) this.slider.value = String(value);
    this.soon();
  }

  /** @returns {number | null | string} the value, or what is wrong */
  read() {
    if (this.none?.checked) return null;
    const { low, high, kind } = this.view;
    const value = settingsNumber(this.input.value);
    const range = `from ${low?.toLocaleString("en")} to ${high?.toLocaleString("en")}`;
    if (!this.input.value.trim()) return `Write a number ${range}.`;
    if (Number.isNaN(value)) return `"${this.input.value.trim().slice(0, 40)}" is no number. Write one ${range}.`;
    if (kind === "whole" && !Number.isInteger(value)) return `Write a whole number ${range}.`;
    if ((low !== null && value < low) || (high !== null && value > high)) return `It can be ${range}.`;
    return value;
  }

  commit() {
    const value = this.read();
    if (typeof value === "string") this.say(value);
    else this.send(value);
  }

  /** @param {any} value */
  put(value) {
    if (this.none) {
      this.none.checked = value === null;
      this.input.hidden = value === null;
    }
    // A number that is typed in another way ("0,70") stays as it is while it is.
    if (value !== null && (document.activeElement !== this.input || settingsNumber(this.input.value) !== value)) {
      settingsPut(this.input, settingsShown(value));
    }
    if (value !== null && this.slider) this.slider.value = String(value);
  }
}

/** Yes or no. */
export class SettingsSwitch extends SettingsField {
  /** @param {SettingsFieldView} view @param {SettingsHost} host */
  constructor(view, host) {
    super(view, host);
    this.input = h("input", { type: "checkbox", id: this.id, class: "gw-cs-check", "data-gw": "settings-switch" });
    this.input.addEventListener("change", () => this.send(this.input.checked));
    this.line.append(this.input);
    this.finish([]);
  }

  /** @param {any} value */
  put(value) {
    this.input.checked = value;
  }

  /** @param {any} value */
  inWords(value) {
    return value ? "on" : "off";
  }
}

/** One of a few. */
export class SettingsChoice extends SettingsField {
  /** @param {SettingsFieldView} view @param {SettingsHost} host */
  constructor(view, host) {
    super(view, host);
    const options = (view.choices ?? []).map(([value, text]) => h("option", { value: String(value), text }));
    this.select = h("select", { id: this.id, class: "gw-cs-select", "data-gw": "settings-choice" }, options);
    this.select.addEventListener("change", () => this.send(Number(this.select.value)));
    this.line.append(this.select);
    this.finish([]);
  }

  /** @param {any} value */
  put(value) {
    this.select.value = String(value);
  }

  /** @param {any} value */
  inWords(value) {
    return (this.view.choices ?? []).find(([one]) => one === value)?.[1].toLowerCase() ?? String(value);
  }
}

/** A heading of the panel that opens. @param {string} title @param {string} hook */
export function settingsFold(title, hook) {
  const body = h("div", { class: "gw-cs-fold-body" });
  const heading = h("summary", { "data-gw": hook }, [icon("open"), h("span", { text: title })]);
  return { root: h("details", { class: "gw-cs-fold" }, [heading, body]), body };
}
