// @ts-check
/**
 * What to ask: the prompt with the table's columns in it, the real prompt of one row, the answer.
 *
 * Promises: what is wrong stands under the field that it is in, while typing; the preview keeps its
 * place; another view's changes come in, this view's own are never written over. Leaves to others:
 * judging (Python).
 */

import { AnswerPart } from "./_batch_answer.js";
import { ImagesPart, PromptParts } from "./_batch_images.js";
import { wordsOf } from "./_link.js";
import { ModelsPart } from "./_batch_models.js";
import { TurnsPart } from "./_batch_turns.js";
import { ghostButton, h, icon, setChildren } from "./_dom.js";

/** @import { Link } from "./_link.js" */

const DRAFT_AFTER_MS = 200;
const FIELD = { "data-lm-suppress-shortcuts": "true", autocomplete: "off", spellcheck: "false" };
const ROLES = /** @type {Record<string, string>} */ ({ system: "System message", user: "You", assistant: "The model" });
const MISSING = /** @type {[string, string][]} */ ([
  ["refuse", "Do not begin"],
  ["skip", "Leave those rows out"],
  ["empty", "Write nothing there"],
  ["with", "Write this text instead"],
]);

export class FormPart {
  /** @param {Link} link */
  constructor(link) {
    this.link = link;
    this.sent = "";
    this.fills = -1;
    this.filledKey = "";
    this.previewKey = "";
    this.parts = new PromptParts(link, 176, 112);
    this.fixKey = "";
    /** @type {number | undefined} */
    this.timer = undefined;
    /** @type {string[]} */
    this.columns = [];
    this.numRows = 0;
    this.row = 0;
    this.prompt = h("textarea", { class: "gw-bt-area", rows: "5", "aria-label": "Prompt", "data-gw": "batch-prompt", placeholder: "Is this review positive or negative? {review}", "data-lm-suppress-shortcuts": "true" });
    this.system = h("textarea", { class: "gw-bt-area", rows: "2", "aria-label": "System message", "data-gw": "batch-system", placeholder: "You label reviews. Answer in one word.", "data-lm-suppress-shortcuts": "true" });
    /** @type {HTMLTextAreaElement} */
    this.last = this.prompt;
    for (const area of [this.prompt, this.system]) {
      area.addEventListener("focus", () => {
        this.last = area;
      });
      area.addEventListener("input", () => this.changed());
    }
    this.chips = h("div", { class: "gw-bt-chips", role: "group", "aria-label": "Put a column into the prompt" });
    this.faults = /** @type {Record<string, HTMLElement>} */ ({});
    for (const field of ["prompt", "system", "turns", "missing", "n", "maxTokens", "temperature", "table", "images", "imagesFolder"]) {
      this.faults[field] = h("p", { class: "gw-error", id: `${link.page}-${field}`, role: "alert", "data-gw": `batch-fault-${field}` });
    }
    this.fixes = h("div", { class: "gw-bt-chips" });
    this.systemFold = h("details", { class: "gw-subfold" }, [
      h("summary", {}, [icon("open"), h("span", { text: "Tell the model what it is for (system message)" })]),
      h("div", { class: "gw-bt-stack" }, [this.system, this.faults.system]),
    ]);
    this.turns = new TurnsPart(() => this.changed(), this.faults.turns, (area) => {
      this.last = area;
    });
    this.images = new ImagesPart(() => this.changed(), this.faults.images, this.faults.imagesFolder);
    this.filled = h("div", { class: "gw-bt-filled", role: "status", hidden: true, "data-gw": "batch-filled" });
    this.answer = new AnswerPart(() => this.changed(), `${link.page}-answer`);
    this.faults.answer = this.answer.fault;

    this.missing = h("select", { class: "gw-field", "data-gw": "batch-missing" }, MISSING.map(([value, text]) => h("option", { value, text })));
    this.missingText = h("input", { class: "gw-field", "aria-label": "Text in place of a missing value", placeholder: "unknown", hidden: true, ...FIELD });
    this.n = h("input", { class: "gw-field", inputmode: "numeric", "data-gw": "batch-n", ...FIELD });
    this.maxTokens = h("input", { class: "gw-field", inputmode: "numeric", placeholder: "As long as there is room", "data-gw": "batch-max-tokens", ...FIELD });
    this.temperature = h("input", { class: "gw-field", inputmode: "decimal", "data-gw": "batch-temperature", ...FIELD });
    this.title = h("input", { class: "gw-field", placeholder: "The beginning of the prompt", ...FIELD });
    this.models = new ModelsPart(link, () => this.changed());
    this.missing.addEventListener("change", () => {
      this.missingText.hidden = this.missing.value !== "with";
      this.changed();
    });
    for (const one of [this.missingText, this.n, this.maxTokens, this.temperature, this.title]) one.addEventListener("input", () => this.changed());

    this.preview = this.makePreview();
    this.advanced = this.makeAdvanced();
    this.root = h("section", { class: "gw-bt-part", "aria-label": "What to ask", "data-gw": "batch-form" }, [
      this.filled,
      h("div", { class: "gw-bt-two" }, [
        h("div", { class: "gw-bt-stack" }, [
          h("div", { class: "gw-bt-line" }, [h("h3", { text: "What to ask about each row" })]),
          this.chips,
          this.prompt,
          this.faults.prompt,
          this.fixes,
          this.systemFold,
          this.turns.root,
          this.images.root,
        ]),
        this.preview,
      ]),
      this.answer.root,
      this.faults.table,
      h("div", { class: "gw-bt-fields" }, [
        h("label", { class: "gw-bt-label" }, [h("span", { text: "If a value is missing" }), this.missing]),
        this.missingText,
      ]),
      this.faults.missing,
      this.advanced,
    ]);
  }

