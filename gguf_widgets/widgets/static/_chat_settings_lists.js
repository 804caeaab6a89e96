// @ts-check
/**
 * The lists on the settings panel: stop words, and tokens made more or less likely; and which kind of
 * field a setting gets.
 *
 * Promises: a word that was typed and not added counts when a message is sent; what a word means to the
 * model is asked of the model. Leaves to others: the other fields (`_chat_settings_fields.js`).
 */

import { SETTINGS_INPUT, SettingsChoice, SettingsField, SettingsNumber, SettingsSwitch, settingsNumber } from "./_chat_settings_fields.js";
import { ghostButton, h } from "./_dom.js";
import { wordsOf } from "./_link.js";

/** @import { SettingsFieldView, SettingsHost } from "./_chat_settings_fields.js" */

/** A text of a list as it is shown, on one line. @param {string} text */
const settingsEscaped = (text) =>
  text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t").replaceAll("\r", "\\r");

/** @param {string} typed */
const settingsUnescaped = (typed) =>
  typed.replace(/\\(.)/g, (whole, letter) => ({ n: "\n", t: "\t", r: "\r", "\\": "\\" })[/** @type {"n"} */ (letter)] ?? whole);

/** One of a list, with the cross that removes it. @param {string} text @param {string} name @param {() => void} remove */
function settingsChip(text, name, remove) {
  const cross = ghostButton("close", `Remove ${name}`, { "data-gw": "settings-remove" });
  cross.addEventListener("click", remove);
  return h("li", { class: "gw-cs-chip", "data-gw": "settings-chip" }, [h("span", { text }), cross]);
}

/** A list of words. */
class SettingsTexts extends SettingsField {
  /** @param {SettingsFieldView} view @param {SettingsHost} host */
  constructor(view, host) {
    super(view, host);
    this.list = h("ul", { class: "gw-cs-chips", "aria-label": view.title });
    this.input = h("input", { class: "gw-cs-text", id: this.id, placeholder: "A word; \\n is a new line", "data-gw": "settings-word", ...SETTINGS_INPUT });
    this.add = h("button", { type: "button", class: "gw-button", text: "Add", "data-gw": "settings-add", "aria-label": `Add to ${view.title}` });
    const take = () => {
      this.input.focus();
      this.take();
    };
    this.add.addEventListener("click", take);
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      event.stopPropagation();
      take();
    });
    this.input.addEventListener("input", () => this.say(""));
    this.finish([this.list, h("div", { class: "gw-cs-row" }, [this.input, this.add])]);
  }

  take() {
    const word = settingsUnescaped(this.input.value);
    if (!word) return this.say("Write a word first.");
    if (this.value.includes(word)) return this.say(`"${settingsEscaped(word)}" is on the list already.`);
    void this.send([...this.value, word]).then(() => {
      if (!this.isWrong) this.input.value = "";
    });
  }

  /** A word that was typed and not added counts as well: whoever leaves it there means it. */
  flush() {
    if (this.input.value && !this.isWrong && !this.waiting) this.take();
    return this.sent;
  }

  drop() {
    this.input.value = "";
    super.drop();
  }

  /** @param {string[]} value */
  put(value) {
    const shown = value.map((word, at) => settingsChip(settingsEscaped(word), `"${settingsEscaped(word)}"`, () => {
      this.send(value.filter((_, i) => i !== at));
      this.input.focus();
    }));
    this.list.replaceChildren(...shown);
    this.list.hidden = !value.length;
  }

  /** @param {string[]} value */
  inWords(value) {
    return value.length ? value.map((word) => `"${settingsEscaped(word)}"`).join(", ") : "none";
  }
}

