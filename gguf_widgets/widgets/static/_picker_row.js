// @ts-check
/**
 * One model of the list: its name and facts, the button that loads it, what is under way with it,
 * and what opens below it.
 *
 * Promises: everything is set as text; it is kept while its file is listed, also under another name,
 * so that the focus and what is open in it stay. Leaves to others: what the buttons do (Python).
 */

import { ghostButton, h } from "./_dom.js";
import { DetailsElement } from "./_picker_details.js";
import { JobElement } from "./_picker_job.js";

/**
 * @import { Job } from "./_picker_job.js"
 * @import { Line } from "./_picker_line.js"
 *
 * @typedef {{title: string, text: string}} ErrorView
 * @typedef {{label: string, settings: Record<string, number>, force: boolean, first?: boolean}} Offer
 * @typedef {{path: string, fraction: number, phrase: string, left: string}} Progress
 * @typedef {{
 *   path: string, name: string, lines: string[], notes: string[], title: string, usable: boolean,
 *   status: "idle" | "loading" | "loaded", chosen: boolean, demo: boolean, error: ErrorView | null, offers: Offer[],
 *   fit: {verdict: string, text: string, title: string} | null, words: string, can: string[],
 *   sources: string[], size: number, parameters: number, used: number,
 * }} Row
 */

