// @ts-check
/**
 * The files that were sent with a message: chips under it, which open.
 *
 * Promises: a file is fetched when it is opened, and not before; text is set as text. Leaves to
 * others: the message itself (`_chat_messages.js`).
 */

import { FileViewer, fileFigures } from "./_chat_writing_files.js";
import { h, icon } from "./_dom.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{id: string, name: string, kind: string, size: string, tokens: number | null, note: string}} SentFile
 */

/** Those of one message. */
export class SentFiles {
  /** @param {Link} link @param {string} message its id */
  constructor(link, message) {
    this.link = link;
    this.message = message;
    this.drawn = "";
    this.list = h("ul", { class: "gw-chips", "aria-label": "Files sent with this message" });
    this.place = h("div");
    this.root = h("div", { class: "gw-sent-files" }, [this.list, this.place]);
    /** @type {FileViewer | null} */
    this.viewer = null;
    /** @type {HTMLButtonElement | null} */
    this.opener = null;
  }

  /** @param {SentFile[]} files */
  update(files) {
    const drawn = JSON.stringify(files);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.close();
    this.list.replaceChildren(...files.map((file) => this.chip(file)));
  }

  /** @param {SentFile} file */
  chip(file) {
    const button = h("button", { type: "button", class: "gw-chip gw-sent-file", "data-gw": "chat-sent-file", "aria-expanded": "false", title: [`Open ${file.name}`, file.note].filter(Boolean).join("\n") }, [
      icon(file.kind === "image" ? "image" : "file"),
      h("span", { class: "gw-chip-name", text: file.name }),
      h("span", { class: "gw-chip-figures", text: fileFigures(file) }),
    ]);
    button.addEventListener("click", () => this.open(file, button));
    return h("li", {}, [button]);
  }

  /** @param {SentFile} file @param {HTMLButtonElement} button */
  open(file, button) {
    const again = this.opener === button;
    this.close();
    if (again) return;
    this.opener = button;
    button.setAttribute("aria-expanded", "true");
    this.viewer = new FileViewer((from) => this.link.ask("writing-open", { message: this.message, id: file.id, from }), () => {
      this.close();
      button.focus();
    });
    this.place.append(this.viewer.root);
    void this.viewer.open(file);
  }

  close() {
    this.opener?.setAttribute("aria-expanded", "false");
    this.opener = null;
    this.viewer?.close();
    this.viewer = null;
  }
}
