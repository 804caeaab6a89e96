// @ts-check
/**
 * One row, opened: its values, the prompt, the reply, what was read, how sure the model was.
 *
 * Promises: everything is text; an edit is kept as an edit, with what the model gave beside it. Leaves
 * to others: whether a value fits (Python).
 */

import { STATUS_WORDS } from "./_batch_grid.js";
import { PromptParts } from "./_batch_images.js";
import { wordsOf } from "./_link.js";
import { ghostButton, h, icon } from "./_dom.js";

/** @import { Link } from "./_link.js" */

const WHO = /** @type {Record<string, string>} */ ({ system: "System message", user: "Asked", assistant: "The model" });
const TYPED = { "data-lm-suppress-shortcuts": "true", autocomplete: "off", spellcheck: "false" };

/** @param {string} title @param {Node[]} children */
const block = (title, children) => h("section", { class: "gw-bt-block" }, [h("h4", { text: title }), ...children]);

export class RowPart {
  /** @param {Link} link @param {() => void} closed */
  constructor(link, closed) {
    this.link = link;
    this.closed = closed;
    this.number = -1;
    this.turn = 0;
    this.key = "";
    this.isEditing = false;
    this.parts = new PromptParts(link, 304, 200);
    this.title = h("h3", { class: "gw-bt-grow", tabindex: "-1" });
    const close = ghostButton("close", "Close this row", { "data-gw": "batch-row-close" });
    close.addEventListener("click", () => this.close());
    this.content = h("div", { class: "gw-bt-stack" });
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": "batch-row-error" });
    this.root = h("aside", { class: "gw-bt-detail", "aria-label": "The row", hidden: true, "data-gw": "batch-detail" }, [
      h("div", { class: "gw-bt-line" }, [this.title, close]),
      this.error,
      this.content,
    ]);
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      if (this.isEditing) this.edit(false);
      else this.close();
    });
  }

  close() {
    if (this.root.hidden) return;
    this.root.hidden = true;
    this.turn++; // an answer that is on its way does not open it again
    this.number = -1;
    this.isEditing = false;
    this.closed();
  }

  /** @param {number} number */
  async open(number) {
    const isOther = number !== this.number;
    this.number = number;
    if (isOther) {
      this.isEditing = false;
      this.error.textContent = "";
    }
    const turn = ++this.turn;
    try {
      const { whole } = await this.link.ask("whole", { number });
      if (turn !== this.turn) return;
      this.root.hidden = false;
      if (!this.isEditing) this.show(whole);
      if (isOther) {
        this.root.scrollTop = 0;
        this.root.scrollIntoView({ block: "nearest" }); // below the rows where the page is narrow
      }
    } catch (error) {
      if (turn !== this.turn) return;
      this.root.hidden = false;
      this.error.textContent = wordsOf(error);
    }
  }

  /** Ask again what it is now. */
  refresh() {
    if (!this.root.hidden && this.number >= 0 && !this.isEditing) void this.open(this.number);
  }

  /** @param {boolean} canAsk @param {string} reason */
  allow(canAsk, reason) {
    this.canAsk = canAsk;
    this.reason = reason;
    if (this.again) {
      this.again.disabled = !canAsk;
      this.again.title = reason;
    }
  }

  /** @param {any} whole */
  show(whole) {
    const key = JSON.stringify(whole);
    if (key === this.key && this.content.childElementCount) return;
    this.key = key;
    this.whole = whole;
    const hadFocus = this.content.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.gw : undefined;
    const extra = [whole.prompt, whole.model, whole.sample === null ? "" : `answer ${whole.sample + 1}`].filter(Boolean).join(", ");
    this.title.textContent = `Row ${(whole.row + 1).toLocaleString("en")}${extra ? `, ${extra}` : ""}`;
    /** @type {HTMLElement[]} */
    const parts = [h("p", { class: "gw-bt-status", "data-status": whole.status }, [icon(whole.status === "failed" ? "warn" : whole.status === "done" ? "done" : "info"), h("span", { text: STATUS_WORDS[whole.status] })])];
    if (whole.error) parts.push(h("p", { class: "gw-error", text: whole.error, "data-gw": "batch-why" }));
    if (whole.read ?? whole.edit) parts.push(this.answerOf(whole));
    if (whole.probabilities?.length) parts.push(this.chancesOf(whole));
    if (whole.reply !== undefined && whole.reply !== null) parts.push(block("Reply, as the model wrote it", [h("div", { class: "gw-bt-text gw-bt-quote", text: whole.reply || "(nothing)", "data-gw": "batch-reply" })]));
    if (whole.status !== "waiting") {
      this.again = h("button", { type: "button", class: "gw-button", "data-gw": "batch-ask-again" }, [icon("again"), "Ask again"]);
      this.again.addEventListener("click", () => void this.do("ask-again", {}));
      const edit = h("button", { type: "button", class: "gw-button", text: whole.edit ? "Change the edit" : "Edit by hand", "data-gw": "batch-edit" });
      edit.addEventListener("click", () => this.edit(true));
      const buttons = [this.again, edit];
      if (whole.edit) {
        const back = h("button", { type: "button", class: "gw-button", text: "Take the edit back", "data-gw": "batch-take-back" });
        back.addEventListener("click", () => void this.do("edit", { values: null }));
        buttons.push(back);
      }
      parts.push(h("div", { class: "gw-bt-buttons" }, buttons));
      this.allow(this.canAsk ?? true, this.reason ?? "");
    }
    const values = block("Values of the row", [this.pairsOf(whole.values)]);
    const prompt = block("Prompt", whole.fault ? [h("p", { class: "gw-error", text: whole.fault })] : whole.messages.map((/** @type {any} */ one) => h("div", { class: "gw-bt-message" }, [h("div", { class: "gw-dim", text: WHO[one.role] ?? one.role }), ...this.parts.draw(one.parts ?? [{ text: one.content }])])));
    // A picture is what its answer is read beside.
    parts.push(...(whole.messages.some((/** @type {any} */ one) => one.parts) ? [prompt, values] : [values, prompt]));
    if (whole.facts?.length) parts.push(block("Numbers", [this.pairsOf(whole.facts)]));
    this.content.replaceChildren(...parts);
    if (hadFocus) (/** @type {HTMLElement | null} */ (this.content.querySelector(`[data-gw="${hadFocus}"]`)) ?? this.title).focus();
  }

  /** @param {[string, string | null][]} pairs */
  pairsOf(pairs) {
    return h("dl", { class: "gw-bt-pairs" }, pairs.flatMap(([name, text]) => [h("dt", { text: name }), h("dd", { class: text === null ? "gw-bt-none" : "", text: text ?? "nothing" })]));
  }

  /** @param {any} whole */
  answerOf(whole) {
    const lines = whole.columns.map((/** @type {any} */ column) => {
      const given = whole.read?.[column.name] ?? null;
      const value = h("dd", { "data-gw": "batch-value", text: (whole.edit ?? whole.read)?.[column.name] ?? "nothing" });
      if (whole.edit && whole.edit[column.name] !== given) value.append(h("div", { class: "gw-dim", text: `Edited by hand. The model: ${given ?? "nothing"}`, "data-gw": "batch-original" }));
      return [h("dt", { text: column.label }), value];
    });
    return block("Answer", [h("dl", { class: "gw-bt-pairs" }, lines.flat())]);
  }

  /** @param {any} whole */
  chancesOf(whole) {
    const bars = whole.probabilities.map((/** @type {[string, number]} */ [name, value]) => {
      const percent = value >= 0.0995 ? `${Math.round(value * 100)}%` : `${(value * 100).toPrecision(2)}%`;
      return h("div", { class: "gw-bt-bar" }, [h("span", { class: "gw-bt-barname", text: name, title: name }), h("span", { class: "gw-bt-track" }, [h("span", { class: "gw-bt-fill", style: `width: ${value * 100}%` })]), h("span", { class: "gw-bt-num", text: percent })]);
    });
    if (whole.moreProbabilities) bars.push(h("p", { class: "gw-dim", text: `and ${whole.moreProbabilities} less probable ones` }));
    return block("How probable each answer was", bars);
  }

  /** @param {boolean} on */
  edit(on) {
    this.isEditing = on;
    this.error.textContent = "";
    if (!on) {
      this.key = "";
      this.show(this.whole);
      /** @type {HTMLElement | null} */ (this.content.querySelector('[data-gw="batch-edit"]'))?.focus();
      return;
    }
    const values = this.whole.edit ?? this.whole.read ?? {};
    /** @type {Record<string, HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement>} */
    const fields = {};
    const lines = this.whole.columns.map((/** @type {any} */ column) => {
      const now = values[column.name] ?? "";
      let field;
      if (column.kind === "category" || column.kind === "boolean") {
        const choices = column.kind === "boolean" ? ["yes", "no"] : column.choices;
        field = h("select", { class: "gw-field" }, ["", ...choices].map((text) => h("option", { value: text, text: text || "nothing" })));
      } else if (column.kind === "text" || column.kind === "object") field = h("textarea", { class: "gw-bt-area", rows: "3", ...TYPED });
      else field = h("input", { class: "gw-field", ...TYPED });
      field.value = now;
      field.dataset.gw = "batch-edit-field";
      field.dataset.name = column.name;
      fields[column.name] = field;
      return h("label", { class: "gw-bt-label" }, [h("span", { text: column.label }), field]);
    });
    const save = h("button", { type: "submit", class: "gw-button gw-primary", text: "Keep the edit", "data-gw": "batch-edit-keep" });
    const cancel = h("button", { type: "button", class: "gw-button", text: "Cancel" });
    cancel.addEventListener("click", () => this.edit(false));
    const form = h("form", { class: "gw-bt-stack" }, [h("h4", { text: "Edit by hand" }), ...lines, h("p", { class: "gw-dim", text: "What the model gave is kept beside it." }), h("div", { class: "gw-bt-buttons" }, [save, cancel])]);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.do("edit", { values: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value])) });
    });
    this.content.replaceChildren(form);
    Object.values(fields)[0]?.focus();
  }

  /** @param {string} kind @param {object} content */
  async do(kind, content) {
    this.error.textContent = "";
    try {
      const answer = await this.link.ask(kind, { number: this.number, ...content });
      const wasEditing = this.isEditing;
      this.isEditing = false;
      if (answer.whole) this.show(answer.whole);
      if (wasEditing) /** @type {HTMLElement | null} */ (this.content.querySelector('[data-gw="batch-edit"]'))?.focus();
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }
}
