// @ts-check
/**
 * The conversation on screen: the messages, the list that scrolls, and how it follows the end.
 *
 * Promises: the list follows what comes only while its end is seen; the way back to the end covers
 * nothing in a low chat, or beside what is said of a token: there it stands beside Send. Leaves to others: which messages
 * there are (`chat_box.js`, Python), and how an answer's text is drawn (`_chat_blocks.js`).
 */

import { BlocksElement } from "./_chat_blocks.js";
import { ghostButton, h, icon, setChildren } from "./_dom.js";

/**
 * @import { Part } from "./_chat_part.js"
 *
 * @typedef {{title: string, text: string, retry: boolean, template: boolean}} ErrorView
 * @typedef {{
 *   id: string, role: string, status: string, text: string, blocks: string[],
 *   note: string, error: ErrorView | null, [more: string]: any,
 * }} MessageView   what the parts of the box add is in it, too
 */

const NEAR_END_PX = 48;
const AT_END_PX = 2; // what rounding leaves
const LOW_PX = 240; // of the list: below, a button over it would cover what there is to read

/** One message on screen. */
export class MessageElement {
  /** @param {MessageView} view @param {Part[]} parts */
  constructor(view, parts) {
    this.parts = parts;
    this.id = view.id;
    this.body = h("div", { class: "gw-body", dir: view.role === "user" ? "auto" : null });
    this.blocks = new BlocksElement(this.body);
    this.left = h("div", { class: "gw-left", "data-gw": "chat-left-out" });
    this.note = h("p", { class: "gw-note" });
    this.error = h("div", { class: "gw-error" });
    this.tools = h("div", { class: "gw-tools" });
    this.root = h("article", { class: "gw-message", "data-gw": "chat-message", "data-id": view.id });
    this.view = view;
    this.update(view);
  }

  /** @param {MessageView} view */
  update(view) {
    this.view = view;
    const own = view.role === "user";
    this.root.dataset.role = view.role;
    this.root.dataset.status = view.status;
    this.root.setAttribute("aria-busy", String(view.status === "streaming"));
    this.root.setAttribute("aria-label", own ? "You" : "The model");
    if (own) this.body.textContent = view.text;
    else {
      this.blocks.set(view.blocks);
      this.blocks.setThinking(view.thinkingS ?? null, view.status === "streaming");
    }
    this.note.textContent = view.note;
    this.showLeft(view.left ?? "", view.summary ?? "");
    this.showError(view.error);
    setChildren(this.tools, this.parts.flatMap((part) => part.buttonsFor?.(view) ?? []));
    const more = this.parts.map((part) => part.bodyFor?.(view) ?? null);
    const shown = [view.left && this.left, this.body, ...more, view.error && this.error, view.note && this.note, this.tools];
    setChildren(this.root, shown.filter((part) => part instanceof Node));
  }

  /** What the answer was written without. @param {string} words @param {string} summary */
  showLeft(words, summary) {
    if (this.left.dataset.words === words) return;
    this.left.dataset.words = words;
    const line = [icon(summary ? "open" : "info"), h("span", { text: words })];
    const shown = summary
      ? h("details", {}, [h("summary", { title: "Show what was sent in their place" }, line), h("p", { text: summary })])
      : h("div", { class: "gw-left-line" }, line);
    this.left.replaceChildren(shown);
  }

  /** @param {ErrorView | null} error */
  showError(error) {
    if (!error) return;
    const text = h("div", {}, [h("strong", { text: error.title }), h("p", { text: error.text })]);
    this.error.replaceChildren(icon("warn"), text);
    this.error.dataset.gw = "chat-error";
    this.error.setAttribute("role", "alert");
    for (const part of this.parts) text.append(...(part.buttonsForError?.(this.view) ?? []));
  }
}

