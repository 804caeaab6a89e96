// @ts-check
/**
 * What there is to say of one token of an answer, and the way on with another one in its place.
 *
 * Promises: it says what was recorded; closed, it hands the focus back to its token. Leaves to others:
 * the tokens (`_chat_inside_tokens.js`), the numbers and their words (Python).
 */

import { ghostButton, h } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { TokensElement } from "./_chat_inside_tokens.js"
 *
 * @typedef {{token: number, text: string, percent: string, share: number, written: boolean, control: boolean}} Choice
 * @typedef {{
 *   index: number, token: number, text: string, part: [number, number], chance: string, rank: string,
 *   torn: string, rest: string, cut: boolean, choices: Choice[],
 * }} TokenView
 */

/** What is said of the chosen token. */
export class TokenPanel {
  /** @param {TokensElement} owner */
  constructor(owner) {
    this.owner = owner;
    this.index = -1;
    this.name = h("code", { class: "gw-token-name", "data-gw": "inside-token-text" });
    this.number = h("span", { class: "gw-inside-dim" });
    const back = ghostButton("open", "The token before", { class: "gw-ghost gw-back" });
    const on = ghostButton("open", "The next token");
    const close = ghostButton("close", "Close (Esc)");
    this.words = h("p", { class: "gw-token-words", "data-gw": "inside-token-words" });
    this.choices = h("ul", { class: "gw-choices", "aria-label": "What could have stood here" });
    this.rest = h("p", { class: "gw-inside-dim gw-token-rest" });
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true });
    this.root = h("div", { class: "gw-token-panel", role: "group", "aria-label": "The chosen token", "data-gw": "inside-panel", hidden: true }, [
      h("div", { class: "gw-token-head" }, [this.name, this.number, back, on, close]),
      this.words,
      this.choices,
      this.rest,
      this.fault,
    ]);
    back.addEventListener("click", () => void this.step(-1));
    on.addEventListener("click", () => void this.step(1));
    close.addEventListener("click", () => this.close());
  }

  get isOpen() {
    return !this.root.hidden;
  }

  /** @param {number} step */
  async step(step) {
    const index = this.index + step;
    if (index < 0 || index >= this.owner.total) return;
    const pressed = /** @type {HTMLElement | null} */ (document.activeElement);
    await this.owner.go(index);
    await this.show(index);
    pressed?.focus({ preventScroll: true });
  }

  close() {
    const hadFocus = this.root.contains(document.activeElement);
    this.root.hidden = true;
    this.owner.spans[this.index]?.classList.remove("gw-tok-chosen");
    if (hadFocus) this.owner.spans[this.owner.current]?.focus({ preventScroll: true });
  }

  /** @param {number} index */
  async show(index) {
    clearTimeout(this.owner.timer);
    /** @type {TokenView} */
    let view;
    try {
      view = await this.owner.link.ask("inside-token", { message: this.owner.id, index });
    } catch (error) {
      this.owner.tell.fault(wordsOf(error));
      return;
    }
    this.owner.spans[this.index]?.classList.remove("gw-tok-chosen");
    this.owner.spans[index]?.classList.add("gw-tok-chosen");
    this.index = index;
    this.say("");
    this.name.textContent = view.text;
    const part = view.part[1] > 1 ? `, part ${view.part[0] + 1} of ${view.part[1]} of “${this.characterOf(index, view.part[0])}”` : "";
    this.number.textContent = `token ${(index + 1).toLocaleString("en")} of ${this.owner.total.toLocaleString("en")}, id ${view.token}${part}`;
    const cut = view.cut ? " It ended the answer and was taken off its text." : "";
    this.words.textContent = `${view.chance}${view.rank ? `, ${view.rank}` : ""}. ${view.torn}${cut}`;
    this.choices.replaceChildren(...view.choices.map((choice) => this.row(choice)));
    this.rest.textContent = view.rest ? `All other tokens together: ${view.rest}` : "";
    this.rest.hidden = !view.rest;
    if (!this.isOpen) this.root.dispatchEvent(new CustomEvent("gw-stay", { bubbles: true }));
    this.root.hidden = false;
  }

  /** @param {number} index @param {number} part */
  characterOf(index, part) {
    return this.owner.spans[index - part]?.textContent ?? "";
  }

  /** @param {Choice} choice */
  row(choice) {
    const bar = h("span", { class: "gw-choice-bar", "aria-hidden": "true" }, [h("span", { class: "gw-choice-fill" })]);
    /** @type {HTMLElement} */ (bar.firstChild).style.width = `${(choice.share * 100).toFixed(2)}%`;
    const said = choice.written ? "was written" : "control token";
    const last = choice.written || choice.control
      ? h("span", { class: "gw-inside-dim", text: said, title: choice.control ? "A mark, such as the end of an answer: an answer cannot go on with it" : null })
      : h("button", { type: "button", class: "gw-link", text: "Go on with this", title: `Go on from here with “${choice.text}” instead; this answer stays as another version`, "aria-label": `Go on from here with “${choice.text}” instead`, "data-gw": "inside-branch", "data-token": String(choice.token) });
    if (last instanceof HTMLButtonElement) last.addEventListener("click", () => void this.branch(choice.token));
    return h("li", { class: choice.written ? "gw-choice gw-choice-written" : "gw-choice" }, [
      h("code", { text: choice.text, title: `id ${choice.token}` }),
      bar,
      h("span", { class: "gw-choice-percent", text: choice.percent }),
      last,
    ]);
  }

  /** @param {number} token */
  async branch(token) {
    try {
      const { message } = await this.owner.link.ask("inside-branch", { message: this.owner.id, index: this.index, token });
      this.owner.tell.branched(message);
    } catch (error) {
      this.say(wordsOf(error));
    }
  }

  /** @param {string} words */
  say(words) {
    this.fault.textContent = words;
    this.fault.hidden = !words;
  }
}
