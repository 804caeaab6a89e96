// @ts-check
/**
 * The sides: which model each is, how it differs, and whether memory holds them.
 *
 * Promises: a side's settings say in its heading what they change; two to four sides; what is wrong
 * stands at its field, and opens what it is in. Leaves to others: models and memory (Python), the
 * draft (`_comparison_form`).
 */

import { SIDE_LETTERS, labelled, setChoices, showFault, sideBadge } from "./_comparison_form.js";
import { ghostButton, h, icon } from "./_dom.js";

/**
 * @import { Link } from "./_link.js"
 * @import { ComparisonForm, SideDraft } from "./_comparison_form.js"
 * @typedef {{key: string, name: string, words: string, fit: {verdict: string, text: string, title: string} | null, isLoaded: boolean}} ModelChoice
 */

const LEAST_SIDES = 2;
const SHORT_FIELDS = /** @type {[keyof SideDraft, string, string, string][]} */ ([
  ["label", "Name", "from the model", "What this side is called in tables and pictures"],
  ["temperature", "Temperature", "0", "0 always takes the likeliest word; 0.8 varies (temperature)"],
  ["top_p", "Choose among", "all", "The likeliest words that together have this share, such as 0.9 (top_p)"],
  ["seed", "Seed", "drawn", "The same number gives the same draw (seed)"],
  ["n_ctx", "Context", "automatic", "How many tokens fit, prompt and answer together (n_ctx)"],
]);
const LONG_FIELDS = /** @type {[keyof SideDraft, string, string, string][]} */ ([
  ["system", "System prompt", "None", "What this side is told before everything else"],
  ["wording", "Its own wording", "Answer in one word. {prompt}", "Another wording of the same prompt: {prompt} stands for what is asked"],
]);

class SideCard {
  /** @param {ComparisonForm} form @param {number} number @param {() => void} remove */
  constructor(form, number, remove) {
    this.form = form;
    this.number = number;
    const letter = SIDE_LETTERS[number];
    this.model = h("select", { class: "gw-field", "aria-label": `Model of side ${letter}`, "data-gw": "comparison-model", "data-number": String(number) });
    this.model.addEventListener("change", () => form.setSide(number, { model: this.model.value }));
    this.remove = ghostButton("close", `Take side ${letter} away`, { "data-gw": "comparison-remove", "data-number": String(number) });
    this.remove.addEventListener("click", remove);
    this.words = h("p", { class: "gw-dim gw-cmp-fit", "data-gw": "comparison-fit", "data-number": String(number) });
    this.modelFault = h("p", { class: "gw-error", role: "alert" });
    this.summary = h("span", { class: "gw-dim gw-cmp-summary" });
    /** @type {Map<string, {control: HTMLInputElement | HTMLTextAreaElement, fault: HTMLElement}>} */
    this.fields = new Map();
    const short = SHORT_FIELDS.map(([name, label, hint, title]) => {
      const control = h("input", { class: "gw-field", placeholder: hint, autocomplete: "off", maxlength: "60", "data-lm-suppress-shortcuts": "true", "data-gw": `comparison-${name}`, "data-number": String(number) });
      return this.field(name, control, label, title);
    });
    const long = LONG_FIELDS.map(([name, label, hint, title]) => {
      const control = h("textarea", { class: "gw-bt-area", rows: "2", placeholder: hint, "data-lm-suppress-shortcuts": "true", "data-gw": `comparison-${name}`, "data-number": String(number) });
      return this.field(name, control, label, title);
    });
    this.fold = h("details", { class: "gw-subfold" }, [
      h("summary", { "data-gw": "comparison-settings", "data-number": String(number) }, [icon("open"), h("span", { text: "Settings" }), this.summary]),
      h("div", { class: "gw-cmp-settings" }, [h("div", { class: "gw-cmp-short" }, short), ...long]),
    ]);
    this.root = h("section", { class: "gw-cmp-side", "aria-label": `Side ${letter}`, "data-gw": "comparison-side", "data-number": String(number) }, [
      h("div", { class: "gw-cmp-sidehead" }, [sideBadge(number), this.model, this.remove]),
      this.words,
      this.modelFault,
      this.fold,
    ]);
  }

