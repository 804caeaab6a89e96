// @ts-check
/**
 * Where two answers part: the place marked in both texts, and what each side thought there.
 *
 * Promises: texts are set as text; the same beginning is pale, so that the place is seen; a click on
 * the mark shows or hides how likely each side thought its own word, the other's and others. Leaves
 * to others: the place and the figures (Python).
 */

import { ghostButton, h } from "./_dom.js";

/**
 * @typedef {{text: string, share: number, words: string, isOwn: boolean, isOther: boolean}} Chance
 * @typedef {{name: string, before: string, mark: string, after: string, ended: boolean, chances: Chance[]}} SplitSide
 * @typedef {{words: string, isSame: boolean, by: string, sides: SplitSide[]}} SplitView
 */

const CONTEXT_CHARS = 4000;

/** @param {SplitView} split @param {number[]} numbers of the sides @param {(number: number) => HTMLElement} badge @param {() => void} close */
export function splitPanel(split, numbers, badge, close) {
  const closing = ghostButton("close", "Close", { "data-gw": "comparison-split-close" });
  closing.addEventListener("click", close);
  const head = h("div", { class: "gw-bt-line" }, [h("p", { class: "gw-bt-grow", role: "status", text: split.words, "data-gw": "comparison-split-words" }), closing]);
  const root = h("section", { class: "gw-cmp-split", "aria-label": "Where two answers part", "data-gw": "comparison-split" }, [head]);
  if (split.isSame) return root;
  const sides = split.sides.map((side, i) => splitSide(side, badge(numbers[i])));
  root.append(h("div", { class: "gw-cmp-pair" }, sides));
  return root;
}

/** @param {SplitSide} side @param {HTMLElement} badge */
function splitSide(side, badge) {
  const hasChances = side.chances.length > 0;
  const said = side.ended ? "ends here" : side.mark.trim() ? side.mark : "a blank";
  const mark = h("button", { type: "button", class: "gw-cmp-mark", "aria-expanded": "true", "data-gw": "comparison-mark", title: "Show or hide what this side thought here", "aria-label": `The first difference: ${said}`, text: side.ended ? "(ends here)" : visible(side.mark) });
  const cut = side.before.length > CONTEXT_CHARS;
  const before = cut ? `…${side.before.slice(-CONTEXT_CHARS)}` : side.before;
  const text = h("p", { class: "gw-cmp-splittext", dir: "auto" }, [h("span", { class: "gw-cmp-common", text: before }), mark, h("span", { text: side.after.slice(0, CONTEXT_CHARS) + (side.after.length > CONTEXT_CHARS ? "…" : "") })]);
  const bars = h("div", { class: "gw-cmp-chances" }, side.chances.map((one) => chanceLine(one)));
  if (!hasChances) bars.append(h("p", { class: "gw-dim", text: "How likely it thought this is not known: the texts alone were compared." }));
  mark.addEventListener("click", () => {
    bars.hidden = !bars.hidden;
    mark.setAttribute("aria-expanded", String(!bars.hidden));
  });
  return h("div", { class: "gw-cmp-splitside" }, [h("div", { class: "gw-cmp-name" }, [badge, h("span", { class: "gw-bt-cut", text: side.name, title: side.name })]), text, bars]);
}

/** @param {Chance} one */
function chanceLine({ text, share, words, isOwn, isOther }) {
  const fill = h("span", { class: "gw-bt-fill" });
  fill.style.width = `${Math.max(0.5, 100 * share)}%`;
  const what = isOwn && isOther ? "both wrote this" : isOwn ? "it wrote this" : isOther ? "the other wrote this" : "";
  return h("div", { class: "gw-cmp-chance", "data-own": String(isOwn), "data-other": String(isOther), "data-gw": "comparison-chance" }, [
    h("span", { class: "gw-cmp-word", text, title: text }),
    h("span", { class: "gw-bt-track", "aria-hidden": "true" }, [fill]),
    h("span", { class: "gw-bt-num", text: words }),
    h("span", { class: "gw-dim", text: what }),
  ]);
}

/** @param {string} text */
const visible = (text) => (text.trim() ? text : text.replaceAll("\n", "↵").replaceAll(" ", "␣") || "␣");
