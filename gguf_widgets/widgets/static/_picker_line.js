// @ts-check
/**
 * The picker's line to Python: messages that go out, and questions that are answered.
 *
 * Promises: each question gets one answer: Python's, or one that says why there is none. Leaves to
 * others: what is asked, and whether anybody is there (the heartbeat).
 */

import { newMid } from "./_connection.js";

/**
 * @typedef {{text: string, problem: string, suggestion: string}} Refusal
 * @typedef {{text: string, yes: string, no: string}} Question
 * @typedef {{
 *   mid: string, error?: Refusal, ask?: Question, renamed?: {from: string, to: string},
 *   removed?: {id: string, path: string}, restored?: {path: string, name: string}, emptied?: boolean,
 *   forms?: any, started?: boolean,
 * }} Answer
 * @typedef {(answer: Answer) => void} Then
 * @typedef {{
 *   post(kind: string, content?: object): void,
 *   ask(kind: string, content: object, then: Then): void,
 *   reveal(path: string): void,
 *   isAtWork(key: string): boolean,
 * }} Line
 */

// A move of files waits half a minute for another program that moves some.
const ANSWER_MS = 60_000;

const NO_ANSWER = "No answer came from Python. Look at the list: it may have been done all the same. If not, try again.";
const GONE = "The connection to Python is gone, so nobody knows whether it was done. Reload the page and look at the list.";

/** Questions that wait for their answer. */
export class Questions {
  /** @param {AbortSignal} signal */
  constructor(signal) {
    /** @type {Map<string, {then: Then, timer: number}>} */
    this.open = new Map();
    signal.addEventListener("abort", () => {
      for (const { timer } of this.open.values()) clearTimeout(timer);
      this.open.clear();
    });
  }

  /**
   * @param {Then} then
   * @param {() => boolean} isUnderWay whether the page sees that it is being done
   * @returns {string} the id to ask with
   */
  add(then, isUnderWay) {
    const mid = newMid();
    const wait = () => {
      const timer = setTimeout(() => (isUnderWay() ? wait() : this.fail(mid, NO_ANSWER)), ANSWER_MS);
      this.open.set(mid, { then, timer });
    };
    wait();
    return mid;
  }

  /** @param {Answer} answer one of another page's view finds no question here */
  take(answer) {
    const question = this.open.get(answer.mid);
    if (!question) return;
    clearTimeout(question.timer);
    this.open.delete(answer.mid);
    question.then(answer);
  }

  /** @param {string} mid @param {string} text */
  fail(mid, text) {
    this.take({ mid, error: { text, problem: "no_answer", suggestion: "" } });
  }

  /** Nobody answers any more. */
  failAll() {
    for (const mid of [...this.open.keys()]) this.fail(mid, GONE);
  }
}
