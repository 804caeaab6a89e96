// @ts-check
/**
 * What is seen of one upload: its row.
 *
 * Promises: everything is set as text; a row keeps its height and its focus while bytes arrive; what
 * a screen reader is told of the bar is a sentence. Leaves to others: what the buttons do (the view).
 */

import { h, icon, setChildren } from "./_dom.js";
import { ageText, leftText, partText, sizeText, titleOf, waysOut } from "./_upload_words.js";

/**
 * @import { Job } from "./_upload_job.js"
 * @import { Way } from "./_upload_words.js"
 *
 * @typedef {{id: string, name: string, givenName: string, size: number, offset: number, state: string, age_s: number, isSent: boolean, error: string}} Unfinished
 * @typedef {"pause" | "go-on" | "cancel" | "dismiss" | "choose" | "remove"} RowAction
 */

/** @type {Record<RowAction, [string, string]>} */
const BUTTONS = {
  pause: ["pause", "Pause"],
  "go-on": ["play", "Go on"],
  cancel: ["close", "Cancel"],
  dismiss: ["close", "Dismiss"],
  choose: ["file", "Choose the file"],
  remove: ["close", "Remove"],
};

/** The name, the bar, the line below it, buttons, and a question before anything is thrown away. */
class RowFrame {
  /** @param {string} hook @param {(action: RowAction) => void} act */
  constructor(hook, act) {
    this.act = act;
    this.name = h("span", { class: "gw-up-name" });
    this.buttons = h("div", { class: "gw-up-buttons" });
    this.fill = h("span", { class: "gw-progress-fill" });
    this.track = h("div", { class: "gw-progress gw-up-track", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, [this.fill]);
    this.phrase = h("span", { class: "gw-up-phrase", "data-gw": "upload-phrase" });
    this.percent = h("span", { class: "gw-up-percent" });
    this.foot = h("p", { class: "gw-up-foot" }, [icon("done"), this.phrase, this.percent]);
    this.ask = h("div", { class: "gw-up-ask", hidden: true, "data-gw": "upload-ask" });
    this.more = h("div", { class: "gw-up-more" });
    this.root = h("li", { class: "gw-up-row", "data-gw": hook }, [
      h("div", { class: "gw-up-head" }, [this.name, this.buttons]),
      this.track,
      this.foot,
      this.ask,
      this.more,
    ]);
    /** @type {Map<RowAction, HTMLButtonElement>} */
    this.known = new Map();
  }

  /** @param {string} name */
  setName(name) {
    this.root.dataset.name = name;
    this.name.textContent = name;
    this.name.title = name;
  }

  /** @param {RowAction[]} actions */
  setButtons(actions) {
    const hadFocus = this.buttons.contains(document.activeElement);
    const shown = actions.map((action) => this.known.get(action) ?? this.makeButton(action));
    for (const button of shown) button.setAttribute("aria-label", `${button.title}: ${this.name.textContent}`);
    setChildren(this.buttons, shown);
    // The button that was pressed has gone: what takes its place takes the focus.
    if (hadFocus && !this.buttons.contains(document.activeElement)) shown[0]?.focus();
  }

  /** @param {RowAction} action */
  makeButton(action) {
    const [name, label] = BUTTONS[action];
    const button = h("button", { type: "button", class: "gw-button", title: label, "data-gw": `upload-${action}` }, [icon(name), h("span", { text: label })]);
    button.addEventListener("click", () => this.act(action));
    this.known.set(action, button);
    return button;
  }

  /** @param {number} fraction @param {string} phrase @param {string} [percent] */
  setProgress(fraction, phrase, percent = `${Math.floor(fraction * 100)}%`) {
    this.fill.style.width = `${fraction * 100}%`;
    this.phrase.textContent = phrase;
    this.percent.textContent = percent;
    this.track.setAttribute("aria-valuenow", String(Math.floor(fraction * 100)));
    this.track.setAttribute("aria-valuetext", [percent, phrase].filter(Boolean).join(", "));
    this.track.setAttribute("aria-label", this.name.textContent ?? "");
  }

  /** Ask before something is thrown away. @param {string} question @param {string} yes @param {() => void} then */
  confirm(question, yes, then) {
    const keep = h("button", { type: "button", class: "gw-button", text: "Keep it", "data-gw": "upload-keep" });
    const go = h("button", { type: "button", class: "gw-button gw-danger", text: yes, "data-gw": "upload-confirm" });
    const close = () => {
      const hadFocus = this.ask.contains(document.activeElement);
      this.ask.hidden = true;
      this.foot.hidden = false;
      if (hadFocus) /** @type {HTMLElement | null} */ (this.buttons.lastElementChild)?.focus();
    };
    keep.addEventListener("click", close);
    go.addEventListener("click", () => {
      close();
      then();
    });
    this.ask.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
    };
    this.ask.replaceChildren(h("span", { text: question }), go, keep);
    this.ask.setAttribute("role", "group");
    this.ask.setAttribute("aria-label", question);
    this.ask.hidden = false;
    this.foot.hidden = true;
    keep.focus();
  }

