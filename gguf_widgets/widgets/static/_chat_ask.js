// @ts-check
/**
 * The question before a link of a model's text is opened.
 *
 * Promises: the whole address is shown, and where it leads; only http and https are opened, in a new
 * tab that knows nothing of this page; Esc and Cancel open nothing, and the focus goes back to the
 * link. Leaves to others: which links there are (`_chat_blocks.js`).
 */

import { copyText } from "./_copy.js";
import { h } from "./_dom.js";

/** @param {HTMLElement} link what was clicked @param {string} address */
export function askAboutLink(link, address) {
  const url = openable(address);
  const dialog = h("dialog", {
    class: "gw-ask",
    "data-gw": "chat-link-ask",
    "data-lm-suppress-shortcuts": "true",
    "aria-label": url ? "Open this address?" : "This address is not opened",
  });
  const cancel = h("button", { type: "button", class: "gw-button", text: url ? "Cancel" : "Close" });
  const copy = h("button", { type: "button", class: "gw-button", text: "Copy the address" });
  const open = h("button", { type: "button", class: "gw-button gw-primary", "data-gw": "chat-link-open", text: "Open in a new tab" });
  const where = url ? ["It leads to ", h("strong", { text: url.host }), ", away from this page. The model wrote it; it may be wrong."] : [];
  const why = "Only whole addresses that begin with http:// or https://, without a name and password, are opened from here.";
  dialog.append(
    h("h2", { text: url ? "Open this address?" : "This address is not opened" }),
    h("p", {}, url ? where : [why]),
    h("p", { class: "gw-ask-address", dir: "ltr", text: address || "(no address)" }),
    h("div", { class: "gw-ask-buttons" }, url ? [cancel, copy, open] : [cancel, copy]),
  );
  cancel.addEventListener("click", () => dialog.close());
  copy.addEventListener("click", async () => {
    if (await copyText(address)) copy.textContent = "Copied";
  });
  open.addEventListener("click", () => {
    if (url) window.open(url.href, "_blank", "noopener,noreferrer");
    dialog.close();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  // The chat's own Esc would stop the answer.
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  dialog.addEventListener("close", () => {
    dialog.remove();
    link.focus({ preventScroll: true });
  });
  (link.closest(".gw-chat") ?? document.body).append(dialog);
  dialog.showModal();
  cancel.focus();
}

/** @param {string} address @returns {URL | null} null: not to be opened */
function openable(address) {
  try {
    const url = new URL(address);
    const known = url.protocol === "http:" || url.protocol === "https:";
    return known && !url.username && !url.password ? url : null;
  } catch {
    return null;
  }
}
