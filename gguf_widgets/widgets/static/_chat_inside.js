// @ts-check
/**
 * "Look inside": under an answer, its tokens, its numbers, what the model read, the same once more.
 *
 * Promises: nothing of it is fetched before somebody looks; what is open stays open while the message
 * is redrawn. Leaves to others: tokens (`_chat_inside_tokens.js`), the prompt (`_chat_inside_prompt.js`).
 */

import { PromptElement } from "./_chat_inside_prompt.js";
import { TokensElement } from "./_chat_inside_tokens.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @import { MessageView } from "./_chat_messages.js"
 * @import { ChatState } from "./chat_box.js"
 * @import { Places } from "./_chat_part.js"
 *
 * @typedef {{words: string, kind: "working" | "same" | "other" | "failed"}} RepeatView
 * @typedef {{all: boolean, repeats: Record<string, RepeatView>}} InsideState
 */

/** What is shown of one answer once somebody has looked inside. */
class LookElement {
  /** @param {InsidePart} part @param {string} id @param {(words: string) => void} fault */
  constructor(part, id, fault) {
    this.tokens = new TokensElement(part.link, id, {
      branched: () => {
        part.places.root.dispatchEvent(new CustomEvent("gw-acted", { detail: "writes" }));
        part.places.input.focus({ preventScroll: true }); // the answer goes, and the panel with it
      },
      fault,
    });
    this.numbers = h("dl", { class: "gw-numbers", "data-gw": "inside-numbers" });
    const prompt = new PromptElement(part.link, id);
    const read = fold("What the model read", prompt.root, "inside-read");
    read.addEventListener("toggle", () => {
      if (read.open) void prompt.show(0);
    });
    this.again = h("button", { type: "button", class: "gw-button gw-small", "data-gw": "inside-repeat", title: "Write it once more with the same seed and settings, as another version, and compare" }, [icon("again"), h("span", { text: "Same again with the same seed" })]);
    this.more = h("div", { class: "gw-inside-more", "aria-live": "off" }, [fold("Numbers", this.numbers, "inside-numbers-fold"), read, h("div", { class: "gw-inside-bar" }, [this.again])]);
    this.more.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("summary")) this.more.dispatchEvent(new CustomEvent("gw-stay", { bubbles: true }));
    });
  }

  /** @param {{label: string, value: string, title: string}[]} lines */
  showNumbers(lines) {
    this.numbers.replaceChildren(...lines.flatMap(({ label, value, title }) => [h("dt", { text: label, title }), h("dd", { text: value, title })]));
  }
}

