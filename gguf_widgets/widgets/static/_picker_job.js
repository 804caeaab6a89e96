// @ts-check
/**
 * A check or a copy under way on one model, and what came of it: seen in its row.
 *
 * Promises: it keeps its height while figures change; a button that goes hands its focus on; what a
 * screen reader is told of the bar is a sentence; a hash that is pasted is compared here, at once.
 * Leaves to others: the work, and every word of the result (Python).
 */

import { ghostButton, h, setChildren } from "./_dom.js";
import { button, copyable, isBusy, setBusy } from "./_picker_parts.js";

/**
 * @import { Line } from "./_picker_line.js"
 *
 * @typedef {{name: string, sha256: string, short: string, size: string, expected: string}} CheckedFile
 * @typedef {{
 *   key: string, number: number, kind: "check" | "convert" | "remove" | "restore",
 *   state: "waiting" | "working" | "stopping" | "done" | "failed" | "stopped", about: string,
 *   phrase: string, fraction: number | null, amount: string, speed: string, left: string,
 *   result: {tone: "good" | "plain" | "bad", title: string, lines: string[], files: CheckedFile[], path?: string} | null,
 *   error: {text: string, problem: string} | null,
 * }} Job
 */

const ENDED = {
  failed: { check: "The file could not be checked", convert: "The copy could not be made", remove: "It could not be removed", restore: "It could not be put back" },
  stopped: { check: "The check was stopped", convert: "No copy was made: you stopped it", remove: "Stopped", restore: "Stopped" },
};

/** @param {Job | null} job */
export const isActive = (job) => job !== null && ["waiting", "working", "stopping"].includes(job.state);

