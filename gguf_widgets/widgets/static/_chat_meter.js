// @ts-check
/**
 * How full the context is and would be: a thin bar with its parts, their words when pointed at or
 * focused, and the question what to do when a message does not fit.
 *
 * Promises: the bar's place is kept, so that nothing moves while the person types; the words are
 * there for screen readers, too. Leaves to others: the numbers and most words (Python).
 */

import { h } from "./_dom.js";

/**
 * @typedef {{
 *   parts: {name: string, label: string, tokens: number}[],
 *   context: number, used: number, room: number, wanted: number, fits: boolean, full: boolean,
 *   canDrop: boolean, leftOut: number, whenFull: string, label: string, question: string, outcome: string,
 * }} PlanView
 */

/** @type {Record<string, string>} */
export const FULL_MODES = { drop_oldest: "Leave out the oldest", summarize: "Let the model sum them up" };

export class ContextMeter {
  /** @param {() => void} ask called when the choice made before is to be taken back */
  constructor(ask) {
    this.bar = h("span", { class: "gw-ctx-bar" });
    this.words = h("span", { class: "gw-ctx-words" });
    this.legend = h("div", { class: "gw-ctx-legend", role: "tooltip", id: `gw-ctx-${Math.random().toString(36).slice(2)}` });
    this.again = h("button", { type: "button", class: "gw-link", text: "Ask me each time", title: "Do not leave out or sum up messages without asking", "data-gw": "chat-ask-again", hidden: true });
    this.button = h("button", { type: "button", class: "gw-ctx", "aria-describedby": this.legend.id, "data-gw": "chat-meter" }, [this.bar]);
    this.root = h("div", { class: "gw-ctx-root", hidden: true }, [this.button, this.legend, h("div", { class: "gw-ctx-line" }, [this.words, this.again])]);
    this.again.addEventListener("click", () => ask());
    // Also a tap opens it, and Esc closes it: what shows on hover must be possible to dismiss.
    this.button.addEventListener("click", () => this.root.classList.toggle("gw-ctx-open"));
    this.button.addEventListener("blur", () => this.root.classList.remove("gw-ctx-open"));
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.root.classList.contains("gw-ctx-open")) return;
      event.stopPropagation();
      this.root.classList.remove("gw-ctx-open");
    });
  }

  /** @param {PlanView | null} plan @param {string} whenFull */
  show(plan, whenFull) {
    this.root.hidden = !plan;
    if (!plan) return;
    const whole = Math.max(plan.context, plan.used);
    const pieces = plan.parts.map(({ name, tokens }) => {
      const piece = h("span", { class: "gw-ctx-piece", "data-part": name });
      piece.style.width = `${(100 * tokens) / whole}%`;
      return piece;
    });
    this.bar.replaceChildren(...pieces);
    this.root.dataset.state = plan.full ? "full" : plan.fits ? "fits" : "tight";
    this.button.setAttribute("aria-label", plan.label);
    const row = (/** @type {string} */ name, /** @type {string} */ label, /** @type {number} */ tokens) =>
      h("div", { class: "gw-ctx-row" }, [h("span", { class: "gw-ctx-mark", "data-part": name }), h("span", { text: label }), h("span", { text: `${tokens.toLocaleString("en")} tokens` })]);
    this.legend.replaceChildren(
      h("strong", { text: `${plan.used.toLocaleString("en")} of ${plan.context.toLocaleString("en")} tokens of context` }),
      ...plan.parts.map(({ name, label, tokens }) => row(name, label, tokens)),
      row("room", "Left for the answer", plan.room),
    );
    this.words.textContent = plan.outcome;
    this.again.hidden = whenFull === "stop" || !plan.outcome;
  }
}

/** What to do with a message that does not fit. */
export class FullQuestion {
  /** @param {(mode: string) => void} choose @param {() => void} closed */
  constructor(choose, closed) {
    this.text = h("p", { id: `gw-full-${Math.random().toString(36).slice(2)}` });
    this.buttons = h("div", { class: "gw-full-buttons" });
    this.root = h("div", { class: "gw-full", role: "alertdialog", "aria-label": "This message does not fit", "aria-describedby": this.text.id, "data-gw": "chat-full", hidden: true }, [this.text, this.buttons]);
    this.choose = choose;
    this.closed = closed;
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      this.close();
    });
  }

  /** @param {PlanView} plan */
  open(plan) {
    const button = (/** @type {string} */ text, /** @type {string} */ mode, /** @type {string} */ look) => {
      const element = h("button", { type: "button", class: `gw-button ${look}`, text, "data-gw": `chat-full-${mode || "close"}` });
      element.addEventListener("click", () => (mode ? this.choose(mode) : this.close()));
      return element;
    };
    this.text.textContent = plan.question;
    const modes = plan.canDrop ? Object.entries(FULL_MODES).map(([mode, text], place) => button(text, mode, place ? "" : "gw-primary")) : [];
    // There is a little room left: one may know that the answer is short.
    const anyway = plan.full || plan.fits ? [] : [button("Send it all the same", "anyway", "")];
    this.buttons.replaceChildren(...modes, ...anyway, button(modes.length || anyway.length ? "Do not send" : "Close", "", ""));
    this.root.hidden = false;
    this.root.scrollIntoView({ block: "nearest" });
    /** @type {HTMLElement} */ (this.buttons.firstElementChild).focus();
  }

  close() {
    if (this.root.hidden) return;
    this.root.hidden = true;
    this.closed();
  }
}