  /** @param {keyof SideDraft} name @param {HTMLInputElement | HTMLTextAreaElement} control @param {string} label @param {string} title */
  field(name, control, label, title) {
    control.addEventListener("input", () => this.form.setSide(this.number, { [name]: control.value }, true));
    const { root, fault } = labelled(control, label, title);
    this.fields.set(name, { control, fault });
    return root;
  }

  /** Put the draft's values into the fields. @param {SideDraft} draft */
  fill(draft) {
    for (const [name, { control }] of this.fields) {
      const value = draft[/** @type {keyof SideDraft} */ (name)];
      if (control.value !== value) control.value = value;
    }
  }

  /** @param {SideDraft} draft @param {{list: ModelChoice[], hasLooked: boolean}} models @param {Record<string, string>} faults */
  show(draft, models, faults) {
    const choices = /** @type {[string, string][]} */ (models.list.map(({ key, name, words }) => [key, words ? `${name} · ${words}` : name]));
    const chosen = models.list.find(({ key }) => key === draft.model);
    if (!chosen && draft.model) choices.unshift([draft.model, `${draft.model} · not here`]);
    if (!draft.model) choices.unshift(["", models.hasLooked ? "Choose a model" : "Looking for models…"]);
    setChoices(this.model, choices, draft.model);
    this.model.title = chosen ? `${chosen.name} · ${chosen.words}` : draft.model;
    const fit = chosen?.fit;
    const words = chosen?.isLoaded ? "In memory already" : (fit?.text ?? (chosen ? "" : ""));
    if (this.words.textContent !== words) this.words.textContent = words;
    this.words.title = fit?.title ?? "";
    this.words.classList.toggle("gw-error", fit?.verdict === "no" && !chosen?.isLoaded);
    showFault(this.modelFault, this.model, faults[`sides.${this.number}.model`]);
    let hasFault = false;
    for (const [name, { control, fault }] of this.fields) {
      const told = faults[`sides.${this.number}.${name}`];
      showFault(fault, control, told);
      hasFault ||= Boolean(told);
    }
    if (hasFault) this.fold.open = true;
    const changed = [
      draft.temperature && `temperature ${draft.temperature}`,
      draft.top_p && `top_p ${draft.top_p}`,
      draft.seed && `seed ${draft.seed}`,
      draft.n_ctx && `context ${draft.n_ctx}`,
      draft.system.trim() && "system prompt",
      draft.wording.trim() && "own wording",
    ].filter(Boolean);
    this.summary.textContent = this.summary.title = changed.length ? changed.join(", ") : "as usual";
  }
}

export class SidesPart {
  /** @param {Link} link @param {ComparisonForm} form */
  constructor(link, form) {
    this.form = form;
    /** @type {SideCard[]} */
    this.cards = [];
    this.grid = h("div", { class: "gw-cmp-grid" });
    this.add = h("button", { type: "button", class: "gw-button", text: "Add a side", "data-gw": "comparison-add" });
    this.add.addEventListener("click", () => this.addSide());
    this.again = ghostButton("refresh", "Look for models again", { "data-gw": "comparison-refresh" });
    this.again.addEventListener("click", () => link.tell("models"));
    this.memory = h("p", { class: "gw-dim", role: "status", "data-gw": "comparison-memory" });
    this.only = h("div", { class: "gw-cmp-only", "data-gw": "comparison-only", hidden: true });
    this.notes = h("div", { class: "gw-bt-stack" });
    this.fault = h("p", { class: "gw-error", role: "alert" });
    this.root = h("section", { class: "gw-bt-part", "aria-label": "What is compared" }, [
      h("div", { class: "gw-bt-line" }, [h("h3", { class: "gw-bt-grow", text: "What is compared" }), this.again, this.add]),
      this.only,
      this.grid,
      this.fault,
      this.memory,
      this.notes,
    ]);
  }

