// @ts-check
/**
 * Parts of the settings panel that are no number: the system prompt, how answers are shown, what the
 * model's maker recommends, and what can be undone.
 *
 * Promises: nothing is added to the system prompt that does not stand in its field; a part that goes
 * hands its focus on. Leaves to others: what is in force (Python).
 */

import { SETTINGS_INPUT, settingsFold, settingsPut } from "./_chat_settings_fields.js";
import { ghostButton, h } from "./_dom.js";
import { wordsOf } from "./_link.js";

/** @typedef {{name: string, title: string, description: string, advice: string}} StyleView */
/** @typedef {{items: {name: string, title: string, value: number}[], notes: string[], used: boolean, fault: string, model: string}} MakerView */
/** @typedef {(kind: string, content?: object) => Promise<any>} SettingsAct */

const SYSTEM_TYPING_MS = 500;
const SYSTEM_WORDS =
  "The model reads this before everything else that is said: who it should be, how it should answer, what to leave out. It is sent with every message of this conversation. Some models have no place for it and are given it with your first message.";

/** @param {HTMLElement} line @param {string} text */
export function settingsLine(line, text) {
  if (line.textContent !== text) line.textContent = text;
  line.hidden = !text;
}

/** What the model is told before everything else. */
export class SettingsSystem {
  /** @param {string} page @param {SettingsAct} ask */
  constructor(page, ask) {
    this.ask = ask;
    this.timer = 0;
    this.standard = "";
    this.inForce = "";
    /** @type {Promise<void>} */
    this.sent = Promise.resolve();
    this.area = h("textarea", { class: "gw-cs-area", id: `${page}-system`, rows: "4", maxlength: "100000", placeholder: "Nothing", dir: "auto", "data-gw": "settings-system", ...SETTINGS_INPUT, spellcheck: "true" });
    this.area.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => void this.flush(), SYSTEM_TYPING_MS);
    });
    this.area.addEventListener("change", () => void this.flush());
    this.back = ghostButton("undo", "Reset the system prompt to the preset's", { class: "gw-ghost gw-cs-back", hidden: true, "data-gw": "settings-system-reset" });
    this.back.addEventListener("click", () => {
      this.area.focus();
      this.put(this.standard);
    });
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true });
    const what = settingsFold("What is this?", "settings-what");
    what.body.append(h("p", { class: "gw-cs-about", text: SYSTEM_WORDS }));
    this.root = h("div", { class: "gw-cs-field", "data-gw": "settings-field", "data-name": "system" }, [
      h("div", { class: "gw-cs-line" }, [h("label", { class: "gw-cs-label", for: this.area.id, text: "System prompt", title: "system in Python" }), this.back]),
      this.area,
      what.root,
      this.fault,
    ]);
  }

  get control() {
    return this.area;
  }

  get isWrong() {
    return !this.fault.hidden;
  }

  /** @param {string} system @param {string} standard */
  show(system, standard) {
    this.standard = standard;
    this.inForce = system;
    const changed = system !== standard;
    this.root.toggleAttribute("data-changed", changed);
    if (!changed && document.activeElement === this.back) this.area.focus();
    this.back.hidden = !changed;
    if (!this.timer && !this.isWrong && this.area.value !== system) settingsPut(this.area, system);
  }

  /** Put a text there and send it. @param {string} text */
  put(text) {
    this.area.value = text;
    clearTimeout(this.timer);
    this.timer = 0;
    this.sent = this.send();
  }

  drop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.area.value = this.inForce;
    settingsLine(this.fault, "");
  }

  /** @returns {Promise<void>} */
  flush() {
    if (this.timer) this.put(this.area.value);
    return this.sent;
  }

  async send() {
    try {
      settingsLine(this.fault, "");
      await this.ask("settings-system", { text: this.area.value });
    } catch (error) {
      settingsLine(this.fault, wordsOf(error));
    }
  }
}

