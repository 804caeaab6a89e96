// @ts-check
/**
 * Questions to Python and their answers.
 *
 * Promises: each question gets its answer, an error in words, or, after a while, the word that none
 * came; what was asked ends with the view.
 */

import { newMid } from "./_connection.js";

/**
 * @import { WidgetModel } from "./_connection.js"
 * @typedef {WidgetModel & {send(content: object, callbacks?: undefined, buffers?: ArrayBuffer[]): void}} LinkModel
 */

const LINK_WAIT_MS = 60_000;

export class Link {
  /** @param {LinkModel} model @param {string} page @param {AbortSignal} signal */
  constructor(model, page, signal) {
    this.model = model;
    this.page = page;
    this.signal = signal;
    /** @type {Map<string, {resolve: (answer: any) => void, reject: (error: Error) => void, timer: number}>} */
    this.asked = new Map();
    signal.addEventListener("abort", () => {
      for (const { timer } of this.asked.values()) clearTimeout(timer);
      this.asked.clear();
    });
  }

  /** Send without waiting for an answer. @param {string} kind @param {object} [content] */
  tell(kind, content = {}) {
    try {
      this.model.send({ kind, mid: newMid(), page: this.page, ...content });
    } catch {
      // The heartbeat says that nobody is there.
    }
  }

  /**
   * @param {string} kind @param {object} [content] @param {ArrayBuffer[]} [buffers]
   * @param {number} [wait] @returns {Promise<any>}
   */
  ask(kind, content = {}, buffers = [], wait = LINK_WAIT_MS) {
    return new Promise((resolve, reject) => {
      const mid = newMid();
      const timer = setTimeout(() => {
        this.asked.delete(mid);
        reject(new Error("Python did not answer in time. Try again."));
      }, wait);
      this.asked.set(mid, { resolve, reject, timer });
      try {
        this.model.send({ kind, mid, page: this.page, ...content }, undefined, buffers);
      } catch {
        clearTimeout(timer);
        this.asked.delete(mid);
        reject(new Error("Python does not answer."));
      }
    });
  }

  /** @param {any} content @param {DataView[]} buffers */
  receive(content, buffers) {
    const asked = this.asked.get(content.mid);
    if (!asked) return; // another view's
    this.asked.delete(content.mid);
    clearTimeout(asked.timer);
    if (content.error) asked.reject(new Error(content.error.message));
    else asked.resolve({ ...content, buffers });
  }
}

/** @param {unknown} error @returns {string} */
export const wordsOf = (error) => (error instanceof Error ? error.message : String(error));
