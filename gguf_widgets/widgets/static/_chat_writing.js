// @ts-check
/**
 * Writing a message: files beside it, how the answer begins, prompt templates, and what still fits.
 *
 * Promises: what was written is there again after the page was loaded anew; a message that would not
 * fit is held until the person has chosen; typing never waits for a count. Leaves to others: the
 * text itself and sending it (`chat_box.js`), the parts below.
 */

import { copyText, confirmCopy } from "./_copy.js";
import { isComposing } from "./_chat_input.js";
import { ContextMeter, FULL_MODES, FullQuestion } from "./_chat_meter.js";
import { PromptPanel, promptsButton } from "./_chat_writing_prompts.js";
import { LONG_CHARS, PasteOffer } from "./_chat_writing_paste.js";
import { FileChips } from "./_chat_writing_files.js";
import { SentFiles } from "./_chat_writing_sent.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @import { MessageView } from "./_chat_messages.js"
 * @import { PlanView } from "./_chat_meter.js"
 * @import { ChatState } from "./chat_box.js"
 * @import { Places } from "./_chat_part.js"
 * @import { Blind, FileLimits, FileView } from "./_chat_writing_files.js"
 * @typedef {{files: FileView[], blind: Blind | null, whenFull: string, plan: any[], limits: FileLimits}} WritingState
 */

const PLAN_AFTER_MS = 300;
const PLAN_LONG_AFTER_MS = 1500;
const MOST_CHARS = 5_000_000;
const KEEP_AFTER_MS = 300;
const MOST_TRIES = 40;

export class WritingPart {
  /** @param {Link} link @param {Places} places */
  constructor(link, places) {
    this.link = link;
    this.places = places;
    /** @type {WritingState | null} */
    this.state = null;
    /** @type {PlanView | null} */
    this.plan = null;
    this.planned = ""; // what the plan is about
    this.planTimer = 0;
    this.keepTimer = 0;
    this.pass = false; // the question has been answered: the next message goes
    /** @type {(() => boolean) | null} */
    this.stillHeld = null; // whether what the word under the field says is still so
    this.hasModel = false;
    this.broughtBack = false;
    /** @type {string[]} */
    this.sentIds = [];
    /** @type {Map<string, SentFiles>} */
    this.sent = new Map();
    this.live = h("p", { class: "gw-writing-word", role: "status" });
    this.files = new FileChips(link, () => this.onFiles(), (words) => this.say(words));
    this.blind = h("div", { class: "gw-blind", role: "alert", "data-gw": "chat-blind", hidden: true });
    this.paste = new PasteOffer(places.input, this.files, (words) => this.say(words));
    this.begin = h("input", { type: "text", "data-gw": "chat-begin", "aria-label": "Start the answer with", placeholder: "The answer goes on from these words", "data-lm-suppress-shortcuts": "true" });
    this.beginRow = h("div", { class: "gw-begin", hidden: true }, [h("span", { text: "Start the answer with", "aria-hidden": "true" }), this.begin, ghostButton("close", "Let the model begin by itself", { "data-gw": "chat-begin-close" })]);
    this.question = new FullQuestion((mode) => void this.choose(mode), () => places.input.focus());
    this.meter = new ContextMeter(() => void this.setWhenFull("stop"));
    this.attach = ghostButton("clip", "Attach text files, PDFs or images", { "data-gw": "chat-attach" });
    this.prompts = promptsButton();
    this.beginButton = ghostButton("begin", "Start the answer with words of yours", { "data-gw": "chat-begin-open", "aria-expanded": "false" });
    this.panel = new PromptPanel(link, this.prompts, () => places.input.value, (text) => this.setText(text));
    this.picker = h("input", { type: "file", multiple: true, class: "gw-picker-input", tabindex: "-1", "aria-hidden": "true", "data-gw": "chat-file-input" });
    this.drop = h("div", { class: "gw-drop", "aria-hidden": "true", hidden: true }, [icon("clip"), h("span", { text: "Drop files to attach them" })]);
    places.composerStart.append(this.attach, this.prompts, this.beginButton, this.picker);
    places.above.append(this.panel.root, this.question.root, this.blind, this.paste.root, this.files.root, this.beginRow);
    places.foot.append(this.live, this.meter.root);
    places.root.append(this.drop);
    this.listen();
    this.bringBack();
  }

