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
 *   pong {mid, seq}       Python is there; `seq` shows whether the last update arrived
 * Messages to Python: snapshot, send {text}, stop, clear, undo, copy {message},
 *   again {message}, plain_template {message}, ping; each with `mid` (never `id`, which ipykernel keeps for itself).
 */

/**
 * @typedef {{
 *   get(name: string): any,
 *   on(name: string, callback: (...args: any[]) => void): void,
 *   off(name: string, callback: (...args: any[]) => void): void,
 *   send(content: object): void,
 *   widget_manager?: {
 *     kernel?: {status?: string, connectionStatus?: string},
 *     get_model?(id: string): Promise<any>,
 *   },
 * }} WidgetModel
 *
 * @typedef {{title: string, text: string, retry: boolean, template: boolean}} ErrorView
 * @typedef {{
 *   id: string, role: string, status: string, text: string, blocks: string[],
 *   note: string, error: ErrorView | null,
 * }} MessageView
 * @typedef {{label: string, text: string}} Example
 * @typedef {{value: string, title: string}} Figure
 * @typedef {{
 *   model: {name: string, detail: string} | null,
 *   headline: string, reason: string, busy: boolean, working: string, canUndo: boolean,
 *   figures: Figure[], context: {used: number, available: number, title: string, value: string} | null,
 *   notice: string, hint: string, examples: Example[], chooser: boolean,
 * }} ChatState
 */

const PING_EVERY_MS = 3000;
const SILENCE_MS = 6000;
const NEAR_END_PX = 48;
const INPUT_MAX_PX = 200;

const SVG = "http://www.w3.org/2000/svg";
/** Strokes on a 20 x 20 grid. @type {Record<string, string>} */
const ICONS = {
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  fresh: "M9 4H5.5A1.5 1.5 0 0 0 4 5.500v9A1.5 1.5 0 0 0 5.500 16h9a1.5 1.5 0 0 0 1.500-1.500V11M8 12l.5-2.500L15 3l2 2-6.500 6.500z",
  copy: "M7.500 7.500h8v8h-8zM12.500 7.500v-3h-8v8h3",
  again: "M15.500 8A6 6 0 1 0 16 10.500M16 4.500V8h-3.500",
  done: "M4.500 10.500l3.500 3.500 7.500-8",
  down: "M10 4v12M5 11l5 5 5-5",
  warn: "M10 3.500l7.500 13h-15zM10 8.500v3.500M10 14.200v.1",
};

/**
 * Make an element. Attributes that are null or false are left out; `text` sets its text.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean | null>} [attributes]
 * @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[K]}
 */
function h(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name === "text") element.textContent = String(value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** @param {string} name @returns {SVGSVGElement} */
function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", `gw-icon gw-icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name] ?? "");
  svg.append(path);
  return svg;
}

/**
 * @param {string} name the icon
 * @param {string} label for the tooltip and for screen readers
 * @param {Record<string, string | boolean | null>} [attributes]
 */
function iconButton(name, label, attributes = {}) {
  return h("button", { type: "button", title: label, "aria-label": label, ...attributes }, [icon(name)]);
}

/**
 * Put text on the clipboard, also on a page without a secure context (plain http, not localhost).
 * @param {string} text
 * @returns {Promise<boolean>} whether it worked
 */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { "aria-hidden": "true", class: "gw-offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    const worked = document.execCommand("copy");
    area.remove();
    return worked;
  }
}

/** Show a tick on a copy button for a moment. @param {HTMLButtonElement} button */
function confirmCopy(button) {
  button.classList.add("gw-copied");
  button.replaceChildren(icon("done"));
  setTimeout(() => {
    button.classList.remove("gw-copied");
    button.replaceChildren(icon("copy"));
  }, 1500);
}

/** @returns {string} */
const newMid = () => Math.random().toString(36).slice(2);

