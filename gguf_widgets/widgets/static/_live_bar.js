// @ts-check
/**
 * The line above the live charts: which time, stand still, closer, which session, save.
 *
 * Promises: each of these by keyboard too; Esc closes what opens. Leaves to others: what they do.
 */

import { ghostButton, h, icon } from "./_dom.js";
import { liveSpan } from "./_live_words.js";

/**
 * @typedef {{id: string, program: string, from: number, to: number, state: string, requests: number, about: string}} LiveSession
 * @typedef {{window(seconds: number | null): void, pause(): void, zoom(factor: number): void, back(): void, session(id: string | null): void, opened(): void, save(what: string): void}} LiveActs
 */

/** @type {[string, number | null][]} */
const LIVE_WINDOWS = [["1 min", 60], ["5 min", 300], ["15 min", 900], ["1 hour", 3600], ["All", null]];

export class LiveBar {
  /** @param {LiveActs} acts @param {AbortSignal} signal */
  constructor(acts, signal) {
    this.windows = LIVE_WINDOWS.map(([text, seconds]) => {
      const button = h("button", { type: "button", text, "aria-pressed": "false", "data-gw": "live-window", "data-value": String(seconds ?? "all") });
      button.addEventListener("click", () => acts.window(seconds));
      return { seconds, button };
    });
    this.choice = h("div", { class: "gw-lc-choice", role: "group", "aria-label": "How much time is shown" }, this.windows.map(({ button }) => button));
    this.pauseText = h("span", { text: "Pause" });
    this.pauseIcon = icon("pause");
    this.pause = h("button", { type: "button", class: "gw-button", "data-gw": "live-pause", title: "Let the charts stand still; recording goes on" }, [this.pauseIcon, this.pauseText]);
    this.pause.addEventListener("click", () => acts.pause());
    this.closer = ghostButton("closer", "Zoom in (or draw over a chart with the mouse)", { "data-gw": "live-closer" });
    this.closer.addEventListener("click", () => acts.zoom(0.5));
    this.wider = ghostButton("wider", "Zoom out", { "data-gw": "live-wider" });
    this.wider.addEventListener("click", () => acts.zoom(2));
    this.back = h("button", { type: "button", class: "gw-button", "data-gw": "live-back", hidden: true });
    this.back.addEventListener("click", () => acts.back());
    this.sessions = h("select", { class: "gw-field gw-lc-sessions", "aria-label": "Which session is shown", "data-gw": "live-session", "data-lm-suppress-shortcuts": "true" }, [h("option", { value: "", text: "Now" })]);
    this.sessions.addEventListener("change", () => acts.session(this.sessions.value || null));
    // A list that is opened shows what has come meanwhile.
    for (const name of ["pointerdown", "focus"]) this.sessions.addEventListener(name, () => acts.opened());
    this.saveMenu = this.menu(acts, signal);
    this.root = h("div", { class: "gw-lc-bar", "data-gw": "live-bar" }, [
      this.choice,
      this.pause,
      h("div", { class: "gw-lc-zoom" }, [this.closer, this.wider]),
      this.back,
      this.sessions,
      this.saveMenu,
    ]);
  }

  /** @param {LiveActs} acts @param {AbortSignal} signal */
  menu(acts, signal) {
    const menu = h("details", { class: "gw-lc-menu", "data-gw": "live-save" });
    const summary = h("summary", { class: "gw-button" }, [icon("down"), h("span", { text: "Save data" })]);
    const entry = (/** @type {string} */ what, /** @type {string} */ text, /** @type {string} */ more) => {
      const button = h("button", { type: "button", "data-gw": "live-save-file", "data-what": what }, [h("span", { text }), h("span", { class: "gw-dim", text: more })]);
      button.addEventListener("click", () => {
        menu.open = false;
        summary.focus();
        acts.save(what);
      });
      return button;
    };
    menu.append(
      summary,
      h("div", { class: "gw-lc-entries" }, [
        entry("system", "Speed and machine (CSV)", "a line for each look at the machine, of the time that is shown"),
        entry("requests", "Answers (CSV)", "a line for each answer, of the time that is shown"),
      ]),
    );
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      event.stopPropagation();
      menu.open = false;
      summary.focus();
    });
    document.addEventListener("pointerdown", (event) => menu.open && !menu.contains(/** @type {Node} */ (event.target)) && (menu.open = false), { signal });
    return menu;
  }

  /** @param {{seconds: number | null, isPaused: boolean, isZoomed: boolean, session: string | null}} state */
  show({ seconds, isPaused, isZoomed, session }) {
    for (const one of this.windows) one.button.setAttribute("aria-pressed", String(!isZoomed && one.seconds === seconds));
    const isNow = session === null && !isZoomed;
    this.pause.hidden = !isNow;
    const text = isPaused ? "Go on" : "Pause";
    if (this.pauseText.textContent !== text) {
      this.pauseText.textContent = text;
      const fresh = icon(isPaused ? "play" : "pause");
      this.pauseIcon.replaceWith(fresh);
      this.pauseIcon = fresh;
    }
    this.pause.classList.toggle("gw-primary", isPaused);
    this.back.hidden = !isZoomed;
    this.back.textContent = session === null ? "Back to now" : "Show all again";
    this.sessions.value = session ?? "";
  }

  /** @param {LiveSession[]} sessions @param {number} older @param {string | null} chosen */
  showSessions(sessions, older, chosen) {
    const options = [h("option", { value: "", text: "Now" })];
    for (const { id, from, to, program, requests } of sessions) {
      const answers = requests ? `, ${requests.toLocaleString("en")} ${requests === 1 ? "answer" : "answers"}` : "";
      options.push(h("option", { value: id, text: `${liveSpan(from, to)} · ${program}${answers}` }));
    }
    if (older) options.push(h("option", { value: "-", disabled: true, text: `${older.toLocaleString("en")} older ones: monitor.sessions() in Python` }));
    this.sessions.replaceChildren(...options);
    this.sessions.value = chosen ?? "";
  }
}
