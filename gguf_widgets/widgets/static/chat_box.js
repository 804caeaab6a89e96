// @ts-check
/**
 * The chat as a person sees it: the conversation, the place to type, Stop, and the live line.
 *
 * Promises: shows what Python says and nothing it made up; HTML comes from Python only, where it
 * was sanitised, and everything else is set as text; a message that went missing is noticed by its
 * number and the whole is asked for again; what the person typed is never lost by a redraw; every
 * listener and timer ends with the view. Leaves to others: the conversation itself (Python).
 *
 * Messages from Python:
 *   snapshot {seq, messages, state, parts}   everything; `seq` is where the numbers stand
 *   update {seq, messages?, delta?, state?, parts?}   what changed: messages new or different; of
 *     one message, `keep` rendered blocks stay and `blocks` follow; the surroundings; the parts
 *   answer {mid, ... | error}   to what was asked with this `mid`
 *   pong {mid, seq}       Python is there; `seq` shows whether the last update arrived
 *   whatever a part has agreed with its other side
 * Messages to Python: snapshot, send {text, ...}, stop, clear, ping, and those of the parts; each with
 *   `mid` (never `id`, which ipykernel keeps for itself).
 */

import { ActsPart } from "./_chat_acts.js";
import { InsidePart } from "./_chat_inside.js";
import { ConnectionBar, HeadElement, contextWords } from "./_chat_head.js";
import { ComposerElement, isComposing } from "./_chat_input.js";
import { LibraryPart } from "./_chat_library.js";
import { LogElement } from "./_chat_messages.js";
import { NotebookPart } from "./_chat_notebook.js";
import { SettingsPart } from "./_chat_settings.js";
import { WritingPart } from "./_chat_writing.js";
import { ToolsPart } from "./_chat_tools.js";
import { TableElement, markedIn } from "./_chat_table.js";
import { Heartbeat, newMid } from "./_connection.js";
import { h } from "./_dom.js";
import { keepKeys } from "./_lab_keys.js";
import { Link, wordsOf } from "./_link.js";

/**
 * @import { LinkModel } from "./_link.js"
 * @import { Part, Places } from "./_chat_part.js"
 *
 * @typedef {{label: string, text: string}} Example
 * @typedef {{value: string, title: string}} Figure
 * @typedef {{
 *   model: {name: string, detail: string} | null,
 *   headline: string, reason: string, busy: boolean, working: string, canUndo: string,
 *   figures: Figure[], context: {used: number, available: number, title: string, value: string} | null,
 *   notice: string, hint: string, examples: Example[], chooser: boolean,
 * }} ChatState
 */

/** The parts beside the conversation, by the names that Python gives them. @type {[string, new (link: Link, places: Places) => Part][]} */
const CHAT_PARTS = [["tools", ToolsPart], ["acts", ActsPart], ["library", LibraryPart], ["notebook", NotebookPart], ["inside", InsidePart], ["settings", SettingsPart], ["writing", WritingPart]];