/** One message on screen. */
class MessageElement {
  /** @param {MessageView} view @param {(kind: string, id: string) => void} act */
  constructor(view, act) {
    this.act = act;
    this.id = view.id;
    /** @type {string[]} what is shown, block by block */
    this.blocks = [];
    this.body = h("div", { class: "gw-body" });
    this.note = h("p", { class: "gw-note" });
    this.error = h("div", { class: "gw-error" });
    this.copyButton = iconButton("copy", "Copy this answer", { class: "gw-ghost" });
    this.copyButton.addEventListener("click", () => act("copy", this.id));
    const again = iconButton("again", "Answer again; the answer before stays saved", { class: "gw-ghost gw-again" });
    again.addEventListener("click", () => act("again", this.id));
    this.tools = h("div", { class: "gw-tools" }, [this.copyButton, again]);
    this.root = h("article", { class: "gw-message", "data-gw": "chat-message" });
    this.update(view);
  }

  /** @param {MessageView} view */
  update(view) {
    const own = view.role === "user";
    this.root.dataset.role = view.role;
    this.root.dataset.status = view.status;
    this.root.setAttribute("aria-busy", String(view.status === "streaming"));
    this.root.setAttribute("aria-label", own ? "You" : "The model");
    if (own) this.body.textContent = view.text;
    else this.setBlocks(commonLength(this.blocks, view.blocks), view.blocks);
    this.note.textContent = view.note;
    this.showError(view.error);
    const parts = [this.body, view.error && this.error, view.note && this.note, !own && this.tools];
    this.root.replaceChildren(...parts.filter((part) => part instanceof Node));
  }

  /** @param {ErrorView | null} error */
  showError(error) {
    if (!error) return;
    const text = h("div", {}, [h("strong", { text: error.title }), h("p", { text: error.text })]);
    this.error.replaceChildren(icon("warn"), text);
    this.error.dataset.gw = "chat-error";
    this.error.setAttribute("role", "alert");
    /** @type {[boolean, string, string][]} */
    const choices = [
      [error.template, "plain_template", "Use the plain template"],
      [error.retry && !error.template, "again", "Try again"],
    ];
    for (const [, kind, label] of choices.filter(([wanted]) => wanted)) {
      const button = h("button", { type: "button", class: "gw-button", text: label });
      button.addEventListener("click", () => this.act(kind, this.id));
      text.append(button);
    }
  }

  /**
   * Replace the blocks after the first `keep` by `blocks.slice(keep)`.
   * @param {number} keep @param {string[]} blocks all of them
   */
  setBlocks(keep, blocks) {
    while (this.body.children.length > keep) this.body.lastElementChild?.remove();
    for (const html of blocks.slice(keep)) {
      const block = h("div", { class: "gw-block" });
      block.innerHTML = html; // sanitised in Python (widgets/markdown.py), the one place for it
      for (const code of block.querySelectorAll(".gw-code")) addCodeTools(code);
      this.body.append(block);
    }
    this.blocks = blocks;
  }

  /** @param {number} keep @param {string[]} blocks those after `keep` @returns {boolean} */
  applyDelta(keep, blocks) {
    if (keep > this.blocks.length) return false;
    this.setBlocks(keep, [...this.blocks.slice(0, keep), ...blocks]);
    return true;
  }
}

