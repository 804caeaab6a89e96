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
 *   snapshot {seq, messages, state}   everything; `seq` is where the numbers stand
 *   update {seq, messages?, delta?, state?}   what changed: messages new or different; of one
 *     message, `keep` rendered blocks stay and `blocks` follow; the surroundings
 *   text {mid, text}      the answer to "copy"
 *   restore {text}        words that could not be sent
 *   table {mid, is_there? | cell?, left? | fault?}   the answer to "over_table"
 *   pong {mid, seq}       Python is there; `seq` shows whether the last update arrived
 * Messages to Python: snapshot, send {text}, stop, clear, undo, copy {message},
 *   again {message}, plain_template {message}, over_table {marked}, ping; each with `mid` (never `id`,
 *   which ipykernel keeps for itself).
 */

import { ComposerElement, isComposing } from "./_chat_input.js";
import { LogElement } from "./_chat_messages.js";
import { TableElement, markedIn } from "./_chat_table.js";
import { Heartbeat, newMid } from "./_connection.js";
import { confirmCopy, copyText } from "./_copy.js";
import { h, icon } from "./_dom.js";

/**
 * @import { WidgetModel } from "./_connection.js"
 *
 * @typedef {{label: string, text: string}} Example
 * @typedef {{value: string, title: string}} Figure
 * @typedef {{
 *   model: {name: string, detail: string} | null,
 *   headline: string, reason: string, busy: boolean, working: string, canUndo: boolean,
 *   figures: Figure[], context: {used: number, available: number, title: string, value: string} | null,
 *   notice: string, hint: string, examples: Example[], chooser: boolean,
 * }} ChatState
 */

/** The bar that says that Python does not answer. */
class ConnectionBar {
  constructor() {
    this.text = h("span");
    const reload = h("button", { type: "button", class: "gw-button", "data-gw": "gw-reload", text: "Reload" });
    reload.addEventListener("click", () => location.reload());
    this.reload = reload;
    this.root = h("div", { class: "gw-bar", role: "alert", hidden: true }, [icon("warn"), this.text, reload]);
  }

  /** @param {"there" | "busy" | "gone"} state @returns {boolean} whether anything changed */
  show(state) {
    if (this.root.dataset.state === state) return false;
    this.root.dataset.state = state;
    this.root.hidden = state === "there";
    this.reload.hidden = state !== "gone";
    if (state === "gone") this.root.dataset.gw = "gw-disconnected";
    else delete this.root.dataset.gw;
    this.text.textContent =
      state === "gone"
        ? "The connection to Python is gone. Your conversation is saved. Reload the page to go on."
        : "Python is busy with something else. The chat goes on when it is free.";
    return true;
  }
}

/** The line above the conversation. */
class HeadElement {
  /** @param {HTMLElement} more another action */
  constructor(more) {
    this.title = h("span", { class: "gw-title" });
    this.clear = h(
      "button",
      { type: "button", class: "gw-quiet", "data-gw": "chat-clear", title: "Start a new conversation; this one stays saved" },
      [icon("fresh"), h("span", { text: "New conversation" })],
    );
    this.root = h("div", { class: "gw-head" }, [this.title, h("div", { class: "gw-head-actions" }, [more, this.clear])]);
  }
}

