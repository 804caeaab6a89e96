// @ts-check
/**
 * The presets on the settings panel: choosing one, and keeping, renaming, sharing, reading one's own.
 *
 * Promises: nothing is written over unasked; a file is judged (in Python) before anything of it is
 * kept, and for a name that is taken the person decides. Leaves to others: what a preset is (Python).
 */

import { SETTINGS_INPUT } from "./_chat_settings_fields.js";
import { h } from "./_dom.js";
import { wordsOf } from "./_link.js";
import { giveFile } from "./_give_file.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{name: string, title: string, description: string, own: boolean}} PresetView
 * @typedef {{title: string, description: string, clash: boolean, canReplace: boolean}} PresetFound
 */

/** @param {string} text @param {string} hook @param {() => void} act @param {string} [look] */
function presetButton(text, hook, act, look = "gw-button") {
  const button = h("button", { type: "button", class: look, text, "data-gw": hook });
  button.addEventListener("click", act);
  return button;
}

export class SettingsPresets {
  /** @param {Link} link @param {(kind: string, content: object) => Promise<any>} ask it drops what was typed and not sent */
  constructor(link, ask) {
    this.link = link;
    this.ask = ask;
    this.maxBytes = 0;
    /** @type {PresetView[]} */
    this.presets = [];
    this.name = "";
    const id = `${link.page}-preset`;
    this.select = h("select", { class: "gw-cs-select", id, "data-gw": "settings-preset" });
    this.select.addEventListener("change", () => void this.act("settings-use", { preset: this.select.value }));
    this.about = h("p", { class: "gw-cs-about" });
    this.unusable = h("div", { class: "gw-cs-stack" });
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true, "data-gw": "settings-preset-fault" });
    this.done = h("p", { class: "gw-cs-about", role: "status", hidden: true, "data-gw": "settings-preset-done" });
    this.update = presetButton("Save changes", "settings-update", () => void this.act("settings-update"));
    this.save = presetButton("Save as…", "settings-save", () => this.openForm("save"));
    this.rename = presetButton("Rename", "settings-rename", () => this.openForm("rename"), "gw-link");
    this.remove = presetButton("Delete", "settings-delete", () => void this.act("settings-delete", { name: this.name }).then(() => this.select.focus()), "gw-link");
    this.share = presetButton("Share", "settings-share", () => void this.download(), "gw-link");
    this.share.title = "Save this preset as a file that others can open";
    this.file = h("input", { type: "file", accept: ".json,application/json", hidden: true, "data-gw": "settings-file" });
    this.file.addEventListener("change", () => void this.read());
    this.open = presetButton("Open a file", "settings-open-file", () => this.file.click(), "gw-link");
    this.open.title = "Add presets from a file that was shared";
    this.form = h("form", { class: "gw-cs-form", hidden: true, "data-gw": "settings-preset-form" });
    this.form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      this.closeForm();
    });
    this.buttons = h("div", { class: "gw-cs-buttons" }, [this.save, this.update, this.rename, this.share, this.remove, this.open]);
    this.root = h("div", { class: "gw-cs-stack" }, [
      h("div", { class: "gw-cs-line" }, [h("label", { class: "gw-cs-label", for: id, text: "Preset", title: "model_type in Python" }), this.select]),
      this.about,
      this.unusable,
      this.buttons,
      this.file,
      this.form,
      this.done,
      this.fault,
    ]);
  }

  /** @param {any} state @param {boolean} changed whether anything differs from the preset */
  show(state, changed) {
    this.presets = state.presets;
    this.name = state.preset;
    const own = this.presets.find((one) => one.name === state.preset);
    const wanted = [...this.presets.map((one) => [one.name, one.title]), ...(own ? [] : [[state.preset, `${state.about.title} (deleted)`]])];
    if (JSON.stringify(wanted) !== this.select.dataset.told) {
      this.select.dataset.told = JSON.stringify(wanted);
      this.select.replaceChildren(...wanted.map(([value, text]) => h("option", { value, text })));
    }
    this.select.value = state.preset;
    this.about.textContent = own ? own.description : "This preset was deleted. Its settings are still in use here.";
    this.about.hidden = !this.about.textContent;
    const mine = own?.own ?? false;
    hideUnfocused(this.update, !mine || !changed, this.select);
    for (const one of [this.rename, this.remove]) hideUnfocused(one, !mine, this.select);
    hideUnfocused(this.share, !own, this.select);
    this.unusable.replaceChildren(
      ...state.unusable.map((/** @type {{name: string, why: string}} */ one) => {
        const drop = h("button", { type: "button", class: "gw-link", text: "Delete it" });
        drop.addEventListener("click", () => void this.act("settings-delete", { name: one.name }));
        return h("p", { class: "gw-cs-remark" }, [`A preset that you have cannot be used here. ${one.why} `, drop]);
      }),
    );
  }

  /** @param {string} fault @param {string} [done] */
  say(fault, done = "") {
    this.fault.textContent = fault;
    this.fault.hidden = !fault;
    this.done.textContent = done;
    this.done.hidden = !done;
  }

  /** @param {string} kind @param {object} [content] */
  async act(kind, content = {}) {
    this.say("");
    try {
      return await this.ask(kind, content);
    } catch (error) {
      this.select.value = this.name;
      this.say(wordsOf(error));
      return null;
    }
  }

  closeForm() {
    const opener = this.form.dataset.kind === "rename" ? this.rename : this.form.dataset.kind === "file" ? this.open : this.save;
    const hadFocus = this.form.contains(document.activeElement);
    this.form.hidden = true;
    this.form.replaceChildren();
    this.buttons.hidden = false;
    if (hadFocus) (opener.hidden ? this.select : opener).focus();
  }

  /** @param {"save" | "rename" | "file"} kind @param {HTMLElement[]} parts @param {string} verb @param {() => Promise<boolean>} submit */
  fillForm(kind, parts, verb, submit) {
    this.say("");
    this.buttons.hidden = true;
    this.form.dataset.kind = kind;
    const go = h("button", { type: "submit", class: "gw-button gw-primary", text: verb, "data-gw": "settings-form-go" });
    const cancel = presetButton("Cancel", "settings-form-cancel", () => this.closeForm());
    this.form.replaceChildren(...parts, h("div", { class: "gw-cs-buttons" }, [go, cancel]));
    this.form.onsubmit = async (event) => {
      event.preventDefault();
      go.disabled = true;
      const done = await submit();
      go.disabled = false;
      if (done) this.closeForm();
    };
    this.form.hidden = false;
    /** @type {HTMLElement | null} */ (this.form.querySelector("input, select, button"))?.focus();
  }

  /** @param {"save" | "rename"} kind */
  openForm(kind) {
    const own = this.presets.find((one) => one.name === this.name);
    const title = h("input", { class: "gw-cs-text", maxlength: "60", "aria-label": "Name of the preset", placeholder: "Name", "data-gw": "settings-title", ...SETTINGS_INPUT });
    if (kind === "rename") {
      title.value = own?.title ?? "";
      this.fillForm(kind, [title], "Rename", async () => (await this.act("settings-rename", { name: this.name, title: title.value })) !== null);
      return title.select();
    }
    const about = h("input", { class: "gw-cs-text", maxlength: "500", "aria-label": "What it is for", placeholder: "What it is for (not needed)", "data-gw": "settings-about", ...SETTINGS_INPUT });
    this.fillForm(kind, [title, about], "Save", async () => {
      const mine = this.presets.find((one) => one.own && one.title.toLowerCase() === title.value.trim().toLowerCase());
      if (mine && this.form.dataset.sure !== title.value) {
        this.form.dataset.sure = title.value;
        this.say(`You have a preset called "${mine.title}". Press Save again to replace it, or choose another name.`);
        return false;
      }
      const saved = await this.act("settings-save", { title: title.value, description: about.value, replace: Boolean(mine) });
      if (saved) this.say("", `Saved as "${saved.title}".`);
      return saved !== null;
    });
  }

  async download() {
    const answer = await this.act("settings-share", { name: this.name });
    if (!answer) return;
    giveFile([answer.file], answer.fileName, "application/json");
    this.say("", `Saved as the file ${answer.fileName}. Give it to others; they open it here.`);
  }

  async read() {
    const file = this.file.files?.[0];
    this.file.value = "";
    if (!file) return;
    if (file.size > this.maxBytes) return this.say(`The file has ${file.size.toLocaleString("en")} bytes; one of presets has at most ${this.maxBytes.toLocaleString("en")}.`);
    let text = "";
    try {
      text = await file.text();
    } catch (error) {
      return this.say(`The file could not be read: ${wordsOf(error)}`);
    }
    const answer = await this.act("settings-read", { text });
    if (!answer) return;
    /** @type {PresetFound[]} */
    const found = answer.presets;
    /** @type {Map<string, HTMLSelectElement>} */
    const choices = new Map();
    const lines = found.map((one) => {
      const words = h("span", { class: "gw-cs-label", text: one.title, title: one.description });
      const options = one.clash
        ? [...(one.canReplace ? [["replace", "Replace yours"]] : []), ["both", "Keep both"], ["skip", "Leave it out"]]
        : [["add", "Add it"], ["skip", "Leave it out"]];
      const choice = h("select", { class: "gw-cs-select", "aria-label": `What to do with ${one.title}`, "data-gw": "settings-clash" }, options.map(([value, label]) => h("option", { value, text: label })));
      if (one.clash) choice.value = "both";
      choices.set(one.title, choice);
      return h("div", { class: "gw-cs-stack" }, [
        h("div", { class: "gw-cs-line" }, [words, choice]),
        ...(one.clash ? [h("p", { class: "gw-cs-remark", text: one.canReplace ? "You have a preset of this name." : "The program has a preset of this name." })] : []),
      ]);
    });
    const number = found.length === 1 ? "1 preset" : `${found.length} presets`;
    this.fillForm("file", [h("p", { class: "gw-cs-about", text: `The file holds ${number}.` }), ...lines], "Add", async () => {
      const wanted = Object.fromEntries([...choices].map(([title, choice]) => [title, choice.value]));
      const taken = await this.act("settings-take", { text, choices: wanted });
      if (taken) this.say("", taken.added.length ? `Added: ${taken.added.join(", ")}. Choose it above to use it.` : "Nothing was added.");
      return taken !== null;
    });
  }
}

/** Hide a button, handing its focus on. @param {HTMLElement} element @param {boolean} hidden @param {HTMLElement} other */
function hideUnfocused(element, hidden, other) {
  const had = hidden && document.activeElement === element;
  element.hidden = hidden;
  if (had) other.focus();
}