/** @param {string[]} a @param {string[]} b @returns {number} how many of the first are equal */
function commonLength(a, b) {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

/** Give a code block its head: the language, and a Copy button. @param {Element} code */
function addCodeTools(code) {
  const text = code.querySelector("pre")?.textContent ?? "";
  const button = iconButton("copy", "Copy this code", { class: "gw-ghost" });
  button.addEventListener("click", async () => {
    if (await copyText(text)) confirmCopy(button);
  });
  const language = code.getAttribute("data-lang") || "text";
  code.prepend(h("div", { class: "gw-code-head" }, [h("span", { text: language }), button]));
}

/** The scrolling list of messages, the "latest" button and what is shown when there are none. */
class LogElement {
  /** @param {(kind: string, id: string) => void} act @param {AbortSignal} signal */
  constructor(act, signal) {
    this.act = act;
    /** @type {Map<string, MessageElement>} */
    this.messages = new Map();
    this.following = true;
    this.list = h("div", { class: "gw-list", role: "log", "aria-live": "polite", "aria-label": "Conversation" });
    this.empty = h("div", { class: "gw-empty", "data-gw": "chat-empty" });
    this.working = h("div", { class: "gw-working", "aria-hidden": "true" });
    this.column = h("div", { class: "gw-column" }, [this.empty, this.list, this.working]);
    this.scroller = h("div", { class: "gw-scroll", tabindex: "0", role: "region", "aria-label": "Messages" }, [this.column]);
    this.jump = h("button", { type: "button", class: "gw-jump", hidden: true }, [icon("down"), "Latest"]);
    this.root = h("div", { class: "gw-log" }, [this.scroller, this.jump]);
    this.jump.addEventListener("click", () => this.toEnd());
    this.scroller.addEventListener("scroll", () => this.noteScroll(), { passive: true, signal });
    // Content grows by more than messages: a font arrives, the panel folds, the box is resized.
    const observer = new ResizeObserver(() => this.follow());
    observer.observe(this.column);
    observer.observe(this.scroller);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  noteScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.jump.hidden = this.following;
  }

  follow() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.jump.hidden = false;
  }

  toEnd() {
    this.following = true;
    this.jump.hidden = true;
    this.follow();
  }

  /** @param {MessageView[]} views */
  reset(views) {
    const known = this.messages;
    this.messages = new Map();
    for (const view of views) {
      const old = known.get(view.id);
      old?.update(view);
      this.messages.set(view.id, old ?? new MessageElement(view, this.act));
    }
    this.list.replaceChildren(...[...this.messages.values()].map((message) => message.root));
    this.follow();
  }

  /** @param {MessageView} view */
  put(view) {
    const old = this.messages.get(view.id);
    if (old) old.update(view);
    else {
      const message = new MessageElement(view, this.act);
      this.messages.set(view.id, message);
      this.list.append(message.root);
      if (view.role === "user") this.following = true;
    }
    this.follow();
  }

  /** @param {string} id @param {number} keep @param {string[]} blocks @returns {boolean} */
  delta(id, keep, blocks) {
    const done = this.messages.get(id)?.applyDelta(keep, blocks) ?? false;
    this.follow();
    return done;
  }
}

/**
 * Hear Python although anywidget has given up: 0.11 drops every later message to a widget whose
 * code took more than two seconds to load, as it may on a busy machine or a slow one. Where its
 * handler is not what is expected here, nothing is changed.
 * @param {WidgetModel} model
 */
async function hearAnyway(model) {
  const own = await model.widget_manager?.get_model?.(model.get("own_id"));
  const handle = own && Object.getPrototypeOf(Object.getPrototypeOf(own))?._handle_comm_msg;
  if (own?.comm && typeof handle === "function") own.comm.on_msg((/** @type {any} */ message) => handle.call(own, message));
}

/** Sends pings while the page is seen, and says when no answer comes. */
class Heartbeat {
  /**
   * @param {WidgetModel} model
   * @param {(state: "there" | "busy" | "gone") => void} report
   * @param {() => void} ask ask for the first snapshot once more
   * @param {AbortSignal} signal
   */
  constructor(model, report, ask, signal) {
    this.model = model;
    this.report = report;
    this.ask = ask;
    this.waitingSince = 0;
    this.everHeard = false;
    const timer = setInterval(() => this.beat(), PING_EVERY_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    document.addEventListener(
      "visibilitychange",
      () => {
        this.waitingSince = 0; // a hidden page's timers sleep: silence then means nothing
        this.beat();
      },
      { signal },
    );
    this.beat();
  }

  beat() {
    if (document.hidden) return;
    if (!this.everHeard && this.waitingSince) void hearAnyway(this.model).then(this.ask);
    const kernel = this.model.widget_manager?.kernel;
    if (kernel?.status === "dead") return this.report("gone");
    if (this.waitingSince && performance.now() - this.waitingSince > SILENCE_MS) {
      const busy = kernel?.connectionStatus === "connected" && kernel.status === "busy";
      this.report(busy ? "busy" : "gone");
    }
    this.waitingSince ||= performance.now();
    try {
      this.model.send({ kind: "ping", mid: newMid() });
    } catch {
      this.report("gone"); // the comm is closed
    }
  }

  /** A message came. */
  heard() {
    this.everHeard = true;
    this.waitingSince = 0;
    this.report("there");
  }
}

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
  constructor() {
    this.title = h("span", { class: "gw-title" });
    this.clear = h(
      "button",
      { type: "button", class: "gw-quiet", "data-gw": "chat-clear", title: "Start a new conversation; this one stays saved" },
      [icon("fresh"), h("span", { text: "New conversation" })],
    );
    this.root = h("div", { class: "gw-head" }, [this.title, this.clear]);
  }
}

