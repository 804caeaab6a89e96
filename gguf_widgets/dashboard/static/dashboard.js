// @ts-check
/**
 * The frame of the dashboard: panel, tabs, work, status line. The parts in it are widgets of their
 * own, drawn into their places; two of them find a place in the frame by its name
 * (`data-gw-slot`): the chat's live line and its actions.
 *
 * Promises: fills a Voila page without a page scroll, and stands in a notebook cell at a height of
 * its own; the panel folds away below 1,000 px; everything is set as text; every listener and timer
 * ends with the view. Leaves to others: the parts, and every fact (Python).
 *
 * Messages from Python: state {state}, pong {mid, status}.
 * Messages to Python: snapshot, ping, dismiss, tab {name}; each with `mid`.
 */

import { Heartbeat, newMid } from "../../widgets/static/_connection.js";
import { confirmCopy, copyText } from "../../widgets/static/_copy.js";
import { ghostButton, h, icon } from "../../widgets/static/_dom.js";
import { keepKeys } from "../../widgets/static/_lab_keys.js";

/**
 * @import { WidgetModel } from "../../widgets/static/_connection.js"
 *
 * @typedef {{getWidget(ref: string): Promise<{render(to: {el: HTMLElement, signal: AbortSignal}): Promise<void>}>}} Host
 *
 * @typedef {{value: string, title: string, strong?: boolean}} Figure
 * @typedef {{text: string, command: string} | null} Banner
 * @typedef {{banner: Banner, notices: string[], status: Figure[], loaded: boolean, none: boolean, tab: string}} DashboardState
 */

const WIDE_PX = 1000;
const PART_TRIES = 3;
/** The tabs whose part Python makes when one is opened. */
const LATER = ["speed", "compare"];

/** What is said above everything: no connection, demo mode, what happened to the store. */
class NotesElement {
  /** @param {() => void} dismiss */
  constructor(dismiss) {
    this.dismiss = dismiss;
    this.text = h("span");
    this.reload = h("button", { type: "button", class: "gw-button", "data-gw": "gw-reload", text: "Reload" });
    this.reload.addEventListener("click", () => location.reload());
    this.connection = h("div", { class: "gw-dash-bar", role: "alert", hidden: true }, [icon("warn"), this.text, this.reload]);
    this.banner = h("div", { class: "gw-dash-bar", "data-gw": "demo-banner", role: "note", hidden: true });
    this.notices = h("div", { class: "gw-dash-bar", "data-gw": "notices", role: "status", hidden: true });
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    this.connection.hidden = state === "there";
    this.reload.hidden = state !== "gone";
    if (state === "gone") this.connection.dataset.gw = "gw-disconnected";
    else delete this.connection.dataset.gw;
    this.text.textContent =
      state === "gone"
        ? "The connection to Python is gone. Your conversation is saved. Reload the page to go on."
        : "Python is busy with something else. The page goes on when it is free.";
  }

  /** @param {Banner} banner */
  showBanner(banner) {
    this.banner.hidden = !banner;
    if (!banner) return;
    this.banner.replaceChildren(icon("info"), h("span", { text: banner.text }));
    if (!banner.command) return;
    const copy = ghostButton("copy", "Copy this line");
    copy.addEventListener("click", async () => {
      if (await copyText(banner.command)) confirmCopy(copy);
    });
    this.banner.append(h("div", { class: "gw-dash-command" }, [h("code", { text: banner.command }), copy]));
  }

  /** @param {string[]} notices */
  showNotices(notices) {
    if (this.notices.textContent === notices.join("")) return; // its button may have the focus
    this.notices.hidden = notices.length === 0;
    const close = ghostButton("close", "Close");
    close.addEventListener("click", () => {
      this.notices.hidden = true;
      this.dismiss();
    });
    const texts = notices.map((text) => h("p", { text }));
    this.notices.replaceChildren(icon("info"), h("div", { class: "gw-dash-texts" }, texts), close);
  }
}

/** A part of the panel that opens; the others close, as there is room for one. */
class SectionElement {
  /** @param {string} title @param {string} hook @param {string} group */
  constructor(title, hook, group) {
    this.place = h("div", { class: "gw-dash-section-body" });
    this.root = h("details", { class: "gw-dash-section", name: group, "data-gw": hook, hidden: true }, [
      h("summary", {}, [icon("open"), title]),
      this.place,
    ]);
  }
}

