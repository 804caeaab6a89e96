// @ts-check
/**
 * What the model read for an answer: the prompt after the template, token by token.
 *
 * Promises: at most one piece of it is on the page; where there is more it says so and shows the way.
 * Leaves to others: the prompt (Python).
 */

import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 *
 * @typedef {{kind: string, label: string, start: number, end: number}} PromptSpan
 * @typedef {{
 *   start: number, total: number, texts: string[], tokens: number[], control: number[],
 *   spans: PromptSpan[], summary: {kind: string, label: string, count: number}[], warning: string,
 * }} PromptPiece
 */

export class PromptElement {
  /** @param {Link} link @param {string} id the message's */
  constructor(link, id) {
    this.link = link;
    this.id = id;
    /** @type {PromptPiece | null} */
    this.piece = null;
    this.counts = h("p", { class: "gw-inside-dim", "data-gw": "inside-prompt-counts" });
    this.warning = h("p", { class: "gw-inside-warning", hidden: true });
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true });
    this.copy = ghostButton("copy", "Copy the whole prompt", { "data-gw": "inside-prompt-copy" });
    this.earlier = h("button", { type: "button", class: "gw-button gw-small", text: "Earlier" });
    this.later = h("button", { type: "button", class: "gw-button gw-small", text: "Later" });
    this.range = h("span", { class: "gw-inside-dim" });
    this.pager = h("div", { class: "gw-inside-bar", hidden: true }, [this.range, this.earlier, this.later]);
    this.text = h("div", { class: "gw-read", tabindex: "0", role: "region", "aria-label": "What the model read", "data-gw": "inside-prompt" });
    this.root = h("div", { class: "gw-inside-prompt" }, [
      h("div", { class: "gw-inside-bar" }, [this.counts, this.copy]),
      this.warning,
      this.text,
      this.pager,
      this.fault,
    ]);
    this.copy.addEventListener("click", () => void this.doCopy());
    this.earlier.addEventListener("click", () => void this.show(Math.max(0, (this.piece?.start ?? 0) - this.size)));
    this.later.addEventListener("click", () => void this.show((this.piece?.start ?? 0) + this.size));
    this.size = 1000;
  }

  /** @param {number} start */
  async show(start) {
    /** @type {PromptPiece} */
    let piece;
    this.say("");
    try {
      piece = await this.link.ask("inside-prompt", { message: this.id, start });
    } catch (error) {
      this.say(wordsOf(error));
      return;
    }
    this.piece = piece;
    if (piece.start + piece.texts.length < piece.total) this.size = piece.texts.length;
    const all = piece.summary.map(({ label, count }) => `${label} ${count.toLocaleString("en")}`);
    this.counts.textContent = `${piece.total.toLocaleString("en")} tokens: ${all.join(", ")}`;
    this.warning.textContent = piece.warning;
    this.warning.hidden = !piece.warning;
    this.pager.hidden = piece.texts.length === piece.total;
    const last = piece.start + piece.texts.length;
    this.range.textContent = `Tokens ${(piece.start + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${piece.total.toLocaleString("en")}`;
    this.earlier.disabled = piece.start === 0;
    this.later.disabled = last >= piece.total;
    this.text.replaceChildren(...partsOf(piece));
    this.text.scrollTop = 0;
  }

  async doCopy() {
    this.say("");
    try {
      const { text } = await this.link.ask("inside-copy", { message: this.id });
      if (await copyText(text)) confirmCopy(this.copy);
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

/** @param {PromptPiece} piece @returns {HTMLElement[]} */
function partsOf(piece) {
  const control = new Set(piece.control);
  const spans = piece.spans.length ? piece.spans : [{ kind: "", label: "", start: 0, end: piece.texts.length }];
  return spans.map(({ kind, label, start, end }) => {
    const tokens = [];
    for (let i = start; i < end; i += 1) {
      const text = piece.texts[i];
      tokens.push(
        h("span", {
          class: control.has(i) ? "gw-ptok gw-ptok-control" : "gw-ptok",
          title: `${control.has(i) ? "control token, " : ""}id ${piece.tokens[i]}`,
          text: text.replaceAll("\n", "↵\n") || "⋯", // a part of the character that comes with a token after it
        }),
      );
    }
    const shown = h("div", { class: "gw-part-text" }, tokens);
    return h("div", { class: "gw-part", "data-kind": kind }, label ? [h("span", { class: "gw-part-label", text: label }), shown] : [shown]);
  });
}