/** The view: owns the parts above and talks to Python. */
class ChatView {
  /** @param {LinkModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    this.signal = signal;
    this.link = new Link(model, newMid(), signal);
    this.seq = -1;
    this.asked = 0;
    this.sending = false;
    this.undoPassed = ""; // what could be undone when a message was sent: it is not offered any more
    this.connection = "there";
    /** @type {ChatState | null} */
    this.state = null;
    /** @type {Record<string, any>} */
    this.states = {};
    this.log = new LogElement(signal);
    this.bar = new ConnectionBar();
    this.head = new HeadElement();
    this.table = new TableElement();
    this.head.end.prepend(this.table.button);
    this.composer = new ComposerElement();
    this.composer.end.append(this.log.jumpLow);
    this.stats = h("div", { class: "gw-stats", "data-gw": "chat-stats" });
    this.notice = h("div", { class: "gw-notice", role: "status" });
    this.above = h("div", { class: "gw-above" });
    this.below = h("div", { class: "gw-below" });
    this.left = h("div", { class: "gw-side gw-side-left" });
    this.right = h("div", { class: "gw-side gw-side-right" });
    this.root = h("section", { class: "gw-chat", "aria-label": "Chat" }, [
      this.bar.root,
      this.head.root,
      h("div", { class: "gw-middle" }, [
        this.left,
        h("div", { class: "gw-main" }, [
          this.log.root,
          h("div", { class: "gw-foot" }, [this.table.root, this.notice, this.above, this.composer.root, this.below, this.stats]),
        ]),
        this.right,
      ]),
    ]);
    const places = {
      root: this.root,
      headStart: this.head.start,
      headEnd: this.head.end,
      left: this.left,
      right: this.right,
      above: this.above,
      composer: this.composer.root,
      input: this.composer.input,
      composerStart: this.composer.start,
      composerEnd: this.composer.end,
      foot: this.below,
    };
    this.parts = new Map(CHAT_PARTS.map(([name, Made]) => [name, new Made(this.link, places)]));
    this.log.parts = [...this.parts.values()];
    this.listen();
    el.append(this.root);
    this.takeSlots(el);
    this.applySize();
    const onMessage = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => this.receive(content, buffers ?? []);
    model.on("msg:custom", onMessage);
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.askSnapshot(), signal);
    keepKeys(this.root, signal);
    this.heartbeat.beat();
    this.askSnapshot();
  }

  listen() {
    const { root, input, stop } = this.composer;
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.head.clear.addEventListener("click", () => {
      this.undoPassed = "";
      this.link.tell("clear");
      input.focus();
    });
    this.table.button.addEventListener("click", () => void this.overTable());
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submit();
    });
    stop.addEventListener("click", () => this.link.tell("stop"));
    input.addEventListener("input", () => this.onInput());
    this.root.addEventListener("gw-acted", (event) => {
      this.undoPassed = "";
      if (/** @type {CustomEvent} */ (event).detail === "writes") this.log.toEnd(); // where its answer comes
    });
    this.root.addEventListener("gw-changed", () => this.showReason()); // a part has changed what can be sent
  }

  /** Inside a dashboard the live line and the actions have their place in its frame. @param {HTMLElement} el */
  takeSlots(el) {
    const frame = el.closest("[data-gw-frame]");
    if (!frame) return;
    this.root.classList.add("gw-embedded");
    /** @type {[string, HTMLElement][]} */
    const moves = [["chat-actions", this.head.start], ["chat-actions", this.head.end], ["chat-stats", this.stats]];
    for (const [name, part] of moves) {
      const slot = frame.querySelector(`[data-gw-slot="${name}"]`);
      slot?.append(part);
      this.signal.addEventListener("abort", () => part.remove());
    }
    this.bar.root.remove(); // the frame has its own
    // Esc stops wherever the focus is; on a page of its own also where it is nowhere.
    const whole = frame.classList.contains("gw-page") ? document : frame;
    whole.addEventListener("keydown", (event) => this.onEscape(/** @type {KeyboardEvent} */ (event)), { signal: this.signal });
  }

  applySize() {
    const height = this.model.get("height");
    if (typeof height === "string" && height) this.root.style.setProperty("--gw-chat-height", height);
  }

  askSnapshot() {
    const now = performance.now();
    if (this.asked && now - this.asked < 500) return; // the answer is on its way
    this.asked = now;
    this.link.tell("snapshot");
  }

  /** @param {any} content @param {DataView[]} buffers */
  receive(content, buffers) {
    this.heartbeat.heard();
    if (content.kind === "pong") {
      // The very last message of a stream has no follower that could show the gap.
      if (content.seq > this.seq) this.askSnapshot();
    } else if (content.kind === "answer") this.link.receive(content, buffers);
    else if (content.kind === "snapshot") {
      this.asked = 0;
      this.seq = content.seq;
      this.states = content.parts;
      this.state = content.state;
      // A message that was answered again takes its focused button with it.
      if (this.log.reset(content.messages)) this.composer.input.focus({ preventScroll: true });
      this.showState(content.state);
      this.showParts(Object.keys(content.parts));
    } else if (content.kind !== "update") {
      for (const [name, part] of this.parts) if (String(content.kind).startsWith(`${name}-`)) part.takeMessage?.(content, buffers);
    } else if (this.seq < 0 || content.seq <= this.seq) return; // meant for another view of this chat
    else if (content.seq !== this.seq + 1) this.askSnapshot();
    else this.applyNext(content);
  }

  /** @param {any} content */
  applyNext(content) {
    this.seq = content.seq;
    const { messages, delta, state, parts } = content;
    if (state) this.state = state;
    for (const message of messages ?? []) this.log.put(message);
    if (delta && !this.log.delta(delta.message, delta.keep, delta.blocks)) this.askSnapshot();
    if (state) this.showState(state);
    else if (messages) this.showEmpty();
    this.states = { ...this.states, ...parts };
    if (state) this.showParts([...this.parts.keys()]);
    else this.showParts(Object.keys(parts ?? {}));
  }

  /** @param {string[]} names */
  showParts(names) {
    const { state } = this;
    if (!state) return;
    for (const name of names) if (this.states[name]) this.parts.get(name)?.show?.(this.states[name], state);
    this.showReason();
  }

  async overTable() {
    const asked = this.log.lastOf("user");
    if (!asked) return;
    const part = markedIn(asked.body);
    /** @type {any} */
    let answer;
    try {
      answer = await this.link.ask("over_table", { marked: part && { message: asked.id, ...part } });
    } catch (error) {
      answer = { fault: wordsOf(error) };
    }
    this.table.hide();
    // A frame that has the table goes there, and says so by stopping the event.
    const goes = new CustomEvent("gw-open-tab", { bubbles: true, cancelable: true, detail: "table" });
    if (answer.is_there && !this.root.dispatchEvent(goes)) return;
    this.table.show(answer, part !== null);
  }

  /** @param {ChatState} state */
  showState(state) {
    this.state = state;
    this.head.title.textContent = state.model ? state.model.name : "No model";
    this.head.title.title = state.model ? state.model.detail : "";
    this.composer.showBusy(state.busy);
    this.log.working.textContent = state.working;
    this.log.working.hidden = !state.working;
    this.showNotice(state);
    this.showFigures(state);
    this.showEmpty();
  }

  showReason() {
    const state = this.state;
    const reason = this.connection === "gone" ? "Not connected" : (state?.reason ?? "");
    this.composer.reason.textContent = reason;
    const empty = this.composer.input.value.trim() === "";
    this.composer.send.disabled = Boolean(reason) || empty || !state;
    this.composer.send.title = reason || (empty ? "Write a message first" : "Send (Enter)");
    this.head.clear.disabled = this.log.messages.size === 0 || this.connection === "gone";
    this.table.enable(this.log.lastOf("user") !== undefined && this.connection !== "gone");
    this.root.classList.toggle("gw-gone", this.connection === "gone");
  }

  /** @param {ChatState} state */
  showNotice(state) {
    this.notice.replaceChildren();
    if (state.notice) this.notice.append(h("span", { text: state.notice }));
    if (state.canUndo !== this.undoPassed) this.undoPassed = "";
    if (!state.canUndo || this.undoPassed) return;
    const undo = h("button", { type: "button", class: "gw-link", text: `Undo ${state.canUndo}`, "data-gw": "chat-undo" });
    undo.addEventListener("click", () => {
      this.link.tell("undo");
      this.composer.input.focus(); // the button goes
    });
    this.notice.append(undo);
  }

  /** @param {ChatState} state */
  showFigures(state) {
    const parts = state.figures.map((figure) => h("span", { title: figure.title, text: figure.value }));
    if (state.context) parts.push(contextWords(state.context));
    this.stats.replaceChildren(...parts);
  }

  showEmpty() {
    const state = this.state;
    const none = this.log.messages.size === 0 && state !== null;
    this.log.empty.hidden = !none;
    this.root.classList.toggle("gw-has-none", none);
    this.showReason();
    if (none && state) this.log.empty.replaceChildren(...this.emptyParts(state));
  }

  /** @param {ChatState} state @returns {Node[]} */
  emptyParts(state) {
    if (!state.model) {
      const parts = [h("h2", { text: state.headline }), h("p", { text: state.hint })];
      if (!state.chooser) return parts;
      const choose = h("button", { type: "button", class: "gw-button gw-primary", text: "Choose a model" });
      choose.addEventListener("click", () => choose.dispatchEvent(new CustomEvent("gw-choose-model", { bubbles: true })));
      return [...parts, choose];
    }
    const buttons = state.examples.map((example) => {
      const button = h("button", { type: "button", class: "gw-example", title: example.text }, [
        h("strong", { text: example.label }),
        h("span", { text: example.text }),
      ]);
      button.addEventListener("click", () => this.useExample(example.text));
      return button;
    });
    return [h("h2", { text: "What would you like to do?" }), h("p", { text: state.hint }), h("div", { class: "gw-examples" }, buttons)];
  }

  /** @param {string} text */
  useExample(text) {
    this.composer.input.value = text;
    this.onInput();
    this.composer.input.focus(); // also when it cannot be sent
    void this.submit();
  }

  async submit() {
    const { input } = this.composer;
    const text = input.value;
    if (this.composer.send.disabled || this.state?.busy || this.sending || !text.trim()) return;
    this.sending = true;
    try {
      for (const part of this.parts.values()) if ((await part.beforeSend?.(text)) === false) return;
      const more = Object.assign({}, ...[...this.parts.values()].map((part) => part.forSending?.() ?? {}));
      input.focus(); // Send, if it was clicked, is about to go
      input.value = "";
      for (const part of this.parts.values()) part.afterSend?.();
      this.onInput();
      this.log.toEnd();
      this.undoPassed = this.state?.canUndo ?? "";
      this.link.ask("send", { text, ...more }).catch(() => this.restore({ text, ...more })); // the notice says why
    } finally {
      this.sending = false;
    }
  }

  /** Give the person's words back when they could not be sent. @param {any} content */
  restore(content) {
    if (!this.composer.input.value) this.composer.input.value = content.text;
    for (const part of this.parts.values()) part.restore?.(content);
    this.onInput();
  }

  onInput() {
    this.composer.grow();
    this.showReason();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (isComposing(event)) return;
    this.onEscape(event);
    if (event.key === "Enter" && event.target === this.composer.input) {
      // Also with Shift: JupyterLab takes the new line's own effect away.
      event.preventDefault();
      if (event.shiftKey) this.composer.newLine();
      else void this.submit();
    }
    // JupyterLab would take the effect of undo and redo away, too, from the Ctrl key on.
    if (event.key !== "Escape" && event.target === this.composer.input) event.stopPropagation();
  }

  /** @param {KeyboardEvent} event */
  onEscape(event) {
    if (event.key !== "Escape" || isComposing(event) || !this.state?.busy) return;
    event.preventDefault();
    event.stopPropagation();
    this.link.tell("stop");
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    this.connection = state;
    if (!this.bar.show(state)) return;
    if (state === "there" && this.seq >= 0) this.askSnapshot();
    this.showReason();
  }
}

/** @param {{model: LinkModel, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el }) {
  const controller = new AbortController();
  const view = new ChatView(model, el, controller.signal);
  return () => {
    controller.abort();
    view.root.remove();
  };
}

export default { render };
