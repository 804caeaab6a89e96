// @ts-check
/**
 * The settings panel: what the next message is sent with.
 *
 * Promises: what stands there when a message is sent is what it is sent with, or the sending waits
 * and says which value is wrong; everything that differs from the preset is marked and can be taken
 * back; a state that is older than what was chosen here last changes nothing that stands there;
 * closing it loses nothing but what was wrong. Leaves to others: the fields
 * (`_chat_settings_fields.js`, `_chat_settings_lists.js`), the other parts, the values (Python).
 */

import { SettingsAnswer } from "./_chat_settings_answer.js";
import { settingsFold } from "./_chat_settings_fields.js";
import { settingsField } from "./_chat_settings_lists.js";
import { SettingsMaker, SettingsStyle, SettingsSystem, SettingsUndo, settingsLine } from "./_chat_settings_parts.js";
import { SettingsPresets } from "./_chat_settings_presets.js";
import { SidePanel } from "./_chat_side.js";
import { h, iconButton } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @import { Places } from "./_chat_part.js"
 * @import { SettingsFieldView } from "./_chat_settings_fields.js"
 * @import { SettingsFieldElement } from "./_chat_settings_lists.js"
 * @import { StyleView } from "./_chat_settings_parts.js"
 * @typedef {{fields: SettingsFieldView[], styles: StyleView[], creativity: {name: string, title: string, description: string}[], maxBytes: number}} SettingsTold
 */

export class SettingsPart {
  /** @param {Link} link @param {Places} places */
  constructor(link, places) {
    this.link = link;
    /** @type {any} */
    this.state = null;
    this.newest = /** @type {any} */ (null); // not shown yet, where it is older than `heard`
    this.heard = 0; // the version of the last change that Python has answered
    this.unheard = 0; // changes that it has not answered yet
    /** @type {Map<string, SettingsFieldElement>} */
    this.fields = new Map();
    /** @type {Promise<void> | null} */
    this.loading = null;
    this.button = iconButton("sliders", "Chat settings", { class: "gw-quiet gw-cs-open", "data-gw": "chat-settings" });
    places.headEnd.append(this.button);
    this.panel = new SidePanel(places.right, { title: "Chat settings", name: "settings", button: this.button, signal: link.signal, opened: () => this.opened(), closed: () => this.closed() });
    const ask = (/** @type {string} */ kind, /** @type {object} */ content = {}) => this.ask(kind, content);
    this.presets = new SettingsPresets(link, async (kind, content) => {
      // A preset is kept with what stands on the panel; anything else takes its place.
      if (kind !== "settings-save" && kind !== "settings-update") this.drop();
      else await this.settle("A value below is not right yet. Correct it, then save.");
      return ask(kind, content);
    });
    const act = (/** @type {string} */ kind, /** @type {object} */ content = {}) => this.presets.act(kind, content);
    const handOn = () => this.presets.select.focus();
    this.undo = new SettingsUndo(act, handOn);
    this.system = new SettingsSystem(link.page, ask);
    this.style = new SettingsStyle(link.page, (kind, content) => ask(kind, content).catch((error) => this.presets.say(wordsOf(error))), this.system);
    this.maker = new SettingsMaker(act, handOn);
    this.answer = new SettingsAnswer(link.page, (answer) => this.judge(answer), () => ask("settings-reset", { name: "answer" }));
    this.resetAll = h("button", { type: "button", class: "gw-link", text: "Reset all", title: "Back to the preset in everything", "data-gw": "settings-reset-all", hidden: true });
    this.resetAll.addEventListener("click", () => {
      handOn(); // the button goes
      void act("settings-reset");
    });
    this.panel.tools.append(this.resetAll);
    this.remark = h("p", { class: "gw-cs-remark", role: "status", hidden: true, "data-gw": "settings-preset-remark" });
    this.creativity = h("div", { class: "gw-cs-three", role: "radiogroup", "aria-label": "How much chance" });
    this.groups = h("div", { class: "gw-cs-groups" }, [h("p", { class: "gw-cs-about", role: "status", text: "Loading…" })]);
    const note = h("p", { class: "gw-cs-about", text: "A change counts for the next message, and is recorded with it." });
    this.panel.body.append(note, this.undo.root, this.presets.root, this.remark, this.system.root, this.style.root, this.maker.root, this.groups);
    link.signal.addEventListener("abort", () => this.drop());
  }

  // -- from Python ------------------------------------------------------------------------------

  opened() {
    void this.load();
    // The first button may be hidden, so the focus did not find its way by itself.
    queueMicrotask(() => {
      if (!this.panel.root.contains(document.activeElement)) this.presets.select.focus();
    });
  }

  /** What never changes, once; and own presets are looked up again. */
  async load() {
    try {
      const asked = this.link.ask("settings-open");
      this.loading ??= asked.then((told) => this.fill(told));
      await Promise.all([asked, this.loading]);
    } catch (error) {
      this.loading = null;
      if (!this.fields.size) this.groups.replaceChildren(h("p", { class: "gw-fault", role: "alert", text: wordsOf(error) }));
    }
  }

