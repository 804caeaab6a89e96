// @ts-check
/**
 * What a person has typed into the forms in which messages are edited, until it is sent or cancelled.
 *
 * Promises: it outlives the form (another conversation, another branch) and the page (loaded anew, in
 * the same tab); it is found by the message's id, which is the same wherever the message is shown; no
 * more than `EDITS_MOST` are kept, the oldest go first. Leaves to others: the forms (`_chat_acts.js`).
 */

const EDITS_KEY = "gw-edits";
const EDITS_MOST = 20;
const EDITS_WRITE_AFTER_MS = 300;

export class EditDrafts {
  /** @param {AbortSignal} signal */
  constructor(signal) {
    /** @type {Map<string, string>} the newest last */
    this.texts = storedEdits();
    /** @type {Set<string>} the messages whose text is another one than what is stored */
    this.changed = new Set();
    this.timer = 0;
    window.addEventListener("pagehide", () => this.write(), { signal });
    signal.addEventListener("abort", () => this.write());
  }

  /** @param {string} id the message's @returns {string | null} */
  of(id) {
    return this.texts.get(id) ?? null;
  }

  /** @param {string} id @param {string} text */
  keep(id, text) {
    this.texts.delete(id);
    this.texts.set(id, text);
    this.later(id);
  }

  /** @param {string} id */
  drop(id) {
    if (this.texts.delete(id)) this.later(id);
  }

  /** @param {string} id */
  later(id) {
    this.changed.add(id);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(), EDITS_WRITE_AFTER_MS);
  }

  write() {
    clearTimeout(this.timer);
    if (!this.changed.size) return;
    const stored = storedEdits(); // other chats of the page keep theirs there, too
    for (const id of this.changed) {
      const text = this.texts.get(id);
      stored.delete(id);
      if (text !== undefined) stored.set(id, text);
    }
    this.changed.clear();
    try {
      if (stored.size) sessionStorage.setItem(EDITS_KEY, JSON.stringify([...stored].slice(-EDITS_MOST)));
      else sessionStorage.removeItem(EDITS_KEY);
    } catch {
      // No room, or not allowed here: what is typed lives as long as the page.
    }
  }
}

/** @returns {Map<string, string>} */
function storedEdits() {
  const texts = new Map();
  try {
    const found = JSON.parse(sessionStorage.getItem(EDITS_KEY) ?? "[]");
    if (!Array.isArray(found)) return texts;
    for (const one of found) {
      const [id, text] = Array.isArray(one) ? one : [];
      if (typeof id === "string" && typeof text === "string") texts.set(id, text);
    }
  } catch {
    // Not allowed here, or not ours.
  }
  return texts;
}
