// @ts-check
/**
 * A file that is on the computer of Python already: found, looked at, chosen in place.
 *
 * Promises: the keyboard alone is enough (type to filter, arrows, Enter, Backspace goes up, Esc
 * closes) and the focus stays in the field; the list keeps its height; every name is set as text; an
 * answer that was overtaken by a newer question is dropped. Leaves to others: what may be looked at,
 * and what a file is (Python).
 */

import { AddedList } from "./_browse_added.js";
import { FoundFile } from "./_browse_found.js";
import { BrowseList, plainPath } from "./_browse_list.js";
import { ghostButton, h, icon } from "./_dom.js";
import { Refused } from "./_upload_file.js";

/**
 * @import { Added } from "./_browse_added.js"
 * @import { Candidate } from "./_browse_found.js"
 * @import { BrowseListing } from "./_browse_list.js"
 *
 * @typedef {{isAllowed: boolean, added: Added[]}} BrowseState
 * @typedef {(kind: string, content: object) => Promise<any>} AskPython
 */

const TYPING_MS = 200;
const SILENT = "No answer came. Try again when Python answers.";

/** The line below the drop zone, the panel that it opens, and what was added. */
export class BrowsePanel {
  /** @param {AskPython} ask @param {(text: string) => void} say for screen readers */
  constructor(ask, say) {
    this.ask = ask;
    this.say = say;
    this.turn = 0; // the last question; answers to earlier ones are dropped
    /** @type {BrowseListing | null} */
    this.listing = null;
    this.matched = ""; // what Python has filtered the listing by
    this.showHidden = false;
    this.timer = 0;

    this.opener = h("button", { type: "button", class: "gw-link", text: "Choose it in place", "aria-expanded": "false", "data-gw": "browse-open" });
    this.opener.addEventListener("click", () => (this.panel.hidden ? this.open() : this.close()));
    this.line = h("p", { class: "gw-br-line" }, ["Is the file on this computer already? ", this.opener, ", without a copy."]);

    this.crumbs = h("nav", { class: "gw-br-crumbs", "aria-label": "Where you are", "data-gw": "browse-crumbs" });
    this.closer = ghostButton("close", "Close", { "data-gw": "browse-close" });
    this.closer.addEventListener("click", () => this.close());
    this.places = h("div", { class: "gw-br-places", role: "group", "aria-label": "Places" });
    this.list = new BrowseList((row) => this.choose(row));
    this.field = h("input", {
      type: "text",
      class: "gw-field",
      placeholder: "Filter by name",
      role: "combobox",
      "aria-label": "Filter by name. Arrow keys choose, Enter opens, Backspace goes up, Escape closes.",
      "aria-expanded": "true",
      "aria-autocomplete": "list",
      "aria-controls": this.list.id,
      autocomplete: "off",
      spellcheck: "false",
      "data-lm-suppress-shortcuts": "true",
      "data-gw": "browse-filter",
    });
    this.field.addEventListener("input", () => this.filter());
    this.counts = h("p", { class: "gw-dim gw-br-counts", "data-gw": "browse-counts" });
    this.hidden = h("button", { type: "button", class: "gw-link", "aria-pressed": "false", text: "Show hidden", "data-gw": "browse-hidden" });
    this.hidden.addEventListener("click", () => this.toggleHidden());
    /** Those that were added. @type {Set<string>} */
    this.folders = new Set();
    this.wholeText = h("span", { text: "Look through this whole folder" });
    this.whole = h("button", { type: "button", class: "gw-button", "data-gw": "browse-add", title: "All models in it and in the folders below are in the list, now and later. Nothing is copied." }, [icon("folder"), this.wholeText]);
    this.whole.addEventListener("click", () => this.addFolder());
    this.problem = h("p", { class: "gw-error", role: "alert", "data-gw": "browse-problem" });
    this.done = h("p", { class: "gw-dim", "data-gw": "browse-done" });
    this.found = new FoundFile((path) => this.use(path));
    this.pasted = h("input", { type: "text", class: "gw-field", "aria-label": "The path of a file or folder", placeholder: "/path/to/model.gguf", autocomplete: "off", spellcheck: "false", "data-lm-suppress-shortcuts": "true", "data-gw": "browse-path" });
    // No form: JupyterLab does not let one be sent.
    this.goer = h("button", { type: "button", class: "gw-button", text: "Look", "data-gw": "browse-go" });
    this.goer.addEventListener("click", () => this.go());
    this.paste = h("div", { class: "gw-br-paste" }, [h("label", {}, ["Or paste its path", this.pasted]), this.goer]);
    this.added = new AddedList((one) => this.takeOff(one));
    this.panel = h("section", { class: "gw-br-panel", "aria-label": "Choose a file on this computer", hidden: true, "data-gw": "browse-panel" }, [
      h("div", { class: "gw-br-head" }, [this.crumbs, this.closer]),
      this.places,
      this.field,
      this.list.root,
      h("div", { class: "gw-br-foot" }, [this.counts, this.hidden]),
      this.problem,
      this.found.root,
      this.done,
      h("div", { class: "gw-br-ways" }, [this.whole, this.paste]),
    ]);
    this.panel.addEventListener("keydown", (event) => this.onKey(event));
    this.root = h("div", { class: "gw-br", hidden: true }, [this.line, this.panel, this.added.root]);
  }

