// @ts-check
/**
 * Files beside a message: chosen, dropped or pasted, on their way to Python, and shown as chips.
 *
 * Promises: a file goes in pieces, one after the other, so that no message is too large and Python
 * is never flooded; Remove ends it at any moment; what goes wrong stands on the chip. Leaves to
 * others: what a file is, and reading it (Python).
 */

import { ghostButton, h, icon, setChildren } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{
 *   id: string, name: string, kind: string, size: string, tokens: number | null, note: string,
 *   sha256: string, state: string, error: string, progress: string,
 * }} FileView
 * @typedef {{fileBytes: number, fileWords: string, files: number, pieceBytes: number, pasteChars: number, beginChars: number}} FileLimits
 * @typedef {{words: string, line: string}} Blind
 */

const SHOWN_IMAGES = /^image\/(?:png|jpeg|gif|bmp)$/;
const FILE_ICONS = /** @type {Record<string, string>} */ ({ image: "image", pdf: "file", text: "file" });

/** @param {DataView[]} buffers @param {string} mime @returns {string} an address that is to be given back */
export function imageAddress(buffers, mime) {
  if (!SHOWN_IMAGES.test(mime) || !buffers[0]) throw new Error("This picture cannot be shown here.");
  const { buffer, byteOffset, byteLength } = buffers[0];
  return URL.createObjectURL(new Blob([/** @type {ArrayBuffer} */ (buffer).slice(byteOffset, byteOffset + byteLength)], { type: mime }));
}

/** @param {{size: string, tokens: number | null}} file */
export const fileFigures = (file) => (file.tokens === null ? file.size : `${file.size}, ${file.tokens.toLocaleString("en")} ${file.tokens === 1 ? "token" : "tokens"}`);

/** What is in a file, in a box that scrolls: text in parts, an image as large as there is room. */
export class FileViewer {
  /** @param {(from: number) => Promise<any>} ask @param {() => void} closed */
  constructor(ask, closed) {
    this.ask = ask;
    this.address = "";
    this.isClosed = false;
    this.title = h("strong");
    const close = ghostButton("close", "Close (Esc)", { "data-gw": "chat-file-close" });
    this.body = h("div", { class: "gw-file-body", tabindex: "0", role: "region" });
    this.more = h("button", { type: "button", class: "gw-button", hidden: true, text: "Show more" });
    this.root = h("section", { class: "gw-file-view", "data-gw": "chat-file-view" }, [h("div", { class: "gw-file-head" }, [this.title, close]), this.body, this.more]);
    this.from = 0;
    close.addEventListener("click", () => closed());
    this.more.addEventListener("click", () => void this.load());
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      closed();
    });
  }

  /** @param {{name: string, note: string}} file */
  async open(file) {
    this.title.textContent = file.name;
    this.root.setAttribute("aria-label", file.name);
    this.body.setAttribute("aria-label", `What is in ${file.name}`);
    if (file.note) this.body.append(h("p", { class: "gw-file-note", text: file.note }));
    await this.load();
  }

  async load() {
    this.more.disabled = true;
    try {
      const answer = await this.ask(this.from);
      if (this.isClosed) return; // nobody would give the picture's address back
      if (answer.mime) {
        this.address = imageAddress(answer.buffers, answer.mime);
        const image = h("img", { alt: this.title.textContent ?? "", src: this.address });
        image.addEventListener("error", () => image.replaceWith(h("p", { class: "gw-file-note", text: "The browser cannot show this picture. The model may read it all the same." })));
        this.body.append(image);
      } else {
        this.body.append(h("pre", { text: answer.text }));
        this.from += answer.text.length;
        this.more.hidden = answer.left <= 0;
        this.more.textContent = `Show more (${answer.left.toLocaleString("en")} characters are left)`;
      }
    } catch (error) {
      this.body.append(h("p", { class: "gw-chip-error", text: wordsOf(error) }));
    }
    this.more.disabled = false;
  }

  close() {
    this.isClosed = true;
    if (this.address) URL.revokeObjectURL(this.address);
    this.root.remove();
  }
}