export class JobElement {
  /** @param {Line} line @param {() => void} leave gives the focus to what is nearest */
  constructor(line, leave) {
    this.line = line;
    this.leave = leave;
    /** @type {Job | null} */
    this.job = null;
    this.shown = "";
    this.phrase = h("span", { class: "gw-job-phrase" });
    this.stop = button("Stop", "job-stop");
    this.stop.addEventListener("click", () => this.job && !isBusy(this.stop) && line.post("stop", { key: this.job.key }));
    this.fill = h("span", { class: "gw-progress-fill" });
    this.track = h("div", { class: "gw-progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "data-gw": "job-progress" }, [this.fill]);
    this.amount = h("span");
    this.left = h("span");
    this.foot = h("p", { class: "gw-job-foot" }, [this.amount, this.left]);
    this.active = h("div", { class: "gw-job-active" }, [h("div", { class: "gw-job-head" }, [this.phrase, this.stop]), this.track, this.foot]);
    this.ended = h("div", { class: "gw-job-ended", hidden: true, "data-gw": "job-result" });
    this.live = h("div", { class: "gw-live", role: "status", "aria-live": "polite" });
    this.root = h("div", { class: "gw-job", "data-gw": "picker-job", hidden: true }, [this.active, this.ended, this.live]);
  }

  /** @param {Job | null} job @param {string} name the model's */
  show(job, name) {
    this.root.hidden = job === null;
    this.job = job;
    if (!job) {
      if (this.root.contains(document.activeElement)) this.leave();
      this.shown = "";
      return;
    }
    Object.assign(this.root.dataset, { kind: job.kind, state: job.state });
    const hadFocus = this.active.contains(document.activeElement);
    const active = isActive(job);
    this.active.hidden = !active;
    this.ended.hidden = active;
    if (active) this.showActive(job, name);
    else this.showEnded(job, name);
    if (hadFocus && !active) this.ended.querySelector("button")?.focus();
  }

  /** @param {Job} job @param {string} name */
  showActive(job, name) {
    this.shown = "";
    const percent = job.fraction === null ? null : Math.floor(job.fraction * 100);
    this.phrase.textContent = job.phrase;
    setBusy(this.stop, job.state === "stopping");
    this.stop.setAttribute("aria-label", `Stop: ${job.phrase}, ${name}`);
    this.fill.style.width = `${percent ?? 0}%`;
    const amount = [percent === null ? "" : `${percent}%`, job.amount].filter(Boolean).join(", ");
    this.amount.textContent = amount || (job.state === "waiting" ? "It begins by itself" : "");
    this.left.textContent = [job.speed, job.left].filter(Boolean).join(", ");
    this.track.setAttribute("aria-label", `${job.phrase}: ${name}`);
    this.track.setAttribute("aria-valuenow", String(percent ?? 0));
    this.track.setAttribute("aria-valuetext", [amount, job.speed, job.left].filter(Boolean).join(", ") || job.phrase);
    if (job.about) this.phrase.title = job.about;
  }

  /** @param {Job} job @param {string} name */
  showEnded(job, name) {
    const shown = JSON.stringify([job.number, job.state]);
    if (shown === this.shown) return; // what is pasted there and the focus stay
    this.shown = shown;
    const { result } = job;
    const close = ghostButton("close", "Close this", { "data-gw": "job-close" });
    close.addEventListener("click", () => this.line.post("dismiss", { key: job.key }));
    const title = result?.title ?? ENDED[job.state === "failed" ? "failed" : "stopped"][job.kind];
    const lines = result?.lines ?? [job.error?.text ?? (job.kind === "check" ? "Nothing was changed." : "The model itself is as it was.")];
    this.ended.dataset.tone = result?.tone ?? (job.state === "failed" ? "bad" : "plain");
    /** @type {Node[]} */
    const parts = [h("div", { class: "gw-job-head" }, [h("strong", { text: title }), close]), ...lines.map((text) => h("p", { text }))];
    if (result?.path) {
      const path = result.path;
      const go = button("Show it in the list", "job-go");
      go.addEventListener("click", () => this.line.reveal(path));
      parts.push(go);
    }
    if (result?.files.length) parts.push(hashes(result.files));
    setChildren(this.ended, parts);
    this.live.textContent = `${name}: ${title}. ${lines[0] ?? ""}`;
  }
}

/** The hashes that were found, and a field for one from elsewhere. @param {CheckedFile[]} files */
function hashes(files) {
  const parts = [];
  for (const file of files) {
    const label = files.length > 1 ? `SHA-256 of ${file.name}` : "Its SHA-256";
    parts.push(h("p", { class: "gw-dim", text: label, title: "A number that is different for every different content" }), copyable(file.sha256, `Copy ${label}`, "job-copy-hash"));
    if (file.expected) parts.push(h("p", { class: "gw-dim", text: "It should be" }), copyable(file.expected, "Copy what it should be"));
  }
  const field = h("input", {
    type: "text", class: "gw-field", placeholder: "Paste one to compare", spellcheck: "false", autocomplete: "off",
    "aria-label": "A SHA-256 to compare with", "data-gw": "job-compare", "data-lm-suppress-shortcuts": "true",
  });
  const says = h("p", { class: "gw-compared", role: "status", "data-gw": "job-compared" });
  field.addEventListener("input", () => {
    const [tone, text] = compared(field.value, files);
    says.textContent = text;
    says.dataset.tone = tone;
    field.setAttribute("aria-invalid", String(tone === "bad"));
    says.scrollIntoView({ block: "nearest" });
  });
  return h("div", { class: "gw-hashes" }, [...parts, field, says]);
}

/** @param {string} pasted @param {CheckedFile[]} files @returns {[string, string]} the tone, the words */
function compared(pasted, files) {
  const bare = pasted.trim().toLowerCase().replace(/^sha256[:-]/, "").trim();
  if (!bare) return ["plain", ""];
  if (!/^[0-9a-f]{64}$/.test(bare)) return ["plain", `A SHA-256 has 64 digits from 0 to 9 and a to f; this has ${bare.length} characters${/[^0-9a-f]/.test(bare) ? ", some of them others" : ""}.`];
  const same = files.find((file) => file.sha256 === bare);
  if (same) return ["good", files.length > 1 ? `It is the same as that of ${same.name}.` : "It is the same: this is that file, to the last byte."];
  return ["bad", "It is not the same: this file is damaged, or it is another one. Download it or copy it again."];
}
