// @ts-check
/**
 * Where the person types a message, with Send, Stop and the reason why Send waits.
 *
 * Promises: grows with the text up to a limit; what it does to the text can be undone. Leaves to
 * others: what the keys and buttons do (`chat_box.js`).
 */

import { newMid } from "./_connection.js";
import { h, icon, iconButton } from "./_dom.js";

const INPUT_MAX_PX = 200;
const INPUT_SHARE = 0.3; // of the chat's height, where that is less

/**
 * Whether a key belongs to an input method, which makes a word of several keys: its Enter and its
 * Esc are not ours. Safari tells it by the old key code alone.
 * @param {KeyboardEvent} event
 */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Where the person types. */
export class ComposerElement {
  constructor() {
    this.reason = h("span", { class: "gw-reason", id: `gw-reason-${newMid()}` });
    this.input = h("textarea", {
      class: "gw-input",
      rows: "1",
      "data-gw": "chat-input",
      "aria-label": "Message to the model",
      "aria-describedby": this.reason.id,
      placeholder: "Write a message",
      "data-lm-suppress-shortcuts": "true", // JupyterLab would run the cell on Shift+Enter
    });
    this.send = h("button", { type: "submit", class: "gw-round", "data-gw": "chat-send", "aria-label": "Send", title: "Send (Enter)" }, [icon("send")]);
    this.stop = iconButton("stop", "Stop (Esc)", { class: "gw-round gw-round-stop", "data-gw": "chat-stop", hidden: true });
    this.start = h("div", { class: "gw-composer-part" });
    this.end = h("div", { class: "gw-composer-part" });
    this.root = h("form", { class: "gw-composer" }, [
      this.input,
      h("div", { class: "gw-composer-row" }, [this.start, this.reason, this.end, this.send, this.stop]),
    ]);
    this.root.addEventListener("click", (event) => {
      if (event.target === this.root) this.input.focus();
    });
  }

  /**
   * Show Stop in the place of Send, or the other way round. The one that goes may have the focus,
   * which would be lost with it.
   * @param {boolean} busy
   */
  showBusy(busy) {
    const [shown, gone] = busy ? [this.stop, this.send] : [this.send, this.stop];
    const focused = document.activeElement === gone;
    shown.hidden = false;
    gone.hidden = true;
    if (focused) this.input.focus({ preventScroll: true });
  }

  /** Put a line end where the cursor is, in a way that Undo takes back. */
  newLine() {
    if (document.execCommand("insertText", false, "\n")) return;
    const { selectionStart, selectionEnd } = this.input;
    this.input.setRangeText("\n", selectionStart, selectionEnd, "end");
    this.grow();
  }

  /** Make the place as high as what is in it, up to a limit. */
  grow() {
    const whole = this.root.closest(".gw-chat")?.clientHeight || Infinity;
    const most = Math.max(48, Math.min(INPUT_MAX_PX, whole * INPUT_SHARE));
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, most)}px`;
  }
}
