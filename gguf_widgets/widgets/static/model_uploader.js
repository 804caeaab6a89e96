// @ts-check
/**
 * Bring model files to this machine: drop them, watch them arrive, go on with what was left.
 *
 * Promises: a file is never read whole; what was chosen is kept as a row until it is dismissed; one
 * sentence at a time is said to screen readers, when something changes, not for each piece; every
 * listener and timer ends with the view, and what was under way is let go of, so that the same file
 * goes on wherever it is chosen next. Leaves to others: what is an acceptable file (Python).
 */

import { BrowsePanel } from "./_browse_panel.js";
import { Heartbeat, newMid } from "./_connection.js";
import { h, icon, setChildren } from "./_dom.js";
import { keepKeys } from "./_lab_keys.js";
import { CommTransport } from "./_upload_comm.js";
import { ChosenFile, Refused } from "./_upload_file.js";
import { findHttpRoute } from "./_upload_http.js";
import { Job } from "./_upload_job.js";
import { JobRow, UnfinishedRow } from "./_upload_row.js";
import { sizeText, titleOf } from "./_upload_words.js";

/**
 * @import { BrowseState } from "./_browse_panel.js"
 * @import { BinaryModel, Transport } from "./_upload_comm.js"
 * @import { RowAction, Unfinished } from "./_upload_row.js"
 * @import { Way } from "./_upload_words.js"
 *
 * @typedef {{folder: string, room: string, route: string, listed: boolean, notice: string, uploads: Unfinished[], browse: BrowseState}} UploaderState
 */

const HERE_EVERY_MS = 5000;
// More are begun when others have ended, so that a hundred files do not come at once.
const MOST_BEGUN = 8;
const MOST_FILES = 200;
const STEP = 25; // percent between two things said of one upload

/** Where files are dropped, or chosen. */
class DropZone {
  /** @param {(files: File[]) => void} take @param {(text: string) => void} refuse */
  constructor(take, refuse) {
    this.input = h("input", { type: "file", multiple: true, accept: ".gguf", hidden: true, tabindex: "-1", "aria-hidden": "true", "data-gw": "upload-input" });
    this.hint = h("span", { class: "gw-up-hint" });
    this.root = h("button", { type: "button", class: "gw-up-drop", "data-gw": "upload-drop" }, [
      icon("upload"),
      h("span", { class: "gw-up-drop-text" }, [
        h("span", { class: "gw-up-call" }, [h("strong", { text: "Choose a file" }), " or drop it here"]),
        this.hint,
      ]),
    ]);
    this.root.addEventListener("click", () => this.open(take));
    /** @type {(files: File[]) => void} */
    this.then = take;
    this.input.addEventListener("change", () => {
      const files = [...(this.input.files ?? [])];
      this.input.value = ""; // so that the same file can be chosen again
      if (files.length) this.then(files);
    });
    this.take = take;
    this.refuse = refuse;
  }

  /** @param {(files: File[]) => void} then */
  open(then) {
    this.then = then;
    this.input.click();
  }

  /** Let files be dropped anywhere on the widget. @param {HTMLElement} place @param {AbortSignal} signal */
  listen(place, signal) {
    let depth = 0;
    const mark = (/** @type {number} */ next) => {
      depth = Math.max(0, next);
      place.classList.toggle("gw-up-over", depth > 0);
    };
    const on = (/** @type {string} */ name, /** @type {(event: DragEvent) => void} */ listener) =>
      place.addEventListener(
        name,
        (event) => {
          const drag = /** @type {DragEvent} */ (event);
          if (!drag.dataTransfer?.types.includes("Files")) return;
          event.preventDefault(); // or the browser leaves the page and shows the file
          event.stopPropagation();
          listener(drag);
        },
        { signal },
      );
    on("dragenter", () => mark(depth + 1));
    on("dragleave", () => mark(depth - 1));
    on("dragover", (event) => {
      if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
    });
    on("drop", (event) => {
      mark(0);
      const items = [...(event.dataTransfer?.items ?? [])];
      const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
      const files = items.filter((item) => !folders.includes(item)).flatMap((item) => item.getAsFile() ?? []);
      if (folders.length) this.refuse("A folder cannot be uploaded. Drop the files that are in it.");
      if (files.length) this.take(files);
    });
  }
}