  /** @param {BrowseState} state */
  show(state) {
    this.root.hidden = !state.isAllowed;
    this.added.show(state.added);
    this.folders = new Set(state.added.filter((one) => one.what === "folder").map((one) => one.path));
    this.showWhole();
  }

  /** A folder that is looked through already need not be added once more. */
  showWhole() {
    const isAdded = this.listing !== null && this.folders.has(this.listing.path);
    if (isAdded && this.whole === document.activeElement) this.field.focus();
    this.whole.disabled = isAdded;
    this.wholeText.textContent = isAdded ? "This folder is looked through" : "Look through this whole folder";
  }

  // -- opening and closing ---------------------------------------------------------------------------

  open() {
    this.panel.hidden = false;
    this.opener.setAttribute("aria-expanded", "true");
    this.field.focus();
    // Disks come and go, and so do files: both are asked for each time.
    void this.question("browse-open", {}, (answer) => {
      this.places.replaceChildren(...answer.roots.map((/** @type {any} */ root) => this.placeButton(root)));
      if (this.listing) this.load(this.listing.path, { keep: true, match: this.matched });
      else if (answer.listing) this.showListing(answer.listing);
      this.tell(answer.problem);
    });
  }

  close() {
    this.panel.hidden = true;
    this.opener.setAttribute("aria-expanded", "false");
    this.turn += 1;
    this.opener.focus();
  }

  /** @param {{title: string, path: string}} root */
  placeButton({ title, path }) {
    const button = h("button", { type: "button", class: "gw-br-place", text: title, title: plainPath(path), "data-gw": "browse-place", "data-path": path });
    button.addEventListener("click", () => this.load(path));
    return button;
  }

  // -- asking ----------------------------------------------------------------------------------------

  /** Ask for something to look at; only the answer to the last question counts. @param {string} kind @param {object} content @param {(answer: any) => void} then */
  async question(kind, content, then) {
    this.turn += 1;
    const { turn } = this;
    this.panel.setAttribute("aria-busy", "true");
    const [answer, problem] = await this.answerTo(kind, content);
    if (turn !== this.turn) return;
    this.panel.removeAttribute("aria-busy");
    this.tell(problem);
    if (answer) then(answer);
  }

  /** Have something done; what came of it is said, whatever was asked for meanwhile. @param {string} kind @param {object} content @param {(answer: any) => void} then */
  async order(kind, content, then) {
    const [answer, problem] = await this.answerTo(kind, content);
    this.tell(problem);
    if (problem && this.panel.hidden) this.added.tell(problem, true);
    if (answer) then(answer);
  }

  /** @param {string} kind @param {object} content @returns {Promise<[any, string]>} the answer, or why there is none */
  async answerTo(kind, content) {
    try {
      return [await this.ask(kind, content), ""];
    } catch (error) {
      return [null, error instanceof Refused ? error.message : SILENT];
    }
  }

  /** @param {string} text what is wrong */
  tell(text) {
    if (this.problem.textContent !== text) this.problem.textContent = text;
  }

  /** Look into a folder. @param {string} path @param {{keep?: boolean, match?: string}} [how] */
  load(path, { keep = false, match = "" } = {}) {
    void this.question("browse-list", { path, match, hidden: this.showHidden }, ({ listing }) => {
      if (!keep && !match) this.field.value = "";
      this.showListing(listing, match);
    });
  }

