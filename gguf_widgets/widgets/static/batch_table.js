// @ts-check
/**
 * A prompt asked of every row of a table: set up, at work, done.
 *
 * Promises: what Python says last is what is shown, also after a reload and in a second view; every
 * listener and timer ends with the view. Leaves to others: its parts (_batch_*.js).
 */

import { EarlierPart } from "./_batch_earlier.js";
import { FormPart } from "./_batch_form.js";
import { Link, wordsOf } from "./_link.js";
import { SourcePart } from "./_batch_source.js";
import { WorkPart } from "./_batch_work.js";
import { Heartbeat, newMid } from "./_connection.js";
import { h, icon } from "./_dom.js";
import { keepKeys } from "./_lab_keys.js";

/** @import { LinkModel } from "./_link.js" */

/** The check before a run, and its start. */
class CheckPart {
  /** @param {Link} link @param {() => void} flush */
  constructor(link, flush) {
    this.link = link;
    this.flush = flush;
    this.key = "";
    this.checkButton = h("button", { type: "button", class: "gw-button", text: "Check first", title: "Asks a few rows to tell how long it will take; what comes of them is kept", "data-gw": "batch-check" });
    this.startButton = h("button", { type: "button", class: "gw-button gw-primary", "data-gw": "batch-start" }, [icon("play"), "Start"]);
    this.reason = h("span", { class: "gw-dim", "data-gw": "batch-reason" });
    this.found = h("div", { class: "gw-bt-stack", role: "status", "data-gw": "batch-check-found" });
    this.checkButton.addEventListener("click", () => void this.do("check"));
    this.startButton.addEventListener("click", () => void this.do("start"));
    this.root = h("section", { class: "gw-bt-part", "aria-label": "Check and start" }, [
      h("div", { class: "gw-bt-buttons" }, [this.startButton, this.checkButton, this.reason]),
      this.found,
    ]);
  }

  /** @param {string} kind */
  async do(kind) {
    this.flush();
    try {
      await this.link.ask(kind);
    } catch (error) {
      this.found.replaceChildren(h("p", { class: "gw-error", text: wordsOf(error) }));
      this.key = "";
    }
  }

  /** @param {any} state */
  show({ model, table, judged, check, busy, draft }) {
    const faults = Object.keys(judged.faults);
    let reason = model.reason;
    if (!reason && !table.given) reason = "Choose a table first";
    if (!reason && !draft.draft.prompt.trim()) reason = "Write a prompt first";
    if (!reason && faults.length) reason = "Mend what is marked first";
    if (busy === "checking") reason = "Checking: a few rows are asked…";
    else if (busy) reason = busy === "starting" ? "Starting…" : "Just a moment…";
    this.reason.textContent = reason;
    this.startButton.disabled = this.checkButton.disabled = Boolean(reason);
    const key = JSON.stringify([check, model.isDemoMode]);
    if (key === this.key) return;
    this.key = key;
    const parts = [];
    if (check?.error) parts.push(h("p", { class: "gw-error", role: "alert", text: check.error }));
    else if (check) {
      parts.push(h("ul", { class: "gw-bt-list" }, check.lines.map((/** @type {string} */ text) => h("li", { text }))));
      for (const text of check.minds) parts.push(h("p", { class: "gw-bt-mind" }, [icon("warn"), h("span", { text })]));
      if (check.isOld) parts.push(h("p", { class: "gw-dim", text: "You have changed something since this check. Check once more to see what it is now." }));
    }
    if (model.isDemoMode && !check) parts.push(h("p", { class: "gw-dim", text: "Demo mode: answers are prepared sentences, no model runs." }));
    this.found.replaceChildren(...parts);
  }
}

