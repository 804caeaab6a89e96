// @ts-check
/**
 * One prompt, answered by all sides while a person reads along.
 *
 * Promises: the answers keep their places and sizes while text comes, and follow it unless the
 * person has scrolled back; Enter asks, Esc stops; what is typed stays when it could not be asked.
 * Leaves to others: text (HTML that Python made, `_chat_blocks`), figures (Python), where answers
 * part (`_comparison_split`).
 */

import { BlocksElement } from "./_chat_blocks.js";
import { SIDE_LETTERS, labelled, setChoices, showFault, sideBadge } from "./_comparison_form.js";
import { splitPanel } from "./_comparison_split.js";
import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @import { ComparisonForm } from "./_comparison_form.js"
 * @typedef {{number: number, letter: string, label: string, status: string, phrase: string, error: string, note: string, figures: {value: string, title: string}[], isReady: boolean}} LiveSide
 * @typedef {{question: number, prompt: string, isRunning: boolean, note: string, numKept: number, isFromBefore: boolean, sides: LiveSide[]}} LiveState
 */

const PARTING_MS = 600_000;
const NEAR_END_PX = 24;
const STATUS_TEXT = /** @type {Record<string, string>} */ ({ waiting: "Waiting", loading: "Loading", answering: "Answering", done: "Done", stopped: "Stopped", failed: "Failed" });

/** One side's answer. */
export class AnswerCard {
  /** @param {number} number */
  constructor(number) {
    this.number = number;
    this.body = h("div", { class: "gw-body" });
    this.blocks = new BlocksElement(this.body);
    this.scroller = h("div", { class: "gw-chat gw-cmp-answer", tabindex: "0", role: "region", "aria-label": `Answer ${SIDE_LETTERS[number]}` }, [this.body]);
    this.name = h("span", { class: "gw-bt-cut gw-bt-grow" });
    this.status = h("span", { class: "gw-dim", "data-gw": "comparison-status" });
    this.copy = ghostButton("copy", "Copy this answer");
    this.copy.addEventListener("click", async () => {
      if (await copyText(this.body.innerText)) confirmCopy(this.copy);
    });
    this.figures = h("p", { class: "gw-dim gw-bt-num gw-cmp-figures", "data-gw": "comparison-answer-figures" });
    this.note = h("p", { class: "gw-dim" });
    this.error = h("p", { class: "gw-error", role: "alert" });
    this.root = h("section", { class: "gw-cmp-card", "data-gw": "comparison-answer", "data-number": String(number) }, [
      h("div", { class: "gw-cmp-name" }, [sideBadge(number), this.name, this.status, this.copy]),
      this.scroller,
      this.error,
      this.note,
      this.figures,
    ]);
  }

  /** @param {LiveSide} side */
  show(side) {
    this.root.dataset.status = side.status;
    this.name.textContent = this.name.title = side.label;
    this.status.textContent = side.phrase || STATUS_TEXT[side.status] || "";
    this.error.textContent = side.error;
    this.note.textContent = side.note;
    this.copy.hidden = !side.isReady;
    const running = side.status === "answering";
    this.scroller.setAttribute("aria-busy", String(running));
    this.blocks.setThinking(null, running);
    const key = JSON.stringify(side.figures);
    if (this.figures.dataset.key === key) return;
    this.figures.dataset.key = key;
    this.figures.replaceChildren(...side.figures.map(({ value, title }) => h("span", { text: value, title })));
  }

  /** @param {number} keep @param {string[]} blocks @returns {boolean} whether it could be put together */
  take(keep, blocks) {
    const isAtEnd = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < NEAR_END_PX;
    // An answer that comes whole is read from its beginning.
    const isGrowing = this.blocks.shown.length > 0 || this.root.dataset.status === "answering";
    const isDone = this.blocks.applyDelta(keep, blocks);
    if (isAtEnd && isGrowing) this.scroller.scrollTop = this.scroller.scrollHeight;
    return isDone;
  }
}