/** The panel on the left and the button that shows it where it folds away. */
class PanelElement {
  constructor() {
    const id = `gw-panel-${newMid()}`;
    this.place = h("div", { class: "gw-dash-picker" });
    this.download = new SectionElement("Get a model from the net", "panel-download", id);
    this.upload = new SectionElement("Upload a model", "panel-upload", id);
    this.close = ghostButton("close", "Close", { "data-gw": "panel-close" });
    this.root = h("aside", { class: "gw-dash-panel", id, "aria-label": "Models and settings" }, [
      h("div", { class: "gw-dash-brand" }, [h("span", { text: "gguf-widgets" }), this.close]),
      this.place,
      this.download.root,
      this.upload.root,
    ]);
    this.scrim = h("div", { class: "gw-dash-scrim" });
    this.toggle = ghostButton("panel", "Show or hide the models", { "data-gw": "panel-toggle", "aria-controls": id, "aria-expanded": "false" });
  }

  /** @returns {HTMLElement | null} the button that a person who needs a model should press */
  firstChoice() {
    if (this.root.querySelector('[data-gw="picker-unload"]')) return null; // and the list stays at that row
    return (
      this.root.querySelector('[data-gw="picker-load"].gw-primary') ??
      this.root.querySelector('[data-gw="picker-row"] button:not([hidden], :disabled)')
    );
  }
}

/** One thing to do: its tab, and its place. */
class TabElement {
  /** @param {string} name @param {string} text @param {() => void} choose */
  constructor(name, text, choose) {
    this.name = name;
    const id = `gw-tab-${newMid()}`;
    const place = `gw-view-${newMid()}`;
    this.tab = h("button", { type: "button", class: "gw-dash-tab", role: "tab", id, "aria-controls": place, "data-gw": `tab-${name}`, text, hidden: true });
    this.tab.addEventListener("click", choose);
    this.place = h("div", { class: "gw-dash-view", role: "tabpanel", id: place, "aria-labelledby": id, hidden: true });
  }

  /** @param {boolean} isOpen */
  show(isOpen) {
    this.tab.setAttribute("aria-selected", String(isOpen));
    this.tab.tabIndex = isOpen ? 0 : -1;
    this.place.hidden = !isOpen;
  }
}

/** The middle: tabs, actions, and the place of the open tab. */
class WorkElement {
  /** @param {HTMLElement} toggle @param {(name: string) => void} chosen */
  constructor(toggle, chosen) {
    this.chosen = chosen;
    this.tabs = [["chat", "Chat"], ["table", "Table"], ["speed", "Speed"], ["compare", "Compare"]].map(([name = "", text = ""]) => new TabElement(name, text, () => this.choose(name)));
    const list = h("div", { class: "gw-dash-tabs", role: "tablist", "aria-label": "What to do" }, this.tabs.map(({ tab }) => tab));
    list.addEventListener("keydown", (event) => this.onKey(event));
    this.actions = h("div", { class: "gw-dash-actions", "data-gw-slot": "chat-actions" });
    const top = h("header", { class: "gw-dash-top" }, [toggle, list, this.actions]);
    this.root = h("div", { class: "gw-dash-work" }, [top, ...this.tabs.map(({ place }) => place)]);
    this.open("chat");
  }

  /** @param {string} name */
  place(name) {
    return /** @type {TabElement} */ (this.tabs.find((one) => one.name === name)).place;
  }

  /** A part is there: its tab can be seen. With one part there is nothing to choose. @param {string} name */
  offer(name) {
    for (const one of this.tabs) if (one.name === name) one.tab.hidden = false;
  }

  /** @param {string} name */
  open(name) {
    for (const one of this.tabs) one.show(one.name === name);
    this.actions.hidden = name !== "chat";
  }

  /** @param {string} name */
  choose(name) {
    this.open(name);
    this.chosen(name);
  }

