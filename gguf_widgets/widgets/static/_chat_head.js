// @ts-check
/**
 * Above the conversation: which model it is, the chat's actions, and the word that Python is away.
 *
 * Promises: shows what it is told. Leaves to others: what the actions do (`chat_box.js`, the parts).
 */

import { h, icon } from "./_dom.js";

/** The bar that says that Python does not answer. */
export class ConnectionBar {
  constructor() {
    this.text = h("span");
    const reload = h("button", { type: "button", class: "gw-button", "data-gw": "gw-reload", text: "Reload" });
    reload.addEventListener("click", () => location.reload());
    this.reload = reload;
    this.root = h("div", { class: "gw-bar", role: "alert", hidden: true }, [icon("warn"), this.text, reload]);
  }

  /** @param {"there" | "busy" | "gone"} state @returns {boolean} whether anything changed */
  show(state) {
    if (this.root.dataset.state === state) return false;
    this.root.dataset.state = state;
    this.root.hidden = state === "there";
    this.reload.hidden = state !== "gone";
    if (state === "gone") this.root.dataset.gw = "gw-disconnected";
    else delete this.root.dataset.gw;
    this.text.textContent =
      state === "gone"
        ? "The connection to Python is gone. Your conversation is saved. Reload the page to go on."
        : "Python is busy with something else. The chat goes on when it is free.";
    return true;
  }
}

/** The line above the conversation. */
export class HeadElement {
  constructor() {
    this.title = h("span", { class: "gw-title" });
    this.start = h("div", { class: "gw-head-actions" });
    this.end = h("div", { class: "gw-head-actions" });
    this.clear = h(
      "button",
      { type: "button", class: "gw-quiet gw-quiet-folds", "data-gw": "chat-clear", "aria-label": "New conversation", title: "Start a new conversation; this one stays saved" },
      [icon("fresh"), h("span", { text: "New conversation" })],
    );
    this.end.append(this.clear);
    this.root = h("div", { class: "gw-head" }, [this.start, this.title, this.end]);
  }
}

/** @param {{used: number, available: number, title: string, value: string}} context */
export function contextWords(context) {
  const isFull = context.available > 0 && context.used / context.available > 0.85;
  return h("span", { class: "gw-context", title: context.title, "data-full": isFull, text: context.value });
}
