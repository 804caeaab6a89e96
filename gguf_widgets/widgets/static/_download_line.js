// @ts-check
/**
 * Questions to Python, each with its answer.
 *
 * Promises: an answer goes to whoever asked; one that does not come is an error within a bounded
 * time; none is waited for after the view has gone. Leaves to others: whether Python is there at all
 * (`_connection.js`).
 */

import { newMid } from "./_connection.js";

/**
 * @import { WidgetModel } from "./_connection.js"
 * @import { ErrorView } from "./_download_error.js"
 */

const ANSWER_MS = 30_000;

/** What Python refused, as it is shown. */
export class RefusedByPython extends Error {
  /** @param {ErrorView} view */
  constructor(view) {
    super(view.text);
    this.view = view;
  }
}

export class Line {
  /** @param {WidgetModel} model @param {AbortSignal} signal */
  constructor(model, signal) {
    this.model = model;
    /** @type {Map<string, {resolve: (answer: any) => void, reject: (error: Error) => void, timer: ReturnType<typeof setTimeout>}>} */
    this.waiting = new Map();
    signal.addEventListener("abort", () => {
      for (const { timer } of this.waiting.values()) clearTimeout(timer);
      this.waiting.clear();
    });
  }

  /** Send what needs no answer; an error is answered all the same. @param {string} kind @param {object} [content] */
  post(kind, content = {}) {
    try {
      this.model.send({ kind, mid: newMid(), ...content });
    } catch {
      // The heartbeat says that nobody is there.
    }
  }

  /** @param {string} kind @param {object} [content] @returns {Promise<any>} */
  ask(kind, content = {}) {
    const mid = newMid();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(mid);
        reject(new Error("No answer came. Try again when Python answers."));
      }, ANSWER_MS);
      this.waiting.set(mid, { resolve, reject, timer });
      this.post(kind, { ...content, mid });
    });
  }

  /** An answer came. @param {any} content @returns {ErrorView | null} a refusal that nobody waits for */
  take(content) {
    const asked = this.waiting.get(content.mid);
    if (!asked) return content.error ?? null;
    this.waiting.delete(content.mid);
    clearTimeout(asked.timer);
    if (content.error) asked.reject(new RefusedByPython(content.error));
    else asked.resolve(content);
    return null;
  }
}
