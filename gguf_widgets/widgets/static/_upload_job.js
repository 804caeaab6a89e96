// @ts-check
/**
 * One chosen file on its way to this machine, whatever the way.
 *
 * Promises: one attempt at a time; a connection that is cut is tried again for as long as the page
 * lives, later each time, and goes on at the byte that the server says; whatever is refused ends in
 * a state with the reason; pause and cancel work in every state. Leaves to others: how bytes travel
 * (`Transport`), reading (`ChosenFile`), the screen.
 */

import { Dropped, Refused } from "./_upload_file.js";
import { pauseFor } from "./_upload_http.js";
import { isFinal } from "./_upload_words.js";

/**
 * @import { How, Transport } from "./_upload_comm.js"
 * @import { ChosenFile } from "./_upload_file.js"
 * @import { Upload, WireRefusal } from "./_upload_words.js"
 *
 * @typedef {"queued" | "starting" | "waiting" | "receiving" | "reconnecting" | "pausing" | "paused" | "checking" |
 *   "cancelling" | "done" | "already_there" | "failed" | "refused" | "gone"} JobState
 */

const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15_000];
const ENDED = ["done", "already_there", "refused", "gone"];
// The server knows better where to go on, or has no time just now.
const SOON = ["gap", "incomplete", "busy", "waiting", "paused", "cancelled", "unknown"];
const MOST_SOON = 8;

/** A file, and how far it is. */
export class Job {
  /** @param {ChosenFile} file @param {Transport} transport @param {(job: Job) => void} changed */
  constructor(file, transport, changed) {
    this.file = file;
    this.transport = transport;
    this.changed = changed;
    /** @type {JobState} */
    this.state = "queued";
    /** What Python last said. @type {Upload | null} */
    this.upload = null;
    /** @type {WireRefusal | null} */
    this.refusal = null;
    /** The unfinished upload that this file was chosen for. */
    this.expected = "";
    this.isLinked = true; // whether Python answers
    this.isListed = false; // whether the models of its folder are in the list
    this.stopping = new AbortController();
    /** The attempt that runs. @type {Promise<void> | null} */
    this.running = null;
  }

  get isEnded() {
    return ENDED.includes(this.state);
  }

  get isUnderWay() {
    return ["starting", "waiting", "receiving", "reconnecting", "checking"].includes(this.state);
  }

  /** Bytes that have arrived. */
  get offset() {
    return this.upload?.offset ?? 0;
  }

  /** @param {JobState} state @param {Upload | null} [upload] */
  set(state, upload = this.upload) {
    // The right to write is told once; later answers come without it.
    this.upload = upload && { ...upload, writer: upload.writer || this.upload?.writer || "" };
    this.state = state;
    this.changed(this);
  }

  /** Begin, or go on after a pause or a failure. @param {How} [how] */
  start(how = {}) {
    if (this.running || this.isEnded) return;
    this.stopping = new AbortController();
    this.refusal = null;
    this.running = this.run(how, this.stopping.signal).finally(() => {
      this.running = null;
    });
  }

  /** @param {How} how @param {AbortSignal} signal */
  async run(how, signal) {
    this.set("starting");
    let dropped = 0;
    let soon = 0;
    let before = -1;
    while (!signal.aborted) {
      try {
        // A begin is not stopped half-way: what it began would be nobody's.
        const upload = await this.transport.begin(this.file, { ...how, known: this.upload });
        how = {}; // it counts once
        this.set(stateOf(upload), upload);
        if (signal.aborted) return;
        const end = await this.transport.send(upload, this.file, (next) => this.watch(next, signal), signal);
        if (end.state !== "done" && end.state !== "already_there") throw new Dropped(`it ended as ${end.state}`);
        this.set(end.state, end);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (this.offset > before) dropped = soon = 0; // it does get on
        before = Math.max(before, this.offset);
        if (error instanceof Dropped) {
          dropped += 1;
          this.set("reconnecting");
        } else if (error instanceof Refused && SOON.includes(error.problem) && soon < MOST_SOON) {
          soon += 1;
        } else {
          this.fail(error);
          return;
        }
        const wait = RETRY_MS[Math.min(Math.max(dropped, soon) - 1, RETRY_MS.length - 1)] ?? 500;
        try {
          await untilBack(wait * (0.75 + Math.random() / 2), signal);
        } catch {
          return;
        }
      }
    }
  }