/** Where the person types. */
class ComposerElement {
  constructor() {
    this.reason = h("span", { class: "gw-reason", id: `gw-reason-${newMid()}` });
    this.input = h("textarea", {
      class: "gw-input",
      rows: "1",
      "data-gw": "chat-input",
      "aria-label": "Message to the model",
      "aria-describedby": this.reason.id,
      placeholder: "Write a message",
      "data-lm-suppress-shortcuts": "true", // JupyterLab would run the cell on Shift+Enter
    });
    this.send = h("button", { type: "submit", class: "gw-round", "data-gw": "chat-send", "aria-label": "Send", title: "Send (Enter)" }, [icon("send")]);
    this.stop = iconButton("stop", "Stop (Esc)", { class: "gw-round gw-round-stop", "data-gw": "chat-stop", hidden: true });
    this.root = h("form", { class: "gw-composer" }, [
      this.input,
      h("div", { class: "gw-composer-row" }, [this.reason, this.send, this.stop]),
    ]);
    this.root.addEventListener("click", (event) => {
      if (event.target === this.root) this.input.focus();
    });
  }

  /** Put a line end where the cursor is, in a way that Undo takes back. */
  newLine() {
    if (document.execCommand("insertText", false, "\n")) return;
    const { selectionStart, selectionEnd } = this.input;
    this.input.setRangeText("\n", selectionStart, selectionEnd, "end");
    this.grow();
  }

  /** Make the place as high as what is in it, up to a limit. */
  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, INPUT_MAX_PX)}px`;
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
    this.head = new HeadElement();
    this.composer = new ComposerElement();
    this.stats = h("div", { class: "gw-stats", "data-gw": "chat-stats" });
    this.notice = h("div", { class: "gw-notice", role: "status" });
    this.root = h("section", { class: "gw-chat", "aria-label": "Chat" }, [
      this.bar.root,
      this.head.root,
      this.log.root,
      h("div", { class: "gw-foot" }, [this.notice, this.composer.root, this.stats]),
    ]);
    this.listen();
    el.append(this.root);
    this.takeSlots(el);
    this.applySize();
    const onMessage = (/** @type {any} */ content) => this.receive(content);
    model.on("msg:custom", onMessage);
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.askSnapshot(), signal);
    this.askSnapshot();
  }

  listen() {
    const { root, input, stop } = this.composer;
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.head.clear.addEventListener("click", () => {
      this.post("clear");
      input.focus();
    });
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
    const moves = [["chat-actions", this.head.clear], ["chat-stats", this.stats]];
    for (const [name, part] of moves) {
      const slot = frame.querySelector(`[data-gw-slot="${name}"]`);
      slot?.append(part);
      this.signal.addEventListener("abort", () => part.remove());
    }
    this.bar.root.remove(); // the frame has its own
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
    else if (content.kind === "snapshot") {
      this.asked = 0;
      this.seq = content.seq;
      this.log.reset(content.messages);
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
    this.composer.stop.hidden = !state.busy;
    this.composer.send.hidden = state.busy;
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
    this.root.classList.toggle("gw-gone", this.connection === "gone");
  }

  /** @param {ChatState} state */
  showNotice(state) {
    this.notice.replaceChildren();
    if (state.notice) this.notice.append(h("span", { text: state.notice }));
    if (!state.canUndo) return;
    const undo = h("button", { type: "button", class: "gw-link", text: "Undo" });
    undo.addEventListener("click", () => this.post("undo"));
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
    this.composer.input.focus();
    this.submit();
  }

  submit() {
    const text = this.composer.input.value;
    if (this.composer.send.disabled || this.state?.busy || !text.trim()) return;
    this.post("send", { text });
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
    if (event.isComposing) return;
    if (event.key === "Escape" && this.state?.busy) {
      event.preventDefault();
      event.stopPropagation();
      this.post("stop");
    } else if (event.key === "Enter" && event.target === this.composer.input) {
      // Also with Shift: JupyterLab takes the new line's own effect away.
      event.preventDefault();
      if (event.shiftKey) this.composer.newLine();
      else this.submit();
    }
    // JupyterLab would take the effect of undo and redo away, too, from the Ctrl key on.
    if (event.key !== "Escape" && event.target === this.composer.input) event.stopPropagation();
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