/** What one answer has. */
class InsideElement {
  /** @param {InsidePart} part @param {MessageView} view */
  constructor(part, view) {
    this.part = part;
    this.view = view;
    /** @type {boolean | null} what the person chose for this answer; null: as for all */
    this.own = null;
    this.isOpen = false;
    /** @type {LookElement | null} made when somebody looks */
    this.look = null;
    this.button = ghostButton("look", "Look inside this answer: its tokens, its numbers, what the model read", { "data-gw": "inside-look", "aria-expanded": "false" });
    this.short = h("span", { class: "gw-inside-short", "data-gw": "inside-short" });
    this.result = h("p", { class: "gw-inside-result", role: "status", "data-gw": "inside-result", hidden: true });
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true });
    this.root = h("div", { class: "gw-inside", "data-gw": "inside" }, [this.result, this.fault]);
    this.button.addEventListener("click", () => void this.toggle());
  }

  /** @param {MessageView} view */
  update(view) {
    this.view = view;
    this.button.hidden = !this.canLook;
    this.short.textContent = this.hasEnded ? view.short : "";
    this.short.title = this.short.textContent; // it may be cut
    this.look?.showNumbers(view.numbers ?? []);
    this.refresh();
  }

  get hasEnded() {
    return this.view.status !== "streaming";
  }

  get canLook() {
    return this.hasEnded && this.view.blocks.length > 0;
  }

  /** The message is the same; what the part knows of all of them may have changed. */
  refresh() {
    if (this.look) this.look.again.disabled = this.part.busy;
    this.showResult(this.part.repeats[this.view.id]);
    if (this.canLook) void this.setOpen(this.own ?? this.part.all);
  }

  async toggle() {
    this.own = !this.isOpen;
    // What opens is read from its beginning: it is not moved away by what follows the end.
    if (this.own) this.root.dispatchEvent(new CustomEvent("gw-stay", { bubbles: true }));
    await this.setOpen(this.own);
    const tokens = this.look?.tokens.root;
    if (!this.isOpen || !tokens || tokens.hidden) return;
    const room = tokens.closest(".gw-scroll")?.clientHeight ?? 0;
    tokens.scrollIntoView({ block: tokens.offsetHeight > room ? "start" : "nearest" });
  }

  /** @param {boolean} open */
  async setOpen(open) {
    if (open === this.isOpen) return;
    this.isOpen = open;
    this.button.setAttribute("aria-expanded", String(open));
    this.button.classList.toggle("gw-on", open);
    const look = open ? this.looked() : this.look;
    if (!look) return;
    look.more.hidden = !open;
    if (open) await look.tokens.open();
    if (this.isOpen) return; // it may have been closed while the tokens came
    look.tokens.root.hidden = true;
    this.say("");
  }

  /** @returns {LookElement} */
  looked() {
    if (this.look) return this.look;
    const look = (this.look = new LookElement(this.part, this.view.id, (words) => this.say(words)));
    look.again.disabled = this.part.busy;
    look.again.addEventListener("click", () => void this.repeat());
    look.showNumbers(this.view.numbers ?? []);
    this.fault.before(look.tokens.root);
    this.root.append(look.more);
    return look;
  }

  /** @param {RepeatView | undefined} result */
  showResult(result) {
    this.result.hidden = !result;
    if (!result) return;
    if (this.result.dataset.kind === result.kind && this.result.textContent === result.words) return;
    this.result.dataset.kind = result.kind;
    const name = { working: "again", same: "done", other: "info", failed: "warn" }[result.kind] ?? "info";
    this.result.replaceChildren(icon(name), h("span", { text: result.words }));
  }

  async repeat() {
    this.say("");
    try {
      await this.part.link.ask("inside-repeat", { message: this.view.id });
      this.part.places.root.dispatchEvent(new CustomEvent("gw-acted", { detail: "writes" }));
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

export class InsidePart {
  /** @param {Link} link @param {Places} places */
  constructor(link, places) {
    this.link = link;
    this.places = places;
    this.all = false;
    this.busy = false;
    /** @type {Record<string, RepeatView>} */
    this.repeats = {};
    /** @type {Map<string, InsideElement>} */
    this.elements = new Map();
    const title = "Show all answers as their tokens, with how likely each was";
    this.button = h("button", { type: "button", class: "gw-quiet gw-quiet-folds", title, "aria-label": "Look inside all answers", "aria-pressed": "false", "data-gw": "inside-all" }, [icon("look"), h("span", { text: "Look inside" })]);
    this.button.addEventListener("click", () => {
      for (const element of this.elements.values()) element.own = null;
      link.tell("inside-all", { on: !this.all });
    });
    places.headEnd.prepend(this.button);
  }

  /** @param {InsideState} state @param {ChatState} whole */
  show(state, whole) {
    this.all = state.all === true;
    this.busy = whole.busy;
    this.repeats = state.repeats ?? {};
    this.button.setAttribute("aria-pressed", String(this.all));
    this.button.classList.toggle("gw-on", this.all);
    for (const element of this.elements.values()) element.refresh();
  }

  /** @param {MessageView} view @returns {InsideElement | null} */
  elementFor(view) {
    if (view.role !== "assistant") return null;
    const known = this.elements.get(view.id) ?? new InsideElement(this, view);
    this.elements.set(view.id, known);
    known.update(view);
    return known;
  }

  /** @param {MessageView} view @returns {HTMLElement[]} */
  buttonsFor(view) {
    const element = this.elementFor(view);
    return element ? [element.button, element.short] : [];
  }

  /** @param {MessageView} view @returns {HTMLElement | null} */
  bodyFor(view) {
    return this.elements.get(view.id)?.root ?? null;
  }

  /** @param {string} id */
  forget(id) {
    this.elements.delete(id);
  }
}

/** @param {string} title @param {HTMLElement} body @param {string} name @returns {HTMLDetailsElement} */
function fold(title, body, name) {
  return h("details", { class: "gw-inside-fold", "data-gw": name }, [h("summary", {}, [icon("open"), h("span", { text: title })]), body]);
}
