// @ts-check
/**
 * The table that is asked about: choose a file, paste, or what the notebook gave; its first rows.
 *
 * Promises: a file is sent in pieces, one after the other, and not at all if it is too large; faults
 * stand beside what mends them. Leaves to others: reading it (Python).
 */

import { wordsOf } from "./_link.js";
import { h, icon, setChildren } from "./_dom.js";

/** @import { Link } from "./_link.js" */

const TABLE_PIECE_BYTES = 1 << 20;
const TABLE_ACCEPT = ".csv,.tsv,.tab,.txt,.json,.jsonl,.ndjson,.xlsx,.xlsm,.parquet,.pq,.gz";
const MENDS = /** @type {Record<string, {label: string, ways: [string, string][]}>} */ ({
  ragged: {
    label: "Rows with too few or too many cells",
    ways: [["refuse", "Not decided"], ["fill", "Fill the gaps, add columns"], ["skip", "Leave those rows out"]],
  },
  duplicates: {
    label: "Columns of the same name",
    ways: [["refuse", "Not decided"], ["number", "Number them"]],
  },
});

/**
 * A small table of cells, where a row can be chosen.
 * @param {string[]} columns @param {(string | null)[][]} rows @param {string} label
 * @param {(row: number) => void} [choose]
 */
export function cellTable(columns, rows, label, choose) {
  const head = h("tr", {}, columns.map((name) => h("th", { scope: "col", text: name, title: name })));
  const lines = rows.map((cells, i) => {
    const line = h("tr", { "data-row": String(i) }, cells.map((text) => h("td", text === null ? { class: "gw-bt-none", text: "—" } : { text, title: text })));
    if (choose) line.addEventListener("click", () => choose(i));
    return line;
  });
  return h("div", { class: "gw-bt-cells", tabindex: "0", role: "region", "aria-label": label }, [
    h("table", {}, [h("thead", {}, [head]), h("tbody", {}, lines)]),
  ]);
}

export class SourcePart {
  /** @param {Link} link @param {(row: number) => void} chooseRow @param {string} [hook] what the names for tests begin with */
  constructor(link, chooseRow, hook = "batch") {
    this.link = link;
    this.hook = hook;
    this.chooseRow = chooseRow;
    this.key = "";
    this.isSettingsOpen = false;
    this.input = h("input", { type: "file", accept: TABLE_ACCEPT, hidden: true, tabindex: "-1", "aria-hidden": "true", "data-gw": `${this.hook}-file` });
    this.input.addEventListener("change", () => {
      const file = this.input.files?.[0];
      this.input.value = "";
      if (file) void this.send(file);
    });
    this.drop = h("button", { type: "button", class: "gw-bt-drop", "data-gw": `${this.hook}-choose` }, [
      icon("file"),
      h("span", { class: "gw-bt-drop-text" }, [
        h("span", {}, [h("strong", { text: "Choose a table" }), " or drop it here"]),
        h("span", { class: "gw-dim", text: "CSV, Excel, JSON, Parquet or a text with one row a line, up to 50 MB" }),
      ]),
    ]);
    this.drop.addEventListener("click", () => this.input.click());
    this.pasted = h("textarea", { class: "gw-bt-area", rows: "4", "data-lm-suppress-shortcuts": "true", "data-gw": `${this.hook}-pasted`, "aria-label": "Pasted table", placeholder: "Cells copied from a spreadsheet, or lines of text" });
    this.usePasted = h("button", { type: "button", class: "gw-button", text: "Use this", "data-gw": `${this.hook}-use-pasted` });
    this.usePasted.addEventListener("click", () => void this.paste());
    this.paste_ = h("details", { class: "gw-subfold" }, [
      h("summary", {}, [icon("open"), h("span", { text: "Or paste it" })]),
      h("div", { class: "gw-bt-stack" }, [this.pasted, h("div", {}, [this.usePasted])]),
    ]);
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": `${this.hook}-table-error` });
    this.sending = h("p", { class: "gw-dim", role: "status" });
    this.bar = h("div", { class: "gw-progress", hidden: true }, [h("span", { class: "gw-progress-fill" })]);
    this.empty = h("div", { class: "gw-bt-stack" }, [this.drop, this.paste_, this.input]);
    this.found = h("div", { class: "gw-bt-stack" });
    this.root = h("section", { class: "gw-bt-part", "aria-label": "Table", "data-gw": `${this.hook}-source` }, [
      h("h3", { text: "Table" }),
      this.empty,
      this.found,
      this.bar,
      this.sending,
      this.error,
    ]);
    this.listen();
  }

  listen() {
    const stop = (/** @type {DragEvent} */ event) => {
      if (!event.dataTransfer?.types.includes("Files")) return false;
      event.preventDefault();
      event.stopPropagation();
      return true;
    };
    this.root.addEventListener("dragover", (event) => this.root.classList.toggle("gw-bt-over", stop(event)));
    this.root.addEventListener("dragleave", () => this.root.classList.remove("gw-bt-over"));
    this.root.addEventListener("drop", (event) => {
      this.root.classList.remove("gw-bt-over");
      const file = stop(event) && event.dataTransfer?.files[0];
      if (file) void this.send(file);
    });
  }

