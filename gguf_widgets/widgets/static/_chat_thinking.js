// @ts-check
/**
 * What a model thought, folded away: "Thinking…" with the seconds while it runs, "Thought for 12 s"
 * after it.
 *
 * Promises: opened and closed by the person, and stays so; opened by itself only where there is no
 * answer to read; a screen reader hears "Thinking", not every second. Leaves to others: the text in
 * it (`_chat_blocks.js`).
 */

import { h, icon } from "./_dom.js";

export class ThinkingFold {
  constructor() {
    this.label = h("span", { class: "gw-thinking-label" });
    this.clock = h("span", { class: "gw-thinking-clock", "aria-hidden": "true" });
    this.summary = h("summary", { "data-gw": "chat-thinking" }, [icon("open"), this.label, this.clock]);
    this.body = h("div", { class: "gw-thoughts" });
    this.root = h("details", { class: "gw-thinking" }, [this.summary, this.body]);
    this.touched = false;
    this.began = performance.now();
    /** @type {number | null} seconds, where its end was seen */
    this.measured = null;
    this.watched = false;
    this.timer = 0;
    this.summary.addEventListener("click", () => (this.touched = true));
  }

  /**
   * @param {boolean} open whether its end has not come
   * @param {boolean} running whether the answer is still being written
   * @param {number | null} seconds how long it took, if that is known
   */
  show(open, running, seconds) {
    const thinks = open && running;
    if (thinks) this.watched = true;
    else if (this.watched) this.measured ??= (performance.now() - this.began) / 1000;
    this.root.classList.toggle("gw-thinks", thinks);
    const took = seconds ?? this.measured;
    const words = took === null ? "" : ` for ${spanWords(took)}`;
    this.label.textContent = thinks ? "Thinking…" : open ? `Thought${words}, without an answer` : `Thought${words}`;
    if (!this.touched) this.root.open = open && !running;
    this.clock.hidden = !thinks;
    clearTimeout(this.timer);
    if (thinks) this.tick();
  }

  tick() {
    const seconds = (performance.now() - this.began) / 1000;
    this.clock.textContent = seconds < 1 ? "" : spanWords(seconds);
    // The next full second; not for one that was taken from the page.
    this.timer = setTimeout(() => this.root.isConnected && this.tick(), 1000 - ((seconds * 1000) % 1000));
  }
}

/** @param {number} seconds */
function spanWords(seconds) {
  const whole = Math.max(1, Math.floor(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