  makePreview() {
    this.before = ghostButton("open", "Row before", { class: "gw-ghost gw-bt-back", "data-gw": "batch-row-before" });
    this.after = ghostButton("open", "Next row", { "data-gw": "batch-row-after" });
    this.before.addEventListener("click", () => this.chooseRow(this.row - 1));
    this.after.addEventListener("click", () => this.chooseRow(this.row + 1));
    this.rowWords = h("span", { class: "gw-dim gw-bt-num", "data-gw": "batch-preview-row" });
    this.tokens = h("span", { class: "gw-dim gw-bt-num", "data-gw": "batch-tokens" });
    this.messages = h("div", { class: "gw-bt-messages", tabindex: "0", role: "region", "aria-label": "Prompt of this row", "data-gw": "batch-preview" });
    this.previewFault = h("p", { class: "gw-error", "data-gw": "batch-preview-fault" });
    return h("div", { class: "gw-bt-stack" }, [
      h("div", { class: "gw-bt-line" }, [h("h3", { class: "gw-bt-grow", text: "What the model will read" }), this.before, this.rowWords, this.after]),
      this.messages,
      this.tokens,
      this.previewFault,
    ]);
  }

  makeAdvanced() {
    /** @param {string} text @param {HTMLElement} field @param {HTMLElement} fault @param {string} [title] */
    const labelled = (text, field, fault, title = "") => h("div", { class: "gw-bt-stack" }, [h("label", { class: "gw-bt-label", title }, [h("span", { text }), field]), fault]);
    const fold = h("details", { class: "gw-subfold", "data-gw": "batch-more" }, [
      h("summary", {}, [icon("open"), h("span", { text: "More settings" })]),
      h("div", { class: "gw-bt-fields" }, [
        labelled("Answers for each row", this.n, this.faults.n, "n: how often each row is asked"),
        labelled("Longest answer, in tokens", this.maxTokens, this.faults.maxTokens, "max_tokens"),
        labelled("Temperature", this.temperature, this.faults.temperature, "0: always the likeliest word, so that the same row has the same answer"),
        labelled("Title of the run", this.title, h("span")),
        this.models.root,
      ]),
    ]);
    fold.addEventListener("toggle", () => {
      if (fold.open) this.link.tell("models");
    });
    return fold;
  }

  // -- what is typed ---------------------------------------------------------------------------------