  listen() {
    const { input, root } = this.places;
    this.attach.addEventListener("click", () => this.picker.click());
    this.picker.addEventListener("change", () => {
      this.files.add([...(this.picker.files ?? [])]);
      this.picker.value = ""; // so that the same file can be chosen again
      input.focus();
    });
    this.beginButton.addEventListener("click", () => (this.beginRow.hidden ? this.openBegin() : this.closeBegin()));
    this.beginRow.querySelector("button")?.addEventListener("click", () => this.closeBegin());
    this.begin.addEventListener("input", () => this.onInput());
    this.begin.addEventListener("keydown", (event) => this.onBeginKey(event));
    input.addEventListener("input", () => this.onInput());
    input.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowUp" || isComposing(event) || input.value || event.shiftKey || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      root.dispatchEvent(new CustomEvent("gw-edit-last"));
    });
    this.files.root.addEventListener("gw-files-gone", () => input.focus());
    let inside = 0;
    const hasFiles = (/** @type {DragEvent} */ event) => Boolean(event.dataTransfer?.types.includes("Files"));
    root.addEventListener("dragenter", (event) => {
      if (!hasFiles(event)) return;
      inside += 1;
      this.drop.hidden = false;
    });
    root.addEventListener("dragleave", (event) => {
      if (!hasFiles(event)) return;
      inside = Math.max(0, inside - 1);
      if (!inside) this.drop.hidden = true;
    });
    root.addEventListener("dragover", (event) => {
      if (hasFiles(event)) event.preventDefault();
    });
    root.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab would upload them to its own folder
      inside = 0;
      this.drop.hidden = true;
      this.files.add([...(event.dataTransfer?.files ?? [])]);
      input.focus();
    });
    const leave = () => this.keep();
    window.addEventListener("pagehide", leave, { signal: this.link.signal });
    this.link.signal.addEventListener("abort", () => {
      clearTimeout(this.planTimer);
      clearTimeout(this.keepTimer);
      this.keep();
      for (const chip of this.files.chips.values()) chip.forget();
    });
  }

  /** @param {WritingState} state @param {ChatState} whole */
  show(state, whole) {
    const before = this.state;
    this.state = state;
    this.hasModel = whole.model !== null;
    this.files.show(state.files, state.limits);
    this.begin.maxLength = state.limits.beginChars;
    this.showBlind(state.blind);
    this.checkHeld();
    if (JSON.stringify(before?.plan) !== JSON.stringify(state.plan) || before?.whenFull !== state.whenFull) {
      this.planned = "";
      this.schedulePlan(0);
    }
  }

  /** @param {string} words */
  say(words) {
    this.stillHeld = null;
    this.live.textContent = words;
    this.live.hidden = !words;
  }

  onInput() {
    this.say("");
    this.question.root.hidden = true;
    clearTimeout(this.keepTimer);
    this.keepTimer = setTimeout(() => this.keep(), KEEP_AFTER_MS);
    this.schedulePlan();
  }

  onFiles() {
    this.checkHeld();
    clearTimeout(this.keepTimer);
    this.keepTimer = setTimeout(() => this.keep(), KEEP_AFTER_MS);
    this.schedulePlan();
  }

  /** @param {string} text */
  setText(text) {
    const { input } = this.places;
    input.focus();
    input.select();
    // In a way that Undo takes back, where the browser can.
    if (!document.execCommand("insertText", false, text)) input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.setSelectionRange(text.length, text.length);
  }

  // --- the draft, kept while the page is loaded anew ---

  /** Where it is kept: the widget's own place, and the page's, for a page whose Python is new each time. */
  get keys() {
    const own = String(this.link.model.get("own_id") ?? "");
    const onPage = this.places.root.closest(".gw-page") !== null;
    return [`gw-draft:${own}`, ...(onPage ? [`gw-draft:${location.pathname}`] : [])];
  }

  keep() {
    const { value } = this.places.input;
    const files = this.files.known.filter(({ sha256 }) => sha256).map(({ name, sha256 }) => ({ name, sha256 }));
    const begin = this.beginText;
    const whole = value || begin || files.length ? JSON.stringify({ text: value, begin, files }) : "";
    try {
      for (const key of this.keys) {
        if (whole) sessionStorage.setItem(key, whole);
        else sessionStorage.removeItem(key);
      }
    } catch {
      // No room, or not allowed here: the page still works, and its words live as long as it does.
    }
  }

  bringBack() {
    queueMicrotask(() => {
      // By now the chat is in its page, whose kind says where the draft is.
      /** @type {any} */
      let found = null;
      try {
        for (const key of this.keys) found ??= JSON.parse(sessionStorage.getItem(key) ?? "null");
      } catch {
        return;
      }
      this.broughtBack = true;
      const { input } = this.places;
      if (!found || typeof found !== "object") return;
      if (typeof found.text === "string" && !input.value) input.value = found.text;
      if (typeof found.begin === "string" && found.begin) {
        this.begin.value = found.begin;
        this.openBegin(false);
      }
      if (Array.isArray(found.files) && found.files.length) this.link.tell("writing-back", { files: found.files });
      input.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }

  // --- how the answer begins ---

  get beginText() {
    return this.beginRow.hidden ? "" : this.begin.value;
  }

  openBegin(focus = true) {
    this.beginRow.hidden = false;
    this.beginButton.setAttribute("aria-expanded", "true");
    if (focus) this.begin.focus();
  }

  closeBegin() {
    this.beginRow.hidden = true;
    this.begin.value = "";
    this.beginButton.setAttribute("aria-expanded", "false");
    this.places.input.focus();
    this.onInput();
  }

  /** @param {KeyboardEvent} event */
  onBeginKey(event) {
    if (isComposing(event)) return;
    if (event.key === "Escape") {
      event.preventDefault();
      this.closeBegin();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.places.input.value.trim()) this.submit();
      else this.places.input.focus(); // the message itself is missing
    }
    event.stopPropagation();
  }

  // --- seeing ---

  /** @param {Blind | null} blind */
  showBlind(blind) {
    const drawn = JSON.stringify(blind);
    if (this.blind.dataset.drawn === drawn) return;
    this.blind.dataset.drawn = drawn;
    this.blind.hidden = !blind;
    if (!blind) return;
    /** @type {Node[]} */
    const parts = [icon("warn"), h("span", { text: blind.words })];
    if (blind.line) {
      const copy = ghostButton("copy", "Copy this line", { "data-gw": "chat-blind-copy" });
      copy.addEventListener("click", async () => {
        if (await copyText(blind.line)) confirmCopy(copy);
      });
      parts.push(h("span", { class: "gw-blind-line" }, [h("code", { text: blind.line }), copy]));
    }
    this.blind.replaceChildren(...parts);
  }

  // --- what still fits ---

  /** @param {number} [wait] milliseconds */
  schedulePlan(wait) {
    clearTimeout(this.planTimer);
    if (!this.state || !this.hasModel) return this.meter.show(null, "stop");
    const after = wait ?? (this.places.input.value.length > LONG_CHARS ? PLAN_LONG_AFTER_MS : PLAN_AFTER_MS);
    this.planTimer = setTimeout(() => void this.askPlan(), after);
  }

  get about() {
    const { input } = this.places;
    return JSON.stringify([input.value, this.beginText, this.files.ids, this.state?.plan, this.state?.whenFull]);
  }

  async askPlan() {
    const { input } = this.places;
    const about = this.about;
    if (about === this.planned || input.value.length > MOST_CHARS) return;
    try {
      const answer = await this.link.ask("writing-plan", { text: input.value, begin: this.beginText, files: this.files.ids });
      if (answer.stale) return;
      this.plan = answer.plan;
      this.planned = about;
      this.meter.show(this.plan, this.state?.whenFull ?? "stop");
    } catch (error) {
      if (!this.link.signal.aborted) this.say(wordsOf(error));
    }
  }

  /** @param {string} mode */
  async setWhenFull(mode) {
    try {
      await this.link.ask("writing-when-full", { mode });
    } catch (error) {
      this.say(wordsOf(error));
    }
  }

  /** @param {string} mode */
  async choose(mode) {
    if (mode !== "anyway") await this.setWhenFull(mode);
    this.question.root.hidden = true;
    this.pass = true;
    this.places.input.focus();
    this.submit();
  }

  submit() {
    this.places.composer.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
  }

  // --- sending ---

  /** @param {string} text @returns {boolean | Promise<boolean>} */
  beforeSend(text) {
    const { files } = this.files;
    const waiting = files.find(({ state }) => state === "coming" || state === "reading");
    const failed = files.find(({ state }) => state === "failed");
    if (text.length > MOST_CHARS) return this.hold(`The message has ${text.length.toLocaleString("en")} characters; at most ${MOST_CHARS.toLocaleString("en")} can be sent. Attach it as a file.`);
    const has = (/** @type {string[]} */ ...states) => this.files.files.some(({ state }) => states.includes(state));
    if (waiting) return this.hold(`“${waiting.name}” is not ready. Send again in a moment, or remove it.`, () => has("coming", "reading"));
    if (failed) return this.hold(`“${failed.name}” could not be attached. Remove it, then send.`, () => has("failed"));
    if (this.state?.blind) return this.hold("This model cannot see the image. Remove it, or load a model that can see.", () => Boolean(this.state?.blind));
    if (this.pass) {
      this.pass = false;
      return true;
    }
    return this.mayFit(text);
  }

  /** @param {string} words @param {() => boolean} [still] the word goes as soon as this is false */
  hold(words, still) {
    this.say(words);
    this.stillHeld = still ?? null;
    return false;
  }

  checkHeld() {
    if (this.stillHeld && !this.stillHeld()) this.say("");
  }

  /** @param {string} text @returns {Promise<boolean>} */
  async mayFit(text) {
    const { plan } = this;
    // No token is shorter than a byte: what surely fits is not asked about.
    const surely = plan && this.planned && plan.used + 3 * text.length + 64 * (1 + this.files.ids.length) + plan.wanted < plan.context && this.sameFiles();
    clearTimeout(this.planTimer);
    for (let tries = 0; !surely && this.planned !== this.about && tries < MOST_TRIES; tries += 1) {
      await this.askPlan();
      // Another question of this page was newer, or a file's tokens were counted meanwhile.
      if (this.planned !== this.about) await new Promise((done) => setTimeout(done, 50));
      if (this.places.input.value !== text) return false; // the person types on
    }
    const now = this.plan;
    if (surely || !now || this.planned !== this.about || now.fits) return true;
    if (now.canDrop && now.whenFull !== "stop") return true;
    this.question.open(now);
    return false;
  }

  /** Whether the plan at hand was made with the files that are here now. */
  sameFiles() {
    const [, begin, ids] = JSON.parse(this.planned);
    return begin === this.beginText && JSON.stringify(ids) === JSON.stringify(this.files.ids);
  }

  forSending() {
    this.sentIds = this.files.ids;
    return { files: this.sentIds, begin: this.beginText };
  }

  afterSend() {
    this.files.sent(this.sentIds);
    this.begin.value = "";
    this.beginRow.hidden = true;
    this.beginButton.setAttribute("aria-expanded", "false");
    this.paste.root.hidden = true;
    this.question.root.hidden = true;
    this.say("");
    this.keep();
  }

  /** @param {any} content */
  restore(content) {
    this.files.restore(content.files ?? []);
    if (this.state) this.files.show(this.state.files, this.state.limits);
    if (content.begin) {
      this.begin.value = content.begin;
      this.openBegin(false);
    }
    this.onInput();
  }

  // --- messages ---

  /** @param {MessageView} view */
  bodyFor(view) {
    if (!view.attachments?.length) return null;
    const known = this.sent.get(view.id) ?? new SentFiles(this.link, view.id);
    this.sent.set(view.id, known);
    known.update(view.attachments);
    return known.root;
  }

  /** What could be done for an answer that did not fit. @param {MessageView} view @returns {HTMLElement[]} */
  buttonsForError(view) {
    const choices = /** @type {string[]} */ (view.whatElse ?? []);
    return choices.map((mode, place) => {
      const button = h("button", { type: "button", class: place ? "gw-button" : "gw-button gw-primary", text: FULL_MODES[mode], "data-gw": `chat-retry-${mode}` });
      button.addEventListener("click", async () => {
        try {
          await this.link.ask("writing-retry", { message: view.id, mode });
          this.places.input.focus(); // the button goes
        } catch (error) {
          this.say(wordsOf(error));
        }
      });
      return button;
    });
  }

  /** @param {string} id */
  forget(id) {
    this.sent.get(id)?.close();
    this.sent.delete(id);
  }
}