  /** @param {Upload} upload @param {AbortSignal} signal */
  watch(upload, signal) {
    if (!signal.aborted) this.set(stateOf(upload), upload);
  }

  /** @param {unknown} error */
  fail(error) {
    const refusal = error instanceof Refused ? error.refusal : unexpected(error);
    const { problem, removed, offset } = refusal.details ?? {};
    if (problem === "was_paused") return this.set("paused");
    if (problem === "was_cancelled") return this.set("gone");
    this.refusal = refusal;
    if (removed) this.upload = null;
    else if (this.upload && Number.isSafeInteger(offset)) this.upload = { ...this.upload, offset };
    this.set(isFinal(refusal) ? "refused" : "failed");
  }

  /** Stop for a while. */
  async pause() {
    if (!this.isUnderWay) return;
    const upload = await this.halt("pausing");
    try {
      if (upload) await this.transport.pause(upload);
    } catch (error) {
      // The connection may be gone: then nothing is sent any more, which is what was wanted.
      if (error instanceof Refused && error.problem !== "unknown") return this.fail(error);
    }
    this.set("paused");
  }

  /** Give up, and have what arrived removed. */
  async cancel() {
    if (this.isEnded) return;
    const upload = await this.halt("cancelling");
    try {
      if (upload) await this.transport.cancel(upload);
    } catch (error) {
      if (error instanceof Dropped) {
        error = new Refused({
          kind: "UploadError",
          message: "No answer came, so what has arrived could not be removed. Try again when the connection is back.",
          details: { problem: "not_cancelled" },
        });
      }
      // One that is not there, or not ours any more, is as good as cancelled here.
      if (!(error instanceof Refused && ["unknown", "taken_over"].includes(error.problem))) return this.fail(error);
    }
    this.set("gone");
  }

  /** Give up what is there and send the file from its beginning. */
  async again() {
    if (this.running) return;
    const upload = this.upload;
    this.upload = null;
    try {
      if (upload) await this.transport.cancel(upload);
    } catch (error) {
      if (!(error instanceof Refused && ["unknown", "taken_over"].includes(error.problem))) return this.fail(error);
    }
    this.start();
  }

  /** The person chose the file once more. @param {ChosenFile} file */
  chooseAgain(file) {
    this.file = file;
    this.start();
  }

  /** Stop what runs. @param {"pausing" | "cancelling"} state @returns {Promise<Upload | null>} */
  async halt(state) {
    this.stopping.abort();
    this.set(state);
    await this.running;
    return this.upload;
  }
}

/** @param {Upload} upload @returns {JobState} */
function stateOf({ state }) {
  return state === "waiting" || state === "checking" ? state : "receiving";
}

/** @param {unknown} error @returns {WireRefusal} */
function unexpected(error) {
  return { kind: "UploadError", message: `Something unexpected happened in this page: ${error}. What has arrived is kept.`, details: { problem: "page" } };
}

/** Wait, but no longer than until the network is back. @param {number} milliseconds @param {AbortSignal} signal */
async function untilBack(milliseconds, signal) {
  const back = new AbortController();
  const online = () => back.abort();
  addEventListener("online", online, { once: true });
  try {
    await pauseFor(milliseconds, AbortSignal.any([signal, back.signal]));
  } catch (error) {
    if (signal.aborted) throw error;
  } finally {
    removeEventListener("online", online);
  }
}
