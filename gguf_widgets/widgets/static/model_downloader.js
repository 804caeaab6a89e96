// @ts-check
/**
 * Find a model and fetch it: one field, what was found, and what is on its way.
 *
 * Promises: all that is shown is Python's, so a page that is loaded again shows the same; what is
 * typed outlives news; one sentence at a time is said to screen readers, when something changes, not
 * for each piece; every listener and timer ends with the view, and no download does. Leaves to
 * others: looking, fetching, and the words (Python).
 */

import { Heartbeat } from "./_connection.js";
import { h, icon, setChildren } from "./_dom.js";
import { keepKeys } from "./_lab_keys.js";
import { AddressCard } from "./_download_address.js";
import { copyable, errorBlock } from "./_download_error.js";
import { Line, RefusedByPython } from "./_download_line.js";
import { RepoRow } from "./_download_repo.js";
import { DownloadRow } from "./_download_row.js";

/**
 * @import { WidgetModel } from "./_connection.js"
 * @import { AddressView } from "./_download_address.js"
 * @import { ErrorView } from "./_download_error.js"
 * @import { RepoView } from "./_download_repo.js"
 * @import { DownloadView, LeftView } from "./_download_row.js"
 *
 * @typedef {{
 *   text: string, status: string, kind: string, error: ErrorView | null, repos: RepoView[],
 *   more: boolean, limit: number, address: AddressView | null,
 * }} FindView
 * @typedef {{
 *   folder: string, room: string, offline: boolean, install: string, notice: string,
 *   find: FindView, jobs: DownloadView[], left: LeftView[],
 * }} DownloaderState
 */

const HINT_AFTER_MS = 150;
const STEP_PERCENT = 25; // between two things said of one download
/** Words that many repositories have in their names, each with what it stands for. */
const GOOD_WORDS = [
  ["instruct", "Models that follow instructions"],
  ["coder", "Models that write programs"],
  ["reasoning", "Models that think before they answer"],
  ["vision", "Models that see images"],
  ["1B", "Small ones, with about one billion weights"],
  ["embedding", "Models that turn texts into vectors"],
];

/** The view: owns the rows. */
class DownloaderView {
  /** @param {WidgetModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    this.line = new Line(model, signal);
    /** @type {Map<string, RepoRow>} */
    this.repos = new Map();
    /** @type {Map<string, DownloadRow>} */
    this.jobs = new Map();
    /** @type {Map<string, DownloadRow>} */
    this.left = new Map();
    /** @type {DownloadView[]} */
    this.jobViews = [];
    /** @type {Map<string, string>} */
    this.said = new Map();
    this.findSaid = "";
    this.found = "";
    this.opening = "";
    this.isFirst = true;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.hintTimer = undefined;

