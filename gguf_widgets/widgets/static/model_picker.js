// @ts-check
/**
 * The list of models on this machine: load one, watch it load, unload it.
 *
 * Promises: shows the rows that Python sends and sets everything as text; focus and what is typed
 * into the settings outlive a redraw; every listener and timer ends with the view. Leaves to
 * others: files, memory and loading (Python).
 *
 * Messages from Python: `state` (everything), `progress {progress}`, `details {details}`,
 * `notice {text}`, `pong {mid}`. Messages to Python: snapshot, refresh, load {path, settings, force},
 * cancel, unload, details {path}, gpu (are there graphics cards?), ping; each with `mid`.
 */

import { Heartbeat, newMid } from "./_connection.js";
import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h, icon } from "./_dom.js";
import { DetailsElement } from "./_picker_details.js";
import { ListElement } from "./_picker_list.js";

/**
 * @import { WidgetModel } from "./_connection.js"
 *
 * @typedef {{title: string, text: string}} ErrorView
 * @typedef {{label: string, settings: Record<string, number>, force: boolean, first?: boolean}} Offer
 * @typedef {{path: string, fraction: number, phrase: string, left: string}} Progress
 * @typedef {{
 *   path: string, name: string, lines: string[], notes: string[], title: string, usable: boolean,
 *   status: "idle" | "loading" | "loaded", chosen: boolean, demo: boolean, error: ErrorView | null, offers: Offer[],
 *   fit: {verdict: string, text: string, title: string} | null, words: string, can: string[],
 *   sources: string[], size: number, parameters: number, used: number,
 * }} Row
 * @typedef {{name: string, label: string, value: number | null, hint: string, title: string, shown: boolean}} Field
 * @typedef {{
 *   rows: Row[], progress: Progress | null, folder: string, none: boolean, fields: Field[],
 *   loadedWith: string, notice: string,
 * }} PickerState
 */

/** A text in a code font with a Copy button. @param {string} text @param {string} label */
function copyable(text, label) {
  const button = ghostButton("copy", label);
  button.addEventListener("click", async () => {
    if (await copyText(text)) confirmCopy(button);
  });
  // A long path is broken after a folder, where it can be, and copied as it is.
  const parts = text.split(/(?<=[/\\])/).flatMap((part) => [part, h("wbr")]);
  return h("div", { class: "gw-copyable" }, [h("code", { title: text }, parts), button]);
}

