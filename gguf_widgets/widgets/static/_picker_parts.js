// @ts-check
/**
 * Small parts that several of the picker's places use.
 *
 * Promises: text is set as text; Esc in a question or a form means no, and goes no further, so that
 * nothing around it closes or stops; keys that an input method needs are left to it.
 */

import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h, icon } from "./_dom.js";

/** @import { Question } from "./_picker_line.js" */

/** A text in a code font with a Copy button. @param {string} text @param {string} label @param {string} [hook] */
export function copyable(text, label, hook) {
  const button = ghostButton("copy", label, { "data-gw": hook ?? null });
  button.addEventListener("click", async () => {
    if (await copyText(text)) confirmCopy(button);
  });
  // A long path is broken after a folder, where it can be, and copied as it is.
  const parts = text.split(/(?<=[/\\])/).flatMap((part) => [part, h("wbr")]);
  return h("div", { class: "gw-copyable" }, [h("code", { title: text }, parts), button]);
}

/** @param {string} text @param {string} [hook] @param {string} [more] classes */
export function button(text, hook, more = "") {
  return h("button", { type: "button", class: `gw-button ${more}`.trim(), text, "data-gw": hook ?? null });
}

/**
 * Mark a button whose work is under way. It is not disabled, which would take the focus away.
 * @param {HTMLElement} one @param {boolean} busy
 */
export function setBusy(one, busy) {
  one.setAttribute("aria-disabled", String(busy));
}

/** @param {HTMLElement} one whether a press of it would do nothing now */
export const isBusy = (one) => one.getAttribute("aria-disabled") === "true";

/** Scroll the list, and nothing around it, until this is at its top. @param {HTMLElement} element */
export function toTop(element) {
  const list = element.closest(".gw-rows");
  if (list) list.scrollTop += element.getBoundingClientRect().top - list.getBoundingClientRect().top - 8;
}

/** Have Esc close something. @param {HTMLElement} place @param {() => void} close */
export function onEscape(place, close) {
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing || event.keyCode === 229) return;
    event.stopPropagation();
    event.preventDefault();
    close();
  });
}

/**
 * A question with its two answers; the safe one has the focus when it is shown.
 * @param {Question} question
 * @param {{yes: () => void, no: () => void, hook: string, danger?: boolean}} then
 */
export function askBox({ text, yes, no }, then) {
  const go = button(yes, `${then.hook}-yes`, then.danger ? "gw-danger" : "");
  const keep = button(no, `${then.hook}-no`);
  go.addEventListener("click", then.yes);
  keep.addEventListener("click", then.no);
  const box = h("div", { class: "gw-ask", role: "group", "aria-label": text, "data-gw": `${then.hook}-ask` }, [
    h("p", { text }),
    h("div", { class: "gw-ask-buttons" }, [go, keep]),
  ]);
  onEscape(box, then.no);
  return { root: box, keep };
}

/**
 * What went wrong, with a way out if there is one; "" shows nothing.
 * @param {HTMLElement} place @param {string} text @param {HTMLButtonElement} [way]
 */
export function showError(place, text, way) {
  place.replaceChildren(...(text ? [h("p", { class: "gw-error", role: "alert" }, [icon("warn"), h("span", { text })])] : []), ...(text && way ? [way] : []));
  place.hidden = !text;
}
