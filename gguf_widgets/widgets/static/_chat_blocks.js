// @ts-check
/**
 * An answer's text on screen: blocks of HTML that came out of Python sanitised.
 *
 * Promises: blocks that stay the same are not drawn again; the strings of one long block (class
 * `gw-more`) are put together; each code block has its language and a Copy button; what the model
 * thought is folded, and stays as the person left it; a link leads nowhere before the person was
 * asked; what is wider than the page can be scrolled with the keyboard, too. Leaves to others: HTML
 * and its cleaning (widgets/markdown.py), the fold (`_chat_thinking.js`), the question
 * (`_chat_ask.js`).
 */

import { askAboutLink } from "./_chat_ask.js";
import { ThinkingFold } from "./_chat_thinking.js";
import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h } from "./_dom.js";

/** Strings of their own between the blocks; see `THINKING_BEGIN` in widgets/markdown.py. */
const THINKING_BEGIN = '<details class="gw-thinking"><summary>What the model thought</summary>';
const THINKING_END = "</details>";

/** What may be wider than its place. */
const WIDE = ".gw-code > pre, .gw-table, div.gw-formula, span.gw-formula, .gw-wide";

/**
 * What is on screen for one string: its element; the fold that is open after it; and where the next
 * one goes if it is a part of the same block.
 * @typedef {{node: Element | null, fold: ThinkingFold | null, home: Element | null}} Shown
 */

export class BlocksElement {
  /** @param {HTMLElement} root where the blocks go */
  constructor(root) {
    this.root = root;
    /** @type {string[]} what is shown, string by string */
    this.shown = [];
    /** @type {Shown[]} */
    this.places = [];
    /** @type {ThinkingFold[]} also those that are not shown now, so that one that comes again is as it was */
    this.folds = [];
    this.running = false;
    /** @type {number | null} */
    this.seconds = null;
    this.sizes = new ResizeObserver((entries) => {
      for (const { target } of entries) setReachable(target, target.scrollWidth > target.clientWidth);
    });
    this.root.addEventListener("click", (event) => onLink(event));
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Enter") onLink(event);
    });
  }

  /** @param {string[]} blocks all of them */
  set(blocks) {
    this.replace(commonLength(this.shown, blocks), blocks);
  }

  /** @param {number} keep @param {string[]} blocks those after `keep` @returns {boolean} whether so many are here */
  applyDelta(keep, blocks) {
    if (keep > this.shown.length) return false;
    this.replace(keep, [...this.shown.slice(0, keep), ...blocks]);
    return true;
  }

  /**
   * Say how long the model thought, and whether it is still writing.
   * @param {number | null} seconds null: not known @param {boolean} running
   */
  setThinking(seconds, running) {
    this.seconds = seconds;
    this.running = running;
    this.showFolds();
  }

  /**
   * Replace the blocks after the first `keep` by `blocks.slice(keep)`.
   * @param {number} keep @param {string[]} blocks all of them
   */
  replace(keep, blocks) {
    for (const { node } of this.places.splice(keep)) {
      for (const wide of node?.querySelectorAll(WIDE) ?? []) this.sizes.unobserve(wide);
      node?.remove();
    }
    for (let at = keep; at < blocks.length; at += 1) this.places.push(this.draw(blocks[at], this.places.at(-1)));
    this.shown = blocks;
    if (this.folds.length) this.showFolds();
  }

  /** @param {string} html @param {Shown | undefined} before @returns {Shown} */
  draw(html, before) {
    const fold = before?.fold ?? null;
    if (html === THINKING_BEGIN) return this.beginFold();
    if (html === THINKING_END) return { node: null, fold: null, home: null };
    const block = h("div", { class: "gw-block" });
    block.innerHTML = html; // sanitised in Python (widgets/markdown.py), the one place for it
    for (const code of block.querySelectorAll(".gw-code:not(.gw-more)")) addCodeTools(code);
    for (const link of block.querySelectorAll(".gw-link")) setAll(link, { tabindex: "0", role: "link" });
    const part = before?.home ? partOf(block) : null;
    if (part && before?.home) {
      before.home.append(part);
      return { node: part, fold, home: before.home };
    }
    for (const wide of block.querySelectorAll(WIDE)) this.sizes.observe(wide);
    (fold?.body ?? this.root).append(block);
    return { node: block, fold, home: homeIn(block) };
  }

  /** @returns {Shown} */
  beginFold() {
    const number = this.places.filter((place) => this.folds.some((fold) => fold.root === place.node)).length;
    const fold = (this.folds[number] ??= new ThinkingFold());
    fold.body.replaceChildren();
    this.root.append(fold.root);
    return { node: fold.root, fold, home: null };
  }

  showFolds() {
    const open = this.places.at(-1)?.fold ?? null;
    const known = this.folds.length === 1 ? this.seconds : null;
    for (const fold of this.folds) fold.show(fold === open, this.running, known);
  }
}

/** @param {string[]} a @param {string[]} b @returns {number} how many of the first are equal */
function commonLength(a, b) {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

/** Where the later parts of a block's code, table, plain text or paragraph go. @param {Element} block */
function homeIn(block) {
  if (block.childElementCount !== 1) return null;
  return block.querySelector(":scope > .gw-code > pre, :scope > .gw-plain > pre, :scope > .gw-table > table, :scope > p");
}

/** The part itself, without the frame that it comes in. @param {Element} block */
function partOf(block) {
  return block.querySelector(":scope > .gw-more > pre > *, :scope > .gw-more > table > tbody, :scope > p.gw-more > span");
}

/** @param {Element} element @param {Record<string, string>} attributes */
function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

/** Let the Tab key reach what scrolls sideways, and nothing else. @param {Element} element @param {boolean} scrolls */
function setReachable(element, scrolls) {
  if (scrolls === element.hasAttribute("tabindex")) return;
  if (scrolls) element.setAttribute("tabindex", "0");
  else element.removeAttribute("tabindex");
}

/** Give a code block its head: the language, and a Copy button. @param {Element} code */
function addCodeTools(code) {
  const button = ghostButton("copy", "Copy this code");
  button.addEventListener("click", async () => {
    if (await copyText(code.querySelector("pre")?.textContent ?? "")) confirmCopy(button);
  });
  const language = code.getAttribute("data-lang") || "text";
  code.prepend(h("div", { class: "gw-code-head" }, [h("span", { text: language }), button]));
}

/** Ask before a link of a model's text leads anywhere. @param {Event} event */
function onLink(event) {
  const link = event.target instanceof Element ? event.target.closest(".gw-link") : null;
  if (!(link instanceof HTMLElement)) return;
  event.preventDefault();
  event.stopPropagation();
  askAboutLink(link, link.getAttribute("title") ?? "");
}