/** The view: owns the rows and the ways to the server. */
class UploaderView {
  /** @param {BinaryModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    this.signal = signal;
    this.page = newMid() + newMid();
    this.comm = new CommTransport(model, this.page, signal);
    /** Found with the first state. @type {Promise<Transport> | null} */
    this.way = null;
    /** @type {Map<Job, JobRow>} */
    this.jobs = new Map();
    /** @type {Map<string, UnfinishedRow>} */
    this.left = new Map();
    /** @type {Unfinished[]} */
    this.uploads = [];
    this.isListed = false;
    this.holding = false;
    /** @type {Map<Job, number>} */
    this.said = new Map();

    this.zone = new DropZone((files) => this.add(files), (text) => this.note(text));
    this.bar = h("div", { class: "gw-up-bar", role: "alert", hidden: true }, [
      icon("warn"),
      h("span", { text: "Python does not answer. Uploads go on by themselves when it does. If it was restarted, load this page (in a notebook: run this cell) again, then choose the same file: it goes on where it stopped." }),
    ]);
    this.browse = new BrowsePanel((kind, content) => this.comm.request(kind, content), (text) => this.say(text));
    this.notice = h("p", { class: "gw-up-notice", "data-gw": "upload-notice" });
    this.rows = h("ul", { class: "gw-up-rows", role: "list", "aria-label": "Uploads of this page" });
    this.unfinished = h("ul", { class: "gw-up-rows", role: "list", "aria-label": "Left unfinished" });
    this.leftPart = h("div", { hidden: true, "data-gw": "upload-unfinished" }, [h("h3", { text: "Left unfinished" }), this.unfinished]);
    this.empty = h("p", { class: "gw-up-empty", "data-gw": "upload-empty" });
    this.live = h("div", { class: "gw-live", role: "status", "aria-live": "polite" });
    this.root = h("section", { class: "gw-upload", "aria-label": "Upload models", "data-gw": "uploader" }, [
      this.bar,
      h("div", { class: "gw-up-top" }, [h("h2", { text: "Upload a model" })]),
      this.zone.root,
      this.zone.input,
      this.browse.root,
      this.notice,
      this.rows,
      this.leftPart,
      this.empty,
      this.live,
    ]);
    if (el.closest("[data-gw-frame]")) this.root.classList.add("gw-embedded");
    el.append(this.root);
    this.zone.listen(this.root, signal);

