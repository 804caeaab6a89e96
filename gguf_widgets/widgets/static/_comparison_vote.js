// @ts-check
/**
 * Votes on pairs of answers, without the names: 1 the left one, 2 the right one, 3 both, 0 none.
 *
 * Promises: nothing on the page tells whose answers they are until the result is asked for, or the
 * last pair has a vote; each vote is kept at once; a vote can be changed by going back. Leaves to
 * others: which pairs, in which order and places (Python).
 */

import { BlocksElement } from "./_chat_blocks.js";
import { sideBadge, SIDE_LETTERS } from "./_comparison_form.js";
import { h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/** @import { Link } from "./_link.js" */

const VOTE_KEYS = /** @type {Record<string, string>} */ ({ 1: "a", 2: "b", 3: "both", b: "both", 0: "neither" });
const VOTE_WAYS = /** @type {[string, string, string][]} */ ([
  ["a", "Left is better", "1"],
  ["b", "Right is better", "2"],
  ["both", "Both are good", "3"],
  ["neither", "None is good", "0"],
]);

export class VotePart {
  /** @param {Link} link @param {(text: string) => void} say @param {() => void} closed */
  constructor(link, say, closed) {
    this.link = link;
    this.say = say;
    this.closed = closed;
    this.isOpen = false;
    this.index = 0;
    this.total = this.voted = 0;
    this.isBusy = false;
    this.count = h("p", { class: "gw-dim gw-bt-num", role: "status", "data-gw": "comparison-vote-count" });
    this.fill = h("span", { class: "gw-progress-fill" });
    this.bar = h("div", { class: "gw-progress", role: "progressbar", "aria-label": "Votes", "aria-valuemin": "0" }, [this.fill]);
    this.prompt = h("p", { class: "gw-bt-quote gw-bt-text gw-cmp-voteprompt", dir: "auto", tabindex: "0", role: "region", "aria-label": "What was asked", "data-gw": "comparison-vote-prompt" });
    this.left = this.side("Left", "1");
    this.right = this.side("Right", "2");
    this.buttons = VOTE_WAYS.map(([choice, text, key]) => {
      const button = h("button", { type: "button", class: "gw-button", "data-gw": "comparison-vote", "data-choice": choice, "aria-keyshortcuts": key }, [h("kbd", { class: "gw-cmp-key", text: key, "aria-hidden": "true" }), text]);
      button.addEventListener("click", () => void this.vote(choice));
      return button;
    });
    this.back = h("button", { type: "button", class: "gw-button", "data-gw": "comparison-vote-back", title: "To the pair before; its vote can be changed (←)", text: "Back" });
    this.back.addEventListener("click", () => void this.go(this.index - 1));
    this.skip = h("button", { type: "button", class: "gw-button", "data-gw": "comparison-vote-skip", title: "Leave this pair for later (→)", text: "Skip" });
    this.skip.addEventListener("click", () => void this.go(this.index + 1));
    this.reveal = h("button", { type: "button", class: "gw-button", "data-gw": "comparison-vote-reveal" }, [icon("look"), "Show who is who"]);
    this.reveal.addEventListener("click", () => void this.showResult());
    this.end = h("button", { type: "button", class: "gw-button", text: "Leave voting", title: "Your votes are kept (Esc)", "data-gw": "comparison-vote-close" });
    this.end.addEventListener("click", () => this.close());
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": "comparison-vote-error" });
    this.ballot = h("div", { class: "gw-bt-stack" }, [
      this.prompt,
      h("div", { class: "gw-cmp-pair" }, [this.left.root, this.right.root]),
      h("div", { class: "gw-bt-buttons gw-cmp-ballot" }, this.buttons),
      h("div", { class: "gw-bt-buttons" }, [this.back, this.skip, this.reveal]),
    ]);
    this.result = h("div", { class: "gw-bt-stack", hidden: true, "data-gw": "comparison-vote-result" });
    this.root = h("section", { class: "gw-bt-part", "aria-label": "Vote without the names", tabindex: "-1", hidden: true, "data-gw": "comparison-voting" }, [
      h("div", { class: "gw-bt-line" }, [h("h3", { class: "gw-bt-grow", text: "Which answer is better?" }), this.end]),
      this.bar,
      this.count,
      this.ballot,
      this.result,
      this.error,
    ]);
    this.root.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** @param {string} name @param {string} key */
  side(name, key) {
    const body = h("div", { class: "gw-body" });
    const scroller = h("div", { class: "gw-chat gw-cmp-answer", tabindex: "0", role: "region", "aria-label": `${name} answer`, "data-gw": `comparison-vote-${key}` }, [body]);
    const root = h("div", { class: "gw-cmp-card" }, [h("div", { class: "gw-cmp-name" }, [h("kbd", { class: "gw-cmp-key", text: key, "aria-hidden": "true" }), h("span", { text: name })]), scroller]);
    return { root, scroller, body };
  }

  async open() {
    this.error.textContent = "";
    const { total, voted, same, first } = await this.link.ask("vote-begin");
    this.isOpen = true;
    this.root.hidden = false;
    this.result.hidden = true;
    this.ballot.hidden = false;
    this.total = total;
    this.voted = voted;
    this.same = same;
    if (first >= total) await this.showResult();
    else await this.go(first);
    this.root.focus({ preventScroll: true });
  }

  close() {
    this.isOpen = false;
    this.root.hidden = true;
    this.closed();
  }

  /** @param {number} index */
  async go(index) {
    if (this.isBusy || index < 0) return;
    if (index >= this.total) return this.showResult();
    this.isBusy = true;
    this.error.textContent = "";
    try {
      const pair = await this.link.ask("vote-pair", { index });
      this.index = index;
      this.voted = pair.voted;
      this.result.hidden = true;
      this.ballot.hidden = false;
      this.draw(pair);
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
    this.isBusy = false;
  }

  /** @param {any} pair */
  draw(pair) {
    this.prompt.textContent = pair.prompt;
    for (const [{ body, scroller }, blocks] of /** @type {[{body: HTMLElement, scroller: HTMLElement}, string[]][]} */ ([[this.left, pair.a], [this.right, pair.b]])) {
      body.replaceChildren();
      new BlocksElement(body).set(blocks.length ? blocks : []);
      if (!blocks.length) body.append(h("p", { class: "gw-dim", text: "(an empty answer)" }));
      scroller.scrollTop = 0;
    }
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.choice === pair.choice));
    this.back.disabled = this.index === 0;
    this.showCount();
    this.say(`Pair ${this.index + 1} of ${this.total}.`);
  }

  showCount() {
    const same = this.same ? `; ${this.same.toLocaleString("en")} more ${this.same === 1 ? "is" : "are"} the same on both sides and left out` : "";
    this.count.textContent = `Pair ${Math.min(this.index + 1, this.total).toLocaleString("en")} of ${this.total.toLocaleString("en")}, ${this.voted.toLocaleString("en")} with a vote${same}`;
    this.fill.style.width = `${(100 * this.voted) / Math.max(1, this.total)}%`;
    this.bar.setAttribute("aria-valuemax", String(this.total));
    this.bar.setAttribute("aria-valuenow", String(this.voted));
  }

  /** @param {string} choice */
  async vote(choice) {
    if (this.isBusy || this.ballot.hidden) return;
    this.isBusy = true;
    this.error.textContent = "";
    let next = null;
    try {
      const answer = await this.link.ask("vote", { index: this.index, choice });
      this.voted = answer.voted;
      next = answer.next;
      this.showCount();
    } catch (error) {
      this.isBusy = false;
      this.error.textContent = wordsOf(error);
      return;
    }
    this.isBusy = false;
    if (next === null) await this.showResult();
    else await this.go(next);
  }

  async showResult() {
    try {
      const { standings } = await this.link.ask("vote-reveal");
      this.ballot.hidden = true;
      this.result.hidden = false;
      this.showCount();
      const parts = standings.map((/** @type {any} */ one) => standingView(one));
      if (!parts.length) parts.push(h("p", { text: "You have not voted yet." }));
      const left = this.total - this.voted;
      const goOn = h("button", { type: "button", class: "gw-button gw-primary", text: left ? `Go on voting: ${left.toLocaleString("en")} left` : "Look at the votes again", "data-gw": "comparison-vote-more" });
      goOn.addEventListener("click", () => void this.goOn());
      this.result.replaceChildren(...parts, h("div", { class: "gw-bt-buttons" }, [goOn]));
      goOn.focus();
      this.say(standings.map((/** @type {any} */ one) => one.words).join(" "));
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }

  async goOn() {
    const { first } = await this.link.ask("vote-begin");
    await this.go(first < this.total ? first : 0);
    this.root.focus({ preventScroll: true });
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
    if (event.target instanceof Element && event.target.closest("dialog")) return;
    const choice = VOTE_KEYS[event.key.toLowerCase()];
    if (event.key === "Escape") this.close();
    else if (this.ballot.hidden) return;
    else if (choice) void this.vote(choice);
    else if (event.key === "ArrowLeft") void this.go(this.index - 1);
    else if (event.key === "ArrowRight") void this.go(this.index + 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** How the votes on two sides stand, with the names. @param {any} standing */
function standingView({ words, clear, labels, letters, counts, share, low, high }) {
  const [a, b, both, neither] = counts;
  const total = Math.max(1, a + b + both + neither);
  const numbers = letters.map((/** @type {string} */ letter) => SIDE_LETTERS.indexOf(letter));
  const part = (/** @type {number} */ count, /** @type {string} */ name, /** @type {string} */ text) => {
    const piece = h("span", { class: `gw-cmp-votes gw-cmp-votes-${name}`, title: `${text}: ${count.toLocaleString("en")}`, text: count ? count.toLocaleString("en") : "" });
    piece.style.width = `${(100 * count) / total}%`;
    return piece;
  };
  const bar = h("div", { class: "gw-cmp-votebar", role: "img", "aria-label": `${labels[0]}: ${a}, both good: ${both}, none good: ${neither}, ${labels[1]}: ${b}` }, [part(a, "a", labels[0]), part(both, "both", "Both good"), part(neither, "neither", "None good"), part(b, "b", labels[1])]);
  bar.style.setProperty("--gw-cmp-a", `var(--gw-cmp-${numbers[0]})`);
  bar.style.setProperty("--gw-cmp-b", `var(--gw-cmp-${numbers[1]})`);
  const legend = h("div", { class: "gw-cmp-legend" }, [h("span", {}, [sideBadge(numbers[0]), labels[0]]), h("span", { class: "gw-dim", text: `both good ${both}, none good ${neither}` }), h("span", {}, [sideBadge(numbers[1]), labels[1]])]);
  const interval = h("div", { class: "gw-cmp-interval", title: `The true share for ${labels[0]} is between ${percent(low)} and ${percent(high)} (95%, Wilson)` }, [h("span", { class: "gw-cmp-half" }), h("span", { class: "gw-cmp-range" }), h("span", { class: "gw-cmp-point" })]);
  const [, range, point] = /** @type {HTMLElement[]} */ ([...interval.children]);
  // The bar has a's votes at its start, so a's share is read from there.
  range.style.insetInlineStart = `${100 * low}%`;
  range.style.width = `${100 * (high - low)}%`;
  point.style.insetInlineStart = `${100 * share}%`;
  return h("div", { class: "gw-cmp-standing", "data-clear": String(clear), "data-gw": "comparison-standing" }, [h("p", { class: clear ? "gw-cmp-clear" : "", text: words }), legend, bar, interval]);
}

/** @param {number} share */
const percent = (share) => `${Math.round(100 * share)}%`;