/** One file as a chip. */
class FileChip {
  /** @param {FileChips} chips @param {string} key */
  constructor(chips, key) {
    this.key = key;
    this.picture = h("span", { class: "gw-chip-picture" }, [icon("file")]);
    this.title = h("span", { class: "gw-chip-name" });
    this.name = h("button", { type: "button", class: "gw-chip-open", "data-gw": "chat-file-open" }, [this.title]);
    this.figures = h("span", { class: "gw-chip-figures" });
    this.remove = ghostButton("close", "Remove", { "data-gw": "chat-file-remove" });
    this.fill = h("span", { class: "gw-progress-fill" });
    this.bar = h("span", { class: "gw-progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, [this.fill]);
    this.error = h("p", { class: "gw-chip-error" });
    this.root = h("li", { class: "gw-chip", "data-gw": "chat-file" }, [this.picture, h("span", { class: "gw-chip-words" }, [this.name, this.figures]), this.remove, this.bar, this.error]);
    this.address = "";
    this.sha256 = "";
    this.remove.addEventListener("click", () => chips.remove(this.key));
    this.name.addEventListener("click", () => chips.open(this.key));
  }

  /** @param {FileView} file @param {number} share of what is to be sent, 0 to 1 */
  update(file, share) {
    this.root.dataset.state = file.state;
    this.title.textContent = file.name;
    this.name.disabled = file.state !== "ready";
    const words = { coming: "On its way", reading: file.progress || "Being read", failed: "Not attached", ready: fileFigures(file) }[file.state] ?? "";
    this.figures.textContent = words;
    this.name.title = [file.name, file.note].filter(Boolean).join("\n");
    this.name.setAttribute("aria-label", `${file.name}, ${words}${file.note ? `. ${file.note}` : ""}`);
    this.remove.setAttribute("aria-label", `Remove ${file.name}`);
    this.remove.title = file.state === "coming" || file.state === "reading" ? "Cancel" : "Remove";
    this.bar.hidden = file.state !== "coming" && file.state !== "reading";
    const [done, total] = (file.progress.match(/[\d,]+/g) ?? []).map((number) => Number(number.replaceAll(",", "")));
    const percent = Math.round(100 * (file.state === "coming" ? share : total ? done / total : 0));
    this.fill.style.width = `${percent}%`;
    this.bar.setAttribute("aria-valuenow", String(percent));
    this.bar.setAttribute("aria-label", words);
    this.error.textContent = file.error || (file.state === "ready" && file.kind !== "image" ? file.note : "");
    this.error.classList.toggle("gw-chip-note", !file.error);
    this.error.hidden = !this.error.textContent;
    if (!this.address && !this.picture.querySelector(`.gw-icon-${FILE_ICONS[file.kind] ?? "file"}`)) this.picture.replaceChildren(icon(FILE_ICONS[file.kind] ?? "file"));
  }

  /** @param {string} address */
  setPicture(address) {
    this.address = address;
    const image = h("img", { src: address, alt: "" });
    image.addEventListener("error", () => this.picture.replaceChildren(icon("image")));
    this.picture.replaceChildren(image);
  }

  forget() {
    if (this.address) URL.revokeObjectURL(this.address);
  }
}

/** All files of the message that is being written. */
export class FileChips {
  /** @param {Link} link @param {() => void} changed @param {(words: string) => void} say */
  constructor(link, changed, say) {
    this.link = link;
    this.changed = changed;
    this.say = say;
    /** @type {FileLimits | null} */
    this.limits = null;
    /** @type {FileView[]} what Python knows */
    this.known = [];
    /** @type {Map<string, {view: FileView, share: number}>} on their way, by a key of this page; then by Python's */
    this.coming = new Map();
    /** @type {Map<string, FileChip>} */
    this.chips = new Map();
    /** @type {Set<string>} removed here, and Python may not have heard */
    this.removed = new Set();
    this.list = h("ul", { class: "gw-chips", "aria-label": "Attached files", "data-gw": "chat-files", hidden: true });
    this.place = h("div");
    this.root = h("div", { class: "gw-files", hidden: true }, [this.list, this.place]);
    /** @type {FileViewer | null} */
    this.viewer = null;
    this.number = 0;
  }

  /** @param {FileView[]} files @param {FileLimits} limits */
  show(files, limits) {
    this.limits = limits;
    this.known = files.filter((file) => !this.removed.has(file.id));
    for (const id of [...this.removed]) if (!files.some((file) => file.id === id)) this.removed.delete(id);
    for (const { id, state } of files) if (state !== "coming") this.coming.delete(id);
    this.draw();
  }

  /** @returns {FileView[]} */
  get files() {
    const others = [...this.coming.values()].map(({ view }) => view).filter((view) => !this.known.some(({ id }) => id === view.id));
    return [...this.known, ...others];
  }

  /** The ids of those that can be sent. */
  get ids() {
    return this.known.filter(({ state }) => state === "ready").map(({ id }) => id);
  }

  draw() {
    const { files } = this;
    for (const [key, chip] of [...this.chips]) {
      if (files.some(({ id }) => id === key)) continue;
      const hadFocus = chip.root.contains(document.activeElement);
      chip.forget();
      this.chips.delete(key);
      if (hadFocus) queueMicrotask(() => this.focusOne());
      if (this.viewer?.root.dataset.key === key) this.closeViewer();
    }
    for (const file of files) {
      const chip = this.chips.get(file.id) ?? new FileChip(this, file.id);
      this.chips.set(file.id, chip);
      chip.update(file, this.coming.get(file.id)?.share ?? 0);
      if (file.kind === "image" && file.state === "ready" && !chip.address && !chip.sha256) {
        chip.sha256 = file.sha256;
        void this.fetchPicture(file.id, chip);
      }
    }
    setChildren(this.list, files.map(({ id }) => /** @type {FileChip} */ (this.chips.get(id)).root));
    this.list.hidden = files.length === 0;
    this.root.hidden = files.length === 0;
    this.changed();
  }

  focusOne() {
    const [first] = this.chips.values();
    if (first) first.remove.focus();
    else this.root.dispatchEvent(new CustomEvent("gw-files-gone", { bubbles: true }));
  }

  /** @param {string} id @param {FileChip} chip */
  async fetchPicture(id, chip) {
    try {
      const { buffers, mime } = await this.link.ask("writing-draft", { id });
      chip.setPicture(imageAddress(buffers, mime));
    } catch {
      // The chip keeps its icon; opening it says what is wrong.
    }
  }

  /** @param {Iterable<File>} files */
  add(files) {
    const chosen = [...files];
    const room = (this.limits?.files ?? 0) - this.files.length;
    if (chosen.length > room) this.say(`At most ${this.limits?.files ?? 0} files go with one message; ${(chosen.length - Math.max(0, room)).toLocaleString("en")} of these were left out.`);
    for (const file of chosen.slice(0, Math.max(0, room))) void this.upload(file);
  }

  /** @param {File} file */
  async upload(file) {
    const limits = /** @type {FileLimits} */ (this.limits);
    this.number += 1;
    let key = `new-${this.number}`;
    const view = { id: key, name: file.name || "file", kind: file.type.startsWith("image/") ? "image" : "", size: "", tokens: null, note: "", sha256: "", state: "coming", error: "", progress: "" };
    const entry = { view, share: 0 };
    this.coming.set(key, entry);
    this.draw();
    try {
      if (file.size > limits.fileBytes) throw new Error(`“${view.name}” is larger than ${limits.fileWords}, the most that can be attached. Attach the part that matters.`);
      const { id } = await this.link.ask("writing-file", { name: file.name, size: file.size });
      const chip = this.chips.get(key);
      const gone = !this.coming.delete(key);
      if (gone) return void this.link.ask("writing-remove", { id }).catch(() => {});
      key = view.id = id;
      this.coming.set(id, entry);
      if (chip) {
        // The same chip goes on, with its focus.
        this.chips.delete(chip.key);
        chip.key = id;
        this.chips.set(id, chip);
      }
      this.draw();
      for (let at = 0; at < file.size; at += limits.pieceBytes) {
        const piece = await file.slice(at, at + limits.pieceBytes).arrayBuffer();
        if (this.coming.get(id) !== entry) return;
        await this.link.ask("writing-piece", { id, offset: at }, [piece]);
        entry.share = Math.min(1, (at + piece.byteLength) / file.size);
        if (this.coming.get(id) === entry) this.draw();
      }
    } catch (error) {
      if (this.coming.get(key) !== entry) return;
      entry.view = { ...view, state: "failed", error: wordsOf(error) };
      this.draw();
    }
  }

  /** @param {string} id */
  remove(id) {
    this.coming.delete(id);
    if (this.known.some((file) => file.id === id)) this.removed.add(id);
    this.known = this.known.filter((file) => file.id !== id);
    if (!id.startsWith("new-")) this.link.ask("writing-remove", { id }).catch((error) => this.say(wordsOf(error)));
    this.draw();
  }

  /** Those that went out. @param {string[]} ids */
  sent(ids) {
    for (const id of ids) this.removed.add(id);
    this.known = this.known.filter(({ id }) => !ids.includes(id));
    this.draw();
  }

  /** They could not be sent after all. @param {string[]} ids */
  restore(ids) {
    for (const id of ids) this.removed.delete(id);
  }

  /** @param {string} id */
  open(id) {
    const file = this.known.find((one) => one.id === id);
    const again = this.viewer?.root.dataset.key === id;
    this.closeViewer();
    if (!file || again) return;
    this.viewer = new FileViewer((from) => this.link.ask("writing-draft", { id, from }), () => {
      this.closeViewer();
      this.chips.get(id)?.name.focus();
    });
    this.viewer.root.dataset.key = id;
    this.place.append(this.viewer.root);
    this.viewer.body.focus({ preventScroll: true });
    this.viewer.root.scrollIntoView({ block: "nearest" });
    void this.viewer.open(file);
  }

  closeViewer() {
    this.viewer?.close();
    this.viewer = null;
  }
}