export class RowElement {
  /** @param {Line} line */
  constructor(line) {
    this.line = line;
    /** @type {Row | null} */
    this.row = null;
    this.name = h("span", { class: "gw-row-name" });
    this.button = h("button", { type: "button", class: "gw-button" });
    this.button.addEventListener("click", () => this.press());
    this.info = ghostButton("info", "About this model", { "data-gw": "picker-info", "aria-expanded": "false" });
    this.info.addEventListener("click", () => this.toggle());
    /** Made when it is opened first. @type {DetailsElement | null} */
    this.details = null;
    /** Made when there is something to show first. @type {JobElement | null} */
    this.job = null;
    this.fit = h("p", { class: "gw-row-fit" });
    this.lines = h("div", { class: "gw-row-lines" });
    this.fill = h("span", { class: "gw-progress-fill" });
    this.track = h("div", { class: "gw-progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, [this.fill]);
    this.phrase = h("p", { class: "gw-row-phrase" });
    this.loading = h("div", { "data-gw": "picker-progress" }, [this.track, this.phrase]);
    this.error = h("div", { class: "gw-row-error" });
    this.work = h("div", { class: "gw-row-work" });
    this.root = h("li", { class: "gw-row", "data-gw": "picker-row" });
    this.root.append(h("div", { class: "gw-row-head" }, [this.name, this.info, this.button]), this.lines, this.fit, this.loading, this.error, this.work);
  }

  get path() {
    return this.row?.path ?? "";
  }

  /** Open or close what is known of it. */
  toggle() {
    if (!this.row) return;
    const open = this.info.getAttribute("aria-expanded") !== "true";
    this.info.setAttribute("aria-expanded", String(open));
    this.root.dataset.open = String(open);
    if (open && !this.details) {
      this.details = new DetailsElement(this.line, () => this.path);
      this.root.append(this.details.root);
    }
    if (this.details) this.details.root.hidden = !open;
    this.placeJob();
    if (open) this.line.post("details", { path: this.row.path });
  }

  /** It has another path now: the same row, with whatever is open in it. @param {string} path */
  move(path) {
    if (this.row) this.row = { ...this.row, path };
  }

  /** @param {Job | null} job */
  showJob(job) {
    if (!job && !this.job) return;
    if (!this.job) {
      this.job = new JobElement(this.line, () => this.info.focus());
      this.placeJob();
    }
    this.job.show(job, this.row?.name ?? "");
  }

  /** Below the buttons that begin it, so that these stay where they are; else in the row itself. */
  placeJob() {
    if (!this.job) return;
    const place = this.details && !this.details.root.hidden ? this.details.care.work : this.work;
    if (this.job.root.parentElement !== place) place.append(this.job.root);
  }

  press() {
    if (!this.row) return;
    if (this.row.status === "loading") this.line.post("cancel");
    else if (this.row.status === "loaded") this.line.post("unload");
    else this.line.post("load", { path: this.row.path });
  }

  /** @param {Row} row @param {boolean} waiting whether another model is being loaded */
  update(row, waiting) {
    const before = this.row;
    this.row = row;
    Object.assign(this.root.dataset, { name: row.name, status: row.status, usable: String(row.usable) });
    this.name.textContent = row.name;
    const notes = row.notes.map((text) => h("p", { class: row.demo ? "gw-row-note gw-row-demo" : "gw-row-note", text }));
    this.lines.replaceChildren(...row.lines.map((text) => h("p", { text })), ...notes);
    this.showFit(row.fit);
    this.loading.hidden = row.status !== "loading";
    this.info.setAttribute("aria-label", `About the ${row.usable ? "model" : "file"} ${row.name}`);
    this.showButton(row, waiting);
    if (this.details && !this.details.root.hidden && this.details.path !== row.path) this.line.post("details", { path: row.path });
    const shown = (/** @type {Row | null} */ of) => JSON.stringify([of?.error, of?.offers, of?.usable]);
    if (shown(row) !== shown(before)) this.showError(row); // a button in it may have the focus
  }

  /** @param {Row["fit"]} fit */
  showFit(fit) {
    if (!this.row) return;
    this.row.fit = fit;
    this.root.title = [this.row.title, fit?.text ?? ""].filter(Boolean).join("\n");
    // That it fits is what one expects: it is in the tooltip, and can be asked for above the list.
    this.fit.textContent = fit && fit.verdict !== "yes" ? fit.text : "";
    this.fit.hidden = !this.fit.textContent;
    this.fit.title = fit?.title ?? "";
    this.fit.dataset.verdict = fit?.verdict ?? "";
  }

  /** A verdict that came by itself; it is of no use while the model is loaded. @param {Row["fit"]} fit */
  judged(fit) {
    if (this.row?.status === "idle") this.showFit(fit);
  }

  /** @param {Row} row @param {boolean} waiting */
  showButton(row, waiting) {
    const kinds = {
      idle: ["Load", "picker-load", `Load the model ${row.name}`],
      loading: ["Cancel", "picker-cancel", `Cancel loading ${row.name}`],
      loaded: ["Unload", "picker-unload", `Unload the model ${row.name} and give its memory back`],
    };
    const [label, hook, title] = /** @type {[string, string, string]} */ (kinds[row.status]);
    this.button.textContent = label;
    if (row.usable) this.button.dataset.gw = hook;
    else delete this.button.dataset.gw;
    this.button.title = title;
    this.button.setAttribute("aria-label", title);
    this.button.hidden = !row.usable;
    this.button.disabled = waiting && row.status === "idle";
    this.button.classList.toggle("gw-primary", row.status === "idle" && row.chosen);
  }

  /** @param {Row} row */
  showError(row) {
    this.error.hidden = !row.error;
    if (!row.error) {
      delete this.error.dataset.gw;
      this.error.replaceChildren();
      return;
    }
    this.error.dataset.gw = "picker-error";
    // A file that cannot be used is a fact; a load that failed is news.
    const title = row.usable ? [h("strong", { text: row.error.title })] : [];
    this.error.replaceChildren(...title, h("p", { text: row.error.text }));
    for (const { label, ...how } of row.offers) {
      const offer = h("button", { type: "button", class: "gw-button", text: label });
      offer.addEventListener("click", () => {
        this.button.focus(); // this one goes
        this.line.post("load", { path: row.path, ...how });
      });
      this.error.append(offer);
    }
  }

  /** @param {Progress} progress */
  showProgress(progress) {
    const percent = Math.round(progress.fraction * 100);
    this.fill.style.width = `${percent}%`;
    this.track.setAttribute("aria-valuenow", String(percent));
    this.track.setAttribute("aria-label", progress.phrase);
    const text = percent > 0 ? `${progress.phrase} ${percent}%` : progress.phrase;
    this.phrase.replaceChildren(h("span", { text }), h("span", { text: progress.left }));
  }
}