/** How answers are shown. */
export class SettingsStyle {
  /** @param {string} page @param {SettingsAct} act @param {SettingsSystem} system */
  constructor(page, act, system) {
    this.system = system;
    this.told = ""; // the system prompt
    /** @type {StyleView[]} */
    this.styles = [];
    this.select = h("select", { class: "gw-cs-select", id: `${page}-style`, "data-gw": "settings-style" });
    this.select.addEventListener("change", () => {
      this.describe();
      void act("settings-style", { style: this.select.value });
    });
    this.about = h("span");
    this.advise = h("button", { type: "button", class: "gw-link", text: "Ask the model for it", "data-gw": "settings-advise" });
    this.advise.addEventListener("click", () => {
      this.select.focus(); // the button goes
      system.put([system.area.value.trim(), this.advice].filter(Boolean).join("\n"));
    });
    this.root = h("div", { class: "gw-cs-field", "data-gw": "settings-field", "data-name": "style" }, [
      h("div", { class: "gw-cs-line" }, [h("label", { class: "gw-cs-label", for: this.select.id, text: "Show answers as", title: "style in Python" }), this.select]),
      h("p", { class: "gw-cs-about" }, [this.about, " ", this.advise]),
    ]);
  }

  /** @param {StyleView[]} styles */
  fill(styles) {
    this.styles = styles;
    this.select.replaceChildren(...styles.map((one) => h("option", { value: one.name, text: one.title })));
  }

  get advice() {
    return this.styles.find((one) => one.name === this.select.value)?.advice ?? "";
  }

  /** @param {string} style @param {string} standard @param {string} system */
  show(style, standard, system) {
    this.select.value = style;
    this.told = system;
    this.describe();
    this.root.toggleAttribute("data-changed", style !== standard);
  }

  describe() {
    this.about.textContent = this.styles.find((one) => one.name === this.select.value)?.description ?? "";
    this.advise.hidden = !this.advice || this.told.includes(this.advice);
    this.advise.title = `Adds to the system prompt: ${this.advice}`;
  }
}

/** What the maker of the model recommends. */
export class SettingsMaker {
  /** @param {SettingsAct} act @param {() => void} handOn */
  constructor(act, handOn) {
    this.act = act;
    this.handOn = handOn;
    this.told = "";
    this.root = h("div", { class: "gw-cs-maker", "data-gw": "settings-maker" });
  }

  /** @param {MakerView} told */
  show(told) {
    if (this.told === JSON.stringify(told)) return;
    this.told = JSON.stringify(told);
    const had = this.root.contains(document.activeElement);
    const parts = [];
    if (told.items.length) {
      const words = told.items.map(({ title, value }) => `${title.toLowerCase()} ${value}`).join(", ");
      const names = told.items.map(({ name, value }) => `${name}=${value}`).join(", ");
      const end = told.used ? " These are in use." : "";
      parts.push(h("p", { class: "gw-cs-about", title: names, text: `The maker of ${told.model} recommends: ${words}.${end}` }));
      if (!told.used) {
        const use = h("button", { type: "button", class: "gw-button", text: "Use these", "data-gw": "settings-use-maker" });
        use.addEventListener("click", () => void this.act("settings-maker"));
        parts.push(use);
      }
    } else if (told.model && !told.fault && !told.notes.length) {
      parts.push(h("p", { class: "gw-cs-about", text: `The file of ${told.model} recommends no settings.` }));
    }
    for (const text of [...told.notes, told.fault].filter(Boolean)) parts.push(h("p", { class: "gw-cs-remark", text }));
    this.root.replaceChildren(...parts);
    if (had) this.handOn();
  }
}

/** The line that says what was done at once, with the way back. */
export class SettingsUndo {
  /** @param {SettingsAct} act @param {() => void} handOn */
  constructor(act, handOn) {
    this.handOn = handOn;
    this.words = h("span");
    this.button = h("button", { type: "button", class: "gw-link", text: "Undo", "data-gw": "settings-undo" });
    this.button.addEventListener("click", () => {
      handOn(); // the button goes
      void act("settings-undo");
    });
    this.root = h("p", { class: "gw-cs-undo", role: "status", hidden: true }, [this.words, " ", this.button]);
  }

  /** @param {string} words */
  show(words) {
    if (this.words.textContent === words) return;
    if (!words && document.activeElement === this.button) this.handOn();
    this.words.textContent = words;
    this.root.hidden = !words;
  }
}
