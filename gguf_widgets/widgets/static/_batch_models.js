// @ts-check
/**
 * The models that are asked besides the table's own.
 *
 * Promises: the list of models is asked for when somebody looks for it, and not before. Leaves to
 * others: loading them (Python).
 */

import { ghostButton, h } from "./_dom.js";

/** @import { Link } from "./_link.js" */

export class ModelsPart {
  /** @param {Link} link @param {() => void} changed */
  constructor(link, changed) {
    this.link = link;
    this.changed = changed;
    /** @type {string[]} */
    this.chosen = [];
    /** @type {string[]} */
    this.known = [];
    this.own = "";
    this.key = "";
    this.list = h("div", { class: "gw-bt-chips", role: "group", "aria-label": "Other models that are asked" });
    this.select = h("select", { class: "gw-field", "aria-label": "Ask another model as well", "data-gw": "batch-add-model" });
    this.select.addEventListener("change", () => {
      if (this.select.value) this.set([...this.chosen, this.select.value], true);
    });
    this.root = h("div", { class: "gw-bt-label", title: "Each row is asked of each model, one model after another; all of them have to fit into memory. The answers have a column that says whose they are." }, [h("span", { text: "Ask other models as well" }), this.select, this.list]);
    this.draw();
  }

  /** What there is on this computer. @param {string[]} known @param {string} own the table's model */
  show(known, own) {
    const key = JSON.stringify([known, own]);
    if (key === this.key) return;
    this.key = key;
    this.known = known;
    this.own = own;
    this.draw();
  }

  /** @returns {string[]} */
  get() {
    return this.chosen;
  }

  /** @param {string[]} names @param {boolean} [isTyped] */
  set(names, isTyped = false) {
    if (names.join("\n") === this.chosen.join("\n")) return;
    this.chosen = names;
    this.draw();
    if (isTyped) this.changed();
  }

  draw() {
    const others = this.known.filter((name) => name !== this.own && !this.chosen.includes(name));
    const first = others.length ? "Add a model" : this.known.length ? "No other model is here" : "Looking for models…";
    this.select.replaceChildren(h("option", { value: "", text: first }), ...others.map((name) => h("option", { value: name, text: name })));
    this.select.disabled = !others.length;
    this.list.replaceChildren(
      ...this.chosen.map((name) => {
        const remove = ghostButton("close", `Do not ask “${name}”`, { "data-gw": "batch-remove-model" });
        remove.addEventListener("click", () => {
          this.set(this.chosen.filter((one) => one !== name), true);
          this.select.focus();
        });
        return h("span", { class: "gw-bt-chip gw-bt-model", "data-name": name }, [h("span", { class: "gw-bt-cut", text: name }), remove]);
      }),
    );
  }
}
