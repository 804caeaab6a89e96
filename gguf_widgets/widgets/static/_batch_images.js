// @ts-check
/**
 * Columns with pictures: chosen in the form, and seen in the prompt of a row.
 *
 * Promises: a picture is drawn only from a `data:` address that Python made, in a place whose size
 * is known before it comes; what cannot be drawn stands there in words. Leaves to others: which
 * files may be read, and what is a picture (Python).
 */

import { wordsOf } from "./_link.js";
import { h, icon, setChildren } from "./_dom.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{key: string, alt: string, width: number, height: number}} KnownPicture
 * @typedef {KnownPicture | {words: string, isFault: boolean}} PictureView
 * @typedef {{text?: string, left?: number, picture?: PictureView}} PromptPart
 */

const KEPT_PICTURES = 24;
const IS_PICTURE = /^data:image\/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=]+$/;

/** Draws the parts of a message; a picture is asked for once. */
export class PromptParts {
  /** @param {Link} link @param {number} width @param {number} height the most that a picture takes */
  constructor(link, width, height) {
    this.link = link;
    this.width = width;
    this.height = height;
    /** @type {Map<string, Promise<string>>} */
    this.addresses = new Map();
  }

  /** @param {PromptPart[]} parts @returns {HTMLElement[]} */
  draw(parts) {
    return parts.map(({ text, left, picture }) => {
      if (picture) return "key" in picture ? this.picture(picture) : this.words(picture.words, picture.isFault);
      const line = h("div", { class: "gw-bt-text", text: text ?? "" });
      if (left) line.append(h("div", { class: "gw-dim", text: `… and ${left.toLocaleString("en")} more characters, which the model reads as well` }));
      return line;
    });
  }

  /** @param {string} words @param {boolean} isFault */
  words(words, isFault) {
    return h("p", { class: isFault ? "gw-bt-unseen gw-error" : "gw-bt-unseen gw-dim", "data-gw": "batch-unseen" }, [icon(isFault ? "warn" : "info"), h("span", { text: words })]);
  }

  /** @param {KnownPicture} picture */
  picture({ key, alt, width, height }) {
    const scale = Math.min(1, this.width / width, this.height / height);
    const image = h("img", { class: "gw-bt-picture", alt, title: alt, width: String(Math.max(1, Math.round(width * scale))), height: String(Math.max(1, Math.round(height * scale))), decoding: "async", "data-gw": "batch-picture" });
    const place = h("div", { class: "gw-bt-pictureplace" }, [image]);
    const give = (/** @type {unknown} */ error) => {
      this.addresses.delete(key);
      place.replaceWith(this.words(error instanceof Event ? `${alt}: the browser cannot show it. The model may read it all the same.` : wordsOf(error), false));
    };
    image.addEventListener("error", give);
    this.address(key).then((url) => {
      image.src = url;
    }, give);
    return place;
  }

  /** @param {string} key @returns {Promise<string>} */
  address(key) {
    const known = this.addresses.get(key);
    if (known) return known;
    const asked = this.link.ask("picture", { key }).then(({ url }) => {
      if (!IS_PICTURE.test(url)) throw new Error("Python sent something else than a picture.");
      return url;
    });
    this.addresses.set(key, asked);
    const [oldest] = this.addresses.keys();
    if (this.addresses.size > KEPT_PICTURES) this.addresses.delete(oldest);
    return asked;
  }
}

/** The columns that hold pictures. */
export class ImagesPart {
  /** @param {() => void} changed @param {HTMLElement} fault @param {HTMLElement} folderFault */
  constructor(changed, fault, folderFault) {
    this.changed = changed;
    /** @type {string[]} */
    this.chosen = [];
    /** @type {string[]} */
    this.columns = [];
    /** @type {string[]} */
    this.suggested = [];
    this.key = "";
    this.count = h("span", { class: "gw-dim" });
    this.chips = h("div", { class: "gw-bt-chips", role: "group", "aria-label": "Columns with pictures", "data-gw": "batch-images-columns" });
    this.hint = h("p", { class: "gw-dim", "data-gw": "batch-images-hint" });
    this.where = h("p", { class: "gw-dim", "data-gw": "batch-images-where" });
    this.folder = h("input", { class: "gw-field", "data-gw": "batch-images-folder", "data-lm-suppress-shortcuts": "true", autocomplete: "off", spellcheck: "false" });
    this.folder.addEventListener("input", () => this.changed());
    this.folderFault = folderFault;
    this.folderLabel = h("label", { class: "gw-bt-label", title: "For cells that name a file without its folder, such as cat.png" }, [h("span", { text: "Folder of the pictures" }), this.folder]);
    this.root = h("details", { class: "gw-subfold", hidden: true, "data-gw": "batch-images" }, [
      h("summary", { title: "The model sees the picture in place of the column’s value: where the prompt names the column, or before the prompt" }, [icon("open"), h("span", { text: "Columns with pictures" }), this.count]),
      h("div", { class: "gw-bt-stack" }, [this.hint, this.chips, fault, this.folderLabel, folderFault, this.where]),
    ]);
  }

  /** @param {{suggested: string[], words: string, folder: string, canChoose: boolean}} view @param {string[]} columns @param {boolean} sees whether the model does */
  show(view, columns, sees) {
    this.sees = sees;
    this.columns = columns;
    this.suggested = view.suggested;
    this.where.textContent = view.words;
    this.folder.placeholder = view.folder;
    this.canChoose = view.canChoose;
    this.draw();
  }

  /** @returns {string[]} */
  get() {
    return this.chosen;
  }

  /** @param {string[]} chosen @param {string} folder */
  set(chosen, folder) {
    this.chosen = chosen;
    this.folder.value = folder;
    if (chosen.length) this.root.open = true;
    this.draw();
  }

  draw() {
    const { chosen } = this;
    const gone = chosen.filter((name) => !this.columns.includes(name)); // of another table: to be taken out
    const names = [...this.columns, ...gone];
    const open = this.suggested.filter((name) => !chosen.includes(name));
    this.root.hidden = !(chosen.length || (this.sees && names.length));
    this.count.textContent = chosen.length ? ` ${chosen.length}` : open.length ? " There may be some in this table" : "";
    const listed = open.slice(0, 3).map((name) => `“${name}”`).join(", ");
    this.hint.textContent = open.length ? `${listed}${open.length > 3 ? " and others" : ""} ${open.length > 1 ? "seem" : "seems"} to hold pictures. Choose what the model is to see.` : chosen.length ? "" : "Choose the columns whose cells are pictures, or name files with pictures.";
    this.where.hidden = !chosen.length;
    this.folderLabel.hidden = !chosen.length || !(this.canChoose || this.folder.value);
    const key = JSON.stringify([names, chosen]);
    if (key === this.key) return;
    this.key = key;
    const focused = this.chips.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.name : undefined;
    const chips = names.map((name) => {
      const isOn = chosen.includes(name);
      const chip = h("button", { type: "button", class: "gw-bt-chip", "aria-pressed": String(isOn), "data-gw": "batch-image-column", "data-name": name, title: isOn ? `The model sees the pictures of “${name}”` : `Have the model see the pictures of “${name}”` }, [...(isOn ? [icon("done")] : []), name]);
      chip.addEventListener("click", () => {
        this.chosen = isOn ? chosen.filter((one) => one !== name) : [...chosen, name];
        this.draw();
        this.changed();
      });
      return chip;
    });
    setChildren(this.chips, chips);
    if (focused !== undefined) (chips.find((one) => one.dataset.name === focused) ?? chips[0])?.focus();
  }
}
