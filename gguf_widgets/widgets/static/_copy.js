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
    const area = h("textarea", { "aria-hidden": "true", class: "gw-offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    const worked = document.execCommand("copy");
    area.remove();
    return worked;
  }
}

/** Show a tick on a copy button for a moment. @param {HTMLButtonElement} button */
export function confirmCopy(button) {
  button.classList.add("gw-copied");
  button.replaceChildren(icon("done"));
  setTimeout(() => {
    button.classList.remove("gw-copied");
    button.replaceChildren(icon("copy"));
  }, 1500);
}