    this.gone = h("div", { class: "gw-get-gone", role: "alert", hidden: true }, [
      icon("warn"),
      h("span", { text: "Python does not answer. If it was restarted, load this page (in a notebook: run this cell) again: what was on its way can then go on where it stopped." }),
    ]);
    this.input = h("input", {
      type: "text", class: "gw-field", placeholder: "Find a model, or paste an address", "aria-label": "Find a model, or paste an address",
      autocomplete: "off", spellcheck: "false", autocapitalize: "off", enterkeyhint: "search", "data-gw": "get-input", "data-lm-suppress-shortcuts": "true",
    });
    this.input.title = "Words from a repository's name; hf:owner/repo, hf:owner/repo:Q4_K_M or hf:owner/repo/file.gguf; or an https address of a .gguf file";
    this.button = h("button", { type: "button", class: "gw-button gw-get-search", "data-gw": "get-search" }, [icon("search"), h("span", { text: "Search" })]);
    this.hint = h("p", { class: "gw-get-hint gw-dim", "data-gw": "get-hint", "aria-live": "polite" });
    this.notice = h("div", { class: "gw-get-notice", hidden: true, "data-gw": "get-notice" });
    this.busy = h("p", { class: "gw-get-status gw-dim", hidden: true, "data-gw": "get-busy" }, [h("span", { class: "gw-get-late" })]);
    this.status = h("p", { class: "gw-get-status gw-dim", "data-gw": "get-status" });
    this.wrong = h("div", { hidden: true });
    this.card = new AddressCard((sha256) => this.downloadAddress(sha256));
    this.list = h("ul", { class: "gw-get-repos", role: "list", "aria-label": "What was found", tabindex: "-1" });
    this.more = h("button", { type: "button", class: "gw-link", hidden: true, text: "Show more", "data-gw": "get-more" });
    this.results = h("div", { class: "gw-get-results", hidden: true }, [this.busy, this.status, this.wrong, this.card.root, this.list, this.more]);
    this.place = h("p", { class: "gw-dim" });
    this.empty = h("div", { class: "gw-get-empty", "data-gw": "get-empty" }, [
      h("p", { text: "Search the model hub for models that run here. Some words to begin with:" }),
      h("div", { class: "gw-get-words" }, GOOD_WORDS.map(([word, title]) => h("button", { type: "button", class: "gw-button", title, text: word, "data-gw": "get-word" }))),
      h("p", { class: "gw-dim", text: "You see each version's size, and whether it fits this computer, before anything is fetched." }),
      this.place,
    ]);
    this.rows = h("ul", { class: "gw-get-rows", role: "list", "aria-label": "Downloads" });
    this.jobPart = h("div", { hidden: true, "data-gw": "get-downloads" }, [h("h3", { text: "Downloads" }), this.rows]);
    this.leftRows = h("ul", { class: "gw-get-rows", role: "list", "aria-label": "Left unfinished" });
    this.leftPart = h("div", { hidden: true, "data-gw": "get-left" }, [h("h3", { text: "Left unfinished" }), this.leftRows]);
    this.live = h("div", { class: "gw-live", role: "status", "aria-live": "polite" });
    this.root = h("section", { class: "gw-get", "aria-label": "Download models", "data-gw": "downloader" }, [
      this.gone,
      h("div", { class: "gw-get-top" }, [h("h2", { text: "Download a model" })]),
      h("div", { class: "gw-get-find", role: "search" }, [this.input, this.button]),
      this.hint,
      this.notice,
      this.results,
      this.empty,
      this.jobPart,
      this.leftPart,
      this.live,
    ]);
    if (el.closest("[data-gw-frame]")) this.root.classList.add("gw-embedded");
    el.append(this.root);
    this.listen();

