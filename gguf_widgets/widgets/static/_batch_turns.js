// @ts-check
/**
 * Messages before the one that is asked: examples for the model, or the turns of a chat.
 *
 * Promises: their order is kept; a message that is taken out leaves the focus on its neighbour.
 * Leaves to others: what is wrong with them (Python).
 */

import { ghostButton, h, icon } from "./_dom.js";

const TURN_ROLES = /** @type {[string, string][]} */ ([
  ["user", "You"],
  ["assistant", "The model"],
]);

export class TurnsPart {
  /** @param {() => void} changed @param {HTMLElement} fault @param {(area: HTMLTextAreaElement) => void} focused */
  constructor(changed, fault, focused) {
    this.changed = changed;
    this.focused = focused;
    this.count = h("span", { class: "gw-dim" });
    this.list = h("div", { class: "gw-bt-stack" });
    this.add = h("button", { type: "button", class: "gw-button", text: "Add a message", "data-gw": "batch-add-turn" });
    this.add.addEventListener("click", () => {
      const role = this.list.lastElementChild?.querySelector("select")?.value === "user" ? "assistant" : "user";
      this.addTurn({ role, content: "" }).querySelector("textarea")?.focus();
      this.tell();
    });
    this.root = h("details", { class: "gw-subfold", "data-gw": "batch-turns" }, [
      h("summary", { title: "Earlier turns of the conversation, in front of the prompt; columns can be in them, too" }, [icon("open"), h("span", { text: "Messages before this, such as examples" }), this.count]),
      h("div", { class: "gw-bt-stack" }, [this.list, fault, h("div", {}, [this.add])]),
    ]);
  }

  tell() {
    const count = this.list.childElementCount;
    this.count.textContent = count ? ` ${count}` : "";
    this.changed();
  }

  /** @param {{role: string, content: string}} turn */
  addTurn({ role, content }) {
    const who = h("select", { class: "gw-field", "aria-label": "Whose message", "data-gw": "batch-turn-role" }, TURN_ROLES.map(([value, text]) => h("option", { value, text })));
    const text = h("textarea", { class: "gw-bt-area", rows: "2", "aria-label": "Message", "data-lm-suppress-shortcuts": "true", "data-gw": "batch-turn" });
    const remove = ghostButton("close", "Remove this message");
    const line = h("div", { class: "gw-bt-turn" }, [who, remove, text]);
    who.value = role;
    text.value = content;
    who.addEventListener("input", () => this.changed());
    text.addEventListener("input", () => this.changed());
    text.addEventListener("focus", () => this.focused(text));
    remove.addEventListener("click", () => {
      const next = line.nextElementSibling ?? line.previousElementSibling;
      line.remove();
      (next?.querySelector("textarea") ?? this.add).focus();
      this.tell();
    });
    this.list.append(line);
    return line;
  }

  /** Every text, for what is put in or replaced in all of them. @returns {HTMLTextAreaElement[]} */
  get areas() {
    return [...this.list.querySelectorAll("textarea")];
  }

  /** @returns {{role: string, content: string}[]} */
  get() {
    return [...this.list.children].map((line) => ({
      role: /** @type {HTMLSelectElement} */ (line.querySelector("select")).value,
      content: /** @type {HTMLTextAreaElement} */ (line.querySelector("textarea")).value,
    }));
  }

  /** @param {{role: string, content: string}[]} turns */
  set(turns) {
    this.list.replaceChildren();
    for (const turn of turns) this.addTurn(turn);
    this.count.textContent = turns.length ? ` ${turns.length}` : "";
    if (turns.length) this.root.open = true;
  }
}