/** One model of the list. It is kept while its path is listed, so that focus stays. */
class RowElement {
  /** @param {(kind: string, content?: object) => void} post */
  constructor(post) {
    this.post = post;
    /** @type {Row | null} */
    this.row = null;
    this.name = h("span", { class: "gw-row-name" });
    this.button = h("button", { type: "button", class: "gw-button" });
    this.button.addEventListener("click", () => this.press());
    this.info = ghostButton("info", "About this model", { "data-gw": "picker-info", "aria-expanded": "false" });
    this.info.addEventListener("click", () => this.toggle());
    /** @type {DetailsElement | null} */
    this.details = null;
    this.fit = h("p", { class: "gw-row-fit" });
    this.lines = h("div", { class: "gw-row-lines" });
    this.fill = h("span", { class: "gw-progress-fill" });
    this.track = h("div", { class: "gw-progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, [this.fill]);
    this.phrase = h("p", { class: "gw-row-phrase" });
    this.loading = h("div", { "data-gw": "picker-progress" }, [this.track, this.phrase]);
    this.error = h("div", { class: "gw-row-error" });
    this.root = h("li", { class: "gw-row", "data-gw": "picker-row" });
    this.root.append(h("div", { class: "gw-row-head" }, [this.name, this.info, this.button]), this.lines, this.fit, this.loading, this.error);
  }

  /** Open or close what is known of it. */
  toggle() {
    if (!this.row) return;
    const open = this.info.getAttribute("aria-expanded") !== "true";
    this.info.setAttribute("aria-expanded", String(open));
    if (open && !this.details) {
      this.details = new DetailsElement((nCtx) => this.row && this.post("load", { path: this.row.path, settings: { n_ctx: nCtx } }));
      this.root.append(this.details.root);
    }
    if (this.details) this.details.root.hidden = !open;
    if (open) this.post("details", { path: this.row.path });
  }

  press() {
    if (!this.row) return;
    if (this.row.status === "loading") this.post("cancel");
    else if (this.row.status === "loaded") this.post("unload");
    else this.post("load", { path: this.row.path });
  }

  /** @param {Row} row @param {boolean} waiting whether another model is being loaded */
  update(row, waiting) {
    const before = this.row;
    this.row = row;
    Object.assign(this.root.dataset, { name: row.name, status: row.status, usable: String(row.usable) });
    this.name.textContent = row.name;
    this.root.title = [row.title, row.fit?.text ?? ""].filter(Boolean).join("\n");
    const notes = row.notes.map((text) => h("p", { class: row.demo ? "gw-row-note gw-row-demo" : "gw-row-note", text }));
    this.lines.replaceChildren(...row.lines.map((text) => h("p", { text })), ...notes);
    // That it fits is what one expects: it is in the tooltip, and can be asked for above the list.
    this.fit.textContent = row.fit && row.fit.verdict !== "yes" ? row.fit.text : "";
    this.fit.hidden = !this.fit.textContent;
    this.fit.title = row.fit?.title ?? "";
    this.fit.dataset.verdict = row.fit?.verdict ?? "";
    this.loading.hidden = row.status !== "loading";
    this.info.hidden = !row.usable;
    this.info.setAttribute("aria-label", `About the model ${row.name}`);
    this.showButton(row, waiting);
    const shown = (/** @type {Row | null} */ of) => JSON.stringify([of?.error, of?.offers, of?.usable]);
    if (shown(row) !== shown(before)) this.showError(row); // a button in it may have the focus
  }

  /** @param {Row} row @param {boolean} waiting */
  showButton(row, waiting) {
    const kinds = {
      idle: ["Load", "picker-load", `Load the model ${row.name}`],
      loading: ["Cancel", "picker-cancel", `Cancel loading ${row.name}`],
      loaded: ["Unload", "picker-unload", `Unload the model ${row.name} and give its memory back`],
    };
    const [label, hook, title] = /** @type {[string, string, string]} */ (kinds[row.status]);
    this.button.textContent = label;
    if (row.usable) this.button.dataset.gw = hook;
    else delete this.button.dataset.gw;
    this.button.title = title;
    this.button.setAttribute("aria-label", title);
    this.button.hidden = !row.usable;
    this.button.disabled = waiting && row.status === "idle";
    this.button.classList.toggle("gw-primary", row.status === "idle" && row.chosen);
  }

  /** @param {Row} row */
  showError(row) {
    this.error.hidden = !row.error;
    if (!row.error) {
      delete this.error.dataset.gw;
      this.error.replaceChildren();
      return;
    }
    this.error.dataset.gw = "picker-error";
    // A file that cannot be used is a fact; a load that failed is news.
    const title = row.usable ? [h("strong", { text: row.error.title })] : [];
    this.error.replaceChildren(...title, h("p", { text: row.error.text }));
    for (const { label, ...how } of row.offers) {
      const offer = h("button", { type: "button", class: "gw-button", text: label });
      offer.addEventListener("click", () => {
        this.button.focus(); // this one goes
        this.post("load", { path: row.path, ...how });
      });
      this.error.append(offer);
    }
  }

  /** @param {Progress} progress */
  showProgress(progress) {
    const percent = Math.round(progress.fraction * 100);
    this.fill.style.width = `${percent}%`;
    this.track.setAttribute("aria-valuenow", String(percent));
    this.track.setAttribute("aria-label", progress.phrase);
    const text = percent > 0 ? `${progress.phrase} ${percent}%` : progress.phrase;
    this.phrase.replaceChildren(h("span", { text }), h("span", { text: progress.left }));
  }
}

/** The settings for the next load; what is typed stays until it is used. */
class SettingsElement {
  /** @param {(kind: string, content?: object) => void} post @param {() => void} again */
  constructor(post, again) {
    /** @type {Map<string, {row: HTMLElement, input: HTMLInputElement}>} */
    this.fields = new Map();
    this.list = h("div", { class: "gw-fields" });
    this.loadedWith = h("p", { class: "gw-dim" });
    this.button = h("button", { type: "button", class: "gw-button", text: "Load again with these" });
    this.button.addEventListener("click", again);
    this.root = h("details", { class: "gw-fold" }, [
      h("summary", {}, [icon("open"), "Settings"]),
      h("div", { class: "gw-fold-body" }, [this.list, this.loadedWith, this.button]),
    ]);
    this.root.addEventListener("toggle", () => this.root.open && post("gpu"));
  }

  /** @param {Field[]} fields @param {string} loadedWith */
  update(fields, loadedWith) {
    for (const field of fields) this.put(field);
    this.loadedWith.textContent = loadedWith || "They count from the next load.";
    this.button.hidden = !loadedWith;
  }

  /** @param {Field} field */
  put(field) {
    let known = this.fields.get(field.name);
    if (!known) {
      const input = h("input", { type: "number", min: "-1", step: "1", inputmode: "numeric", "data-lm-suppress-shortcuts": "true" });
      if (field.value !== null) input.value = String(field.value);
      known = { input, row: h("label", { title: field.title }, [h("span", { text: field.label }), input]) };
      this.fields.set(field.name, known);
      this.list.append(known.row);
    }
    known.row.hidden = !field.shown;
    known.input.placeholder = field.hint;
  }

  /** @returns {Record<string, number>} what was typed; a setting left empty is chosen by the program */
  values() {
    /** @type {Record<string, number>} */
    const values = {};
    for (const [name, { input, row }] of this.fields) {
      if (!row.hidden && input.value !== "") values[name] = Number(input.value);
    }
    return values;
  }
}

/** What to do to get (more) models. */
class MoreElement {
  constructor() {
    this.body = h("div", { class: "gw-fold-body" });
    this.root = h("details", { class: "gw-fold", "data-gw": "picker-more" }, [h("summary", {}, [icon("open"), "Add a bigger model"]), this.body]);
    this.folder = "";
    this.opened = false;
  }

  /** @param {PickerState} state */
  update(state) {
    if (state.none && !this.opened) this.root.open = this.opened = true;
    if (state.none) this.root.dataset.gw = "picker-empty";
    else this.root.dataset.gw = "picker-more";
    if (state.folder === this.folder) return;
    this.folder = state.folder;
    const link = h("a", { href: "https://huggingface.co/models?library=gguf", target: "_blank", rel: "noopener noreferrer", text: "huggingface.co" });
    this.body.replaceChildren(
      h("ol", {}, [
        h("li", {}, ["Look for a model in the GGUF format, for example on ", link, ". A file ending in Q4_K_M.gguf of about 1 GB runs well with 4 GB of memory."]),
        h("li", {}, ["Put the file into this folder; it then appears above.", copyable(state.folder, "Copy the folder's path")]),
      ]),
    );
  }
}

/** The view: owns the parts above and talks to Python. */
class PickerView {
  /** @param {WidgetModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    /** @type {Map<string, RowElement>} */
    this.rows = new Map();
    /** @type {PickerState | null} */
    this.state = null;
    const post = (/** @type {string} */ kind, /** @type {object} */ content = {}) => this.post(kind, content);
    this.list = new ListElement();
    this.settings = new SettingsElement(post, () => this.loadAgain());
    this.more = new MoreElement();
    this.notice = h("p", { class: "gw-picker-notice", role: "status" });
    const refresh = ghostButton("refresh", "Look for new files");
    refresh.addEventListener("click", () => this.post("refresh"));
    this.bar = h("div", { class: "gw-picker-bar", role: "alert", hidden: true }, [
      icon("warn"),
      h("span", { text: "The connection to Python is gone. Reload the page to go on." }),
    ]);
    this.root = h("section", { class: "gw-picker", "aria-label": "Models" }, [
      this.bar,
      h("div", { class: "gw-picker-head" }, [h("h2", { text: "Models" }), refresh]),
      this.notice,
      this.list.tools,
      this.list.rows,
      this.list.none,
      this.settings.root,
      this.more.root,
    ]);
    if (el.closest("[data-gw-frame]")) this.root.classList.add("gw-embedded");
    el.append(this.root);
    const onMessage = (/** @type {any} */ content) => this.receive(content);
    model.on("msg:custom", onMessage);
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.post("snapshot"), signal);
    this.post("snapshot");
  }