    const onMessage = (/** @type {any} */ content) => this.receive(content);
    model.on("msg:custom", onMessage);
    signal.addEventListener("abort", () => {
      model.off("msg:custom", onMessage);
      clearTimeout(this.hintTimer);
    });
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.line.post("snapshot"), signal);
    keepKeys(this.root, signal);
    this.line.post("snapshot");
  }

  listen() {
    this.button.addEventListener("click", () => (this.isBusy ? this.line.post("stop") : this.find(this.input.value)));
    this.input.addEventListener("input", () => this.showHint());
    this.input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") {
        event.preventDefault();
        this.find(this.input.value);
      } else if (event.key === "Escape") {
        this.escape(event);
      }
    });
    this.empty.addEventListener("click", (event) => {
      const word = event.target instanceof Element ? event.target.closest('[data-gw="get-word"]') : null;
      if (!word) return;
      this.input.value = word.textContent ?? "";
      this.input.focus(); // the words go away
      this.find(this.input.value);
    });
    this.more.addEventListener("click", () => {
      this.list.focus();
      this.line.post("more");
    });
  }

  get isBusy() {
    return this.results.dataset.status === "busy";
  }

  /** Esc ends a search, else empties the field. @param {KeyboardEvent} event */
  escape(event) {
    if (this.isBusy) this.line.post("stop");
    else if (this.input.value || !this.results.hidden) {
      this.input.value = "";
      this.find("");
    } else return;
    event.stopPropagation();
    event.preventDefault();
  }

  // -- Python ----------------------------------------------------------------------------------------

  /** @param {any} content */
  receive(content) {
    this.heartbeat.heard();
    if (content.kind === "state") this.show(content.state);
    else if (content.kind === "jobs") this.showJobs(content.jobs);
    else if (content.kind === "notice") this.refuse(content.text);
    else if (content.kind === "answer") {
      const refused = this.line.take(content);
      if (refused) this.refuse(refused.text);
    }
  }

  /** @param {DownloaderState} state */
  show(state) {
    if (this.isFirst && !this.input.value) this.input.value = state.find.text;
    this.isFirst = false;
    this.showNotice(state);
    this.place.replaceChildren("Models are saved in ", h("code", {}, state.folder.split(/(?<=[/\\])/).flatMap((part) => [part, h("wbr")])), state.room ? `, where ${state.room.replace(" ", "\u00a0")} is free.` : ".");
    this.showFind(state.find);
    this.showJobs(state.jobs);
    this.showLeft(state.left);
  }

  /** What hinders all of it. @param {DownloaderState} state */
  showNotice(state) {
    const shown = JSON.stringify([state.offline, state.install, state.notice]);
    if (this.notice.dataset.shown === shown) return;
    this.notice.dataset.shown = shown;
    const parts = [];
    if (state.install) parts.push(h("p", { text: "Searching needs a package that is missing. Install it with this line, then restart Python. Addresses work without it." }), copyable(state.install));
    if (state.offline) parts.push(h("p", { text: "The model hub is switched off here (HF_HUB_OFFLINE is set). Unset it and restart Python to search. Addresses work all the same." }));
    if (state.notice) parts.push(h("p", { text: state.notice }));
    this.notice.replaceChildren(...parts);
    this.notice.hidden = parts.length === 0;
  }

  /** Something that was asked for was refused. @param {string} text */
  refuse(text) {
    this.hint.textContent = text;
    this.hint.classList.add("gw-get-bad");
  }

  // -- looking ---------------------------------------------------------------------------------------

  /** @param {string} text */
  find(text) {
    this.hideHint();
    this.line.post("find", { text });
  }

  /** Show a name's repository, as an error offers. @param {string} text */
  findInstead(text) {
    this.input.value = text;
    this.input.focus();
    this.find(text);
  }

  hideHint() {
    clearTimeout(this.hintTimer);
    this.hint.textContent = "";
    this.hint.classList.remove("gw-get-bad");
  }

  /** Say what would be done with a name or an address; words need no explanation. */
  showHint() {
    this.hideHint();
    const text = this.input.value;
    const isName = /^\s*(hf|https?):/i.test(text);
    this.setButton(isName);
    if (!isName) return;
    this.hintTimer = setTimeout(async () => {
      try {
        const answer = await this.line.ask("hint", { text });
        if (this.input.value !== text) return;
        this.hint.textContent = answer.text;
        this.hint.classList.toggle("gw-get-bad", answer.what === "bad");
      } catch {
        // Pressing Enter says what is wrong.
      }
    }, HINT_AFTER_MS);
  }

  /** @param {boolean} isName */
  setButton(isName) {
    const label = this.isBusy ? "Stop" : isName ? "Look" : "Search";
    const name = this.isBusy ? "stop" : "search";
    if (this.button.dataset.label === label) return;
    this.button.dataset.label = label;
    this.button.replaceChildren(icon(name), h("span", { text: label }));
    this.button.title = label;
    this.button.setAttribute("aria-label", label);
  }

  /** @param {FindView} view */
  showFind(view) {
    const isBusy = view.status === "busy";
    this.results.dataset.status = view.status;
    this.setButton(/^\s*(hf|https?):/i.test(this.input.value));
    this.empty.hidden = view.status !== "none";
    this.results.hidden = view.status === "none";
    this.results.setAttribute("aria-busy", String(isBusy));
    this.busy.hidden = !isBusy;
    /** @type {HTMLElement} */ (this.busy.firstElementChild).textContent = view.kind === "address" ? "Looking what is there…" : "Searching…";
    // While the next answer is awaited the last one stays, out of reach, so that nothing jumps.
    const waits = isBusy && view.repos.length === 0 && view.kind === "words";
    this.list.inert = waits;
    this.list.classList.toggle("gw-get-stale", waits);
    this.status.hidden = isBusy;
    if (waits) {
      this.more.hidden = true;
      this.wrong.hidden = true;
      this.card.update(null);
      return;
    }
    this.showRepos(view.repos);
    this.card.update(view.address);
    this.status.textContent = foundText(view);
    this.status.hidden = isBusy || !this.status.textContent;
    this.more.hidden = !view.more;
    const shown = JSON.stringify(view.error);
    if (this.wrong.dataset.shown !== shown) {
      this.wrong.dataset.shown = shown;
      this.wrong.replaceChildren(...(view.error ? [errorBlock(view.error, { again: () => this.find(view.text), find: (text) => this.findInstead(text) })] : []));
    }
    this.wrong.hidden = !view.error;
    const said = isBusy ? "" : view.error ? `${view.error.title}. ${view.error.text}` : view.address ? `${view.address.title}, ${view.address.facts.join(", ")}` : this.status.textContent;
    if (said && said !== this.findSaid) this.say(said);
    this.findSaid = said;
  }

  /** @param {RepoView[]} views */
  showRepos(views) {
    const hadFocus = this.list.contains(document.activeElement);
    const known = this.repos;
    this.repos = new Map();
    for (const view of views) {
      const row =
        known.get(view.name) ??
        new RepoRow(view.name, {
          open: (repo) => this.open(repo),
          fold: (repo) => this.line.post("fold", { repo }),
          find: (text) => this.findInstead(text),
          download: (name, replace) => void this.download(name, replace),
        });
      row.update(view);
      this.repos.set(view.name, row);
    }
    setChildren(this.list, [...this.repos.values()].map((row) => row.root));
    this.list.hidden = views.length === 0;
    if (hadFocus && !this.list.contains(document.activeElement)) this.input.focus();
    this.showOpened(views);
    const names = views.map((view) => view.name).join("\n");
    if (!names.startsWith(this.found)) this.list.scrollTop = 0; // others, and not only more of them
    this.found = names;
  }

  /** @param {string} repo */
  open(repo) {
    this.opening = repo;
    this.line.post("open", { repo });
  }

  /** What was opened just now is moved up as far as it needs, within the list. @param {RepoView[]} views */
  showOpened(views) {
    const status = views.find((view) => view.name === this.opening)?.status;
    const row = this.repos.get(this.opening);
    if (!row || status === "busy") return;
    this.opening = "";
    const [list, own] = [this.list.getBoundingClientRect(), row.root.getBoundingClientRect()];
    const below = own.bottom - list.bottom;
    if (below > 0) this.list.scrollTop += Math.min(below, own.top - list.top);
  }

  // -- fetching --------------------------------------------------------------------------------------

  /** @param {string} name @param {boolean} replace */
  async download(name, replace) {
    this.hideHint();
    try {
      await this.line.ask("download", { name, replace });
    } catch (error) {
      this.refuse(messageOf(error));
    }
  }

  /** @param {string} sha256 @returns {Promise<string>} what is wrong with it, or "" */
  async downloadAddress(sha256) {
    try {
      await this.line.ask("download-address", { sha256 });
      return "";
    } catch (error) {
      return messageOf(error);
    }
  }

  /** @param {DownloadView[]} views */
  showJobs(views) {
    this.jobViews = views;
    const had = [...this.jobs.values()].findIndex((row) => row.root.contains(document.activeElement));
    const known = this.jobs;
    this.jobs = new Map();
    for (const view of views) {
      const row =
        known.get(view.id) ??
        new DownloadRow("get-row", {
          act: (action) => this.line.post(action, { id: view.id }),
          find: (text) => this.findInstead(text),
        });
      row.showJob(view);
      this.jobs.set(view.id, row);
      this.sayOf(view);
    }
    setChildren(this.rows, [...this.jobs.values()].map((row) => row.root));
    this.jobPart.hidden = views.length === 0;
    this.keepFocus(had, this.jobs);
    const byName = new Map(views.map((view) => [view.name, view]));
    for (const view of views) if (view.quant) byName.set(`hf:${view.source}:${view.quant}`, view);
    for (const row of this.repos.values()) row.showJobs(byName);
    this.card.showJobs(byName);
    for (const id of this.said.keys()) if (!this.jobs.has(id)) this.said.delete(id);
  }

  /** @param {LeftView[]} views */
  showLeft(views) {
    const had = [...this.left.values()].findIndex((row) => row.root.contains(document.activeElement));
    const known = this.left;
    this.left = new Map();
    for (const view of views) {
      const row =
        known.get(view.key) ??
        new DownloadRow("get-left-row", {
          act: (action) => this.line.post(`left-${action}`, { key: view.key }),
          find: (text) => this.findInstead(text),
        });
      row.showLeft(view);
      this.left.set(view.key, row);
    }
    setChildren(this.leftRows, [...this.left.values()].map((row) => row.root));
    this.leftPart.hidden = views.length === 0;
    this.keepFocus(had, this.left);
  }

  /** The row that had the focus has gone: the next one takes it, else the field. @param {number} had @param {Map<string, DownloadRow>} rows */
  keepFocus(had, rows) {
    if (had < 0 || this.root.contains(document.activeElement)) return;
    const next = [...rows.values()][Math.min(had, rows.size - 1)];
    if (next) next.focus();
    else this.input.focus();
  }

  // -- what is said ----------------------------------------------------------------------------------

  /** @param {string} text */
  say(text) {
    this.live.textContent = text;
  }

  /** Say what is new, to those who do not see the bar. @param {DownloadView} view */
  sayOf(view) {
    const step = view.state === "running" ? Math.floor((100 * view.fraction) / STEP_PERCENT) : 0;
    const now = `${view.state} ${step}`;
    const before = this.said.get(view.id);
    this.said.set(view.id, now);
    if (before === now || (before === undefined && ["done", "failed", "paused"].includes(view.state))) return;
    if (view.state === "running") this.say(step ? `${view.title}: ${step * STEP_PERCENT} percent.` : `${view.title}: on its way.`);
    else if (view.error) this.say(`${view.title}: ${view.error.title}. ${view.error.text}`);
    else if (view.state !== "stopping") this.say(`${view.title}: ${view.phrase}.`);
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    if (state === "busy") return;
    this.gone.hidden = state !== "gone" || this.root.classList.contains("gw-embedded"); // the frame has its own
  }
}

/** @param {FindView} view */
function foundText(view) {
  if (view.status !== "done" || view.kind !== "words") return "";
  const number = view.repos.length;
  if (!number) return `No repository with GGUF files has “${view.text}” in its name. Try fewer or other words.`;
  if (view.limit) return `The ${number} most downloaded`;
  return number === 1 ? "1 repository" : `${number} repositories, the most downloaded first`;
}

/** @param {unknown} error */
function messageOf(error) {
  if (error instanceof RefusedByPython) return error.view.text;
  return error instanceof Error ? error.message : String(error);
}

/** @param {{model: WidgetModel, el: HTMLElement}} context */
function render({ model, el }) {
  const controller = new AbortController();
  const view = new DownloaderView(model, el, controller.signal);
  return () => {
    controller.abort();
    view.root.remove();
  };
}

export default { render };