  closeQuestion() {
    this.ask.hidden = true;
    this.foot.hidden = false;
  }
}

/** A file of this page. */
export class JobRow {
  /** @param {Job} job @param {(action: RowAction) => void} act @param {(way: Way) => void} take */
  constructor(job, act, take) {
    this.job = job;
    this.take = take;
    this.frame = new RowFrame("upload-row", (action) => {
      if (action === "cancel" && job.offset > 0) this.askToCancel(() => act("cancel"));
      else act(action);
    });
    this.root = this.frame.root;
    this.moreShown = "";
    this.update();
  }

  /** @param {() => void} then */
  askToCancel(then) {
    this.frame.confirm(`Throw away the ${sizeText(this.job.offset)} that have arrived?`, "Cancel it", then);
  }

  update() {
    const { job, frame } = this;
    this.root.dataset.state = job.state;
    this.root.dataset.id = job.upload?.id ?? "";
    frame.setName(job.upload?.name ?? job.file.name);
    if (job.isEnded || job.state === "checking") frame.closeQuestion();
    frame.setButtons(actionsOf(job));
    const [fraction, phrase, percent] = progressOf(job);
    frame.setProgress(fraction, phrase, percent);
    this.showMore();
  }

  /** Sentences below, and what can be done. They are made anew only when they change: a button may have the focus. */
  showMore() {
    const { job, frame } = this;
    const { refusal, upload } = job;
    const failed = job.state === "failed" || job.state === "refused";
    const notes = [];
    if (upload?.told) notes.push(upload.told);
    if (upload && job.expected && upload.id !== job.expected) {
      notes.push("This is not quite the file of that upload: its name, time, size or beginning differ. So it begins anew, and the other one stays.");
    }
    if (upload && job.state !== "already_there") notes.push(...upload.notes);
    const shown = JSON.stringify([failed && refusal, notes]);
    if (shown === this.moreShown) return;
    this.moreShown = shown;
    const hadFocus = frame.more.contains(document.activeElement);
    const parts = notes.map((text) => h("p", { class: "gw-up-note", text }));
    if (failed && refusal) {
      const error = h("div", { class: "gw-up-error", "data-gw": "upload-error" }, [
        h("p", {}, [icon("warn"), h("strong", { text: titleOf(refusal) })]),
        h("p", { text: refusal.message }),
      ]);
      for (const way of waysOut(refusal)) {
        const button = h("button", { type: "button", class: "gw-button", text: way.label, "data-gw": "upload-way", "data-action": way.action });
        button.addEventListener("click", () => this.take(way));
        error.append(button);
      }
      parts.unshift(error);
    }
    frame.more.replaceChildren(...parts);
    if (hadFocus) /** @type {HTMLElement | null} */ (frame.buttons.firstElementChild)?.focus();
  }
}

/** @param {Job} job @returns {RowAction[]} */
function actionsOf(job) {
  if (job.isEnded) return ["dismiss"];
  if (job.state === "queued") return ["cancel"];
  if (["starting", "waiting", "receiving", "reconnecting", "pausing"].includes(job.state)) return ["pause", "cancel"];
  if (job.state === "paused") return ["go-on", "cancel"];
  const isOurs = job.upload && !["taken_over", "unknown"].includes(job.refusal?.details.problem);
  if (job.state === "failed") return [isOurs ? "cancel" : "dismiss"];
  return ["cancel"];
}