  /** @param {File} file */
  async send(file) {
    this.error.textContent = "";
    const fill = /** @type {HTMLElement} */ (this.bar.firstElementChild);
    try {
      const { key } = await this.link.ask("table-begin", { name: file.name, size: file.size });
      this.bar.hidden = false;
      for (let offset = 0; offset < file.size; ) {
        const piece = await file.slice(offset, offset + TABLE_PIECE_BYTES).arrayBuffer();
        ({ offset } = await this.link.ask("table-piece", { key, offset }, [piece]));
        fill.style.width = `${(100 * offset) / file.size}%`;
        this.sending.textContent = `Sending “${file.name}”: ${Math.round((100 * offset) / file.size)}%`;
      }
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
    this.bar.hidden = true;
    this.sending.textContent = "";
  }

  async paste() {
    this.error.textContent = "";
    try {
      await this.link.ask("table-paste", { text: this.pasted.value });
      this.pasted.value = "";
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }

  /** @param {{given: any, looked: any}} table @param {string} busy */
  show(table, busy) {
    this.sending.textContent = busy === "reading" ? "Reading the table…" : this.bar.hidden ? "" : this.sending.textContent;
    const key = JSON.stringify(table);
    if (key === this.key) return;
    this.key = key;
    const { given, looked } = table;
    this.empty.hidden = Boolean(given ?? looked);
    const focused = this.found.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement) : undefined;
    const hook = focused?.dataset.focus;
    const parts = [];
    if (given ?? looked) parts.push(this.headOf(given, looked));
    if (looked) parts.push(...this.faultsOf(looked));
    if (given) {
      parts.push(cellTable(given.columns.slice(0, 50), given.first, "First rows of the table", (row) => this.chooseRow(row)));
      if (given.moreColumns) parts.push(h("p", { class: "gw-dim", text: `${given.moreColumns} more columns are not shown here.` }));
    } else if (looked?.first) parts.push(cellTable(looked.columns, looked.first, "What was found in the file"));
    setChildren(this.found, parts);
    if (focused) /** @type {HTMLElement | null} */ ((hook && this.found.querySelector(`[data-focus="${hook}"]`)) || this.found.querySelector("select, button"))?.focus();
  }

  /** What can be done about the file that was found. */
  focus() {
    /** @type {HTMLElement | null} */ (this.found.querySelector("select, button"))?.focus();
  }

  /** @param {any} given @param {any} looked */
  headOf(given, looked) {
    const change = h("button", { type: "button", class: "gw-link", text: "Another table", "data-gw": `${this.hook}-change` });
    change.addEventListener("click", () => {
      this.link.tell("table-drop");
      requestAnimationFrame(() => this.drop.focus());
    });
    return h("div", { class: "gw-bt-line" }, [
      h("span", { class: "gw-bt-grow" }, [
        h("strong", { text: (given ?? looked).name, "data-gw": `${this.hook}-table-name` }),
        h("span", { class: "gw-dim", text: ` ${given?.words ?? looked?.words ?? ""}` }),
      ]),
      change,
    ]);
  }

  /** @param {any} looked */
  faultsOf(looked) {
    const parts = [];
    if (looked.error) parts.push(h("p", { class: "gw-error", role: "alert", text: looked.error }));
    for (const text of looked.problems ?? []) parts.push(h("p", { class: "gw-error", role: "alert", text }));
    for (const { name, value } of looked.mends ?? []) {
      const { label, ways } = MENDS[name];
      parts.push(this.choice(name, label, ways, value));
    }
    if (looked.sheets?.length > 1) {
      const ways = looked.sheets.map((/** @type {string} */ one) => [one, one]);
      parts.push(this.choice("sheet", "Sheet", ways, looked.sheet));
    }
    for (const text of looked.notes ?? []) parts.push(h("p", { class: "gw-dim", text }));
    if (looked.settings?.length) parts.push(this.settingsOf(looked));
    return parts;
  }

  /** How the file is read, as it was found and as it can be changed. @param {any} looked */
  settingsOf(looked) {
    const fields = looked.settings.map((/** @type {any} */ { name, label, value, choices, other }) => this.choice(name, label, choices, value, other));
    const refused = looked.refused ? [h("p", { class: "gw-error", role: "alert", text: looked.refused, "data-gw": `${this.hook}-refused` })] : [];
    const fold = h("details", { class: "gw-subfold", open: this.isSettingsOpen || Boolean(looked.error), "data-gw": `${this.hook}-read-settings` }, [
      h("summary", {}, [icon("open"), h("span", { text: "How the file is read" })]),
      h("div", { class: "gw-bt-fields" }, fields),
      ...refused,
    ]);
    fold.addEventListener("toggle", () => {
      this.isSettingsOpen = fold.open;
    });
    return fold;
  }

  /** @param {string} name @param {string} label @param {[string, string][]} ways @param {string} now @param {boolean} [other] whether any one character can be typed */
  choice(name, label, ways, now, other = false) {
    const select = h("select", { class: "gw-field", "data-gw": `${this.hook}-${name}`, "data-focus": name }, ways.map(([value, text]) => h("option", { value, text })));
    if (other) select.append(h("option", { value: "other…", text: "Another character…" }));
    select.value = now;
    const one = h("input", { class: "gw-field", hidden: true, maxlength: "1", "aria-label": `${label}: one character`, placeholder: "One character", autocomplete: "off", "data-lm-suppress-shortcuts": "true", "data-gw": `${this.hook}-${name}-other` });
    const read = (/** @type {string} */ value) => {
      this.error.textContent = "";
      this.link.ask("table-read", { options: { [name]: value } }).catch((error) => {
        select.value = now;
        this.error.textContent = wordsOf(error);
      });
    };
    select.addEventListener("change", () => {
      one.hidden = select.value !== "other…";
      if (one.hidden) read(select.value);
      else one.focus();
    });
    one.addEventListener("input", () => one.value && read(one.value));
    return h("label", { class: "gw-bt-label" }, [h("span", { text: label }), select, one]);
  }
}
