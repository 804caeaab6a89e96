// @ts-check
/**
 * The cards of tools under an answer: what the model wants to run, Allow or Decline, what came of it.
 *
 * Promises: everything is set as text; whatever of a call's arguments there is no room for can be
 * looked at before Allow; a word to Python names the call that its button stands for; a
 * second click that comes with the first does nothing to the card that has moved up; the focus goes on
 * to the next thing to decide, or stays on the card. Leaves to others: whether a call may run (Python).
 */

import { h, icon, setChildren } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @import { MessageView } from "./_chat_messages.js"
 * @import { ChatState } from "./chat_box.js"
 * @import { Places } from "./_chat_part.js"
 *
 * @typedef {{
 *   id: string, name: string, state: string, words: string, asks: boolean, canAllow: boolean,
 *   brief: string, arguments: [string, string, number, string][], more: number, error: string,
 *   result: string, resultMore: number, printed: string, printedMore: number, note: string,
 * }} CardView
 * @typedef {{waiting: {id: string, name: string}[], canGoOn: boolean}} ToolsState
 */

const TOOL_MARKS = new Map([["done", "done"], ["failed", "warn"], ["interrupted", "warn"], ["missing", "warn"], ["declined", "close"]]);
const TOOL_HINTS = new Map([
  ["interrupted", "It was running when the program that ran it ended, or it runs in another window. It may have had its effect already. Allow runs it again."],
  ["missing", "The notebook has to make this chat with the function again before it can run. You can decline."],
]);

/** A part of a card that opens: its words, and all of them when asked. */
class ToolText {
  /** @param {string} title @param {string} which @param {ToolCard} card */
  constructor(title, which, card) {
    this.title = title;
    this.which = which;
    this.card = card;
    this.shown = "";
    this.text = h("pre", { class: "gw-tool-text", tabindex: "0", role: "group", "aria-label": title, dir: "auto" });
    this.all = h("button", { type: "button", class: "gw-quiet", "data-gw": `tool-all-${which}` });
    this.label = h("span", { class: "gw-tool-label", text: title });
    this.root = h("div", { class: "gw-tool-part", "data-gw": `tool-${which}` }, [this.label, this.text, this.all]);
    this.all.addEventListener("click", () => void this.showAll());
  }

  /** @param {string} text @param {number} more */
  update(text, more) {
    this.root.hidden = !text;
    if (this.shown === text) return;
    this.shown = text;
    this.text.textContent = text;
    this.all.hidden = !more;
    this.all.textContent = `Show ${more.toLocaleString("en")} more characters`;
  }

  async showAll() {
    try {
      const { text } = await this.card.part.link.ask("tool-whole", { call: this.card.view.id, which: this.which });
      this.text.textContent = text;
      this.text.focus({ preventScroll: true });
      this.all.hidden = true;
    } catch (error) {
      this.card.say(wordsOf(error));
    }
  }
}

