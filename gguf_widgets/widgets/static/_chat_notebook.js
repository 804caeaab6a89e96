// @ts-check
/**
 * Hides the plain copy of the conversation that a notebook keeps beside this view.
 *
 * Promises: the copy is hidden once Python has answered this view, and seen again when the view is
 * gone; a view that nobody answers, as in an exported notebook, hides nothing.
 * Leaves to others: the copy (`_chat_notebook.py`).
 */

/** @import { Link } from "./_link.js" */
/** @import { Places } from "./_chat_part.js" */

import { h } from "./_dom.js";

export class NotebookPart {
  /** @param {Link} link @param {Places} places */
  constructor(link, places) {
    const { model, signal } = link;
    const rule = `[data-gw-static="${CSS.escape(String(model.get("own_id")))}"] { display: none; }`;
    const hide = () => {
      model.off("msg:custom", hide);
      places.root.append(h("style", { text: rule })); // it goes with the view
    };
    model.on("msg:custom", hide);
    signal.addEventListener("abort", () => model.off("msg:custom", hide));
  }
}
