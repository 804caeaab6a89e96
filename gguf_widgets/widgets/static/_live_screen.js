// @ts-check
/**
 * The screen of the live charts: what stands where, and what is said of it.
 *
 * Promises: an error is shown with a way out of it; what is said in words is there without plotly.js;
 * text is set as text. Leaves to others: when (live_charts.js), charts (_live_chart.js), the line
 * above (_live_bar.js), what happens now (_live_now.js).
 */

import { h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";
import { LiveBar } from "./_live_bar.js";
import { LiveTiles, LiveUnderWayList } from "./_live_now.js";
import { liveSpan } from "./_live_words.js";

/**
 * @import { LiveActs, LiveSession } from "./_live_bar.js"
 * @import { LiveList } from "./_live_now.js"
 */

const GONE_TEXT = "Python does not answer, so these charts stand still. What was recorded is kept. If it was restarted, load this page (in a notebook: run this cell) again.";
const ENDED_TEXT = "Recording has ended: these figures do not change any more. Make a new monitor to go on.";
const FIRST_TEXT = "Nothing has been asked yet. Ask something, and see here how fast it is answered.";
const FIRST_TEXT_ALONE = 'Nothing has been asked yet. Ask a model something, such as model.chat("Hello"), and see here how fast it is answered.';
const LIVE_ENDS = /** @type {Record<string, string>} */ ({ running: "Another program still records it.", "cut off": "Its program was cut off." });

export class LiveScreen {
  /**
   * @param {HTMLElement} el @param {string} height @param {AbortSignal} signal
   * @param {LiveActs & {stop(id: string): void}} acts
   */
  constructor(el, height, signal, acts) {
    this.acts = acts;
    this.noticesKey = this.pastKey = "";
    this.gone = h("div", { class: "gw-lc-gone", role: "alert", hidden: true, "data-gw": "live-gone" }, [icon("warn"), h("span", { text: GONE_TEXT })]);
    this.notices = h("div", { class: "gw-lc-gone", role: "status", hidden: true, "data-gw": "live-notices" });
    this.error = h("div", { class: "gw-lc-gone", role: "alert", hidden: true, "data-gw": "live-error" });
    this.bar = new LiveBar(acts, signal);
    this.tiles = new LiveTiles();
    /** @type {LiveSession | undefined} */
    this.newest = undefined;
    this.way = new LiveUnderWayList(
      (id) => acts.stop(id),
      () => this.root.dispatchEvent(new CustomEvent("gw-open-tab", { detail: "chat", bubbles: true, cancelable: true })),
      () => this.newest && acts.session(this.newest.id),
    );
    this.now = h("div", { class: "gw-lc-now" }, [this.tiles.root, this.way.root]);
    this.past = h("div", { class: "gw-lc-past", hidden: true, "data-gw": "live-past" });
    this.state = h("p", { class: "gw-dim gw-lc-state", "data-gw": "live-state", text: "Loading…" });
    this.grid = h("div", { class: "gw-lc-charts", "data-gw": "live-charts" });
    this.live = h("div", { class: "gw-live", role: "status", "aria-live": "polite" });
    this.root = h("section", { class: "gw-speed", "aria-label": "Speed", "data-gw": "live" }, [
      this.gone,
      this.notices,
      h("div", { class: "gw-lc-top" }, [h("h2", { text: "Speed" })]),
      this.error,
      this.bar.root,
      this.now,
      this.past,
      this.state,
      this.grid,
      this.live,
    ]);
    if (height) Object.assign(this.root.style, { maxHeight: height, overflowY: "auto" });
    this.hasFrame = Boolean(el.closest("[data-gw-frame]"));
    this.root.classList.toggle("gw-embedded", this.hasFrame);
    el.append(this.root);
  }

  /** @param {string} text */
  say(text) {
    this.live.textContent = text;
  }

  /** @param {string} text */
  showState(text) {
    if (this.state.textContent !== text) this.state.textContent = text;
  }

  /** @param {boolean} isNow whether what happens now is shown, and no earlier session */
  showWhich(isNow) {
    this.now.hidden = !isNow;
    this.past.hidden = isNow;
  }

  /** @param {LiveList} live @param {boolean} hasAsked whether something was asked in this session @param {boolean} isElsewhere whether other programs have something written */
  showUnderWay(live, hasAsked, isElsewhere) {
    const first = this.hasFrame ? FIRST_TEXT : FIRST_TEXT_ALONE;
    const hint = isElsewhere ? "A model is writing for another program." : hasAsked ? "Nothing at the moment." : first;
    const last = this.newest ? `Look at the last session: ${liveSpan(this.newest.from, this.newest.to)}` : "";
    this.way.show(live, hint, !hasAsked && !isElsewhere, last, this.hasFrame);
  }

  /** @param {LiveSession | undefined} session an earlier one */
  showPast(session) {
    const key = session ? JSON.stringify(session) : "";
    if (!session || key === this.pastKey) return;
    this.pastKey = key;
    const num = `${session.requests.toLocaleString("en")} ${session.requests === 1 ? "answer" : "answers"}`;
    const back = h("button", { type: "button", class: "gw-button", text: "Back to now", "data-gw": "live-to-now" });
    back.addEventListener("click", () => {
      this.acts.session(null);
      this.bar.sessions.focus();
    });
    const day = liveSpan(session.from, session.to);
    this.past.replaceChildren(
      h("div", { class: "gw-lc-grow" }, [
        h("h3", { text: `${day[0].toUpperCase()}${day.slice(1)}` }),
        h("p", { text: [`Recorded by ${session.program}: ${num}.`, LIVE_ENDS[session.state]].filter(Boolean).join(" ") }),
        h("p", { class: "gw-dim", text: session.about }),
      ]),
      back,
    );
  }

  /** @param {string[]} notices @param {boolean} isEnded whether nothing is recorded any more */
  showNotices(notices, isEnded) {
    const all = isEnded ? [...notices, ENDED_TEXT] : notices;
    const key = all.join("\n");
    if (key === this.noticesKey) return;
    this.noticesKey = key;
    this.notices.hidden = !all.length;
    this.notices.replaceChildren(icon("info"), h("div", { class: "gw-lc-grow" }, all.map((text) => h("p", { text }))));
  }

  /** @param {unknown} error @param {() => void} [again] */
  fail(error, again) {
    const close = h("button", { type: "button", class: "gw-link", text: again ? "Try again" : "Close", "data-gw": "live-again" });
    close.addEventListener("click", () => {
      this.error.hidden = true;
      again?.();
    });
    this.error.replaceChildren(icon("warn"), h("span", { class: "gw-lc-grow", text: wordsOf(error) }), close);
    this.error.hidden = false;
  }
}
