// @ts-check
/** The clipboard, and the tick that says that it worked. */

import { h, icon } from "./_dom.js";

/**
 * Put text on the clipboard, also on a page without a secure context (plain http, not localhost).
 * @param {string} text
 * @returns {Promise<boolean>} whether it worked
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const area = h("textarea", { "aria-hidden": "true", class: "gw-offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    const worked = document.execCommand("copy");
    area.remove();
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
    return worked;
  }
}

/** Show a tick on a copy button for a moment, and say so. @param {HTMLButtonElement} button */
export function confirmCopy(button) {
  const label = (button.dataset.label ??= button.getAttribute("aria-label") ?? "");
  button.classList.add("gw-copied");
  if (label) button.setAttribute("aria-label", "Copied");
  button.replaceChildren(icon("done"));
  setTimeout(() => {
    button.classList.remove("gw-copied");
    if (label) button.setAttribute("aria-label", label);
    button.replaceChildren(icon("copy"));
  }, 1500);
}