    const onMessage = (/** @type {any} */ content) => this.receive(content);
    model.on("msg:custom", onMessage);
    const here = setInterval(() => this.sayHere(), HERE_EVERY_MS);
    const leave = () => this.leave();
    addEventListener("pagehide", leave, { signal });
    signal.addEventListener("abort", () => {
      model.off("msg:custom", onMessage);
      clearInterval(here);
      this.leave();
      for (const job of this.jobs.keys()) job.stopping.abort();
    });
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.ask("snapshot"), signal);
    keepKeys(this.root, signal);
    this.ask("snapshot");
  }

  // -- Python ----------------------------------------------------------------------------------------

  /** @param {string} kind @param {object} [content] */
  ask(kind, content = {}) {
    try {
      this.comm.post(kind, content);
    } catch {
      // The heartbeat says that nobody is there.
    }
  }

  /** @param {any} content */
  receive(content) {
    this.heartbeat.heard();
    this.comm.receive(content);
    if (content.kind === "state") this.show(content.state);
    else if (content.kind === "notice") this.note(content.text);
    else if (content.kind === "do") this.obey(content);
    else if (content.kind === "gone") this.drop(content.id);
  }

  /** @param {UploaderState} state */
  show(state) {
    // The zone keeps its height: the hint has its lines from the beginning.
    this.zone.hint.textContent = `GGUF files of any size${state.room ? `, room for ${state.room.replace(" ", "\u00a0")}` : ""}`;
    this.empty.replaceChildren(
      h("span", { text: "Its beginning is checked at once, so a wrong file is refused before it is sent. What is cut off goes on when you choose the same file again." }),
      h("span", {}, ["Models are saved in ", h("code", {}, state.folder.split(/(?<=[/\\])/).flatMap((part) => [part, h("wbr")]))]),
    );
    this.note(state.notice);
    this.way ??= state.route ? findHttpRoute(state.route).then((route) => route ?? this.comm) : Promise.resolve(this.comm);
    this.isListed = state.listed;
    this.browse.show(state.browse);
    this.uploads = state.uploads;
    this.showLeft();
  }

  /** What Python's own methods want. @param {{action: string, id: string}} order */
  obey({ action, id }) {
    const job = this.jobOf(id);
    if (!job) return;
    if (action === "pause") void job.pause();
    else if (action === "resume") job.start();
    else if (action === "cancel") void job.cancel();
  }

  /** An upload was removed from elsewhere. @param {string} id */
  drop(id) {
    const job = this.jobOf(id);
    if (job && !job.isUnderWay && !job.isEnded) job.set("gone");
    this.uploads = this.uploads.filter((upload) => upload.id !== id);
    this.showLeft();
  }

  /** @param {string} id */
  jobOf(id) {
    return [...this.jobs.keys()].find((job) => job.upload?.id === id);
  }

  sayHere() {
    const sending = [...this.jobs.keys()].filter((job) => job.upload && !job.isEnded);
    if (!sending.length && !this.holding) return;
    this.holding = sending.length > 0; // once more when the last has ended
    const holds = sending.filter((job) => job.transport.name === "http").map((job) => job.upload?.id);
    this.ask("here", { holds });
  }

  leave() {
    for (const job of this.jobs.keys()) if (job.isUnderWay && job.state !== "checking" && job.upload) job.transport.leave(job.upload);
    this.ask("bye");
  }

  // -- files -----------------------------------------------------------------------------------------

  /** @param {File[]} files @param {string} [expected] the upload that the first is chosen for */
  async add(files, expected = "") {
    this.note("");
    const transport = await (this.way ?? this.comm);
    for (const file of files) {
      if (this.jobs.size >= MOST_FILES) {
        this.note(`${MOST_FILES} files are listed here already. Dismiss those that have ended, then choose the others again.`);
        break;
      }
      const twin = [...this.jobs.keys()].find((job) => !job.isEnded && isSame(job.file.file, file));
      if (twin) {
        this.takeAgain(twin, file);
        continue;
      }
      const job = new Job(new ChosenFile(file), transport, (changed) => this.onJob(changed));
      job.expected = expected;
      job.isListed = this.isListed;
      const row = new JobRow(job, (action) => this.act(job, action), (way) => this.take(job, way));
      this.jobs.set(job, row);
      this.rows.append(row.root);
    }
    this.startNext();
    this.showLeft();
  }

  /** A file that is listed already was chosen once more. @param {Job} job @param {File} file */
  takeAgain(job, file) {
    if (job.isUnderWay) this.note(`“${file.name}” is on its way already.`);
    else job.chooseAgain(new ChosenFile(file));
  }

  /** The file of a job was chosen once more, because the browser lost sight of it. @param {Job} job @param {File} file */
  chooseAgain(job, file) {
    const { name, size } = job.file;
    if (file.name === name && file.size === size) job.chooseAgain(new ChosenFile(file));
    else this.note(`“${file.name}” (${sizeText(file.size)}) is another file than “${name}” (${sizeText(size)}). For a new upload, use “Choose a file” above.`);
  }

  /** Begin the next one: one after the other, for the server's queue is in the order of their beginnings. */
  startNext() {
    const jobs = [...this.jobs.keys()];
    if (jobs.some((job) => job.state === "starting") || jobs.filter((job) => job.isUnderWay).length >= MOST_BEGUN) return;
    jobs.find((job) => job.state === "queued")?.start();
  }

  /** @param {Job} job @param {RowAction} action */
  act(job, action) {
    if (action === "pause") void job.pause();
    else if (action === "go-on") job.start();
    else if (action === "cancel") void job.cancel();
    else if (action === "dismiss") this.dismiss(job);
  }

  /** Do what a refusal offers. @param {Job} job @param {Way} way */
  take(job, way) {
    if (way.action === "choose") this.zone.open(([file]) => file && this.chooseAgain(job, file));
    else if (way.action === "again") void job.again();
    else if (way.action === "take-over") job.start({ takeOver: true });
    else if (way.action === "save-as") job.start({ saveAs: way.saveAs });
    else job.start();
  }

  /** @param {Job} job */
  dismiss(job) {
    const row = this.jobs.get(job);
    const hadFocus = row?.root.contains(document.activeElement);
    const next = row?.root.nextElementSibling?.querySelector("button");
    row?.root.remove();
    this.jobs.delete(job);
    this.said.delete(job);
    if (hadFocus) (next ?? this.zone.root).focus();
    this.showLeft();
  }

  /** @param {Job} job */
  onJob(job) {
    const row = this.jobs.get(job);
    if (!row) return;
    if (job.state === "gone") {
      this.say(`${job.file.name}: cancelled.`);
      this.dismiss(job);
      this.ask("snapshot");
      this.startNext();
      return;
    }
    row.update();
    this.sayOf(job);
    if (job.transport.name === "http" && (job.state === "done" || job.state === "already_there") && job.upload) {
      const { id, path, state } = job.upload;
      this.ask("ended", { id, path, state });
    }
    if (job.state !== "queued") this.startNext();
    if (job.upload && this.left.has(job.upload.id)) this.showLeft(); // it is a row of this page now
  }

  // -- what was left ---------------------------------------------------------------------------------

  showLeft() {
    const own = new Set([...this.jobs.keys()].map((job) => job.upload?.id));
    const shown = this.uploads.filter((upload) => !own.has(upload.id));
    const hadFocus = this.unfinished.contains(document.activeElement);
    const known = this.left;
    this.left = new Map();
    for (const upload of shown) {
      const row = known.get(upload.id) ?? new UnfinishedRow(upload, (action, which) => this.actOnLeft(action, which));
      row.update(upload);
      this.left.set(upload.id, row);
    }
    setChildren(this.unfinished, [...this.left.values()].map((row) => row.root));
    if (hadFocus && !this.unfinished.contains(document.activeElement)) (this.unfinished.querySelector("button") ?? this.zone.root).focus();
    this.leftPart.hidden = shown.length === 0;
    this.empty.hidden = shown.length > 0 || this.jobs.size > 0;
  }

  /** @param {RowAction} action @param {Unfinished} upload */
  actOnLeft(action, upload) {
    if (action === "remove") {
      this.comm.request("remove", { id: upload.id }).catch((error) => this.note(error instanceof Refused ? error.message : "No answer came. Try again when Python answers."));
      return;
    }
    this.zone.open((files) => {
      const file = files.find((one) => one.size === upload.size && one.name === upload.givenName);
      if (file) {
        this.left.get(upload.id)?.warn("");
        void this.add(files.length === 1 ? [file] : files, upload.id);
        return;
      }
      const [other] = files;
      this.left.get(upload.id)?.warn(
        `That is another file: “${other?.name}” has ${sizeText(other?.size ?? 0)}, this upload is of a file of ` +
          `${sizeText(upload.size)} (${upload.size.toLocaleString("en")} bytes). Choose that one, or use “Choose a file” above for a new upload.`,
      );
    });
  }

  // -- what is said ----------------------------------------------------------------------------------

  /** @param {string} text */
  note(text) {
    if (this.notice.textContent === text) return;
    this.notice.textContent = text;
    if (text) this.say(text);
  }

  /** @param {string} text */
  say(text) {
    this.live.textContent = text;
  }

  /** Say what is new, to those who do not see the bar. @param {Job} job */
  sayOf(job) {
    const { name, size } = job.file;
    const step = job.state === "receiving" ? Math.floor((100 * job.offset) / Math.max(1, size) / STEP) : 0;
    const now = 10 * STATES.indexOf(job.state) + step;
    const before = this.said.get(job);
    if (before === now) return;
    this.said.set(job, now);
    if (job.state === "receiving") this.say(step ? `${name}: ${step * STEP} percent.` : `${name}: uploading.`);
    else if (job.refusal && (job.state === "failed" || job.state === "refused")) this.say(`${name}: ${titleOf(job.refusal)}. ${job.refusal.message}`);
    else if (WORDS[job.state]) this.say(`${name}: ${WORDS[job.state]}.`);
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    if (state === "busy") return;
    const gone = state === "gone";
    this.bar.hidden = !gone || this.root.classList.contains("gw-embedded"); // the frame has its own
    for (const [job, row] of this.jobs) {
      if (job.transport.name !== "comm" || job.isLinked === !gone) continue;
      job.isLinked = !gone;
      row.update();
    }
  }
}

const STATES = ["queued", "starting", "waiting", "receiving", "reconnecting", "pausing", "paused", "checking", "cancelling", "done", "already_there", "failed", "refused"];
/** @type {Record<string, string>} */
const WORDS = {
  waiting: "waits for its turn",
  reconnecting: "no connection; it goes on by itself",
  paused: "paused",
  checking: "has arrived and is checked",
  done: "saved",
  already_there: "is there already",
};

/** @param {File} one @param {File} other */
const isSame = (one, other) => one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

/** @param {{model: BinaryModel, el: HTMLElement}} context */
function render({ model, el }) {
  const controller = new AbortController();
  const view = new UploaderView(model, el, controller.signal);
  return () => {
    controller.abort();
    view.root.remove();
  };
}

export default { render };