  draft() {
    return {
      prompt: this.prompt.value,
      system: this.system.value,
      turns: this.turns.get(),
      answer: this.answer.get(),
      missing: this.missing.value,
      missingText: this.missingText.value,
      n: this.n.value,
      maxTokens: this.maxTokens.value,
      temperature: this.temperature.value,
      title: this.title.value,
      models: this.models.get(),
      images: this.images.get(),
      imagesFolder: this.images.folder.value,
    };
  }

  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), DRAFT_AFTER_MS);
  }

  /** Send what was typed, at once. */
  flush() {
    clearTimeout(this.timer);
    this.timer = undefined;
    const draft = this.draft();
    const text = JSON.stringify(draft);
    if (text === this.sent) return;
    this.sent = text;
    this.link.ask("draft", { draft, fills: this.fills }).catch((error) => {
      this.faults.prompt.textContent = wordsOf(error);
    });
  }

  /** @param {string} name */
  insert(name) {
    const plain = /^[\p{L}_][\p{L}\p{N}_ ]*$/u.test(name) || /^[^{}[\]!:.]+$/.test(name);
    const isJinja = /\{%|\{\{\s*[\p{L}_]/u.test(this.texts.map((area) => area.value).join("\n"));
    const text = isJinja ? (/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name) ? `{{ ${name} }}` : `{{ row[${JSON.stringify(name)}] }}`) : plain ? `{${name}}` : `{[${name}]}`;
    const area = this.last.isConnected ? this.last : this.prompt; // a message may be gone
    area.focus();
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    this.changed();
  }

  /** All that columns can be in. */
  get texts() {
    return [this.prompt, this.system, ...this.turns.areas];
  }

  /** @param {number} row */
  chooseRow(row) {
    this.row = Math.max(0, Math.min(row, this.numRows - 1));
    this.link.tell("row", { row: this.row });
  }

  // -- what Python says ------------------------------------------------------------------------------

  /** @param {{by: string, draft: any, kept: string, fills: number, words: string, hasBefore: boolean, hasAfter: boolean}} part @param {boolean} isFirst */
  showDraft(part, isFirst) {
    this.showFilled(part);
    const text = JSON.stringify(part.draft);
    const isOther = part.fills !== this.fills;
    if (isOther && this.timer !== undefined) this.flush(); // kept with the form that was here
    this.fills = part.fills;
    if (!isFirst && !isOther && (part.by === this.link.page || this.timer !== undefined)) return;
    if (text === JSON.stringify(this.draft()) && !part.kept) return;
    const { draft } = part;
    this.sent = text;
    this.prompt.value = draft.prompt;
    this.system.value = draft.system;
    if (draft.system) this.systemFold.open = true;
    this.turns.set(draft.turns);
    this.missing.value = draft.missing;
    this.missingText.value = draft.missingText;
    this.missingText.hidden = draft.missing !== "with";
    this.n.value = draft.n;
    this.maxTokens.value = draft.maxTokens;
    this.temperature.value = draft.temperature;
    this.title.value = draft.title;
    this.models.set(draft.models);
    this.images.set(draft.images, draft.imagesFolder);
    if (draft.models.length && this.advanced instanceof HTMLDetailsElement) this.advanced.open = true;
    this.answer.set(draft.answer, part.kept);
  }

  /** Why another form is here than before, and the way back. @param {{words: string, hasBefore: boolean, hasAfter: boolean}} part */
  showFilled({ words, hasBefore, hasAfter }) {
    const key = JSON.stringify([words, hasBefore, hasAfter]);
    if (key === this.filledKey) return;
    this.filledKey = key;
    const hadFocus = this.filled.contains(document.activeElement);
    this.filled.hidden = !words && !hasAfter;
    const link = (/** @type {string} */ kind, /** @type {string} */ text) => {
      const made = h("button", { type: "button", class: "gw-link", text, "data-gw": `batch-${kind}` });
      made.addEventListener("click", () => {
        this.flush();
        this.link.tell(kind);
      });
      return made;
    };
    this.filled.replaceChildren(
      icon("info"),
      h("span", { class: "gw-bt-grow", text: words || "What came after this is kept." }),
      ...(hasBefore ? [link("draft-back", "Back to what I had")] : []),
      ...(hasAfter ? [link("draft-forward", "Forward again")] : []),
      ...(words ? [link("draft-dismiss", "Dismiss")] : []),
    );
    if (hadFocus) (/** @type {HTMLElement | null} */ (this.filled.querySelector("button")) ?? this.prompt).focus();
  }

  /** @param {{given: any}} table */
  showTable({ given }) {
    const columns = /** @type {string[]} */ (given?.columns ?? []);
    this.numRows = given?.numRows ?? 0;
    if (columns.join("\n") === this.columns.join("\n") && this.chips.childElementCount) return;
    this.columns = columns;
    const chips = columns.map((name) => {
      const chip = h("button", { type: "button", class: "gw-bt-chip", title: `Put the column “${name}” where the cursor is`, "data-gw": "batch-chip", "data-name": name, text: name });
      chip.addEventListener("mousedown", (event) => event.preventDefault()); // the cursor stays
      chip.addEventListener("click", () => this.insert(name));
      return chip;
    });
    setChildren(this.chips, chips.length ? chips : [h("span", { class: "gw-dim", text: "The table’s columns will be buttons here." })]);
  }

  /** @param {{faults: Record<string, string>, fixes: {wrong: string, right: string}[], answer: string}} judged */
  showJudged({ faults, fixes }) {
    const isEmpty = !this.prompt.value.trim();
    for (const [field, place] of Object.entries(this.faults)) {
      // An empty form is no mistake yet.
      const text = field === "prompt" && isEmpty ? "" : (faults[field] ?? "");
      if (place.textContent !== text) place.textContent = text;
    }
    const fields = { prompt: this.prompt, system: this.system, n: this.n, maxTokens: this.maxTokens, temperature: this.temperature, imagesFolder: this.images.folder };
    for (const [name, field] of Object.entries(fields)) {
      const isWrong = Boolean(this.faults[name].textContent);
      field.setAttribute("aria-invalid", String(isWrong));
      if (isWrong) field.setAttribute("aria-describedby", this.faults[name].id);
      else field.removeAttribute("aria-describedby");
    }
    const key = JSON.stringify(fixes);
    if (key === this.fixKey) return;
    this.fixKey = key;
    this.fixes.replaceChildren(
      ...fixes.map(({ wrong, right }) => {
        const button = h("button", { type: "button", class: "gw-button", text: `Use “${right}” for “${wrong}”`, "data-gw": "batch-fix" });
        button.addEventListener("click", () => {
          for (const area of this.texts) area.value = area.value.replaceAll(wrong, right);
          this.prompt.focus();
          this.flush();
        });
        return button;
      }),
    );
  }

  /** @param {any} preview @param {string} model */
  showPreview(preview, model) {
    this.row = preview.row;
    const hasRows = this.numRows > 0;
    if (this.rowWords) this.rowWords.textContent = hasRows ? `Row ${(preview.row + 1).toLocaleString("en")} of ${this.numRows.toLocaleString("en")}` : "";
    if (this.before) this.before.disabled = preview.row <= 0;
    if (this.after) this.after.disabled = preview.row >= this.numRows - 1;
    const key = JSON.stringify([preview.messages, hasRows]);
    if (key !== this.previewKey) {
      this.previewKey = key; // what has not changed is not drawn again: pictures would flicker
      const parts = preview.messages.map((/** @type {any} */ one) => h("div", { class: "gw-bt-message" }, [h("div", { class: "gw-dim", text: ROLES[one.role] ?? one.role }), ...this.parts.draw(one.parts ?? [one])]));
      if (!parts.length) parts.push(h("p", { class: "gw-dim", text: hasRows ? "The prompt of this row will be here." : "Choose a table, and write a prompt." }));
      this.messages?.replaceChildren(...parts);
    }
    if (this.tokens) {
      this.tokens.textContent = preview.tokens !== null ? `${preview.tokens.toLocaleString("en")} tokens of ${preview.room.toLocaleString("en")} that the model has room for` : preview.messages.length && !model ? "With a model you also see how many tokens it is." : "";
    }
    if (this.previewFault) this.previewFault.textContent = preview.fault;
  }
}