/** @param {Job} job @returns {[number, string, string]} how much of the bar, the line below it, the percentage */
function progressOf(job) {
  const { state, offset, upload } = job;
  const { size } = job.file;
  const part = size ? offset / size : 0;
  const percent = offset > 0 ? `${Math.floor(part * 100)}%` : "";
  const arrived = offset > 0 ? partText(offset, size) : sizeText(size);
  switch (state) {
    case "queued":
      return [0, `${sizeText(size)}, waits for its turn`, ""];
    case "starting":
      return [part, `${arrived}, its beginning is checked`, percent];
    case "waiting":
      return [part, `${arrived}, waits for its turn${upload && upload.place > 1 ? ` (${upload.place} before it)` : ""}`, percent];
    case "receiving": {
      if (!job.isLinked) return [part, `${arrived}, no answer from Python; it goes on by itself`, percent];
      const speed = upload?.bytes_per_s ? `${sizeText(upload.bytes_per_s)}/s` : "";
      return [part, [arrived, speed, speed && leftText(upload?.seconds_left ?? null)].filter(Boolean).join(", "), percent];
    }
    case "reconnecting":
      return [part, `${arrived}, no connection; it goes on by itself`, percent];
    case "pausing":
    case "paused":
      return [part, `${arrived}, paused`, percent];
    case "cancelling":
      return [part, `${arrived}, what has arrived is removed`, percent];
    case "checking": {
      const checked = upload && size ? Math.min(99, Math.floor((upload.num_hashed_bytes / size) * 100)) : 0;
      return [1, `${sizeText(size)} have arrived and are checked (${checked}%)`, "100%"];
    }
    case "done":
      return [1, `${sizeText(size)}, saved${job.isListed ? ". It is in the list of models now" : ""}`, "100%"];
    case "already_there":
      return [1, `The same file is there already, as “${fileName(upload?.path ?? "")}”. Nothing is stored twice`, "100%"];
    case "failed":
      return [part, offset > 0 ? `Stopped at ${arrived}; that is kept` : sizeText(size), percent];
    default:
      return [0, `${sizeText(size)}, nothing of it was kept`, ""];
  }
}

/** @param {string} path */
const fileName = (path) => path.split(/[/\\]/).pop() ?? "";

/** An upload that was begun and that this page does not send. */
export class UnfinishedRow {
  /** @param {Unfinished} upload @param {(action: RowAction, upload: Unfinished) => void} act */
  constructor(upload, act) {
    this.upload = upload;
    this.warning = "";
    this.frame = new RowFrame("unfinished-row", (action) => {
      if (action === "remove") this.askToRemove(() => act(action, this.upload));
      else act(action, this.upload);
    });
    this.root = this.frame.root;
    this.update(upload);
  }

  /** @param {() => void} then */
  askToRemove(then) {
    const { offset, name } = this.upload;
    this.frame.confirm(name ? `Throw away the ${sizeText(offset)} that have arrived?` : "Remove what is left of it?", "Remove", then);
  }

  /** @param {Unfinished} upload */
  update(upload) {
    this.upload = upload;
    const { frame } = this;
    const isDamaged = upload.state === "damaged";
    this.root.dataset.id = upload.id;
    this.root.dataset.state = upload.state;
    frame.setName(upload.name || "An upload that cannot be read any more");
    const isBusy = upload.isSent || upload.state === "checking";
    frame.setButtons(isBusy ? [] : isDamaged ? ["remove"] : ["choose", "remove"]);
    const part = upload.size && !isDamaged ? upload.offset / upload.size : 0;
    const arrived = isDamaged ? sizeText(upload.offset) : partText(upload.offset, upload.size);
    const state = upload.state === "checking" ? "being checked" : isBusy ? "another page is uploading it" : ageText(upload.age_s);
    frame.setProgress(part, `${arrived}, ${state}`, isDamaged ? "" : undefined);
    const busy = upload.state === "checking" ? "" : "If that page is gone, this upload can go on here in half a minute.";
    this.say(isDamaged ? upload.error : isBusy ? busy : "Choose the same file again to go on where it stopped.");
  }

  /** Say what is wrong with the file that was chosen for it; it stays until another is. @param {string} text */
  warn(text) {
    this.warning = text;
    this.update(this.upload);
  }

  /** @param {string} text */
  say(text) {
    if (this.warning) text = this.warning;
    const own = this.upload.givenName && this.upload.givenName !== this.upload.name ? ` On your computer its name was “${this.upload.givenName}”.` : "";
    const shown = text && !this.warning && this.upload.state !== "damaged" ? text + own : text;
    if (this.frame.more.textContent !== shown) this.frame.more.replaceChildren(...(shown ? [h("p", { class: "gw-up-note", text: shown })] : []));
  }
}