  /** The arrow keys go from tab to tab. @param {KeyboardEvent} event */
  onKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const seen = this.tabs.filter(({ tab }) => !tab.hidden);
    const at = seen.findIndex(({ tab }) => tab.getAttribute("aria-selected") === "true");
    const next = seen[(at + step + seen.length) % seen.length];
    if (!next) return;
    event.preventDefault();
    this.choose(next.name);
    next.tab.focus();
  }
}

/** The line at the bottom. */
class StatusElement {
  constructor() {
    this.figures = h("div", { class: "gw-dash-figures" });
    this.root = h("footer", { class: "gw-dash-status", "data-gw": "status-line", "aria-label": "Status" }, [
      this.figures,
      h("div", { class: "gw-dash-live", "data-gw-slot": "chat-stats" }),
    ]);
  }

  /** @param {Figure[]} figures */
  show(figures) {
    this.figures.replaceChildren(
      ...figures.map((figure) => h("span", { title: figure.title, text: figure.value, class: figure.strong ? "gw-dash-strong" : null })),
    );
  }
}

/** The view: builds the frame, draws the parts into it, shows the state. */
class DashboardView {
  /** @param {WidgetModel} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    this.signal = signal;
    this.loaded = false;
    this.offered = this.shown = false;
    this.connection = "there";
    this.notes = new NotesElement(() => this.post("dismiss"));
    this.panel = new PanelElement();
    this.work = new WorkElement(this.panel.toggle, (name) => this.post("tab", { name }));
    this.status = new StatusElement();
    const { connection, banner, notices } = this.notes;
    const main = h("div", { class: "gw-dash-main" }, [this.panel.root, this.panel.scrim, this.work.root]);
    this.root = h("div", { class: "gw-dash", "data-gw-frame": "dashboard" }, [connection, banner, notices, main, this.status.root]);
    this.panel.toggle.addEventListener("click", () => this.setOpen(!this.root.classList.contains("gw-open")));
    this.panel.close.addEventListener("click", () => this.setOpen(false));
    this.panel.scrim.addEventListener("click", () => this.setOpen(false));
    this.root.addEventListener("gw-choose-model", () => this.choose());
    this.root.addEventListener("gw-open-tab", (event) => this.goTo(/** @type {CustomEvent<string>} */ (event)));
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    el.append(this.root);
    this.fit();
    const observer = new ResizeObserver(() => this.fold());
    observer.observe(this.root);
    signal.addEventListener("abort", () => observer.disconnect());
    const onMessage = (/** @type {any} */ content) => this.receive(content);
    model.on("msg:custom", onMessage);
    signal.addEventListener("abort", () => model.off("msg:custom", onMessage));
    this.heartbeat = new Heartbeat(model, (state) => this.showConnection(state), () => this.post("snapshot"), signal);
    keepKeys(this.root, signal);
    this.post("snapshot");
  }

  /** Fill the page under Voila; elsewhere keep the height that was asked for. */
  fit() {
    const height = this.model.get("height");
    const page = !height && document.body.dataset.voila !== undefined;
    this.root.classList.toggle("gw-page", page);
    if (height) this.root.style.height = height;
  }

  fold() {
    const narrow = this.root.clientWidth < WIDE_PX;
    if (narrow === this.root.classList.contains("gw-narrow")) return;
    this.root.classList.toggle("gw-narrow", narrow);
    this.setOpen(false);
  }

  /** @param {boolean} open */
  setOpen(open) {
    const was = this.root.classList.contains("gw-open");
    const folds = this.root.classList.contains("gw-narrow");
    this.root.classList.toggle("gw-open", open);
    this.panel.toggle.setAttribute("aria-expanded", String(open));
    // A panel that is folded away is out of reach of Tab, too.
    this.panel.root.inert = (folds && !open) || this.connection === "gone";
    this.work.root.inert = folds && open;
    if (folds && open && !was) (this.panel.firstChoice() ?? this.panel.close).focus();
    if (folds && !open && was) this.panel.toggle.focus();
  }

  /** Show where to choose a model: the button there has the focus, and is seen to have it. */
  choose() {
    const button = this.panel.firstChoice();
    if (this.root.classList.contains("gw-narrow")) this.setOpen(true);
    button?.focus();
    // After a click with the mouse the browser itself would not draw it.
    button?.classList.add("gw-pointed");
    button?.addEventListener("blur", () => button.classList.remove("gw-pointed"), { once: true });
  }

  /** A part has put something into another one, and asks to go there. @param {CustomEvent<string>} event */
  goTo(event) {
    const goal = this.work.tabs.find(({ name, tab }) => name === event.detail && !tab.hidden);
    if (!goal) return;
    event.preventDefault();
    this.work.choose(goal.name);
    goal.tab.focus();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.key !== "Escape" || !this.root.classList.contains("gw-open")) return;
    event.stopPropagation();
    this.setOpen(false);
  }

  /** @param {string} kind @param {object} [content] */
  post(kind, content = {}) {
    this.model.send({ kind, mid: newMid(), ...content });
  }

  /** @param {any} content */
  receive(content) {
    this.heartbeat.heard();
    if (content.kind === "state") this.show(content.state);
    else if (content.kind === "pong") this.status.show(content.status);
  }

  /** @param {DashboardState} state */
  show(state) {
    this.notes.showBanner(state.banner);
    this.notes.showNotices(state.notices);
    this.status.show(state.status);
    // A model was loaded from the folded panel: what comes next is in the chat.
    if (state.loaded && !this.loaded && this.root.classList.contains("gw-open")) this.setOpen(false);
    this.loaded = state.loaded;
    if (!this.shown) this.work.open(state.tab);
    if (!this.shown && LATER.includes(state.tab)) this.post("tab", { name: state.tab });
    this.shown = true;
    // Who has no model but the demo is shown, once, where to get one.
    if (state.none && !this.offered) this.panel.download.root.open = this.offered = true;
  }

  /** @param {"there" | "busy" | "gone"} state */
  showConnection(state) {
    if (this.connection === state) return;
    this.connection = state;
    this.notes.showConnection(state);
    // Buttons that would do nothing do not look as if they did.
    this.root.classList.toggle("gw-gone", state === "gone");
    this.setOpen(this.root.classList.contains("gw-open"));
  }
}

