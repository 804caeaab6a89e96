// @ts-check
/**
 * A repository that was found, and the versions in it.
 *
 * Promises: everything is set as text; it opens in place; a row that has the focus keeps it while
 * answers come; how far a version's download is stands where its button was. Leaves to others: what
 * the buttons do (the view), the words (Python).
 */

import { h, icon, setChildren } from "./_dom.js";
import { errorBlock } from "./_download_error.js";

/**
 * @import { ErrorView } from "./_download_error.js"
 * @import { DownloadView } from "./_download_row.js"
 *
 * @typedef {{verdict: string, text: string, sentence: string} | null} FitView
 * @typedef {{
 *   name: string, file: string, label: string, quant: string, words: string, size: string, along: string,
 *   fit: FitView, complete: boolean, why: string, first: boolean, here: string,
 * }} VersionView
 * @typedef {{
 *   name: string, title: string, owner: string, facts: string[], gated: boolean, status: string,
 *   error: ErrorView | null, versions: {notes: string[], models: VersionView[]} | null,
 * }} RepoView
 * @typedef {{
 *   open: (repo: string) => void, fold: (repo: string) => void, find: (text: string) => void,
 *   download: (name: string, replace: boolean) => void,
 * }} RepoWays
 */

const FIRST_SHOWN = 12; // some repositories have a hundred versions
/** @type {Record<string, string>} */
const ON_ITS_WAY = { waiting: "Waiting", stopping: "Stopping", paused: "Paused" };

/** What is said of a fit, with the figures for the pointer. @param {FitView} fit */
export function fitText(fit) {
  return fit ? h("span", { class: "gw-get-fit", "data-verdict": fit.verdict, title: fit.sentence, text: fit.text }) : null;
}

/** Texts in a row, with dots between them. @param {(string | Node | null)[]} parts @returns {(string | Node)[]} */
export function dotted(parts) {
  return parts.flatMap((part, i) => (part ? (i && parts.slice(0, i).some(Boolean) ? [" · ", part] : [part]) : []));
}

class VersionRow {
  /** @param {RepoWays} ways */
  constructor(ways) {
    this.ways = ways;
    this.shown = "";
    /** @type {VersionView | null} */
    this.view = null;
    this.label = h("p", { class: "gw-get-version-name" });
    this.lines = h("div", { class: "gw-get-version-lines" });
    this.button = h("button", { type: "button", class: "gw-button", "data-gw": "get-download" }, [icon("down"), h("span")]);
    this.button.addEventListener("click", () => this.view && ways.download(this.view.name, this.view.here === "other"));
    this.state = h("span", { class: "gw-get-state", "data-gw": "get-state", tabindex: "-1" });
    this.action = h("div", { class: "gw-get-action" }, [this.button, this.state]);
    this.root = h("li", { class: "gw-get-version", "data-gw": "get-version" }, [h("div", { class: "gw-get-version-text" }, [this.label, this.lines]), this.action]);
  }

  /** @param {VersionView} view */
  update(view) {
    this.view = view;
    const shown = JSON.stringify(view);
    if (shown === this.shown) return;
    this.shown = shown;
    this.root.dataset.name = view.file;
    this.root.dataset.quant = view.quant;
    this.label.title = view.file;
    this.label.replaceChildren(h("strong", { text: view.label }), ...(view.why ? [h("span", { class: "gw-get-why", text: view.why })] : []));
    const lines = [h("p", {}, dotted([view.words, view.size, fitText(view.fit)]))];
    if (view.along) lines.push(h("p", { text: view.along }));
    if (view.fit && view.fit.verdict !== "yes" && view.first) lines.push(h("p", { text: view.fit.sentence }));
    if (!view.complete) lines.push(h("p", { text: "A part of it is missing in the repository, so it cannot be used." }));
    if (view.here === "other") lines.push(h("p", { text: "Another version of this file is here already." }));
    this.lines.replaceChildren(...lines);
    const label = view.here === "other" ? "Replace it" : "Download";
    this.button.classList.toggle("gw-primary", view.first && view.fit?.verdict !== "no");
    /** @type {HTMLElement} */ (this.button.lastElementChild).textContent = label;
    this.button.setAttribute("aria-label", `${label}: ${view.label}, ${view.size}`);
  }

