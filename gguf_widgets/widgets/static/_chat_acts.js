// @ts-check
/**
 * The buttons under a message: copy, answer again, go on, edit, and the way between its branches.
 *
 * Promises: a button that a person has just used keeps the focus, or hands it to what took its place;
 * an edit that could not be sent stays open with what was typed, and what was typed is there again when
 * its message is: after another conversation or branch, or the page loaded anew. Leaves to others: the
 * tree (Python), where it is kept (`_chat_acts_drafts.js`).
 */

import { EditDrafts } from "./_chat_acts_drafts.js";
import { isComposing } from "./_chat_input.js";
import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @import { MessageView } from "./_chat_messages.js"
 * @import { ChatState } from "./chat_box.js"
 * @import { Places } from "./_chat_part.js"
 */

const EDIT_MAX_PX = 320;

/** What one message has: its buttons, and its form while it is edited. */
class ActsElement {
  /** @param {MessageView} view @param {ActsPart} part */
  constructor(view, part) {
    this.part = part;
    this.view = view;
    const own = view.role === "user";
    const whose = own ? "your message" : "this answer";
    this.copy = ghostButton("copy", `Copy ${whose}`, { class: "gw-ghost gw-copy", "data-gw": "chat-copy" });
    this.edit = ghostButton("edit", own ? "Edit your message; the conversation before stays saved" : "Change this answer", { class: "gw-ghost", "data-gw": "chat-edit" });
    this.again = ghostButton("again", "Answer again; the answer before stays saved", { class: "gw-ghost gw-again", "data-gw": "chat-again" });
    this.goOn = h("button", { type: "button", class: "gw-quiet gw-go-on", title: "Let the model go on where this answer ends", "data-gw": "chat-continue" }, [icon("play"), h("span", { text: "Continue" })]);
    this.before = ghostButton("open", "The version before", { class: "gw-ghost gw-back", "data-gw": "chat-branch-before" });
    this.after = ghostButton("open", "The next version", { class: "gw-ghost", "data-gw": "chat-branch-after" });
    this.where = h("span", { class: "gw-branch-words" });
    this.branch = h("span", { class: "gw-branch", role: "group", "aria-label": "Versions of this message", "data-gw": "chat-branch" }, [this.before, this.where, this.after]);
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true });
    this.field = h("textarea", { class: "gw-edit-field", "aria-label": own ? "Your message" : "The answer", "data-gw": "chat-edit-field", "data-lm-suppress-shortcuts": "true" });
    this.save = h("button", { type: "submit", class: "gw-button gw-primary", text: own ? "Send" : "Save", "data-gw": "chat-edit-send" });
    const cancel = h("button", { type: "button", class: "gw-button", text: "Cancel", title: "Cancel (Esc)" });
    this.form = h("form", { class: "gw-edit", "data-gw": "chat-edit-form", hidden: true }, [this.field, h("div", { class: "gw-edit-row" }, [h("span", { class: "gw-dim", text: own ? "The model answers anew. What is here now stays as another version." : "The answer as it was stays as another version." }), cancel, this.save])]);
    this.root = h("div", { class: "gw-acts", hidden: true }, [this.form, this.fault]);
    this.copy.addEventListener("click", () => void this.doCopy());
    this.edit.addEventListener("click", () => void this.open());
    this.again.addEventListener("click", () => void this.act("again"));
    this.goOn.addEventListener("click", () => void this.act("continue"));
    this.before.addEventListener("click", () => void this.change(-1));
    this.after.addEventListener("click", () => void this.change(1));
    cancel.addEventListener("click", () => this.close());
    this.field.addEventListener("input", () => {
      this.grow();
      part.drafts.keep(this.view.id, this.field.value);
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.send();
    });
    this.form.addEventListener("keydown", (event) => this.onKey(event));
    this.bringBack();
  }

  /** Open the form with what was typed before this message went from the screen. */
  bringBack() {
    const text = this.part.drafts.of(this.view.id);
    if (text === null) return;
    this.show(text);
    // It is in the page, and has its width, a moment later.
    requestAnimationFrame(() => {
      this.message?.classList.add("gw-editing");
      this.grow();
    });
  }

  /** @param {MessageView} view @param {boolean} busy */
  update(view, busy) {
    this.view = view;
    const [index, count] = view.branch ?? [1, 1];
    const words = `${index} of ${count}`;
    if (this.where.textContent !== words) this.where.textContent = words;
    const ended = view.status !== "streaming";
    setOff(this.before, busy || index <= 1, this.after);
    setOff(this.after, busy || index >= count, this.before);
    for (const button of [this.edit, this.again, this.goOn]) button.disabled = busy;
    this.save.disabled = busy;
    this.branch.hidden = !view.branch;
    this.goOn.hidden = !view.canContinue || !ended;
    this.root.hidden = this.form.hidden && this.fault.hidden;
  }

  /** @returns {HTMLElement[]} */
  buttons() {
    const { role } = this.view;
    return role === "user" ? [this.branch, this.copy, this.edit] : [this.branch, this.copy, this.again, this.edit, this.goOn];
  }

  async doCopy() {
    try {
      const { text } = await this.part.link.ask("text", { message: this.view.id });
      if (await copyText(text)) confirmCopy(this.copy);
    } catch (error) {
      this.say(wordsOf(error));
    }
  }

  /** @param {string} kind @param {object} [more] @returns {Promise<any>} */
  async act(kind, more = {}) {
    this.say("");
    const { root } = this.part.places;
    if (kind !== "text") root.dispatchEvent(new CustomEvent("gw-acted"));
    try {
      const answer = await this.part.link.ask(kind, { message: this.view.id, ...more });
      const writes = kind === "again" || kind === "continue" || (kind === "edit" && this.view.role === "user");
      if (writes) root.dispatchEvent(new CustomEvent("gw-acted", { detail: "writes" }));
      return answer;
    } catch (error) {
      this.say(wordsOf(error));
      return null;
    }
  }

  /** @param {number} step */
  async change(step) {
    const answer = await this.act("branch", { step });
    // The message that takes this one's place has the same buttons.
    if (answer?.message) this.part.focusLater(answer.message, step < 0 ? "before" : "after");
  }

  /** @param {string} text */
  say(text) {
    this.fault.textContent = text;
    this.fault.hidden = !text;
    this.root.hidden = this.form.hidden && this.fault.hidden;
  }

  async open() {
    if (!this.form.hidden) return;
    const answer = await this.act("text");
    if (!answer) return;
    this.show(answer.text);
    this.message?.classList.add("gw-editing");
    this.root.dispatchEvent(new CustomEvent("gw-stay", { bubbles: true })); // it may be far from the end
    this.grow();
    this.field.focus();
    this.field.setSelectionRange(this.field.value.length, this.field.value.length);
  }

  /** @param {string} text */
  show(text) {
    this.field.value = text;
    this.form.hidden = false;
    this.root.hidden = false;
  }

  get message() {
    return this.root.closest(".gw-message");
  }

  close() {
    this.hide();
    this.edit.focus();
  }

  hide() {
    this.part.drafts.drop(this.view.id);
    this.message?.classList.remove("gw-editing");
    this.form.hidden = true;
    this.say("");
  }

  async send() {
    const text = this.field.value;
    if (!text.trim() || this.save.disabled) return;
    if (!(await this.act("edit", { text }))) return;
    this.hide();
    this.part.places.input.focus({ preventScroll: true }); // the form goes
  }

  grow() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight + 2, EDIT_MAX_PX)}px`;
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (isComposing(event)) return;
    if (event.key === "Escape") {
      event.preventDefault();
      this.close();
    } else if (event.key === "Enter" && event.target === this.field && !event.shiftKey && this.view.role === "user") {
      event.preventDefault();
      void this.send();
    }
    event.stopPropagation(); // Esc stops no answer here, and JupyterLab takes no key
  }
}

export class ActsPart {
  /** @param {Link} link @param {Places} places */
  constructor(link, places) {
    this.link = link;
    this.places = places;
    /** @type {Map<string, ActsElement>} */
    this.elements = new Map();
    this.busy = false;
    this.drafts = new EditDrafts(link.signal);
    /** @type {{id: string, which: "before" | "after", until: number} | null} */
    this.wanted = null;
    places.root.addEventListener("gw-edit-last", () => {
      const own = [...this.elements.values()].filter((one) => one.view.role === "user" && one.edit.isConnected).at(-1);
      if (own && !this.busy) void own.open();
    });
  }

  /** @param {MessageView} view */
  elementFor(view) {
    const known = this.elements.get(view.id) ?? new ActsElement(view, this);
    this.elements.set(view.id, known);
    known.update(view, this.busy);
    return known;
  }

  /** @param {MessageView} view */
  buttonsFor(view) {
    const element = this.elementFor(view);
    if (this.wanted?.id === view.id && performance.now() < this.wanted.until) {
      const { which } = this.wanted;
      this.wanted = null;
      queueMicrotask(() => focusOne(element[which], which === "before" ? element.after : element.before));
    }
    return element.buttons();
  }

  /** @param {MessageView} view */
  bodyFor(view) {
    return this.elementFor(view).root;
  }

  /** @param {MessageView} view @returns {HTMLElement[]} */
  buttonsForError(view) {
    const { error } = view;
    if (!error) return [];
    const element = this.elementFor(view);
    /** @type {[boolean, string, string][]} */
    const choices = [
      [error.template, "plain_template", "Use the plain template"],
      [error.retry && !error.template, "again", "Try again"],
    ];
    return choices
      .filter(([wanted]) => wanted)
      .map(([, kind, text]) => {
        const button = h("button", { type: "button", class: "gw-button", text });
        button.addEventListener("click", () => void element.act(kind));
        return button;
      });
  }

  /** @param {string} id */
  forget(id) {
    this.elements.delete(id);
  }

  /** @param {any} _state @param {ChatState} whole */
  show(_state, whole) {
    this.busy = whole.busy;
    for (const element of this.elements.values()) element.update(element.view, this.busy);
  }

  /** The answer may come before the message that it is about, or after. @param {string} id @param {"before" | "after"} which */
  focusLater(id, which) {
    const element = this.elements.get(id);
    if (element?.branch.isConnected) focusOne(element[which], which === "before" ? element.after : element.before);
    else this.wanted = { id, which, until: performance.now() + 3000 };
  }
}

/** Switch a button off, handing its focus on. @param {HTMLButtonElement} button @param {boolean} off @param {HTMLButtonElement} other */
function setOff(button, off, other) {
  const hadFocus = off && document.activeElement === button;
  button.disabled = off;
  if (hadFocus && !other.disabled) other.focus();
}

/** @param {HTMLButtonElement} wanted @param {HTMLButtonElement} other */
function focusOne(wanted, other) {
  (wanted.disabled ? other : wanted).focus({ preventScroll: true });
}
