// @ts-check
/**
 * What is known of one model, under its row: what can be done with its file, how much memory it
 * takes with which context, as a picture that moves with a slider, its own metadata, its chat
 * template, and where it is. Of a file that cannot be used only the first and the last.
 *
 * Promises: everything is set as text, addresses too; the picture says in words what it shows; where
 * the slider stands outlives news. Leaves to others: every figure (Python).
 */

import { h, icon } from "./_dom.js";
import { CareElement } from "./_picker_care.js";
import { WhereElement } from "./_picker_where.js";

/**
 * @import { Line } from "./_picker_line.js"
 * @import { Where } from "./_picker_where.js"
 *
 * @typedef {{
 *   nCtx: number, label: string, sizes: number[], texts: string[], fits: boolean, says: string,
 * }} FitPoint
 * @typedef {{
 *   path: string, error?: string, facts: [string, string][], kinds: string[], template: string,
 *   templateNote: string, parts: {label: string, title: string}[], points: FitPoint[],
 *   chosen: number, freeBytes: number, free: string, where?: Where,
 * }} ModelDetails
 */

const sum = (/** @type {number[]} */ numbers) => numbers.reduce((a, b) => a + b, 0);

/** Memory by length of context: a bar of three parts against what is free, and a slider. */
class MemoryPicture {
  /** @param {(nCtx: number) => void} load */
  constructor(load) {
    /** @type {ModelDetails | null} */
    this.details = null;
    this.parts = [0, 1, 2].map((i) => h("span", { class: `gw-memory-part gw-memory-${i}` }));
    this.line = h("span", { class: "gw-memory-free" });
    this.bar = h("div", { class: "gw-memory-bar", role: "img" }, [...this.parts, this.line]);
    this.says = h("p", { class: "gw-memory-says", role: "status" });
    this.legend = h("ul", { class: "gw-memory-legend" });
    this.label = h("output", { class: "gw-memory-label" });
    this.slider = h("input", { type: "range", min: "0", step: "1", class: "gw-memory-slider", "data-gw": "picker-context", "data-lm-suppress-shortcuts": "true" });
    this.slider.addEventListener("input", () => this.draw());
    this.button = h("button", { type: "button", class: "gw-button", "data-gw": "picker-load-context" });
    this.button.addEventListener("click", () => this.point && load(this.point.nCtx));
    this.root = h("div", { class: "gw-memory" }, [
      h("label", { class: "gw-memory-head" }, [this.label, this.slider]),
      this.bar,
      this.says,
      this.legend,
      this.button,
    ]);
  }

  get point() {
    return this.details?.points[Number(this.slider.value)];
  }

  /** @param {ModelDetails} details */
  show(details) {
    const moved = this.details ? this.point?.nCtx : undefined;
    this.details = details;
    this.slider.max = String(details.points.length - 1);
    const at = details.points.findIndex((point) => point.nCtx === moved);
    this.slider.value = String(at >= 0 ? at : details.chosen);
    this.slider.hidden = details.points.length < 2;
    this.draw();
  }

  draw() {
    const point = this.point;
    if (!this.details || !point) return;
    const { freeBytes, free, parts } = this.details;
    // One scale for a whole move of the slider: as far as the first point that does not fit.
    const beyond = this.details.points.find((one) => !one.fits) ?? this.details.points[this.details.points.length - 1];
    const width = Math.max(freeBytes, sum(point.sizes), Math.min(sum(beyond?.sizes ?? [0]), freeBytes * 1.5)) * 1.02;
    const percent = (/** @type {number} */ bytes) => `${Math.min(100, (100 * bytes) / width)}%`;
    this.parts.forEach((part, i) => {
      part.style.width = percent(point.sizes[i] ?? 0);
      part.title = `${parts[i]?.label}: ${point.texts[i]}. ${parts[i]?.title}`;
    });
    this.line.style.insetInlineStart = percent(freeBytes);
    this.line.title = free;
    this.root.dataset.fits = String(point.fits);
    this.label.textContent = point.label;
    this.slider.setAttribute("aria-label", "Context length");
    this.slider.setAttribute("aria-valuetext", `${point.label}. ${point.says}`);
    this.says.textContent = `${point.says} ${free}.`;
    this.bar.setAttribute("aria-label", `${point.says} ${free}.`);
    this.legend.replaceChildren(...parts.map(({ label, title }, i) => h("li", { class: `gw-memory-${i}`, title, text: `${label} ${point.texts[i]}` })));
    this.button.textContent = `Load with ${point.nCtx.toLocaleString("en")} tokens`;
    this.button.disabled = !point.fits;
  }
}

/** The panel; made when it is opened for the first time. */
export class DetailsElement {
  /** @param {Line} line @param {() => string} path of the model, which changes with its name */
  constructor(line, path) {
    /** What is shown is of this file. */
    this.path = "";
    this.care = new CareElement(line, path);
    this.where = new WhereElement();
    this.picture = new MemoryPicture((nCtx) => line.post("load", { path: path(), settings: { n_ctx: nCtx } }));
    this.facts = h("dl", { class: "gw-facts" });
    this.kinds = h("ul", {});
    this.note = h("p", { class: "gw-dim" });
    this.template = h("pre", { class: "gw-template", tabindex: "0", "aria-label": "Chat template" });
    this.kindsFold = foldOf("Number formats inside", [this.kinds]);
    this.templateFold = foldOf("Chat template", [this.note, this.template]);
    this.waiting = h("p", { class: "gw-dim", text: "Reading the file's header…" });
    this.body = h("div", { hidden: true }, [this.picture.root, this.facts, this.kindsFold, this.templateFold]);
    this.root = h("div", { class: "gw-details", "data-gw": "picker-details" }, [this.care.root, this.waiting, this.body, this.where.root]);
  }

  /** @param {ModelDetails} details */
  show(details) {
    this.path = details.path;
    if (details.where) {
      this.care.show(details.where);
      this.where.show(details.where);
    }
    if (details.error || !details.points) {
      this.waiting.textContent = details.error ?? "";
      this.waiting.hidden = !details.error;
      this.body.hidden = true;
      return;
    }
    this.waiting.hidden = true;
    this.body.hidden = false;
    this.picture.show(details);
    this.facts.replaceChildren(...details.facts.flatMap(([label, text]) => [h("dt", { text: label }), h("dd", { text })]));
    this.kinds.replaceChildren(...details.kinds.map((text) => h("li", { text })));
    this.note.textContent = details.templateNote;
    this.note.hidden = !details.templateNote;
    this.template.textContent = details.template;
    this.template.hidden = !details.template;
  }
}

/** @param {string} title @param {Node[]} children */
function foldOf(title, children) {
  return h("details", { class: "gw-subfold" }, [h("summary", {}, [icon("open"), title]), ...children]);
}