  /** @param {SettingsTold} told */
  fill(told) {
    this.presets.maxBytes = told.maxBytes;
    this.style.fill(told.styles);
    this.creativity.replaceChildren(
      ...told.creativity.map((one) => {
        const radio = h("input", { type: "radio", name: `${this.link.page}-creativity`, value: one.name, "data-gw": `settings-${one.name}` });
        radio.addEventListener("change", () => void this.presets.act("settings-creative", { name: one.name }));
        return h("label", { class: "gw-cs-pill", title: one.description }, [radio, h("span", { text: one.title })]);
      }),
    );
    const host = {
      page: this.link.page,
      set: (/** @type {string} */ name, /** @type {any} */ value) => this.ask("settings-set", { values: { [name]: value } }),
      reset: (/** @type {string} */ name) => this.ask("settings-reset", { name }),
      tokens: (/** @type {object} */ content) => this.link.ask("settings-tokens", content),
      isBehind: () => this.isBehind,
    };
    const expert = settingsFold("For experts", "settings-expert");
    /** @type {Map<string, HTMLElement>} */
    const groups = new Map();
    for (const view of told.fields) {
      let place = view.expert ? expert.body : groups.get(view.group);
      if (!place) {
        place = h("section", { class: "gw-cs-group", "aria-label": view.group }, [h("h4", { text: view.group })]);
        if (!groups.size) place.append(this.creativity);
        groups.set(view.group, place);
      }
      if (view.kind !== "answer") {
        const field = settingsField(view, host);
        this.fields.set(view.name, field);
        place.append(field.root);
      } else if (view.name === "schema") place.append(this.answer.root); // the grammar is in it, too
    }
    this.groups.replaceChildren(...groups.values(), expert.root);
    if (this.state) this.show(this.newest ?? this.state);
  }

  /** @param {any} state */
  show(state) {
    if (!state.values) return;
    this.newest = state;
    this.catchUp();
  }

  /** Whether what is in force may be other than what was shown last. */
  get isBehind() {
    return this.unheard > 0 || (this.state?.version ?? -1) < this.heard;
  }

  /** Show the newest state, unless it is from before what was chosen here last. */
  catchUp() {
    if (!this.newest || this.unheard || this.newest.version < this.heard) return;
    const state = this.newest;
    this.newest = null;
    this.state = state;
    const isChanged = state.changed.length > 0 || state.system !== state.systemStandard || state.style !== state.styleStandard;
    this.button.toggleAttribute("data-changed", isChanged);
    this.button.title = isChanged ? "Chat settings (changed)" : "Chat settings";
    this.button.setAttribute("aria-label", this.button.title);
    if (!isChanged && document.activeElement === this.resetAll) this.presets.select.focus();
    this.resetAll.hidden = !isChanged;
    this.presets.show(state, isChanged);
    this.undo.show(state.undo);
    settingsLine(this.remark, state.remark);
    for (const [name, field] of this.fields) {
      field.show(state.values[name], state.standard[name], state.changed.includes(name), state.remarks[name] ?? "", state.about.title);
    }
    this.answer.show(state.answer, state.changed.includes("schema") || state.changed.includes("grammar"));
    this.system.show(state.system, state.systemStandard);
    this.style.show(state.style, state.styleStandard, state.system);
    for (const radio of this.creativity.querySelectorAll("input")) radio.checked = radio.value === state.creativity;
    this.maker.show(state.recommended);
  }

  // -- to Python --------------------------------------------------------------------------------

  /** @param {string} kind @param {object} content @returns {Promise<any>} */
  async ask(kind, content) {
    this.unheard += 1;
    try {
      return this.note(await this.link.ask(kind, content));
    } finally {
      this.unheard -= 1;
      this.catchUp();
    }
  }

  /** A model may take long to judge: what is chosen meanwhile is shown. @param {object} answer */
  async judge(answer) {
    return this.note(await this.link.ask("settings-answer", { answer }));
  }

  /** @param {any} answer */
  note(answer) {
    this.heard = Math.max(this.heard, answer?.version ?? 0);
    return answer;
  }

  get all() {
    return [this.system, ...this.fields.values(), this.answer];
  }

  /** What was typed and not sent does not count: something takes its place. */
  drop() {
    for (const one of this.all) one.drop();
  }

  /** @returns {Promise<unknown>} when all that was typed has been taken or refused */
  flush() {
    return Promise.all(this.all.map((one) => one.flush()));
  }

  /** Send all that was typed. @param {string} words what is thrown if some of it is wrong */
  async settle(words) {
    await this.flush();
    if (this.all.some((one) => one.isWrong)) throw new Error(words);
  }

  closed() {
    // What is right counts; what is wrong goes, and the value in force stands there again.
    void this.flush().then(() => {
      if (!this.panel.isOpen) for (const one of this.all) if (one.isWrong) one.drop();
    });
  }

  /** What stands on the panel is what the message is sent with. */
  async beforeSend() {
    await this.flush();
    const wrong = this.all.find((one) => one.isWrong);
    if (!wrong) return true;
    if (!this.panel.isOpen) this.panel.open();
    const fold = wrong.root.closest("details");
    if (fold) fold.open = true;
    wrong.root.scrollIntoView({ block: "nearest" });
    wrong.control.focus();
    return false;
  }
}