  /** @param {BrowseListing} listing @param {string} [match] */
  showListing(listing, match = "") {
    const isNew = listing.path !== this.listing?.path;
    this.listing = listing;
    this.matched = match;
    if (isNew) {
      this.found.show(null);
      this.done.textContent = "";
    }
    const steps = listing.crumbs.map(([title, path], at) => {
      const isLast = at === listing.crumbs.length - 1;
      const button = h("button", { type: "button", class: "gw-br-crumb", text: title, title: plainPath(path), "aria-current": isLast ? "location" : null, "data-gw": "browse-crumb" });
      button.addEventListener("click", () => {
        this.load(path);
        this.field.focus();
      });
      return button;
    });
    const hadFocus = this.crumbs.contains(document.activeElement);
    this.crumbs.replaceChildren(...steps.flatMap((step, at) => (at ? [h("span", { class: "gw-br-sep", "aria-hidden": "true", text: "›" }), step] : [step])));
    if (hadFocus) this.field.focus();
    for (const place of this.places.querySelectorAll("button")) place.setAttribute("aria-pressed", String(place.dataset.path === listing.path));
    this.hidden.hidden = listing.num_hidden === 0 && !this.showHidden;
    this.drawList(isNew);
    this.showWhole();
    if (isNew) this.say(`${listing.crumbs.at(-1)?.[0] ?? ""}: ${this.counts.textContent}`);
  }

  /** @param {boolean} isNew whether another folder is shown than before */
  drawList(isNew) {
    if (!this.listing) return;
    const words = this.field.value.trim().toLowerCase();
    this.list.show(this.listing, words, isNew);
    this.counts.textContent = this.list.summary();
    this.mark();
  }

  mark() {
    if (this.list.activeId) this.field.setAttribute("aria-activedescendant", this.list.activeId);
    else this.field.removeAttribute("aria-activedescendant");
  }

  filter() {
    clearTimeout(this.timer);
    this.drawList(false);
    const listing = this.listing;
    const words = this.field.value.trim();
    // The page has not got all of a huge folder: Python looks through the rest.
    if (!listing || (!listing.num_left_out && !listing.is_cut && !this.matched) || words === this.matched) return;
    this.timer = window.setTimeout(() => this.load(listing.path, { keep: true, match: words }), TYPING_MS);
  }

  toggleHidden() {
    this.showHidden = !this.showHidden;
    this.hidden.setAttribute("aria-pressed", String(this.showHidden));
    this.hidden.textContent = this.showHidden ? "Leave out hidden" : "Show hidden";
    if (this.listing) this.load(this.listing.path, { keep: true });
  }

  // -- choosing --------------------------------------------------------------------------------------

  /** @param {import("./_browse_list.js").BrowseRow} row */
  choose(row) {
    if (!row.path) this.tell(`“${row.name}”: ${row.note}`);
    else if (row.kind === "folder") this.load(row.path);
    else void this.question("browse-look", { path: row.path }, ({ candidate }) => this.showFound(candidate));
  }

  /** @param {Candidate} candidate */
  showFound(candidate) {
    this.done.textContent = "";
    this.found.show(candidate);
    this.say(this.found.sentence());
    this.found.root.scrollIntoView({ block: "nearest" });
    if (candidate.error) return;
    this.ask("browse-fit", { path: candidate.path })
      .then(({ fit }) => this.found.showFit(candidate.path, fit))
      .catch(() => this.found.showFit(candidate.path, null)); // the list of models says it, too
  }

  go() {
    const text = this.pasted.value;
    if (!text.trim()) {
      this.pasted.focus();
      return;
    }
    void this.question("browse-go", { text }, (answer) => {
      this.field.value = "";
      if (answer.listing) this.showListing(answer.listing);
      else this.showFound(answer.candidate);
    });
  }

  /** @param {string} path */
  use(path) {
    void this.order("browse-use", { path }, ({ said }) => {
      const hadFocus = this.found.root.contains(document.activeElement);
      this.found.show(null);
      this.report(said);
      if (hadFocus) this.field.focus();
    });
  }

  addFolder() {
    if (!this.listing) return;
    void this.order("browse-add", { path: this.listing.path }, ({ said }) => this.report(said));
  }

  /** @param {Added} one */
  takeOff(one) {
    void this.order("browse-remove", { path: one.path, what: one.what }, ({ said }) => this.report(said));
  }

  /** Say what was done, and show the folder with it. @param {string} said */
  report(said) {
    this.done.textContent = said;
    this.added.tell(said, Boolean(this.panel.hidden));
    this.say(said);
    if (!this.panel.hidden && this.listing) {
      const { path } = this.listing;
      this.load(path, { keep: true, match: this.matched });
    }
  }

  // -- keys ------------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.close();
      return;
    }
    if (event.target === this.pasted && event.key === "Enter") {
      event.preventDefault();
      event.stopPropagation();
      this.go();
      return;
    }
    if (event.target !== this.field) return;
    if (event.key === "Backspace" && !this.field.value) {
      const above = this.listing?.crumbs.at(-2);
      if (above) this.load(above[1]);
    } else if (event.key === "Enter") {
      const row = this.list.active;
      if (row) this.choose(row);
    } else if (!this.list.move(event.key)) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.mark();
  }
}