/**
 * Draw a part into its place; on a busy machine its code may take longer than anywidget waits.
 * @param {Host} host @param {string} part @param {HTMLElement} place @param {AbortSignal} signal
 */
async function draw(host, part, place, signal) {
  for (let left = PART_TRIES; left > 0 && !signal.aborted; left -= 1) {
    try {
      const widget = await host.getWidget(part);
      if (!signal.aborted) await widget.render({ el: place, signal });
      return;
    } catch (error) {
      console.warn("A part of the dashboard did not load", error);
    }
  }
  if (!signal.aborted) place.append(h("p", { class: "gw-dash-missing", role: "alert", text: "This part did not load. Reload the page." }));
}

/**
 * Draw a part as soon as Python has made it.
 * @param {WidgetModel} model @param {Host} host @param {string} name @param {HTMLElement} place @param {AbortSignal} signal
 */
function drawLater(model, host, name, place, signal) {
  const loading = h("p", { class: "gw-dash-missing", text: "Loading…" });
  place.append(loading);
  const onMade = () => {
    const part = model.get(name);
    if (!part || !loading.isConnected) return;
    loading.remove();
    void draw(host, part, place, signal);
  };
  model.on(`change:${name}`, onMade);
  signal.addEventListener("abort", () => model.off(`change:${name}`, onMade));
  onMade();
}

/** @param {{model: WidgetModel, el: HTMLElement, host: Host}} context */
function render({ model, el, host }) {
  const controller = new AbortController();
  const { signal } = controller;
  const view = new DashboardView(model, el, signal);
  for (const name of ["chat", "table"]) {
    const part = model.get(name);
    if (!part) continue;
    view.work.offer(name);
    void draw(host, part, view.work.place(name), signal);
  }
  for (const name of LATER) {
    view.work.offer(name);
    drawLater(model, host, name, view.work.place(name), signal);
  }
  void draw(host, model.get("picker"), view.panel.place, signal);
  const { download, upload } = view.panel;
  for (const [name, section] of /** @type {[string, typeof upload][]} */ ([["downloader", download], ["uploader", upload]])) {
    const part = model.get(name);
    section.root.hidden = !part;
    if (part) void draw(host, part, section.place, signal);
  }
  return () => {
    controller.abort();
    view.root.remove();
  };
}

export default { render };