/** One call. */
class ToolCard {
  /** @param {CardView} view @param {ToolsPart} part */
  constructor(view, part) {
    this.part = part;
    this.view = view;
    this.asked = false;
    this.mark = h("span", { class: "gw-tool-mark" });
    this.name = h("strong", { class: "gw-tool-name" });
    this.brief = h("span", { class: "gw-tool-brief", dir: "auto" });
    this.state = h("span", { class: "gw-tool-state", "data-gw": "tool-state" });
    this.summary = h("summary", {}, [this.mark, h("span", { class: "gw-tool-line" }, [this.name, this.brief]), this.state]);
    this.hint = h("p", { class: "gw-tool-hint" });
    this.list = h("dl", { class: "gw-tool-arguments", "data-gw": "tool-arguments" });
    this.error = h("p", { class: "gw-tool-error", "data-gw": "tool-error", dir: "auto" });
    this.result = new ToolText("Result", "result", this);
    this.printed = new ToolText("Printed", "printed", this);
    this.note = h("p", { class: "gw-tool-hint" });
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true });
    this.allow = h("button", { type: "button", class: "gw-button gw-primary", text: "Allow", "data-gw": "tool-allow" });
    this.always = h("button", { type: "button", class: "gw-button", text: "Always allow", "data-gw": "tool-always" });
    this.decline = h("button", { type: "button", class: "gw-button", text: "Decline", "data-gw": "tool-decline" });
    this.buttons = h("div", { class: "gw-tool-buttons" }, [this.allow, this.always, this.decline]);
    const inside = h("div", { class: "gw-tool-inside" }, [this.hint, this.list, this.error, this.result.root, this.note, this.printed.root]);
    this.fold = h("details", { class: "gw-tool-fold" }, [this.summary, inside]);
    this.root = h("div", { class: "gw-tool", role: "group", "data-gw": "tool-card" }, [this.fold, this.buttons, this.fault]);
    this.allow.addEventListener("click", (event) => void this.decide(event, "tool-allow", {}));
    this.always.addEventListener("click", (event) => void this.decide(event, "tool-allow", { always: true }));
    this.decline.addEventListener("click", (event) => void this.decide(event, "tool-decline", {}));
    this.fold.open = view.asks || view.state === "failed";
    this.show(view);
  }

  /** @param {CardView} view */
  update(view) {
    const before = this.view;
    if (before.state !== view.state) {
      // What asks is open; what is done folds, unless the person is reading in it.
      const reading = this.fold.contains(document.activeElement) && document.activeElement !== this.summary;
      if (view.asks || view.state === "failed") this.fold.open = true;
      else if (before.asks && !reading) this.fold.open = false;
      this.part.announce(view);
    }
    this.show(view);
  }

  /** @param {CardView} view */
  show(view) {
    const hadFocus = this.buttons.contains(document.activeElement);
    this.view = view;
    this.root.dataset.state = view.state;
    this.root.setAttribute("aria-label", `Tool ${view.name}: ${view.words}`);
    this.name.textContent = this.name.title = view.name;
    this.brief.textContent = this.brief.title = view.brief;
    this.state.textContent = view.words;
    if (this.mark.dataset.state !== view.state) {
      this.mark.dataset.state = view.state;
      this.mark.replaceChildren(icon(TOOL_MARKS.get(view.state) ?? "tool"));
    }
    setText(this.hint, TOOL_HINTS.get(view.state) ?? "");
    setText(this.error, view.error);
    setText(this.note, view.note);
    this.showArguments(view);
    this.result.update(view.result, view.resultMore);
    this.printed.update(view.printed, view.printedMore);
    this.buttons.hidden = !view.asks;
    this.allow.hidden = this.always.hidden = !view.canAllow;
    for (const [button, words, title] of /** @type {[HTMLElement, string, string][]} */ ([
      [this.allow, "Allow", "Run it once with these arguments"],
      [this.always, "Always allow", "Run it, and later calls of this tool in this conversation, without asking; until the notebook's kernel ends"],
      [this.decline, "Decline", "Do not run it; the model is told so"],
    ])) {
      button.setAttribute("aria-label", `${words} ${view.name}`);
      button.title = title;
    }
    if (this.asked && !view.asks) this.asked = false;
    if (hadFocus && !view.asks) this.part.focusNext(this);
  }

  /** @param {CardView} view */
  showArguments(view) {
    const words = JSON.stringify([view.arguments, view.more]);
    if (this.list.dataset.words === words) return;
    this.list.dataset.words = words;
    const rows = view.arguments.map(([name, value, more, key]) => {
      const said = h("dd", { text: value, dir: "auto" });
      // One that may scroll must be reached by the keyboard.
      if (value.length > 240 || value.split("\n").length > 8) said.tabIndex = 0;
      const row = h("div", {}, [h("dt", { text: name }), said]);
      if (more) row.append(this.allOf(said, `Show ${more.toLocaleString("en")} more characters`, { which: "argument", name: key }));
      return row;
    });
    if (view.more) {
      const said = h("dd", { text: `${view.more.toLocaleString("en")} more are not shown`, dir: "auto" });
      rows.push(h("div", {}, [h("dt", { text: "…" }), said, this.allOf(said, "Show all arguments", { which: "arguments" })]));
    }
    if (!rows.length) rows.push(h("div", {}, [h("dt", { text: "Arguments" }), h("dd", { text: "none" })]));
    this.list.replaceChildren(...rows);
  }

  /** A button that puts the whole text in the place of a part. @param {HTMLElement} said @param {string} words @param {object} asked */
  allOf(said, words, asked) {
    const button = h("button", { type: "button", class: "gw-quiet", "data-gw": "tool-all-argument", text: words });
    button.addEventListener("click", async () => {
      try {
        const { text } = await this.part.link.ask("tool-whole", { call: this.view.id, ...asked });
        said.textContent = text;
        said.tabIndex = 0;
        said.focus({ preventScroll: true });
        place.remove();
      } catch (error) {
        this.say(wordsOf(error));
      }
    });
    const place = h("dd", { class: "gw-tool-more" }, [button]);
    return place;
  }

  /** @param {MouseEvent} event @param {string} kind @param {object} more */
  async decide(event, kind, more) {
    // The second click of a double click belongs to the card that stood here before.
    if (event.detail > 1 || this.asked) return;
    this.asked = true;
    this.say("");
    try {
      await this.part.link.ask(kind, { call: this.view.id, ...more });
    } catch (error) {
      this.asked = false;
      this.say(wordsOf(error));
    }
  }

  /** @param {string} text */
  say(text) {
    setText(this.fault, text);
  }
}

