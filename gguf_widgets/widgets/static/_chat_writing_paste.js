// @ts-check
/**
 * What is pasted: files and pictures become attachments, and a long text may.
 *
 * Promises: a text so long that the page would stand still never gets into the field; taking a text
 * out of it again can be undone. Leaves to others: the files themselves (`_chat_writing_files.js`).
 */

import { h } from "./_dom.js";

/** @import { FileChips } from "./_chat_writing_files.js" */

/** From so many characters on a text area makes the page stand still. */
export const LONG_CHARS = 200_000;

export class PasteOffer {
  /** @param {HTMLTextAreaElement} input @param {FileChips} files @param {(words: string) => void} say */
  constructor(input, files, say) {
    this.input = input;
    this.files = files;
    this.say = say;
    this.text = "";
    this.words = h("span");
    const take = h("button", { type: "button", class: "gw-button", text: "Attach it as a file", "data-gw": "chat-paste-attach" });
    const leave = h("button", { type: "button", class: "gw-button", text: "Keep it here", "data-gw": "chat-paste-keep" });
    this.root = h("div", { class: "gw-offer", role: "status", "data-gw": "chat-paste-offer", hidden: true }, [this.words, take, leave]);
    take.addEventListener("click", () => this.take());
    leave.addEventListener("click", () => this.close());
    input.addEventListener("paste", (event) => this.onPaste(event));
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
  }

  /** @param {ClipboardEvent} event */
  onPaste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    const text = event.clipboardData?.getData("text/plain") ?? "";
    // A spreadsheet's cells come as a picture, too; the text is what was meant.
    if (files.length && !text) {
      event.preventDefault();
      this.files.add(files.map((file) => (file.name === "image.png" ? new File([file], "Pasted image.png", { type: file.type }) : file)));
      return;
    }
    if (text.length < (this.files.limits?.pasteChars ?? Infinity)) return;
    if (text.length > LONG_CHARS) {
      event.preventDefault();
      this.attach(text);
      this.say(`The text you pasted has ${text.length.toLocaleString("en")} characters, so it was attached as a file.`);
      return;
    }
    this.text = text;
    this.words.textContent = `You pasted ${text.length.toLocaleString("en")} characters.`;
    this.root.hidden = false;
  }

  /** @param {string} text */
  attach(text) {
    const used = this.files.files.filter(({ name }) => name.startsWith("Pasted text")).length;
    this.files.add([new File([text], used ? `Pasted text ${used + 1}.txt` : "Pasted text.txt", { type: "text/plain" })]);
  }

  /** Out of the field, into a file. */
  take() {
    const { input } = this;
    const pasted = this.text.replaceAll("\r\n", "\n");
    const at = input.value.lastIndexOf(pasted);
    if (at >= 0) {
      input.focus();
      input.setSelectionRange(at, at + pasted.length);
      if (!document.execCommand("delete")) input.setRangeText("");
      input.dispatchEvent(new Event("input", { bubbles: true }));
    }
    this.attach(this.text);
    this.close();
  }

  close() {
    this.root.hidden = true;
    this.text = "";
    this.input.focus();
  }
}