/** The scrolling list of messages, the "latest" button and what is shown when there are none. */
export class LogElement {
  /** @param {AbortSignal} signal */
  constructor(signal) {
    /** @type {Part[]} */
    this.parts = [];
    /** @type {Map<string, MessageElement>} */
    this.messages = new Map();
    this.following = true;
    this.lastTop = 0;
    this.list = h("div", { class: "gw-list", role: "log", "aria-live": "polite", "aria-label": "Conversation" });
    this.empty = h("div", { class: "gw-empty", "data-gw": "chat-empty" });
    this.working = h("div", { class: "gw-working", "aria-hidden": "true" });
    this.column = h("div", { class: "gw-column" }, [this.empty, this.list, this.working]);
    this.scroller = h("div", { class: "gw-scroll", tabindex: "0", role: "region", "aria-label": "Messages" }, [this.column]);
    this.jump = h("button", { type: "button", class: "gw-jump", hidden: true }, [icon("down"), "Latest"]);
    this.jumpLow = ghostButton("down", "Go to the latest message", { class: "gw-ghost gw-jump-low", "data-gw": "chat-latest", hidden: true });
    this.root = h("div", { class: "gw-log" }, [this.scroller, this.jump]);
    for (const button of [this.jump, this.jumpLow]) {
      button.addEventListener("click", () => {
        this.scroller.focus({ preventScroll: true }); // the button goes
        this.toEnd();
      });
    }
    this.scroller.addEventListener("scroll", () => this.noteScroll(), { passive: true, signal });
    // What opens inside a message must not move away what the person is looking at.
    this.column.addEventListener("gw-stay", () => {
      this.following = false;
    });
    // Content grows by more than messages: a font arrives, the panel folds, the box is resized.
    const observer = new ResizeObserver(() => this.follow());
    observer.observe(this.column);
    observer.observe(this.scroller);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  /** How far the end is below what is seen, in pixels. */
  get left() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  noteScroll() {
    const { scrollTop } = this.scroller;
    // Only the person goes up. Where more came, or room went, since the list was moved to its end,
    // it is not at the end either, and it is to go on following.
    const wentUp = scrollTop < this.lastTop;
    this.lastTop = scrollTop;
    // A first small step up is enough: followed on, it would never get further while text comes.
    if (wentUp) this.following = this.left < AT_END_PX;
    else if (this.left < NEAR_END_PX) this.following = true;
    this.offerEnd(!this.following);
  }

  /** @param {boolean} wanted whether there is something to go to */
  offerEnd(wanted) {
    // What is said of a token stays at the list's lower edge while one scrolls: where this floats.
    const isFree = this.list.querySelector(".gw-token-panel:not([hidden])") === null;
    const floats = isFree && this.scroller.clientHeight >= LOW_PX;
    this.jump.hidden = !wanted || !floats;
    this.jumpLow.hidden = !wanted || floats;
  }

  follow() {
    if (!this.following) {
      this.offerEnd(this.left >= NEAR_END_PX);
      return;
    }
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.lastTop = this.scroller.scrollTop;
  }

  toEnd() {
    this.following = true;
    this.offerEnd(false);
    this.follow();
  }

  /** @param {MessageView[]} views @returns {boolean} whether what had the focus is gone */
  reset(views) {
    const focused = this.root.contains(document.activeElement);
    const known = this.messages;
    this.messages = new Map();
    for (const view of views) {
      const old = known.get(view.id);
      old?.update(view);
      this.messages.set(view.id, old ?? new MessageElement(view, this.parts));
    }
    for (const id of known.keys()) if (!this.messages.has(id)) for (const part of this.parts) part.forget?.(id);
    setChildren(this.list, [...this.messages.values()].map((message) => message.root));
    this.follow();
    return focused && !this.root.contains(document.activeElement);
  }

  /** @param {MessageView} view */
  put(view) {
    const old = this.messages.get(view.id);
    if (old) old.update(view);
    else {
      const message = new MessageElement(view, this.parts);
      this.messages.set(view.id, message);
      this.list.append(message.root);
      if (view.role === "user") this.following = true;
    }
    this.follow();
  }

  /** @param {string} role @returns {MessageElement | undefined} the last message of this role */
  lastOf(role) {
    return [...this.messages.values()].filter((message) => message.root.dataset.role === role).at(-1);
  }

  /** @param {string} id @param {number} keep @param {string[]} blocks @returns {boolean} */
  delta(id, keep, blocks) {
    const done = this.messages.get(id)?.blocks.applyDelta(keep, blocks) ?? false;
    this.follow();
    return done;
  }
}
