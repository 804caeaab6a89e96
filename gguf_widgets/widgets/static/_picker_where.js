// @ts-check
/**
 * Where a model's file is and whose it is, in its details.
 *
 * Promises: paths can be copied and are set as text. Leaves to others: every word (Python).
 */

import { h } from "./_dom.js";
import { copyable } from "./_picker_parts.js";

/**
 * @typedef {{
 *   program: string, path: string, label: string, says: string, how: string, whose: string,
 *   others: {label: string, path: string}[], can: string[], stem: string, ending: string,
 *   numMore: number, numParts: number,
 * }} Where
 */

export class WhereElement {
  constructor() {
    this.shown = "";
    this.body = h("div");
    this.root = h("section", { class: "gw-where", "aria-label": "Where it is", "data-gw": "picker-where", hidden: true }, [h("h4", { text: "Where it is" }), this.body]);
  }

  /** @param {Where} where */
  show(where) {
    this.root.hidden = false;
    const shown = JSON.stringify(where);
    if (shown === this.shown) return; // a Copy button may have the focus
    this.shown = shown;
    const called = where.label ? `${where.program}, which calls it ${where.label}` : where.program;
    this.body.replaceChildren(
      h("p", { text: called }),
      copyable(where.path, "Copy the file's path", "where-copy"),
      h("p", { class: "gw-dim", text: where.says }),
      ...where.others.flatMap(({ label, path }) => [h("p", { text: `Also in ${label}` }), copyable(path, "Copy this path")]),
    );
  }
}