  addSide() {
    const { sides } = this.form.draft;
    const last = sides[sides.length - 1];
    const unused = this.models?.list.find(({ key }) => !sides.some((side) => side.model === key));
    const model = unused?.key ?? last?.model ?? "";
    this.form.set({ sides: [...sides, { model, label: "", temperature: "", top_p: "", seed: "", n_ctx: "", system: "", wording: "" }] });
    this.fill();
    const card = this.cards[this.cards.length - 1];
    if (!unused && card) card.fold.open = true;
    card?.model.focus();
  }

  /** @param {number} number */
  removeSide(number) {
    this.form.set({ sides: this.form.draft.sides.filter((_, i) => i !== number) });
    this.fill();
    (this.cards[Math.min(number, this.cards.length - 1)]?.model ?? this.add).focus();
  }

  /** Put the draft into the fields: it is another one. */
  fill() {
    const { sides } = this.form.draft;
    while (this.cards.length > sides.length) this.cards.pop()?.root.remove();
    for (let i = this.cards.length; i < sides.length; i += 1) {
      const card = new SideCard(this.form, i, () => this.removeSide(i));
      this.cards.push(card);
      this.grid.append(card.root);
    }
    sides.forEach((side, i) => this.cards[i].fill(side));
    this.grid.dataset.count = String(sides.length);
  }

  /** @param {{list: ModelChoice[], hasLooked: boolean, most: number}} models @param {{faults: Record<string, string>, notes: string[]}} judged @param {{verdict: string, words: string}} memory @param {boolean} isFramed */
  show(models, judged, memory, isFramed) {
    this.models = models;
    const { sides } = this.form.draft;
    if (this.cards.length !== sides.length) this.fill();
    sides.forEach((side, i) => {
      this.cards[i].show(side, models, judged.faults);
      this.cards[i].remove.hidden = sides.length <= LEAST_SIDES;
    });
    this.add.disabled = sides.length >= models.most || !models.list.length;
    this.add.title = sides.length >= models.most ? `There can be ${models.most} sides` : "";
    this.showOnly(models, isFramed);
    showFault(this.fault, this.grid, sides.length ? judged.faults.sides : undefined);
    if (this.memory.textContent !== memory.words) this.memory.textContent = memory.words;
    this.memory.dataset.verdict = memory.verdict;
    const key = JSON.stringify(judged.notes);
    if (this.notes.dataset.key !== key) {
      this.notes.dataset.key = key;
      this.notes.replaceChildren(...judged.notes.map((text) => h("p", { class: "gw-bt-mind" }, [icon("warn"), h("span", { text })])));
    }
  }

  /** With one model, or none: what can be compared then. @param {{list: ModelChoice[], hasLooked: boolean}} models @param {boolean} isFramed */
  showOnly(models, isFramed) {
    const count = models.list.length;
    const key = `${models.hasLooked}${count}${isFramed}`;
    this.only.hidden = !models.hasLooked || count > 1;
    if (this.only.dataset.key === key) return;
    this.only.dataset.key = key;
    const text = count
      ? "There is one model on this computer. You can compare it with itself: other settings, another system prompt, or another wording of the same question."
      : "There is no model on this computer yet.";
    const parts = [icon("info"), h("span", { class: "gw-bt-grow", text: isFramed ? text : `${text} Another one: gw.ModelDownloader() or gw.ModelUploader().` })];
    if (isFramed) {
      const get = h("button", { type: "button", class: "gw-link", text: "Get another model", "data-gw": "comparison-get" });
      get.addEventListener("click", () => this.root.dispatchEvent(new CustomEvent("gw-choose-model", { bubbles: true })));
      parts.push(get);
    }
    this.only.replaceChildren(...parts);
  }
}
