// @ts-check
/**
 * A file that was looked at: what it is and whether it fits, or why it is no use.
 *
 * Promises: the room for the fit is kept while it is worked out; the button is there only for what
 * can be used. Leaves to others: the facts (Python).
 */

import { h, icon } from "./_dom.js";

/**
 * @typedef {{path: string, name: string, title: string, where: string, lines: string[], isListed: boolean, error: string | null}} Candidate
 * @typedef {{verdict: string, text: string, title: string}} FoundFit
 */

/** What is said of one file. */
export class FoundFile {
  /** @param {(path: string) => void} use */
  constructor(use) {
    /** @type {Candidate | null} */
    this.candidate = null;
    this.root = h("div", { class: "gw-br-found", hidden: true, "data-gw": "browse-found" });
    this.fit = h("p", { class: "gw-br-fit", "data-gw": "browse-fit" });
    this.button = h("button", { type: "button", class: "gw-button gw-primary", text: "Use this file", "data-gw": "browse-use" });
    this.button.addEventListener("click", () => {
      if (this.candidate) use(this.candidate.path);
    });
  }

  /** @param {Candidate | null} candidate */
  show(candidate) {
    this.candidate = candidate;
    this.root.hidden = candidate === null;
    if (!candidate) return;
    const { name, title, where, lines, isListed, error } = candidate;
    const heading = h("h4", { text: title, title: `${where}\n${name}` });
    if (error) {
      this.root.replaceChildren(
        h("h4", { text: name, title: where }),
        h("p", { class: "gw-error gw-br-why" }, [icon("warn"), h("span", { text: error })]),
      );
      return;
    }
    this.fit.textContent = "Working out whether it fits";
    this.fit.title = "";
    this.fit.dataset.verdict = "";
    const known = isListed ? [h("p", { class: "gw-dim", text: "It is in the list of models already." })] : [];
    const file = title === name ? [] : [h("p", { class: "gw-dim", text: name })];
    this.root.replaceChildren(heading, ...file, ...lines.map((text) => h("p", { text })), this.fit, ...known, this.button);
  }

  /** @param {string} path @param {FoundFit | null} fit null if it cannot be told */
  showFit(path, fit) {
    if (this.candidate?.path !== path) return;
    this.fit.textContent = fit?.text || "Whether it fits cannot be told yet.";
    this.fit.title = fit?.title ?? "";
    this.fit.dataset.verdict = fit?.verdict ?? "unknown";
  }

  /** For screen readers. */
  sentence() {
    if (!this.candidate) return "";
    const { name, lines, error } = this.candidate;
    return error ? `${name} cannot be used. ${error}` : `${name}: ${lines.join(", ")}. Press Tab for “Use this file”.`;
  }
}
