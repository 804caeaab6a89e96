// @ts-check
/**
 * The list of models on this machine: load one, watch it load, unload it, look after its file.
 *
 * Promises: shows the rows that Python sends and sets everything as text; focus and what is typed
 * outlive a redraw; every listener and timer ends with the view; a page that would end a long job by
 * being left asks first. Leaves to others: files, memory and loading (Python).
 *
 * Messages from Python: `state` (everything), `judged {fits}`, `progress {progress}`,
 * `details {details}`, `job {job}`, `answer {mid, ...}`, `notice {text}`, `pong {mid}`. Messages to
 * Python: snapshot, refresh, load {path, settings, force}, cancel, unload, details {path}, gpu (are
 * there graphics cards?), ping, and those of _picker_care.py; each with `mid`.
 */

import { Heartbeat, newMid } from "./_connection.js";
import { ghostButton, h, icon } from "./_dom.js";
import { keepKeys } from "./_lab_keys.js";
import { isActive } from "./_picker_job.js";
import { Questions } from "./_picker_line.js";
import { ListElement } from "./_picker_list.js";
import { copyable } from "./_picker_parts.js";
import { RowElement } from "./_picker_row.js";
import { NewsElement, TrashElement } from "./_picker_trash.js";

/**
 * @import { WidgetModel } from "./_connection.js"
 * @import { Job } from "./_picker_job.js"
 * @import { Answer, Then } from "./_picker_line.js"
 * @import { Progress, Row } from "./_picker_row.js"
 * @import { Removed, Trash } from "./_picker_trash.js"
 *
 * @typedef {{name: string, label: string, value: number | null, hint: string, title: string, shown: boolean}} Field
 * @typedef {{jobs: Job[], removed: Removed[], said: string, trash: Trash, trashNotice: string}} CareState
 * @typedef {{
 *   rows: Row[], progress: Progress | null, folder: string, none: boolean, fields: Field[],
 *   loadedWith: string, notice: string, care?: CareState,
 * }} PickerState
 */

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
      h("p", { class: "gw-dim" }, ["Or let the program do it, in a cell: ", h("code", { text: "gw.ModelDownloader()" }), " fetches a model from the net, ", h("code", { text: "gw.ModelUploader()" }), " brings a file through the browser."]),
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
    /** What is under way or came of it, by model. @type {Map<string, Job>} */
    this.jobs = new Map();
    /** A model that is shown and gets the focus as soon as it is listed. */
    this.wanted = "";
    this.isGone = false;
    const post = (/** @type {string} */ kind, /** @type {object} */ content = {}) => this.post(kind, content);
    this.questions = new Questions(signal);
    const isAtWork = (/** @type {string} */ key) => isActive(this.jobs.get(key) ?? null);
    this.line = { post, isAtWork, reveal: (/** @type {string} */ path) => this.reveal(path), ask: this.ask.bind(this) };
    this.list = new ListElement();
    this.settings = new SettingsElement(post, () => this.loadAgain());
    this.more = new MoreElement();
    this.notice = h("p", { class: "gw-picker-notice", role: "status" });
    const refresh = ghostButton("refresh", "Look for new files");
    refresh.addEventListener("click", () => this.post("refresh"));
    const restored = (/** @type {string} */ path) => this.reveal(path);
    this.news = new NewsElement(this.line, restored, () => refresh.focus());
    this.trash = new TrashElement(this.line, restored, () => this.news.close.focus());
    this.bar = h("div", { class: "gw-picker-bar", role: "alert", hidden: true }, [
      icon("warn"),
      h("span", { text: "The connection to Python is gone. Reload the page to go on." }),
    ]);
    this.root = h("section", { class: "gw-picker", "aria-label": "Models" }, [
      this.bar,
      h("div", { class: "gw-picker-head" }, [h("h2", { text: "Models" }), refresh]),
      this.notice,
      this.news.root,
      this.list.tools,
      this.list.rows,
      this.list.none,
      this.settings.root,
      this.more.root,
      this.trash.root,
    ]);
    if (el.closest("[data-gw-frame]")) {
      this.root.classList.add("gw-embedded");
      this.more.root.hidden = true; // the frame has its own ways to more models
    }
    el.append(this.root);
    const onMessage = (/** @type {any} */ content) => this.receive(content);
    model.on("msg:custom", onMessage);
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    addEventListener("beforeunload", (event) => this.leaving(event), { signal });
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.post("snapshot"), signal);
    keepKeys(this.root, signal);
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

  /** @param {string} kind @param {any} content @param {Then} then */
  ask(kind, content, then) {
    const key = content.path ?? `trash:${content.id ?? ""}`;
    const mid = this.questions.add(then, () => isActive(this.jobs.get(key) ?? null));
    if (this.isGone) return this.questions.failAll();
    try {
      this.post(kind, { ...content, mid });
    } catch {
      this.questions.failAll(); // the comm is closed
    }
    return undefined;
  }

  /** Show a model of the list and give it the focus, now or when it is listed. @param {string} path */
  reveal(path) {
    const element = this.rows.get(path);
    this.wanted = element ? "" : path;
    if (!element) return;
    if (element.root.hidden) this.list.reset();
    element.root.scrollIntoView({ block: "nearest" });
    element.info.focus();
    element.info.classList.add("gw-pointed");
    element.info.addEventListener("blur", () => element.info.classList.remove("gw-pointed"), { once: true });
  }

  /**
   * A Voila page has a Python of its own, which ends with the page; what it is writing then is lost.
   * @param {BeforeUnloadEvent} event
   */
  leaving(event) {
    const writes = [...this.jobs.values()].some((job) => isActive(job) && job.kind !== "check");
    if (writes && document.body.dataset.voila !== undefined) event.preventDefault();
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
    else if (content.kind === "judged") this.judge(content.fits);
    else if (content.kind === "job") this.showJob(content.job);
    else if (content.kind === "answer") this.answer(content);
    else if (content.kind === "notice") this.notice.textContent = content.text;
    else if (content.kind === "progress") this.rows.get(content.progress.path)?.showProgress(content.progress);
  }

  /** @param {Answer} answer */
  answer(answer) {
    const { renamed, removed } = answer;
    if (renamed) {
      const element = this.rows.get(renamed.from);
      this.rows.delete(renamed.from);
      if (element) {
        this.rows.set(renamed.to, element);
        element.move(renamed.to);
      }
    }
    // The row goes, and with it the button that was pressed.
    if (removed && this.rows.get(removed.path)?.root.contains(document.activeElement)) this.news.want(removed.id);
    this.questions.take(answer);
  }

  /** @param {Record<string, Row["fit"]>} fits by path */
  judge(fits) {
    for (const [path, fit] of Object.entries(fits)) this.rows.get(path)?.judged(fit);
    this.list.judged();
  }

  /** @param {Job} job */
  showJob(job) {
    this.jobs.set(job.key, job);
    if (job.key.startsWith("trash:")) this.trash.showJob(job);
    else this.rows.get(job.key)?.showJob(job);
  }

  /** @param {CareState} care */
  showCare({ jobs, removed, said, trash, trashNotice }) {
    this.jobs = new Map(jobs.map((job) => [job.key, job]));
    for (const [path, element] of this.rows) element.showJob(this.jobs.get(path) ?? null);
    this.news.show(removed, said);
    this.trash.show(trash, trashNotice);
    for (const job of jobs) if (job.key.startsWith("trash:")) this.trash.showJob(job);
  }

  /** @param {PickerState} state */
  show(state) {
    const first = this.state === null;
    this.state = state;
    const waiting = state.progress !== null;
    const known = this.rows;
    this.rows = new Map();
    for (const row of state.rows) {
      const element = known.get(row.path) ?? new RowElement(this.line);
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
    if (state.care) this.showCare(state.care);
    if (this.wanted) this.reveal(this.wanted);
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    if (state !== "busy") this.isGone = state === "gone";
    if (this.isGone) this.questions.failAll();
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
