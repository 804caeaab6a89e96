// @ts-check
/**
 * What was added to the list of models in place, and a way to take it off again.
 *
 * Promises: it says that nothing is deleted; a row that stays keeps its element and its focus.
 */

import { plainPath } from "./_browse_list.js";
import { h, icon, setChildren } from "./_dom.js";

/** @typedef {{what: "file" | "folder", path: string, name: string, where: string, isThere: boolean}} Added */

/** The files and folders that were added. */
export class AddedList {
  /** @param {(one: Added) => void} takeOff */
  constructor(takeOff) {
    this.takeOff = takeOff;
    /** @type {Map<string, HTMLLIElement>} */
    this.known = new Map();
    this.title = h("span");
    this.rows = h("ul", { class: "gw-br-added", role: "list", "aria-label": "Added in place" });
    this.said = h("p", { class: "gw-dim", hidden: true, "data-gw": "browse-added-said" });
    this.fold = h("details", { class: "gw-subfold", "data-gw": "browse-added" }, [
      h("summary", {}, [icon("open"), this.title]),
      h("p", { class: "gw-dim", text: "These stay where they are. Taking one off the list deletes nothing." }),
      this.rows,
    ]);
    this.root = h("div", { class: "gw-br-kept", hidden: true }, [this.fold, this.said]);
  }

  /** @param {Added[]} added */
  show(added) {
    const hadFocus = this.rows.contains(document.activeElement);
    const shown = added.map((one) => {
      const key = JSON.stringify(one);
      return /** @type {const} */ ([key, this.known.get(key) ?? this.row(one)]);
    });
    this.known = new Map(shown);
    setChildren(this.rows, shown.map(([, row]) => row));
    const text = `Added in place (${added.length})`;
    if (this.title.textContent !== text) this.title.textContent = text;
    this.fold.hidden = added.length === 0;
    this.root.hidden = added.length === 0 && this.said.hidden;
    if (hadFocus && !this.rows.contains(document.activeElement)) {
      const next = this.rows.querySelector("button") ?? this.fold.querySelector("summary");
      next?.focus();
    }
  }

  /** @param {string} said @param {boolean} isShown whether it is said here, not in the panel */
  tell(said, isShown) {
    this.said.textContent = said;
    this.said.hidden = !isShown;
    this.root.hidden = this.fold.hidden && this.said.hidden;
  }

  /** @param {Added} one @returns {HTMLLIElement} */
  row(one) {
    const button = h("button", { type: "button", class: "gw-button", text: "Take off the list", "aria-label": `Take off the list: ${one.name}`, "data-gw": "browse-remove" });
    button.addEventListener("click", () => this.takeOff(one));
    const gone = one.isThere ? "" : ", not there any more";
    return h("li", { class: "gw-br-one", "data-gw": "browse-added-row", "data-name": one.name }, [
      icon(one.what),
      h("span", { class: "gw-br-words" }, [h("span", { class: "gw-br-name", text: one.name, title: plainPath(one.path) }), h("span", { class: "gw-dim", text: `${one.where}${gone}`, title: plainPath(one.path) })]),
      button,
    ]);
  }
}
