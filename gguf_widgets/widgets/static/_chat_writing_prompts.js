// @ts-check
/**
 * Prompt templates: chosen from a list, filled in by a form, one's own saved, changed and shared.
 *
 * Promises: everything by keyboard, Esc goes one step back; what was typed into a form that could
 * not be saved stays there. Leaves to others: the templates themselves (Python).
 */

import { h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";
import { giveFile } from "./_give_file.js";

/**
 * @import { Link } from "./_link.js"
 * @typedef {{name: string, text: string, description: string, blanks: string[], own: boolean, replaces: boolean}} PromptView
 */

/** Blanks that hold a whole text, which may be there already. */
const LONG_BLANKS = /^(?:text|code|points|content|email|document|letter|notes)$/i;

/** @param {string} text @param {string} hook @param {() => void} act @param {string} [look] */
function promptButton(text, hook, act, look = "gw-button") {
  const button = h("button", { type: "button", class: look, text, "data-gw": hook });
  button.addEventListener("click", act);
  return button;
}

/** @param {string} label @param {HTMLInputElement | HTMLTextAreaElement} field @param {string} [help] */
function promptField(label, field, help = "") {
  const words = [h("span", { class: "gw-prompt-label", text: label })];
  if (help) words.push(h("span", { class: "gw-prompt-help", text: help }));
  return h("label", { class: "gw-prompt-field" }, [...words, field]);
}

/** @param {string} value @param {number} rows @param {string} hook */
function promptText(value, rows, hook) {
  const field = h("textarea", { rows: String(rows), "data-gw": hook, "data-lm-suppress-shortcuts": "true" });
  field.value = value;
  return field;
}

export class PromptPanel {
  /**
   * @param {Link} link @param {HTMLButtonElement} button opens it
   * @param {() => string} current what is being written @param {(text: string) => void} use
   */
  constructor(link, button, current, use) {
    this.link = link;
    this.button = button;
    this.current = current;
    this.use = use;
    /** @type {PromptView[]} */
    this.templates = [];
    this.fault = h("p", { class: "gw-chip-error", role: "alert", hidden: true });
    this.word = h("p", { class: "gw-prompt-word", role: "status", hidden: true });
    this.body = h("div", { class: "gw-prompt-body" });
    this.root = h("section", { class: "gw-prompts", "aria-label": "Prompt templates", "data-gw": "chat-prompts", hidden: true }, [this.body, this.fault, this.word]);
    /** @type {() => void} */
    this.back = () => this.close();
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => (this.root.hidden ? void this.open() : this.close()));
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        this.back();
      }
      event.stopPropagation(); // Esc stops no answer here, and JupyterLab takes no key
    });
  }

  async open() {
    this.root.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    if (await this.ask("writing-prompts")) this.showList();
  }

  close() {
    const hadFocus = this.root.contains(document.activeElement);
    this.root.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
    this.say("");
    if (hadFocus) this.button.focus();
  }

  /** @param {string} fault @param {string} [word] @param {Node} [more] */
  say(fault, word = "", more) {
    this.fault.textContent = fault;
    this.fault.hidden = !fault;
    this.word.replaceChildren(word, ...(more ? [" ", more] : []));
    this.word.hidden = !word;
  }

  /** @param {string} kind @param {object} [content] @param {ArrayBuffer[]} [buffers] @returns {Promise<any>} null when it failed, which is shown */
  async ask(kind, content = {}, buffers = []) {
    this.say("");
    try {
      const answer = await this.link.ask(kind, content, buffers);
      if (answer.templates) this.templates = answer.templates;
      return answer;
    } catch (error) {
      this.say(wordsOf(error));
      return null;
    }
  }

  /** @param {string} [chosen] the one that gets the focus */
  showList(chosen) {
    this.back = () => this.close();
    const search = h("input", { type: "search", placeholder: "Find a prompt template", "aria-label": "Find a prompt template", "data-gw": "chat-prompt-search", "data-lm-suppress-shortcuts": "true" });
    const list = h("ul", { class: "gw-prompt-list", "aria-label": "Prompt templates" });
    const none = h("p", { class: "gw-prompt-help", text: "No prompt template has these words." });
    const draw = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = this.templates.filter(({ name, description, text }) => words.every((word) => `${name} ${description} ${text}`.toLowerCase().includes(word)));
      list.replaceChildren(...found.map((template) => this.row(template)));
      none.hidden = found.length > 0;
    };
    search.addEventListener("input", draw);
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "ArrowDown") {
        event.preventDefault();
        /** @type {HTMLElement | null} */ (list.querySelector("button"))?.focus();
      }
    });
    list.addEventListener("keydown", (event) => this.onListKey(event, list, search));
    draw();
    const file = h("input", { type: "file", accept: ".json,application/json", hidden: true });
    file.addEventListener("change", () => void this.addFrom(file));
    const hasOwn = this.templates.some(({ own }) => own);
    this.body.replaceChildren(
      h("div", { class: "gw-prompt-head" }, [search, promptButton("Close", "chat-prompt-close", () => this.close())]),
      list,
      none,
      h("div", { class: "gw-prompt-foot" }, [
        promptButton("New template", "chat-prompt-new", () => this.showEditor(null)),
        promptButton("Add from a file", "chat-prompt-add", () => file.click()),
        ...(hasOwn ? [promptButton("Save yours as a file", "chat-prompt-export", () => void this.saveFile())] : []),
        file,
      ]),
    );
    const wanted = chosen === undefined ? null : [...list.querySelectorAll("button")].find((one) => one.dataset.name === chosen);
    (wanted ?? search).focus();
  }

  /** @param {KeyboardEvent} event @param {HTMLElement} list @param {HTMLElement} search */
  onListKey(event, list, search) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const buttons = [...list.querySelectorAll("button")];
    const at = buttons.indexOf(/** @type {any} */ (document.activeElement)) + (event.key === "ArrowDown" ? 1 : -1);
    event.preventDefault();
    (buttons[at] ?? (at < 0 ? search : buttons.at(-1)))?.focus();
  }

  /** @param {PromptView} template */
  row(template) {
    const button = h("button", { type: "button", class: "gw-prompt-row", "data-gw": "chat-prompt", "data-name": template.name, title: template.text }, [
      h("strong", { text: template.name }),
      h("span", { text: template.own ? template.description || "Yours" : template.description }),
    ]);
    button.addEventListener("click", () => this.choose(template));
    return h("li", {}, [button]);
  }

  /** @param {PromptView} template */
  choose(template) {
    if (template.blanks.length || template.own) this.showForm(template);
    else void this.fill(template, {});
  }

  /** @param {PromptView} template */
  showForm(template) {
    this.say("");
    this.back = () => this.showList(template.name);
    const written = this.current().trim();
    const long = template.blanks.find((name) => LONG_BLANKS.test(name));
    const fields = template.blanks.map((name) => {
      const isLong = LONG_BLANKS.test(name);
      const field = promptText(name === long ? written : "", isLong ? 4 : 1, "chat-prompt-blank");
      field.dataset.name = name;
      return field;
    });
    const form = h("form", { class: "gw-prompt-form" }, [
      h("div", { class: "gw-prompt-head" }, [h("strong", { text: template.name })]),
      ...(fields.length ? fields.map((field) => promptField(startCase(field.dataset.name ?? ""), field)) : [h("p", { class: "gw-prompt-help gw-prompt-whole", text: template.text })]),
      h("div", { class: "gw-prompt-foot" }, [
        h("button", { type: "submit", class: "gw-button gw-primary", text: "Put it into the message", "data-gw": "chat-prompt-use" }),
        promptButton("Back", "chat-prompt-back", () => this.back()),
        ...(template.own
          ? [promptButton("Change", "chat-prompt-change", () => this.showEditor(template)), promptButton("Delete", "chat-prompt-delete", () => void this.remove(template))]
          : [promptButton("Change a copy", "chat-prompt-change", () => this.showEditor({ ...template, name: `My ${template.name}` }, true))]),
      ]),
    ]);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const empty = fields.find((field) => !field.value.trim());
      if (empty) {
        this.say(`Fill in “${startCase(empty.dataset.name ?? "")}”.`);
        return empty.focus();
      }
      void this.fill(template, Object.fromEntries(fields.map((field) => [field.dataset.name, field.value])));
    });
    for (const field of fields) {
      field.addEventListener("keydown", (event) => {
        // Enter goes on in short blanks; in long ones it is a new line, and Ctrl+Enter goes on.
        if (event.key !== "Enter" || event.isComposing || event.shiftKey || (field.rows > 1 && !event.ctrlKey && !event.metaKey)) return;
        event.preventDefault();
        const next = fields[fields.indexOf(field) + 1];
        if (next && !event.ctrlKey && !event.metaKey) next.focus();
        else form.requestSubmit();
      });
    }
    this.body.replaceChildren(form);
    const first = fields.find((field) => !field.value) ?? form.querySelector("button");
    /** @type {HTMLElement | null} */ (first)?.focus();
  }

  /** @param {PromptView} template @param {Record<string, string>} values */
  async fill(template, values) {
    const answer = await this.ask("writing-prompt-fill", { name: template.name, values });
    if (!answer) return;
    this.close();
    this.use(answer.text);
  }

  /** @param {PromptView | null} template @param {boolean} [isCopy] */
  showEditor(template, isCopy = false) {
    this.say("");
    this.back = () => (template && !isCopy ? this.showForm(template) : this.showList());
    const name = h("input", { type: "text", maxlength: "60", "data-gw": "chat-prompt-name", "data-lm-suppress-shortcuts": "true" });
    name.value = template?.name ?? "";
    const description = h("input", { type: "text", maxlength: "200", "data-gw": "chat-prompt-description", "data-lm-suppress-shortcuts": "true" });
    description.value = template?.description ?? "";
    const text = promptText(template?.text ?? this.current(), 5, "chat-prompt-text");
    const form = h("form", { class: "gw-prompt-form" }, [
      h("div", { class: "gw-prompt-head" }, [h("strong", { text: template && !isCopy ? "Change the template" : "New template" })]),
      promptField("Name", name),
      promptField("Text", text, "Write {language} where something is to be filled in; {{ and }} for braces."),
      promptField("What it is for", description, "You may leave this empty."),
      h("div", { class: "gw-prompt-foot" }, [h("button", { type: "submit", class: "gw-button gw-primary", text: "Save", "data-gw": "chat-prompt-save" }), promptButton("Cancel", "chat-prompt-cancel", () => this.back())]),
    ]);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const before = template && !isCopy ? template.name : null;
      const other = this.templates.find((one) => one.own && one.name === name.value.trim() && one.name !== before);
      if (other) return this.say(`There is a template of yours called “${other.name}” already. Choose another name.`);
      void this.ask("writing-prompt-save", { name: name.value, text: text.value, description: description.value, before }).then((answer) => {
        if (answer) this.showList(answer.saved);
      });
    });
    this.body.replaceChildren(form);
    name.focus();
  }

  /** @param {PromptView} template */
  async remove(template) {
    const answer = await this.ask("writing-prompt-delete", { name: template.name });
    if (!answer) return;
    this.showList();
    const undo = promptButton("Undo", "chat-prompt-undo", () => {
      void this.ask("writing-prompt-save", answer.gone).then((done) => {
        if (done) this.showList(done.saved);
      });
    }, "gw-link");
    this.say("", `“${template.name}” is deleted.`, undo);
  }

  async saveFile() {
    const answer = await this.ask("writing-prompt-export");
    if (!answer) return;
    giveFile(answer.buffers, answer.fileName, "application/json");
  }

  /** @param {HTMLInputElement} input */
  async addFrom(input) {
    const [file] = input.files ?? [];
    if (!file) return;
    if (file.size > 4 * 1024 * 1024) return this.say("The file is larger than 4 MB: it is no file of prompt templates.");
    const answer = await this.ask("writing-prompt-add", {}, [await file.arrayBuffer()]);
    if (!answer) return;
    this.showList();
    this.say("", answer.words);
  }
}

/** @param {string} name */
const startCase = (name) => {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
};

/** The button that opens them. */
export function promptsButton() {
  return h("button", { type: "button", class: "gw-ghost", title: "Prompt templates", "aria-label": "Prompt templates", "data-gw": "chat-prompts-open" }, [icon("blanks")]);
}