export class ToolsPart {
  /** @param {Link} link @param {Places} places */
  constructor(link, places) {
    this.link = link;
    this.places = places;
    /** @type {Map<string, {root: HTMLElement, cards: ToolCard[]}>} */
    this.lists = new Map();
    this.words = "";
    this.live = h("div", { class: "gw-live", role: "status", "data-gw": "tool-live" });
    this.line = h("span", { class: "gw-tool-waiting-words" });
    this.go = h("button", { type: "button", class: "gw-button", text: "Decide", "data-gw": "tool-go" });
    this.on = h("button", { type: "button", class: "gw-button", text: "Let the model go on", "data-gw": "tool-go-on" });
    this.bar = h("div", { class: "gw-tool-waiting", "data-gw": "tool-waiting", hidden: true }, [this.line, this.go, this.on]);
    this.go.addEventListener("click", () => this.focusFirst());
    this.on.addEventListener("click", () => void this.goOn());
    places.above.append(this.bar);
    places.foot.append(this.live);
    link.tell("tool-here"); // there is somebody to ask
  }

  /** @param {ToolsState} state @param {ChatState} whole */
  show(state, whole) {
    const names = [...new Set(state.waiting.map((one) => one.name))].join(", ");
    const canGoOn = state.canGoOn && !whole.busy;
    const words = names ? `The model wants to use: ${names}` : canGoOn ? "The tools have ended." : "";
    const hadFocus = this.bar.contains(document.activeElement);
    if (this.line.textContent !== words) this.line.textContent = words;
    this.bar.hidden = !words;
    this.go.hidden = !names;
    this.on.hidden = !canGoOn;
    if (hadFocus && !(/** @type {HTMLElement} */ (document.activeElement)?.offsetParent)) this.places.input.focus({ preventScroll: true });
    if (names && names !== this.words) this.live.textContent = `The model wants to use ${names}. Allow or decline.`;
    this.words = names;
  }

  /** @param {MessageView} view @returns {HTMLElement | null} */
  bodyFor(view) {
    /** @type {CardView[]} */
    const cards = view.tools ?? [];
    if (!cards.length) return null;
    const known = this.lists.get(view.id) ?? { root: h("div", { class: "gw-tool-list", "aria-live": "off" }), cards: [] };
    this.lists.set(view.id, known);
    known.cards = cards.map((card) => {
      const old = known.cards.find((one) => one.view.id === card.id);
      old?.update(card);
      return old ?? new ToolCard(card, this);
    });
    setChildren(known.root, known.cards.map((card) => card.root));
    return known.root;
  }

  /** @param {string} id */
  forget(id) {
    this.lists.delete(id);
  }

  /** @returns {ToolCard[]} */
  asking() {
    return [...this.lists.values()].flatMap(({ cards }) => cards).filter((card) => card.view.asks && card.root.isConnected);
  }

  focusFirst() {
    const [card] = this.asking();
    if (!card) return;
    card.root.scrollIntoView({ block: "nearest" });
    (card.view.canAllow ? card.allow : card.decline).focus();
  }

  /** The focused buttons go: what is to be decided next, or the card itself. @param {ToolCard} from */
  focusNext(from) {
    const next = this.asking().find((card) => card !== from);
    if (next) (next.view.canAllow ? next.allow : next.decline).focus({ preventScroll: true });
    else from.summary.focus({ preventScroll: true });
  }

  /** @param {CardView} view */
  announce(view) {
    if (view.asks) return; // the line over the place to type says it
    this.live.textContent = view.state === "failed" ? `${view.name} failed: ${view.error}` : `${view.name}: ${view.words}`;
  }

  async goOn() {
    try {
      await this.link.ask("tool-go-on");
      this.places.input.focus({ preventScroll: true });
    } catch (error) {
      this.line.textContent = wordsOf(error);
    }
  }
}

/** @param {HTMLElement} element @param {string} text */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}
