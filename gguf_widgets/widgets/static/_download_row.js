// @ts-check
/**
 * One download, or what was left of one: its row.
 *
 * Promises: everything is set as text; a row keeps its height and its focus while bytes arrive; what
 * is thrown away is asked about first; what a screen reader is told of the bar is a sentence. Leaves
 * to others: what the buttons do (the view), the words (Python).
 */

import { h, icon, setChildren } from "./_dom.js";
import { errorBlock } from "./_download_error.js";

/**
 * @import { ErrorView } from "./_download_error.js"
 *
 * @typedef {"pause" | "go-on" | "cancel" | "dismiss" | "remove"} DownloadAction
 * @typedef {{
 *   id: string, name: string, title: string, source: string, quant: string, state: string, phase: string,
 *   fraction: number, percent: string, phrase: string, notes: string[], error: ErrorView | null,
 *   actions: DownloadAction[], ask: string, path: string,
 * }} DownloadView
 * @typedef {{
 *   key: string, title: string, source: string, fraction: number, percent: string, phrase: string,
 *   note: string, actions: DownloadAction[], ask: string,
 * }} LeftView
 * @typedef {{act: (action: DownloadAction) => void, find: (text: string) => void}} RowWays
 */

/** @type {Record<DownloadAction, [string, string]>} */
const ACTIONS = {
  pause: ["pause", "Pause"],
  "go-on": ["play", "Go on"],
  cancel: ["close", "Cancel"],
  dismiss: ["close", "Dismiss"],
  remove: ["close", "Remove"],
};

export class DownloadRow {
  /** @param {string} hook @param {RowWays} ways */
  constructor(hook, ways) {
    this.ways = ways;
    this.question = "";
    this.moreShown = "";
    this.title = h("span", { class: "gw-get-name" });
    this.source = h("span", { class: "gw-get-source" });
    this.buttons = h("div", { class: "gw-get-buttons" });
    this.fill = h("span", { class: "gw-progress-fill" });
    this.bar = h("div", { class: "gw-progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, [this.fill]);
    this.phrase = h("span", { class: "gw-get-phrase", "data-gw": "get-phrase" });
    this.percent = h("span", { class: "gw-get-percent" });
    this.foot = h("p", { class: "gw-get-foot" }, [icon("done"), this.phrase, this.percent]);
    this.asked = h("div", { class: "gw-get-ask", hidden: true, role: "group", "data-gw": "get-ask" });
    this.more = h("div", { class: "gw-get-more" });
    this.root = h("li", { class: "gw-get-row", "data-gw": hook }, [
      h("div", { class: "gw-get-head" }, [h("span", { class: "gw-get-names" }, [this.title, this.source]), this.buttons]),
      this.bar,
      this.foot,
      this.asked,
      this.more,
    ]);
    /** @type {Map<DownloadAction, HTMLButtonElement>} */
    this.known = new Map();
  }

  /** @param {DownloadView} view */
  showJob(view) {
    this.root.dataset.id = view.id;
    this.root.dataset.state = view.state;
    this.root.dataset.phase = view.phase;
    const isOver = ["done", "removed"].includes(view.state);
    this.show(view, isOver);
    this.showMore(view.notes, view.error);
  }

  /** @param {LeftView} view */
  showLeft(view) {
    this.root.dataset.state = "left";
    this.show(view, false);
    this.showMore(view.note ? [view.note] : [], null);
  }

  /** @param {DownloadView | LeftView} view @param {boolean} isOver */
  show(view, isOver) {
    this.question = view.ask;
    this.root.dataset.name = view.title;
    this.title.textContent = view.title;
    this.title.title = view.title;
    this.source.textContent = view.source;
    if (isOver || !view.ask) this.closeQuestion();
    this.setActions(view.actions);
    const percent = Math.floor(view.fraction * 100);
    this.fill.style.width = `${view.fraction * 100}%`;
    this.phrase.textContent = view.phrase;
    this.percent.textContent = view.percent;
    this.bar.setAttribute("aria-label", view.title);
    this.bar.setAttribute("aria-valuenow", String(percent));
    this.bar.setAttribute("aria-valuetext", [view.percent, view.phrase].filter(Boolean).join(", "));
  }

  /** @param {DownloadAction[]} actions */
  setActions(actions) {
    const hadFocus = this.buttons.contains(document.activeElement);
    const shown = actions.map((action) => this.known.get(action) ?? this.makeAction(action));
    for (const button of shown) button.setAttribute("aria-label", `${button.title}: ${this.title.textContent}`);
    setChildren(this.buttons, shown);
    // The button that was pressed has gone: what takes its place takes the focus.
    if (hadFocus && !this.buttons.contains(document.activeElement)) shown[0]?.focus();
  }

  /** @param {DownloadAction} action */
  makeAction(action) {
    const [name, label] = ACTIONS[action];
    const button = h("button", { type: "button", class: "gw-button", title: label, "data-gw": `get-${action}` }, [icon(name), h("span", { text: label })]);
    button.addEventListener("click", () => {
      if ((action === "cancel" || action === "remove") && this.question) this.confirm(action);
      else this.ways.act(action);
    });
    this.known.set(action, button);
    return button;
  }

  /** Ask before something is thrown away; meanwhile it goes on. @param {DownloadAction} action */
  confirm(action) {
    const keep = h("button", { type: "button", class: "gw-button", text: "Keep it", "data-gw": "get-keep" });
    const go = h("button", { type: "button", class: "gw-button gw-danger", text: "Throw it away", "data-gw": "get-confirm" });
    keep.addEventListener("click", () => this.closeQuestion());
    go.addEventListener("click", () => {
      this.closeQuestion();
      this.ways.act(action);
    });
    this.asked.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.closeQuestion();
    };
    this.asked.replaceChildren(h("span", { text: this.question }), go, keep);
    this.asked.setAttribute("aria-label", this.question);
    this.asked.hidden = false;
    this.foot.hidden = true;
    keep.focus();
  }

  closeQuestion() {
    const hadFocus = this.asked.contains(document.activeElement);
    this.asked.hidden = true;
    this.foot.hidden = false;
    if (hadFocus) /** @type {HTMLElement | null} */ (this.buttons.lastElementChild)?.focus();
  }

  /** Sentences below, and what can be done. They are made anew only when they change: a button may have the focus. @param {string[]} notes @param {ErrorView | null} error */
  showMore(notes, error) {
    const shown = JSON.stringify([notes, error]);
    if (shown === this.moreShown) return;
    this.moreShown = shown;
    const hadFocus = this.more.contains(document.activeElement);
    const parts = notes.map((text) => h("p", { class: "gw-dim", text }));
    if (error) this.more.replaceChildren(errorBlock(error, { again: () => this.ways.act("go-on"), find: this.ways.find }), ...parts);
    else this.more.replaceChildren(...parts);
    if (hadFocus) this.focus();
  }

  focus() {
    this.root.querySelector("button")?.focus();
  }
}