class BatchView {
  /** @param {LinkModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.page = `b${newMid()}`;
    this.link = new Link(model, this.page, signal);
    /** @type {any} */
    this.state = null;
    this.seq = -1;
    this.bar = h("div", { class: "gw-bt-gone", role: "alert", hidden: true }, [
      icon("warn"),
      h("span", { text: "Python does not answer. What is done is kept. If it was restarted, load this page (in a notebook: run this cell) again, and open the run under “Earlier runs”." }),
    ]);
    this.notice = h("div", { class: "gw-bt-notice", role: "alert", hidden: true, "data-gw": "batch-notice" });
    this.loading = h("p", { class: "gw-dim gw-bt-part", text: "Loading…" });
    this.live = h("div", { class: "gw-live", role: "status", "aria-live": "polite" });
    this.form = new FormPart(this.link);
    this.source = new SourcePart(this.link, (row) => this.form.chooseRow(row));
    this.check = new CheckPart(this.link, () => this.form.flush());
    this.work = new WorkPart(this.link, (text) => this.say(text), signal);
    this.earlier = new EarlierPart(this.link);
    this.setUp = h("div", { "data-gw": "batch-setup", hidden: true }, [this.source.root, this.form.root, this.check.root]);
    this.root = h("section", { class: "gw-batch", "aria-label": "Ask about every row of a table", "data-gw": "batch" }, [
      this.bar,
      h("div", { class: "gw-bt-top" }, [h("h2", { text: "Ask about every row" })]),
      this.notice,
      this.loading,
      this.setUp,
      this.work.root,
      this.earlier.root,
      this.live,
    ]);
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.shiftKey || event.isComposing || !(event.target instanceof HTMLTextAreaElement)) return;
      event.preventDefault(); // JupyterLab lets no Shift+Enter through to a text
      if (!document.execCommand("insertText", false, "\n")) event.target.setRangeText("\n", event.target.selectionStart, event.target.selectionEnd, "end");
    });
    if (el.closest("[data-gw-frame]")) this.root.classList.add("gw-embedded");
    el.append(this.root);
    const onMessage = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => this.receive(content, buffers);
    model.on("msg:custom", onMessage);
    addEventListener("pagehide", () => this.form.timer !== undefined && this.form.flush(), { signal });
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.link.tell("snapshot"), signal);
    keepKeys(this.root, signal);
    this.link.tell("snapshot");
  }

  /** @param {any} content @param {DataView[]} buffers */
  receive(content, buffers) {
    this.heartbeat.heard();
    if (content.kind === "answer") this.link.receive(content, buffers);
    else if (content.kind === "state") this.take(content);
    else if (content.kind === "pong" && this.state && content.seq > this.seq) this.link.tell("snapshot");
  }

  /** @param {{seq: number, whole: boolean, parts: any}} message */
  take({ seq, whole, parts }) {
    if (!whole && (!this.state || seq !== this.seq + 1)) {
      if (seq > this.seq) this.link.tell("snapshot"); // one was missed
      return;
    }
    const isFirst = !this.state;
    this.state = { ...(this.state ?? {}), ...parts };
    this.seq = seq;
    this.show(isFirst);
  }

  /** @param {boolean} isFirst */
  show(isFirst) {
    const { state } = this;
    const hasRun = Boolean(state.run);
    this.loading.hidden = true;
    this.earlier.root.hidden = false;
    const hadFocus = this.root.contains(document.activeElement);
    this.setUp.hidden = hasRun;
    this.notice.hidden = !state.notice;
    if (state.notice && this.shownNotice !== state.notice) {
      const dismiss = h("button", { type: "button", class: "gw-link", text: "Dismiss" });
      dismiss.addEventListener("click", () => this.link.tell("dismiss"));
      this.notice.replaceChildren(icon("warn"), h("span", { class: "gw-bt-grow", text: state.notice }), dismiss);
    }
    this.shownNotice = state.notice;
    if (!hasRun) {
      this.form.showTable(state.table);
      this.form.showDraft(state.draft, isFirst);
      this.form.showJudged(state.judged);
      this.form.models.show(state.models, state.model.name);
      this.form.images.show(state.images, state.table.given?.columns ?? [], state.model.sees);
      this.form.showPreview(state.preview, state.model.name);
      this.source.show(state.table, state.busy);
      this.check.show(state);
    }
    this.work.showFormats(state.formats);
    this.work.show(state.run, state.progress, state.version, state.busy);
    this.earlier.show(state.earlier, state.run?.id ?? "");
    // What had the focus may be hidden now: it goes to what came in its place.
    if (hadFocus && (!this.root.contains(document.activeElement) || /** @type {HTMLElement} */ (document.activeElement).closest("[hidden]"))) {
      if (hasRun) this.work.focusButton();
      else if (state.table.looked && !state.table.given) this.source.focus();
      else this.form.prompt.focus();
    }
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    this.bar.hidden = state !== "gone";
  }

  /** @param {string} text */
  say(text) {
    this.live.textContent = text;
  }
}

export default {
  /** @param {{model: LinkModel, el: HTMLElement}} context */
  render({ model, el }) {
    const controller = new AbortController();
    new BatchView(model, el, controller.signal);
    return () => controller.abort();
  },
};