export class OnePart {
  /** @param {Link} link @param {ComparisonForm} form @param {(text: string) => void} say */
  constructor(link, form, say) {
    this.link = link;
    this.form = form;
    this.say = say;
    this.question = -1;
    this.wasRunning = false;
    /** @type {AnswerCard[]} */
    this.cards = [];
    this.prompt = h("textarea", { class: "gw-bt-area", rows: "3", placeholder: "Ask all sides the same", "aria-label": "Prompt", "data-lm-suppress-shortcuts": "true", "data-gw": "comparison-prompt" });
    this.prompt.addEventListener("input", () => form.set({ prompt: this.prompt.value }, true));
    this.prompt.addEventListener("keydown", (event) => this.onKey(event));
    this.most = h("input", { class: "gw-field", inputmode: "numeric", autocomplete: "off", maxlength: "12", "data-lm-suppress-shortcuts": "true", "data-gw": "comparison-max" });
    this.most.addEventListener("input", () => form.set({ max_tokens: this.most.value }, true));
    const most = labelled(this.most, "Longest answer, in tokens", "Where an answer is cut off (max_tokens). A token is about three quarters of an English word.");
    this.mostFault = most.fault;
    this.order = h("select", { class: "gw-field", "data-gw": "comparison-order" });
    this.order.addEventListener("change", () => form.set({ order: this.order.value === "turns" ? "turns" : "together" }));
    const order = labelled(this.order, "They answer", "At the same time they share this computer, so each is slower than alone. One after another their times can be compared.");
    this.ask = h("button", { type: "button", class: "gw-button gw-primary", "data-gw": "comparison-ask" }, [icon("play"), "Compare"]);
    this.ask.addEventListener("click", () => void this.start());
    this.stop = h("button", { type: "button", class: "gw-button", hidden: true, "data-gw": "comparison-ask-stop" }, [icon("stop"), "Stop"]);
    this.stop.addEventListener("click", () => void this.do("ask-stop"));
    this.reason = h("span", { class: "gw-dim", "data-gw": "comparison-reason" });
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": "comparison-ask-error" });
    this.asked = h("p", { class: "gw-cmp-asked", "data-gw": "comparison-asked" });
    this.note = h("p", { class: "gw-dim", role: "status", "data-gw": "comparison-note" });
    this.grid = h("div", { class: "gw-cmp-grid" });
    this.pairs = h("div", { class: "gw-bt-buttons", "data-gw": "comparison-pairs" });
    this.split = h("div", {});
    this.unload = h("button", { type: "button", class: "gw-link", text: "Free the memory now", "data-gw": "comparison-unload" });
    this.unload.addEventListener("click", () => void this.do("ask-unload"));
    this.kept = h("p", { class: "gw-dim", hidden: true }, [h("span"), " ", this.unload]);
    this.answers = h("div", { class: "gw-bt-stack", hidden: true }, [this.asked, this.note, this.grid, this.pairs, this.split, this.kept]);
    this.root = h("div", { class: "gw-bt-stack" }, [
      this.prompt,
      h("div", { class: "gw-bt-fields gw-cmp-how" }, [most.root, order.root]),
      h("div", { class: "gw-bt-buttons" }, [this.ask, this.stop, this.reason]),
      this.error,
      this.answers,
    ]);
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.stop.hidden) return;
      event.stopPropagation();
      void this.do("ask-stop");
    });
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.ask.disabled && !this.ask.hidden) void this.start();
  }

  async start() {
    this.form.flush();
    this.split.replaceChildren();
    if (await this.do("ask")) this.say("The sides are asked.");
  }

  /** @param {string} kind @returns {Promise<boolean>} */
  async do(kind) {
    this.error.textContent = "";
    try {
      await this.link.ask(kind);
      return true;
    } catch (error) {
      this.error.textContent = wordsOf(error);
      return false;
    }
  }

  fill() {
    const { draft } = this.form;
    if (this.prompt.value !== draft.prompt) this.prompt.value = draft.prompt;
    if (this.most.value !== draft.max_tokens) this.most.value = draft.max_tokens;
  }

  /** @param {any} state */
  show({ judged, live, blocked }) {
    const { draft } = this.form;
    setChoices(this.order, [["together", "all at the same time"], ["turns", "one after another"]], draft.order);
    showFault(this.mostFault, this.most, judged.faults.max_tokens);
    const isRunning = Boolean(live?.isRunning);
    const faults = Object.keys(judged.faults);
    let reason = blocked;
    if (!reason && !draft.sides.length) reason = "Looking for models…";
    else if (!reason && faults.length) reason = "Mend what is marked first";
    else if (!reason && !draft.prompt.trim()) reason = "Write a prompt first";
    this.ask.disabled = Boolean(reason);
    const hadFocus = this.ask === document.activeElement || this.stop === document.activeElement;
    this.ask.hidden = isRunning;
    this.stop.hidden = !isRunning;
    if (hadFocus && (isRunning ? this.ask : this.stop) === document.activeElement) (isRunning ? this.stop : this.ask).focus();
    this.reason.textContent = isRunning ? "" : reason;
    this.answers.hidden = !live;
    if (!live) return;
    this.showLive(live);
  }

  /** @param {LiveState} live */
  showLive(live) {
    if (live.question !== this.question) this.reset(live);
    this.asked.textContent = live.prompt ? `Asked: ${live.prompt}` : "";
    this.asked.title = live.prompt;
    this.note.textContent = live.isFromBefore ? "These are the answers of your last question." : live.note;
    live.sides.forEach((side, i) => this.cards[i]?.show(side));
    const ready = live.sides.filter((side) => side.isReady).length;
    this.pairs.hidden = live.isRunning || ready < 2;
    for (const button of this.pairs.querySelectorAll("button")) {
      const [a, b] = (button.dataset.pair ?? "0,1").split(",").map(Number);
      button.hidden = !live.sides[a]?.isReady || !live.sides[b]?.isReady;
    }
    const models = live.numKept === 1 ? "The model stays" : `The ${live.numKept} models stay`;
    this.kept.hidden = live.isRunning || !live.numKept;
    /** @type {HTMLElement} */ (this.kept.firstElementChild).textContent = `${models} in memory for 5 minutes, for your next question.`;
    if (this.wasRunning && !live.isRunning) this.say(`All sides have ended. ${live.sides.map(({ letter, status }) => `${letter}: ${STATUS_TEXT[status]}`).join(", ")}.`);
    this.wasRunning = live.isRunning;
  }

  /** Another question. @param {LiveState} live */
  reset(live) {
    this.question = live.question;
    this.cards = live.sides.map(({ number }) => new AnswerCard(number));
    this.grid.replaceChildren(...this.cards.map(({ root }) => root));
    this.grid.dataset.count = String(this.cards.length);
    this.split.replaceChildren();
    const pairs = [];
    for (let a = 0; a < live.sides.length; a += 1) for (let b = a + 1; b < live.sides.length; b += 1) pairs.push([a, b]);
    this.pairs.replaceChildren(
      ...pairs.map(([a, b]) => {
        const text = pairs.length === 1 ? "Where do they part?" : `Where do ${SIDE_LETTERS[a]} and ${SIDE_LETTERS[b]} part?`;
        const button = h("button", { type: "button", class: "gw-button", text, title: "Shows the first word that differs, and how likely each side thought it", "data-gw": "comparison-part", "data-pair": `${a},${b}` });
        button.addEventListener("click", () => void this.part(a, b, button));
        return button;
      }),
    );
    for (const { number, keep, blocks } of this.early.splice(0)) this.cards[number]?.take(keep, blocks);
  }

  /** Text that came before its side. @type {{number: number, keep: number, blocks: string[]}[]} */
  early = [];

  /** @param {{question: number, sides: [number, number, string[]][]}} message @returns {boolean} whether nothing was missing */
  take({ question, sides }) {
    let isWhole = true;
    for (const [number, keep, blocks] of sides) {
      if (question !== this.question) this.early.push({ number, keep, blocks });
      else if (this.cards[number] && !this.cards[number].take(keep, blocks)) isWhole = false;
    }
    return isWhole;
  }

  /** @param {number} a @param {number} b @param {HTMLButtonElement} button */
  async part(a, b, button) {
    this.error.textContent = "";
    this.split.replaceChildren(h("p", { class: "gw-dim", role: "status", text: "Looking where they part…" }));
    try {
      const { split } = await this.link.ask("ask-split", { a, b }, [], PARTING_MS);
      const close = () => {
        this.split.replaceChildren();
        button.focus();
      };
      this.split.replaceChildren(splitPanel(split, [a, b], sideBadge, close));
      this.split.scrollIntoView({ block: "nearest" });
    } catch (error) {
      this.split.replaceChildren(h("p", { class: "gw-error", role: "alert", text: wordsOf(error) }));
    }
  }
}