/** Tokens made more or less likely. */
class SettingsBias extends SettingsField {
  /** @param {SettingsFieldView} view @param {SettingsHost} host */
  constructor(view, host) {
    super(view, host);
    /** @type {Map<string, string>} */
    this.words = new Map();
    this.list = h("ul", { class: "gw-cs-chips", "aria-label": view.title });
    this.input = h("input", { class: "gw-cs-text", id: this.id, placeholder: "A word", "data-gw": "settings-bias-word", ...SETTINGS_INPUT });
    this.number = h("input", { class: "gw-cs-number", inputmode: "decimal", value: "-5", "aria-label": "How much is added to its score", "data-gw": "settings-bias-number", ...SETTINGS_INPUT });
    this.never = h("input", { type: "checkbox", "data-gw": "settings-bias-never" });
    this.never.addEventListener("change", () => (this.number.disabled = this.never.checked));
    this.add = h("button", { type: "button", class: "gw-button", text: "Add", "data-gw": "settings-bias-add", "aria-label": `Add to ${view.title}` });
    this.add.addEventListener("click", () => void this.take());
    for (const one of [this.input, this.number]) {
      one.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.isComposing) return;
        event.preventDefault();
        event.stopPropagation();
        void this.take();
      });
      one.addEventListener("input", () => this.say(""));
    }
    const tick = h("label", { class: "gw-cs-tick" }, [this.never, h("span", { text: "Forbid it" })]);
    this.finish([this.list, h("div", { class: "gw-cs-row" }, [this.input, this.number]), h("div", { class: "gw-cs-row" }, [tick, this.add])]);
  }

  async take() {
    const bias = this.never.checked ? "-inf" : settingsNumber(this.number.value);
    if (!this.input.value) return this.say("Write a word first.");
    if (typeof bias === "number" && !(Math.abs(bias) <= 100)) return this.say("Write a number from -100 to 100, or forbid the word.");
    try {
      const { found } = await this.host.tokens({ text: this.input.value });
      const more = Object.fromEntries(found.map((/** @type {any} */ one) => [String(one.token), bias]));
      for (const one of found) this.words.set(String(one.token), one.text);
      this.input.value = "";
      await this.send({ ...this.value, ...more });
    } catch (error) {
      this.say(wordsOf(error));
    }
  }

  /** A word that was typed and not added counts, as in the other lists. */
  flush() {
    return this.input.value && !this.isWrong && !this.waiting ? this.take() : this.sent;
  }

  drop() {
    this.input.value = "";
    super.drop();
  }

  /** @param {Record<string, number | string>} value */
  put(value) {
    const shown = Object.entries(value).map(([token, bias]) => {
      const word = this.words.has(token) ? `"${settingsEscaped(this.words.get(token) ?? "")}"` : `token ${token}`;
      const how = bias === "-inf" ? "forbidden" : `${Number(bias) > 0 ? "+" : ""}${bias}`;
      return settingsChip(`${word} ${how}`, word, () => {
        const { [token]: _gone, ...rest } = value;
        this.send(rest);
        this.input.focus();
      });
    });
    this.list.replaceChildren(...shown);
    this.list.hidden = !shown.length;
    void this.nameThem(Object.keys(value));
  }

  /** @param {string[]} tokens */
  async nameThem(tokens) {
    const unknown = tokens.filter((token) => !this.words.has(token));
    if (!unknown.length) return;
    for (const token of unknown) this.words.set(token, `token ${token}`); // asked for once
    try {
      const { words } = await this.host.tokens({ tokens: unknown.map(Number) });
      for (const [token, word] of Object.entries(words)) this.words.set(token, /** @type {string} */ (word));
      this.put(this.value);
    } catch {
      // Without a model they are shown by their numbers.
    }
  }

  /** @param {Record<string, any>} value */
  inWords(value) {
    return Object.keys(value).length ? `${Object.keys(value).length} tokens` : "none";
  }
}

/** @typedef {SettingsField} SettingsFieldElement */

/** @param {SettingsFieldView} view @param {SettingsHost} host @returns {SettingsField} */
export function settingsField(view, host) {
  const made = { number: SettingsNumber, whole: SettingsNumber, switch: SettingsSwitch, choice: SettingsChoice, texts: SettingsTexts, bias: SettingsBias, answer: SettingsNumber };
  return new made[view.kind](view, host);
}
