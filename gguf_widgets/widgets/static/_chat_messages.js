// @ts-check
/**
 * The conversation on screen: the messages, the list that scrolls, and how it follows the end.
 *
 * Promises: an answer's blocks that stay the same are not drawn again; the list follows what comes
 * only while its end is seen. Leaves to others: which messages there are (`chat_box.js`, Python).
 */

import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h, icon, setChildren } from "./_dom.js";

/**
 * @typedef {{title: string, text: string, retry: boolean, template: boolean}} ErrorView
 * @typedef {{
 *   id: string, role: string, status: string, text: string, blocks: string[],
 *   note: string, error: ErrorView | null,
 * }} MessageView
 */

const NEAR_END_PX = 48;

/** One message on screen. */
class MessageElement {
  /** @param {MessageView} view @param {(kind: string, id: string) => void} act */
  constructor(view, act) {
    this.act = act;
    this.id = view.id;
    /** @type {string[]} what is shown, block by block */
    this.blocks = [];
    this.body = h("div", { class: "gw-body" });
    this.note = h("p", { class: "gw-note" });
    this.error = h("div", { class: "gw-error" });
    this.copyButton = ghostButton("copy", "Copy this answer", { class: "gw-ghost gw-copy" });
    this.copyButton.addEventListener("click", () => act("copy", this.id));
    const again = ghostButton("again", "Answer again; the answer before stays saved", { class: "gw-ghost gw-again" });
    again.addEventListener("click", () => act("again", this.id));
    this.tools = h("div", { class: "gw-tools" }, [this.copyButton, again]);
    this.root = h("article", { class: "gw-message", "data-gw": "chat-message" });
    this.update(view);
  }

  /** @param {MessageView} view */
  update(view) {
    const own = view.role === "user";
    this.root.dataset.role = view.role;
    this.root.dataset.status = view.status;
    this.root.setAttribute("aria-busy", String(view.status === "streaming"));
    this.root.setAttribute("aria-label", own ? "You" : "The model");
    if (own) this.body.textContent = view.text;
    else this.setBlocks(commonLength(this.blocks, view.blocks), view.blocks);
    this.note.textContent = view.note;
    this.showError(view.error);
    const parts = [this.body, view.error && this.error, view.note && this.note, !own && this.tools];
    setChildren(this.root, parts.filter((part) => part instanceof Node));
  }

  /** @param {ErrorView | null} error */
  showError(error) {
    if (!error) return;
    const text = h("div", {}, [h("strong", { text: error.title }), h("p", { text: error.text })]);
    this.error.replaceChildren(icon("warn"), text);
    this.error.dataset.gw = "chat-error";
    this.error.setAttribute("role", "alert");
    /** @type {[boolean, string, string][]} */
    const choices = [
      [error.template, "plain_template", "Use the plain template"],
      [error.retry && !error.template, "again", "Try again"],
    ];
    for (const [, kind, label] of choices.filter(([wanted]) => wanted)) {
      const button = h("button", { type: "button", class: "gw-button", text: label });
      button.addEventListener("click", () => this.act(kind, this.id));
      text.append(button);
    }
  }

  /**
   * Replace the blocks after the first `keep` by `blocks.slice(keep)`.
   * @param {number} keep @param {string[]} blocks all of them
   */
  setBlocks(keep, blocks) {
    while (this.body.children.length > keep) this.body.lastElementChild?.remove();
    for (const html of blocks.slice(keep)) {
      const block = h("div", { class: "gw-block" });
      block.innerHTML = html; // sanitised in Python (widgets/markdown.py), the one place for it
      for (const code of block.querySelectorAll(".gw-code")) addCodeTools(code);
      this.body.append(block);
    }
    this.blocks = blocks;
  }

  /** @param {number} keep @param {string[]} blocks those after `keep` @returns {boolean} */
  applyDelta(keep, blocks) {
    if (keep > this.blocks.length) return false;
    this.setBlocks(keep, [...this.blocks.slice(0, keep), ...blocks]);
    return true;
  }
}

/** @param {string[]} a @param {string[]} b @returns {number} how many of the first are equal */
function commonLength(a, b) {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

/** Give a code block its head: the language, and a Copy button. @param {Element} code */
function addCodeTools(code) {
  const text = code.querySelector("pre")?.textContent ?? "";
  const button = ghostButton("copy", "Copy this code");
  button.addEventListener("click", async () => {
    if (await copyText(text)) confirmCopy(button);
  });
  const language = code.getAttribute("data-lang") || "text";
  code.prepend(h("div", { class: "gw-code-head" }, [h("span", { text: language }), button]));
}

/** The scrolling list of messages, the "latest" button and what is shown when there are none. */
export class LogElement {
  /** @param {(kind: string, id: string) => void} act @param {AbortSignal} signal */
  constructor(act, signal) {
    this.act = act;
    /** @type {Map<string, MessageElement>} */
    this.messages = new Map();
    this.following = true;
    this.list = h("div", { class: "gw-list", role: "log", "aria-live": "polite", "aria-label": "Conversation" });
    this.empty = h("div", { class: "gw-empty", "data-gw": "chat-empty" });
    this.working = h("div", { class: "gw-working", "aria-hidden": "true" });
    this.column = h("div", { class: "gw-column" }, [this.empty, this.list, this.working]);
    this.scroller = h("div", { class: "gw-scroll", tabindex: "0", role: "region", "aria-label": "Messages" }, [this.column]);
    this.jump = h("button", { type: "button", class: "gw-jump", hidden: true }, [icon("down"), "Latest"]);
    this.root = h("div", { class: "gw-log" }, [this.scroller, this.jump]);
    this.jump.addEventListener("click", () => {
      this.scroller.focus({ preventScroll: true }); // the button goes
      this.toEnd();
    });
    this.scroller.addEventListener("scroll", () => this.noteScroll(), { passive: true, signal });
    // Content grows by more than messages: a font arrives, the panel folds, the box is resized.
    const observer = new ResizeObserver(() => this.follow());
    observer.observe(this.column);
    observer.observe(this.scroller);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  noteScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.jump.hidden = this.following;
  }

  follow() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.jump.hidden = false;
  }

  toEnd() {
    this.following = true;
    this.jump.hidden = true;
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
      this.messages.set(view.id, old ?? new MessageElement(view, this.act));
    }
    setChildren(this.list, [...this.messages.values()].map((message) => message.root));
    this.follow();
    return focused && !this.root.contains(document.activeElement);
  }

  /** @param {MessageView} view */
  put(view) {
    const old = this.messages.get(view.id);
    if (old) old.update(view);
    else {
      const message = new MessageElement(view, this.act);
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
    const done = this.messages.get(id)?.applyDelta(keep, blocks) ?? false;
    this.follow();
    return done;
  }
}