/** The view: owns the parts above and talks to Python. */
class ChatView {
  /** @param {WidgetModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    this.signal = signal;
    this.seq = -1;
    this.asked = 0;
    this.connection = "there";
    /** @type {ChatState | null} */
    this.state = null;
    /** @type {Map<string, string>} copy requests on their way: mid to message id */
    this.copies = new Map();
    const act = (/** @type {string} */ kind, /** @type {string} */ id) => this.act(kind, id);
    this.log = new LogElement(act, signal);
    this.bar = new ConnectionBar();
    this.table = new TableElement();
    /** @type {Map<string, boolean>} asked for a table: mid, and whether a part was marked */
    this.tables = new Map();
    this.head = new HeadElement(this.table.button);
    this.composer = new ComposerElement();
    this.stats = h("div", { class: "gw-stats", "data-gw": "chat-stats" });
    this.notice = h("div", { class: "gw-notice", role: "status" });
    this.root = h("section", { class: "gw-chat", "aria-label": "Chat" }, [
      this.bar.root,
      this.head.root,
      this.log.root,
      h("div", { class: "gw-foot" }, [this.table.root, this.notice, this.composer.root, this.stats]),
    ]);
    this.listen();
    el.append(this.root);
    this.takeSlots(el);
    this.applySize();
    const onMessage = (/** @type {any} */ content) => this.receive(content);
    model.on("msg:custom", onMessage);
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.askSnapshot(), signal);
    this.heartbeat.beat();
    this.askSnapshot();
  }

  listen() {
    const { root, input, stop } = this.composer;
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.head.clear.addEventListener("click", () => {
      this.post("clear");
      input.focus();
    });
    this.table.button.addEventListener("click", () => this.overTable());
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    stop.addEventListener("click", () => this.post("stop"));
    input.addEventListener("input", () => this.onInput());
  }

  /** Inside a dashboard the live line and the actions have their place in its frame. @param {HTMLElement} el */
  takeSlots(el) {
    const frame = el.closest("[data-gw-frame]");
    if (!frame) return;
    this.root.classList.add("gw-embedded");
    /** @type {[string, HTMLElement][]} */
    const moves = [["chat-actions", this.table.button], ["chat-actions", this.head.clear], ["chat-stats", this.stats]];
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

  /** @param {string} kind @param {object} [content] @returns {string} the message's mid */
  post(kind, content = {}) {
    const mid = newMid();
    this.model.send({ kind, mid, ...content });
    return mid;
  }

  askSnapshot() {
    const now = performance.now();
    if (this.asked && now - this.asked < 500) return; // the answer is on its way
    this.asked = now;
    this.post("snapshot");
  }

  /** @param {string} kind @param {string} id */
  act(kind, id) {
    const mid = this.post(kind, { message: id });
    if (kind === "copy") this.copies.set(mid, id);
  }

  /** @param {any} content */
  receive(content) {
    this.heartbeat.heard();
    if (content.kind === "pong") {
      // The very last message of a stream has no follower that could show the gap.
      if (content.seq > this.seq) this.askSnapshot();
    } else if (content.kind === "text") void this.finishCopy(content.mid, content.text);
    else if (content.kind === "restore") this.restore(content.text);
    else if (content.kind === "table") this.showTable(content);
    else if (content.kind === "snapshot") {
      this.asked = 0;
      this.seq = content.seq;
      // A message that was answered again takes its focused button with it.
      if (this.log.reset(content.messages)) this.composer.input.focus({ preventScroll: true });
      this.showState(content.state);
    } else if (this.seq < 0 || content.seq <= this.seq) return; // meant for another view of this chat
    else if (content.seq !== this.seq + 1) this.askSnapshot();
    else this.applyNext(content);
  }

  /** @param {any} content */
  applyNext(content) {
    this.seq = content.seq;
    const { messages, delta, state } = content;
    for (const message of messages ?? []) this.log.put(message);
    if (delta && !this.log.delta(delta.message, delta.keep, delta.blocks)) this.askSnapshot();
    if (state) this.showState(state);
    else if (messages) this.showEmpty();
  }

  /** @param {string} mid @param {string} text */
  async finishCopy(mid, text) {
    const message = this.log.messages.get(this.copies.get(mid) ?? "");
    this.copies.delete(mid);
    if (message && (await copyText(text))) confirmCopy(message.copyButton);
  }

  overTable() {
    const asked = this.log.lastOf("user");
    if (!asked) return;
    const part = markedIn(asked.body);
    const mid = this.post("over_table", { marked: part && { message: asked.id, ...part } });
    this.tables.set(mid, part !== null);
  }

  /** @param {any} answer */
  showTable(answer) {
    const hasMark = this.tables.get(answer.mid);
    if (hasMark === undefined) return; // another view of this chat asked
    this.tables.delete(answer.mid);
    this.table.hide();
    // A frame that has the table goes there, and says so by stopping the event.
    const goes = new CustomEvent("gw-open-tab", { bubbles: true, cancelable: true, detail: "table" });
    if (answer.is_there && !this.root.dispatchEvent(goes)) return;
    this.table.show(answer, hasMark);
  }

  /** Give the person's words back when they could not be sent. @param {string} text */
  restore(text) {
    if (!this.composer.input.value) this.composer.input.value = text;
    this.onInput();
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
    if (!state.canUndo) return;
    const undo = h("button", { type: "button", class: "gw-link", text: "Undo" });
    undo.addEventListener("click", () => {
      this.post("undo");
      this.composer.input.focus(); // the button goes
    });
    this.notice.append(undo);
  }

  /** @param {ChatState} state */
  showFigures(state) {
    const parts = state.figures.map((figure) => h("span", { title: figure.title, text: figure.value }));
    if (state.context) parts.push(contextMeter(state.context));
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
    this.submit();
  }

  submit() {
    const text = this.composer.input.value;
    if (this.composer.send.disabled || this.state?.busy || !text.trim()) return;
    this.post("send", { text });
    this.composer.input.focus(); // Send, if it was clicked, is about to go
    this.composer.input.value = "";
    this.onInput();
    this.log.toEnd();
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
      else this.submit();
    }
    // JupyterLab would take the effect of undo and redo away, too, from the Ctrl key on.
    if (event.key !== "Escape" && event.target === this.composer.input) event.stopPropagation();
  }

  /** @param {KeyboardEvent} event */
  onEscape(event) {
    if (event.key !== "Escape" || isComposing(event) || !this.state?.busy) return;
    event.preventDefault();
    event.stopPropagation();
    this.post("stop");
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    this.connection = state;
    if (!this.bar.show(state)) return;
    if (state === "there" && this.seq >= 0) this.askSnapshot();
    this.showReason();
  }
}

/** @param {{used: number, available: number, title: string, value: string}} context */
function contextMeter(context) {
  const share = context.available > 0 ? Math.min(1, context.used / context.available) : 0;
  const fill = h("span", { class: "gw-meter-fill" });
  fill.style.width = `${Math.round(share * 100)}%`;
  return h("span", { class: "gw-context", title: context.title, "data-full": share > 0.85 }, [
    h("span", { class: "gw-meter", "aria-hidden": "true" }, [fill]),
    context.value,
  ]);
}

/** @param {{model: WidgetModel, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el }) {
  const controller = new AbortController();
  const view = new ChatView(model, el, controller.signal);
  return () => {
    controller.abort();
    view.root.remove();
  };
}

export default { render };
