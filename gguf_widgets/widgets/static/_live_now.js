// @ts-check
/**
 * What is the case now: the main figures, and the requests under way with their Stop.
 *
 * Promises: its height stays as it is, whatever is under way; the focus stays on a Stop while others
 * come and go; where nothing was asked it says what to do. Leaves to others: the figures (Python).
 */

import { h, setChildren } from "./_dom.js";
import { liveDuration, liveNumber } from "./_live_words.js";

/**
 * @import { LiveAnswer } from "./_live_data.js"
 * @typedef {{id: string, model: string, doing: string, fraction: number | null, age: string, table: boolean}} LiveUnderWay
 * @typedef {{num: number, rows: LiveUnderWay[]}} LiveList
 */

class LiveTile {
  /** @param {string} name @param {string} label @param {string} term the exact term, for the tooltip */
  constructor(name, label, term) {
    this.value = h("span", { class: "gw-lc-value", text: "–" });
    this.more = h("span", { class: "gw-lc-more" });
    this.root = h("div", { class: "gw-lc-tile", "data-gw": "live-tile", "data-name": name, title: term }, [
      h("span", { class: "gw-lc-label", text: label }),
      this.value,
      this.more,
    ]);
  }

  /** @param {string} value @param {string} [more] */
  show(value, more = "") {
    if (this.value.textContent !== value) this.value.textContent = value;
    if (this.more.textContent !== more) this.more.textContent = more;
  }
}

/** The main figures of this moment. */
export class LiveTiles {
  constructor() {
    this.writing = new LiveTile("writing", "Writing", "decode_tok_per_s, all models of yours on this machine");
    this.reading = new LiveTile("reading", "Reading prompts", "prefill_tok_per_s, all models of yours on this machine");
    this.first = new LiveTile("first", "First token", "ttft_s of the last answer of this program: from its arrival to its first token");
    this.sequences = new LiveTile("sequences", "Answers at once", "num_running and num_waiting, all models of yours on this machine");
    this.memory = new LiveTile("memory", "Memory of the models", "pss_bytes of their processes, or rss_bytes where that is not known; free_memory_bytes");
    this.processor = new LiveTile("processor", "Processor", "cpu_total_percent, everything on this machine; by models, this program and batch runs: cpu_percent / number of processors");
    this.root = h("div", { class: "gw-lc-tiles", role: "group", "aria-label": "Now" }, [this.writing, this.reading, this.first, this.sequences, this.memory, this.processor].map(({ root }) => root));
  }

  /** @param {(field: string) => number} now @param {LiveAnswer | undefined} last */
  show(now, last) {
    const say = (/** @type {string} */ field, /** @type {string} */ unit) => (Number.isNaN(now(field)) ? "–" : liveNumber(unit, now(field)));
    this.writing.show(say("decode_tok_per_s", "tokens/s"));
    this.reading.show(say("prefill_tok_per_s", "tokens/s"));
    const ttft = last?.ttft_s ?? null;
    this.first.show(ttft === null ? "–" : liveDuration(ttft), ttft === null ? "" : "last answer");
    const waiting = now("num_waiting");
    this.sequences.show(say("num_running", "count"), waiting > 0 ? `${liveNumber("count", waiting)} waiting` : "");
    const free = now("free_memory_bytes");
    this.memory.show(say("memory_models", "bytes"), Number.isNaN(free) ? "" : `${liveNumber("bytes", free)} free`);
    const ours = now("cpu_ours");
    this.processor.show(say("cpu_total_percent", "percent"), Number.isNaN(ours) ? "" : `${liveNumber("percent", ours)} by the models`);
  }
}

class LiveRow {
  /** @param {LiveUnderWay} view @param {(id: string) => void} stop */
  constructor(view, stop) {
    this.model = h("span", { class: "gw-lc-model", text: view.model, title: view.model });
    this.doing = h("span", { class: "gw-dim" });
    this.stop = h("button", { type: "button", class: "gw-button", text: "Stop", "aria-label": `Stop the answer of ${view.model}`, "data-gw": "live-stop", hidden: view.table });
    this.stop.addEventListener("click", () => {
      this.stop.disabled = true;
      stop(view.id);
    });
    const where = view.table ? [h("span", { class: "gw-dim", text: "row of a table", title: "Tables are stopped as a whole, where they are." })] : [this.stop];
    this.root = h("li", { "data-gw": "live-request", "data-id": view.id }, [h("div", { class: "gw-lc-grow" }, [this.model, this.doing]), ...where]);
  }

  /** @param {LiveUnderWay} view */
  show({ doing, age }) {
    const said = `${doing} · ${age}`;
    if (this.doing.textContent !== said) this.doing.textContent = said;
  }
}

/** The requests under way, in a place of one height. */
export class LiveUnderWayList {
  /** @param {(id: string) => void} stop @param {() => void} toChat @param {() => void} toLast */
  constructor(stop, toChat, toLast) {
    this.stop = stop;
    /** @type {Map<string, LiveRow>} */
    this.rows = new Map();
    this.list = h("ul", { class: "gw-lc-rows" });
    this.more = h("p", { class: "gw-dim", hidden: true });
    this.text = h("p", { class: "gw-dim", "data-gw": "live-hint" });
    this.chat = h("button", { type: "button", class: "gw-button gw-primary", text: "Go to the chat", "data-gw": "live-to-chat", hidden: true });
    this.chat.addEventListener("click", toChat);
    this.last = h("button", { type: "button", class: "gw-link", "data-gw": "live-to-last", hidden: true });
    this.last.addEventListener("click", toLast);
    this.empty = h("div", { class: "gw-lc-empty" }, [this.text, h("div", { class: "gw-lc-buttons" }, [this.chat, this.last])]);
    this.root = h("section", { class: "gw-lc-way", "data-gw": "live-way", tabindex: "0", "aria-label": "Under way" }, [h("h3", { text: "Under way" }), this.list, this.more, this.empty]);
  }

  /** @param {LiveList} live @param {string} hint what is said if nothing is under way @param {boolean} isFirst whether nothing has been asked yet @param {string} last an earlier session, in words @param {boolean} hasChat */
  show({ num, rows }, hint, isFirst, last, hasChat) {
    const shown = rows.map((view) => {
      const row = this.rows.get(view.id) ?? new LiveRow(view, this.stop);
      this.rows.set(view.id, row);
      row.show(view);
      return row;
    });
    const ids = new Set(rows.map(({ id }) => id));
    for (const id of this.rows.keys()) if (!ids.has(id)) this.rows.delete(id);
    const hadFocus = this.list.contains(document.activeElement);
    setChildren(this.list, shown.map(({ root }) => root));
    if (hadFocus && !this.list.contains(document.activeElement)) this.root.focus();
    this.more.hidden = num <= rows.length;
    this.more.textContent = `and ${(num - rows.length).toLocaleString("en")} more`;
    this.empty.hidden = num > 0;
    if (this.text.textContent !== hint) this.text.textContent = hint;
    this.chat.hidden = !isFirst || !hasChat;
    this.last.hidden = !isFirst || !last;
    if (this.last.textContent !== last) this.last.textContent = last;
  }
}