  /** @param {DownloadView | undefined} job its download, if there is one */
  showJob(job) {
    const view = this.view;
    if (!view) return;
    const hadFocus = this.action.contains(document.activeElement);
    let text = "";
    if (view.here === "here") text = "Here already";
    else if (job && job.state === "running") text = job.percent || "Fetching";
    else if (job) text = ON_ITS_WAY[job.state] ?? "";
    this.button.hidden = text !== "" || !view.complete;
    this.state.hidden = text === "";
    if (this.state.textContent !== text) this.state.replaceChildren(...(view.here === "here" ? [icon("done"), text] : [text]));
    if (hadFocus && !this.action.contains(document.activeElement)) this.state.focus();
  }
}

export class RepoRow {
  /** @param {string} name @param {RepoWays} ways */
  constructor(name, ways) {
    this.ways = ways;
    this.name = name;
    this.all = false;
    this.shown = "";
    this.status = "";
    /** @type {Map<string, VersionRow>} */
    this.versions = new Map();
    /** @type {VersionView[]} */
    this.views = [];
    this.title = h("strong", { class: "gw-get-repo-title" });
    this.facts = h("span", { class: "gw-get-facts" });
    const id = `gw-get-${Math.random().toString(36).slice(2)}`;
    this.head = h("button", { type: "button", class: "gw-get-repo-head", "aria-expanded": "false", "aria-controls": id, "data-gw": "get-open" }, [
      icon("open"),
      h("span", { class: "gw-get-repo-text" }, [this.title, this.facts]),
    ]);
    this.head.addEventListener("click", () => (this.isOpen ? ways.fold(name) : ways.open(name)));
    this.line = h("p", { class: "gw-get-late gw-dim", text: "Looking what is in it…" });
    this.notes = h("div", { class: "gw-get-notes" });
    this.list = h("ul", { class: "gw-get-versions", role: "list", "aria-label": `Versions of ${name}` });
    this.rest = h("button", { type: "button", class: "gw-link", "data-gw": "get-all-versions" });
    this.rest.addEventListener("click", () => {
      const next = FIRST_SHOWN;
      this.all = true;
      this.showVersions();
      /** @type {HTMLElement | null} */ (this.list.children[next]?.querySelector("button:not([hidden])"))?.focus();
    });
    this.body = h("div", { class: "gw-get-body", id, hidden: true }, [this.line, this.notes, this.list, this.rest]);
    this.body.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.head.focus();
      ways.fold(name);
    });
    this.head.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.isOpen) return;
      event.stopPropagation();
      ways.fold(name);
    });
    this.root = h("li", { class: "gw-get-repo", "data-gw": "get-repo", "data-name": name }, [this.head, this.body]);
  }

  get isOpen() {
    return this.status !== "closed";
  }

  /** @param {RepoView} view */
  update(view) {
    const shown = JSON.stringify(view);
    if (shown === this.shown) return;
    this.shown = shown;
    this.status = view.status;
    this.root.dataset.status = view.status;
    this.title.textContent = view.title;
    const gated = view.gated ? h("span", { class: "gw-get-gated", text: "asks for conditions first" }) : null;
    this.facts.replaceChildren(...dotted([`by ${view.owner}`, ...view.facts, gated]));
    this.head.setAttribute("aria-expanded", String(this.isOpen));
    this.body.hidden = !this.isOpen;
    this.body.setAttribute("aria-busy", String(view.status === "busy"));
    this.line.hidden = view.status !== "busy";
    const notes = (view.versions?.notes ?? []).map((text) => h("p", { class: "gw-dim", text }));
    const hadFocus = this.notes.contains(document.activeElement);
    this.notes.replaceChildren(...(view.error ? [errorBlock(view.error, { again: () => this.ways.open(this.name), find: this.ways.find })] : []), ...notes);
    if (hadFocus) this.head.focus();
    this.views = view.versions?.models ?? [];
    this.showVersions();
  }

  showVersions() {
    const known = this.versions;
    this.versions = new Map();
    const shown = this.all ? this.views : this.views.slice(0, FIRST_SHOWN);
    for (const view of shown) {
      const row = known.get(view.name) ?? new VersionRow(this.ways);
      row.update(view);
      this.versions.set(view.name, row);
    }
    setChildren(this.list, [...this.versions.values()].map((row) => row.root));
    this.rest.hidden = shown.length === this.views.length;
    this.rest.textContent = `Show all ${this.views.length} versions`;
  }

  /** @param {Map<string, DownloadView>} jobs by the name they were asked for by */
  showJobs(jobs) {
    for (const [name, row] of this.versions) row.showJob(jobs.get(name) ?? jobs.get(`hf:${this.name}:${row.view?.quant}`));
  }
}