  /** @param {string} kind @param {object} [content] */
  post(kind, content = {}) {
    const message = { kind, mid: newMid(), ...content };
    // An offer's own settings go over what was typed.
    const offered = "settings" in message ? /** @type {object} */ (message.settings) : {};
    const settings = { ...this.settings.values(), ...offered };
    this.model.send(kind === "load" ? { ...message, settings } : message);
  }

  loadAgain() {
    const loaded = this.state?.rows.find((row) => row.status === "loaded");
    if (loaded) this.post("load", { path: loaded.path });
  }

  /** @param {any} content */
  receive(content) {
    this.heartbeat.heard();
    if (content.kind === "state") this.show(content.state);
    else if (content.kind === "details") this.rows.get(content.details.path)?.details?.show(content.details);
    else if (content.kind === "notice") this.notice.textContent = content.text;
    else if (content.kind === "progress") this.rows.get(content.progress.path)?.showProgress(content.progress);
  }

  /** @param {PickerState} state */
  show(state) {
    const first = this.state === null;
    this.state = state;
    const waiting = state.progress !== null;
    const known = this.rows;
    this.rows = new Map();
    for (const row of state.rows) {
      const element = known.get(row.path) ?? new RowElement((kind, content) => this.post(kind, content));
      element.update(row, waiting);
      this.rows.set(row.path, element);
    }
    this.list.show([...this.rows.values()]);
    const loaded = [...this.rows.values()].find((row) => row.row?.status === "loaded");
    if (first && loaded) this.list.reveal(loaded.root);
    if (state.progress) this.rows.get(state.progress.path)?.showProgress(state.progress);
    this.notice.textContent = state.notice;
    this.settings.update(state.fields, state.loadedWith);
    this.more.update(state);
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    if (state === "busy") return; // no reason to reload: the bar stays as it is
    if (this.root.classList.contains("gw-embedded")) return; // the frame has its own bar
    const gone = state === "gone";
    this.bar.hidden = !gone;
    if (gone) this.bar.dataset.gw = "gw-disconnected";
    else delete this.bar.dataset.gw;
  }
}

/** @param {{model: WidgetModel, el: HTMLElement}} context */
function render({ model, el }) {
  const controller = new AbortController();
  const view = new PickerView(model, el, controller.signal);
  return () => {
    controller.abort();
    view.root.remove();
  };
}

export default { render };
