// @ts-check
/**
 * The same asked of several sides: set up, read along, carried out over many prompts, looked at.
 *
 * Promises: what Python says last is what is shown, also after a reload and in a second view; every
 * listener and timer ends with the view. Leaves to others: its parts (_comparison_*.js).
 */

import { EarlierComparisons } from "./_comparison_earlier.js";
import { ComparisonForm } from "./_comparison_form.js";
import { ManyPart } from "./_comparison_many.js";
import { OnePart } from "./_comparison_one.js";
import { SidesPart } from "./_comparison_sides.js";
import { ComparisonWork } from "./_comparison_work.js";
import { Heartbeat, newMid } from "./_connection.js";
import { h, icon } from "./_dom.js";
import { keepKeys } from "./_lab_keys.js";
import { Link } from "./_link.js";

/** @import { LinkModel } from "./_link.js" */

const MODES = /** @type {["one" | "many", string][]} */ ([["one", "One prompt"], ["many", "Many prompts"]]);

class ComparisonRoot {
  /** @param {LinkModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.page = `c${newMid()}`;
    this.link = new Link(model, this.page, signal);
    /** @type {any} */
    this.state = null;
    this.seq = this.textSeq = -1;
    this.shownNotice = "";
    this.bar = h("div", { class: "gw-bt-gone", role: "alert", hidden: true }, [
      icon("warn"),
      h("span", { text: "Python does not answer. What is done is kept. If it was restarted, load this page (in a notebook: run this cell) again, and open the comparison under “Earlier comparisons”." }),
    ]);
    this.notice = h("div", { class: "gw-bt-notice", role: "alert", hidden: true, "data-gw": "comparison-notice" });
    this.loading = h("p", { class: "gw-dim gw-bt-part", text: "Loading…" });
    this.demo = h("p", { class: "gw-dim gw-bt-part", hidden: true, text: "Demo mode: answers are prepared sentences, no model runs." });
    this.live = h("div", { class: "gw-live", role: "status", "aria-live": "polite" });
    const say = (/** @type {string} */ text) => {
      this.live.textContent = text;
    };
    this.form = new ComparisonForm(this.link, () => this.state && this.showSetUp());
    this.sides = new SidesPart(this.link, this.form);
    this.one = new OnePart(this.link, this.form, say);
    this.many = new ManyPart(this.link, this.form);
    this.modes = MODES.map(([mode, text]) => {
      const radio = h("input", { type: "radio", name: `${this.page}-mode`, value: mode, "data-gw": "comparison-mode", "data-mode": mode });
      radio.addEventListener("change", () => radio.checked && this.form.set({ mode }));
      return { mode, radio, root: h("label", { class: "gw-bt-kind" }, [radio, h("span", { text })]) };
    });
    const ask = h("section", { class: "gw-bt-part", "aria-label": "What is asked" }, [
      h("div", { class: "gw-bt-line" }, [h("h3", { class: "gw-bt-grow", text: "What is asked" }), h("div", { class: "gw-bt-kinds", role: "radiogroup", "aria-label": "How many prompts" }, this.modes.map(({ root }) => root))]),
      this.one.root,
      this.many.root,
    ]);
    this.setUp = h("div", { "data-gw": "comparison-setup", hidden: true }, [this.sides.root, ask]);
    this.work = new ComparisonWork(this.link, say, signal);
    this.earlier = new EarlierComparisons(this.link);
    this.root = h("section", { class: "gw-batch gw-cmp", "aria-label": "Compare", "data-gw": "comparison" }, [
      this.bar,
      h("div", { class: "gw-bt-top" }, [h("h2", { text: "Compare" })]),
      this.notice,
      this.loading,
      this.demo,
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
    addEventListener("pagehide", () => this.form.flush(), { signal });
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    this.heartbeat = new Heartbeat(model, (state) => (this.bar.hidden = state !== "gone"), () => this.link.tell("snapshot"), signal);
    keepKeys(this.root, signal);
    this.link.tell("snapshot");
  }

  /** @param {any} content @param {DataView[]} buffers */
  receive(content, buffers) {
    this.heartbeat.heard();
    if (content.kind === "answer") this.link.receive(content, buffers);
    else if (content.kind === "state") this.take(content);
    else if (content.kind === "text") this.takeText(content);
    else if (content.kind === "pong" && this.state) {
      if (content.seq > this.seq) this.link.tell("snapshot");
      else if (content.text > this.textSeq) this.link.tell("text-again");
    }
  }

  /** @param {{seq: number, whole: boolean, parts: any}} message */
  take({ seq, whole, parts }) {
    if (!whole && (!this.state || seq !== this.seq + 1)) {
      if (seq > this.seq) this.link.tell("snapshot"); // one was missed
      return;
    }
    this.state = { ...(this.state ?? {}), ...parts };
    this.seq = seq;
    this.show(Boolean(parts.draft));
  }

  /** @param {{seq: number, whole: boolean, question: number, sides: any[]}} message */
  takeText(message) {
    const isNext = message.whole || message.seq === this.textSeq + 1;
    if (!isNext) {
      if (message.seq > this.textSeq) this.link.tell("text-again");
      return;
    }
    this.textSeq = message.seq;
    if (!this.one.take(/** @type {any} */ (message))) this.link.tell("text-again");
  }

  /** @param {boolean} hasDraft */
  show(hasDraft) {
    const { state } = this;
    const hasOpen = Boolean(state.open);
    const hadFocus = this.root.contains(document.activeElement);
    this.loading.hidden = true;
    this.demo.hidden = !state.isDemoMode || state.isFramed || hasOpen;
    this.earlier.root.hidden = false;
    this.setUp.hidden = hasOpen;
    this.showNotice(state.notice);
    if (hasDraft && this.form.take(state.draft)) {
      this.sides.fill();
      this.one.fill();
      this.many.fill();
    }
    this.showSetUp();
    this.work.show(state);
    this.earlier.show(state.earlier, state.open?.id ?? "");
    // What had the focus may be hidden now: it goes to what came in its place.
    if (!hadFocus || (this.root.contains(document.activeElement) && !(/** @type {HTMLElement} */ (document.activeElement).closest("[hidden]")))) return;
    if (hasOpen) this.work.focusButton();
    else if (this.form.draft.mode === "one") this.one.prompt.focus();
    else this.many.template.focus();
  }

  showSetUp() {
    const { state } = this;
    const { mode } = this.form.draft;
    for (const { mode: own, radio } of this.modes) radio.checked = own === mode;
    this.one.root.hidden = mode !== "one";
    this.many.root.hidden = mode !== "many";
    if (!this.form.draft.sides.length && state.models.hasLooked && !state.models.list.length) this.sides.root.dataset.empty = "true";
    this.sides.show(state.models, state.judged, state.memory, state.isFramed);
    this.one.show(state);
    this.many.show(state);
  }

  /** @param {string} text */
  showNotice(text) {
    this.notice.hidden = !text;
    if (!text || this.shownNotice === text) {
      this.shownNotice = text;
      return;
    }
    this.shownNotice = text;
    const dismiss = h("button", { type: "button", class: "gw-link", text: "Dismiss" });
    dismiss.addEventListener("click", () => this.link.tell("dismiss"));
    this.notice.replaceChildren(icon("warn"), h("span", { class: "gw-bt-grow", text }), dismiss);
  }
}

export default {
  /** @param {{model: LinkModel, el: HTMLElement}} context */
  render({ model, el }) {
    const controller = new AbortController();
    new ComparisonRoot(model, el, controller.signal);
    return () => controller.abort();
  },
};
