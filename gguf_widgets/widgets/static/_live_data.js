// @ts-check
/**
 * The figures that a page of the live charts has: one table of numbers, and the latest answers.
 *
 * Promises: its size does not grow, however long it is added to; where nothing was recorded for a
 * while there is a row without numbers, so that no line is drawn across; what comes twice, or too
 * late, is not in it twice. Leaves to others: what the figures are (Python), drawing.
 */

/**
 * @typedef {{at: number, model: string, isTable: boolean, reason: string, ttft_s: number | null, itl_p50_s: number | null, itl_p95_s: number | null, itl_p99_s: number | null, queue_s: number | null, prompt: number | null, cached: number | null, written: number | null, speed: number | null}} LiveAnswer
 */

const LIVE_ROWS = 8192;
const LIVE_ANSWERS = 1000;
const LIVE_TOGETHER = 200;

/** @param {any[]} row as Python's `request_row` has it @returns {LiveAnswer} */
export function liveAnswer([at, model, isTable, reason, ttft_s, itl_p50_s, itl_p95_s, itl_p99_s, queue_s, prompt, cached, written, speed]) {
  return { at, model, isTable, reason, ttft_s, itl_p50_s, itl_p95_s, itl_p99_s, queue_s, prompt, cached, written, speed };
}

export class LiveTable {
  constructor() {
    /** @type {string[]} */
    this.fields = [];
    this.start = this.end = 0;
    this.gap = Infinity;
    this.at = new Float64Array(LIVE_ROWS);
    /** @type {Float32Array[]} */
    this.columns = [];
    /** @type {LiveAnswer[]} */
    this.answers = [];
    this.leftOut = 0;
    this.cards = 0;
  }

  /**
   * Begin anew with what Python has.
   * @param {{fields: string[], cards: number, num: number, gap_s: number, requests: any[][], left_out: number}} told
   * @param {DataView[]} buffers times, and the numbers, one field after the other
   */
  fill(told, buffers) {
    this.fields = told.fields;
    this.cards = told.cards;
    while (this.columns.length < told.fields.length) this.columns.push(new Float32Array(LIVE_ROWS));
    this.columns.length = told.fields.length;
    this.start = this.end = 0;
    this.gap = told.gap_s;
    const num = told.num;
    const values = told.fields.map(() => 0);
    for (let i = 0; i < num; i++) {
      for (let f = 0; f < values.length; f++) values[f] = buffers[1].getFloat32(4 * (f * num + i), true);
      this.add(buffers[0].getFloat64(8 * i, true), values);
    }
    this.answers = told.requests.map(liveAnswer);
    this.leftOut = told.left_out;
  }

  /** @returns {number} how many rows there are */
  get length() {
    return this.end - this.start;
  }

  /** @returns {number} the time of the last row; NaN without one */
  get last() {
    return this.length ? this.at[this.end - 1] : NaN;
  }

  /** @returns {number} the time of the first row; NaN without one */
  get first() {
    return this.length ? this.at[this.start] : NaN;
  }

  /** @returns {boolean} whether old rows had to make room since the table was filled */
  get isFull() {
    return this.length >= LIVE_ROWS - 2;
  }

  /** @param {number} at @param {(number | null)[]} values */
  add(at, values) {
    const { last } = this;
    if (at <= last) return;
    // A gap that was closed by a row without numbers is none any more.
    if (at - last > this.gap) this.put(last + this.gap / 2, []);
    this.put(at, values);
  }

  /** @param {number} at @param {(number | null)[]} values */
  put(at, values) {
    if (this.end === LIVE_ROWS) {
      // The oldest quarter goes if all places are taken; what is left begins at the beginning.
      const from = this.start || LIVE_ROWS / 4;
      for (const column of [this.at, ...this.columns]) column.copyWithin(0, from, this.end);
      this.end -= from;
      this.start = 0;
    }
    this.at[this.end] = at;
    this.columns.forEach((column, f) => (column[this.end] = values[f] ?? NaN));
    this.end++;
  }

  /** Let go of what is older, but for one row, from which a line comes into the picture. @param {number} at */
  forget(at) {
    while (this.start + 1 < this.end && this.at[this.start + 1] < at) this.start++;
  }

  /** @param {any[]} row @returns {boolean} whether it is new */
  addAnswer(row) {
    const answer = liveAnswer(row);
    // Those that end together may come in another order.
    const isThere = this.answers.slice(-LIVE_TOGETHER).some(({ at, model, written }) => at === answer.at && model === answer.model && written === answer.written);
    if (isThere) return false;
    this.answers.push(answer);
    if (this.answers.length > LIVE_ANSWERS) {
      this.leftOut += this.answers.length - LIVE_ANSWERS;
      this.answers.splice(0, this.answers.length - LIVE_ANSWERS);
    }
    return true;
  }

  /** @returns {Float64Array} the times, without a copy */
  times() {
    return this.at.subarray(this.start, this.end);
  }

  /** @param {string} field @returns {Float32Array} its numbers, without a copy; empty if there is no such field */
  numbers(field) {
    return this.columns[this.fields.indexOf(field)]?.subarray(this.start, this.end) ?? new Float32Array(0);
  }

  /** @param {string} field @returns {number} its last number */
  now(field) {
    const numbers = this.numbers(field);
    return numbers.length ? numbers[numbers.length - 1] : NaN;
  }
}
