// @ts-check
/**
 * Uploads as messages to Python: pieces of up to 4 MiB, four in flight (the protocol is that of
 * gguf_widgets/core/upload/session.py). On a slow line pieces are smaller, so that answers still
 * come every few seconds and silence means something.
 *
 * Promises: a piece without an answer is asked about after ten seconds, at once when the connection
 * is back; silence for longer ends in `Dropped`, unless Python is busy with something else.
 */

import { newMid } from "./_connection.js";
import { Dropped, Refused } from "./_upload_file.js";

/**
 * @import { WidgetModel } from "./_connection.js"
 * @import { ChosenFile } from "./_upload_file.js"
 * @import { Upload } from "./_upload_words.js"
 *
 * @typedef {WidgetModel & {send(content: object, callbacks?: undefined, buffers?: ArrayBuffer[]): void}} BinaryModel
 * @typedef {{connect(slot: (...args: any[]) => void): void, disconnect(slot: (...args: any[]) => void): void}} ConnectionSignal
 * @typedef {{saveAs?: string, takeOver?: boolean, known?: Upload | null}} How
 *
 * @typedef {{
 *   name: "comm" | "http",
 *   begin(file: ChosenFile, how: How): Promise<Upload>,
 *   send(upload: Upload, file: ChosenFile, watch: (upload: Upload) => void, signal: AbortSignal): Promise<Upload>,
 *   pause(upload: Upload): Promise<void>,
 *   cancel(upload: Upload): Promise<void>,
 *   leave(upload: Upload): void,
 * }} Transport
 * What an upload needs of the way to the server. Each fails with `Refused` (an answer), `Dropped`
 * (none) or, when its signal says so, an AbortError. `send` ends when the file is there; `leave` is
 * for a page that goes away this moment.
 */

export const HEAD_BYTES = 65536;
const FIRST_PIECE_BYTES = 512 << 10;
const LARGEST_PIECE_BYTES = 4 << 20;
const SLOW_MS = 5000;
const QUICK_MS = 1500;
const WINDOW = 4;
const ASK_AFTER_MS = 10_000;
const DROP_AFTER_MS = 40_000;

/** How many messages wait for an answer, and where each session's messages go. @implements {Transport} */
export class CommTransport {
  /** @param {BinaryModel} model @param {string} page @param {AbortSignal} signal */
  constructor(model, page, signal) {
    this.name = /** @type {const} */ ("comm");
    this.model = model;
    this.page = page;
    /** @type {Map<string, {resolve: (answer: any) => void, reject: (error: Error) => void, since: number}>} */
    this.asked = new Map();
    /** @type {Map<string, CommSending>} */
    this.sendings = new Map();
    /** What came for a session before anybody listened. @type {Map<string, any[]>} */
    this.early = new Map();
    /** The session that each upload's last `begin` started. @type {Map<string, string>} */
    this.keys = new Map();
    this.piece = FIRST_PIECE_BYTES;
    const timer = setInterval(() => this.tick(), 1000);
    /** @type {ConnectionSignal | undefined} */
    const connection = /** @type {any} */ (model.widget_manager?.kernel)?.connectionStatusChanged;
    const onConnection = (/** @type {unknown} */ _kernel, /** @type {string} */ status) => {
      // What was in flight when the connection was cut has gone, or its answers have.
      if (status === "connected") for (const sending of this.sendings.values()) if (!sending.isWaiting) sending.ask();
    };
    connection?.connect(onConnection);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      connection?.disconnect(onConnection);
    });
  }

  /** @param {string} kind @param {object} [content] @param {ArrayBuffer[]} [buffers] */
  post(kind, content = {}, buffers = []) {
    const mid = newMid();
    try {
      this.model.send({ kind, mid, page: this.page, ...content }, undefined, buffers);
    } catch (error) {
      throw new Dropped(String(error)); // the comm is closed
    }
    return mid;
  }

  /** @param {string} kind @param {object} content @param {ArrayBuffer[]} [buffers] @returns {Promise<any>} */
  request(kind, content, buffers = []) {
    return new Promise((resolve, reject) => {
      const mid = this.post(kind, content, buffers);
      this.asked.set(mid, { resolve, reject, since: performance.now() });
      if (kind === "begin") this.early.set(mid, []);
    });
  }

  /** @param {any} content a message from Python */
  receive(content) {
    if (content.kind === "answer") {
      const asked = this.asked.get(content.mid);
      if (!this.asked.delete(content.mid)) return;
      if (content.error) {
        this.early.delete(content.mid);
        asked?.reject(new Refused(content.error));
      } else {
        asked?.resolve({ ...content, mid: content.mid });
      }
    } else if (content.kind === "session") {
      const sending = this.sendings.get(content.session);
      if (sending) sending.receive(content.message);
      else this.early.get(content.session)?.push(content.message);
    } else if (content.kind === "alive" && content.page === this.page) {
      for (const [key, sending] of this.sendings) sending.compare(content.said[key]);
    }
  }

  /** An answer took this long: pieces grow or shrink. @param {number} milliseconds */
  learn(milliseconds) {
    if (milliseconds < QUICK_MS) this.piece = Math.min(LARGEST_PIECE_BYTES, this.piece * 2);
    else if (milliseconds > SLOW_MS) this.piece = Math.max(HEAD_BYTES, this.piece >> 1);
  }

  /** Whether Python is there, and only has no time for us. */
  get isBusy() {
    const kernel = this.model.widget_manager?.kernel;
    return kernel?.connectionStatus === "connected" && kernel.status === "busy";
  }

  tick() {
    const now = performance.now();
    for (const sending of this.sendings.values()) sending.tick(now);
    for (const [mid, asked] of this.asked) {
      if (now - asked.since < DROP_AFTER_MS || this.isBusy) continue;
      this.asked.delete(mid);
      this.early.delete(mid);
      asked.reject(new Dropped("no answer"));
    }
  }

  /** @param {ChosenFile} file @param {How} how @returns {Promise<Upload>} */
  async begin(file, { saveAs, takeOver = false, known = null }) {
    const head = await file.read(0, HEAD_BYTES);
    const { name, size, lastModified } = file;
    const told = { name, size, lastModified, takeOver, label: document.title, ...(saveAs ? { saveAs } : {}), ...(known ? { id: known.id } : {}) };
    const { upload, mid } = await this.request("begin", told, [head]);
    const before = this.keys.get(upload.id);
    if (before) this.early.delete(before);
    this.keys.set(upload.id, mid);
    return upload;
  }

  /**
   * @param {Upload} upload @param {ChosenFile} file @param {(upload: Upload) => void} watch
   * @param {AbortSignal} signal
   * @returns {Promise<Upload>}
   */
  async send(upload, file, watch, signal) {
    const key = this.keys.get(upload.id) ?? "";
    const sending = new CommSending(this, key, upload, file, watch);
    const stop = () => sending.end(new DOMException("stopped", "AbortError"));
    this.sendings.set(key, sending);
    signal.addEventListener("abort", stop);
    try {
      for (const message of this.early.get(key) ?? []) sending.receive(message);
      this.early.delete(key);
      if (signal.aborted) stop();
      void sending.pump();
      return await sending.result;
    } finally {
      this.sendings.delete(key);
      signal.removeEventListener("abort", stop);
    }
  }

  /** @param {Upload} upload */
  async pause(upload) {
    await this.request("pause", { id: upload.id });
  }

  /** @param {Upload} upload */
  async cancel(upload) {
    await this.request("cancel", { id: upload.id });
  }

  /** The page says "bye" for all of them. @param {Upload} _upload */
  leave(_upload) {}
}

/** One file on its way, from one `begin` to its end. */
class CommSending {
  /**
   * @param {CommTransport} transport @param {string} key @param {Upload} upload
   * @param {ChosenFile} file @param {(upload: Upload) => void} watch
   */
  constructor(transport, key, upload, file, watch) {
    this.transport = transport;
    this.key = key;
    this.upload = upload;
    this.file = file;
    this.watch = watch;
    this.next = upload.send_from;
    this.seq = 0;
    this.round = 0; // grows when everything without an answer becomes void
    /** When each piece without an answer was sent. @type {Map<number, number>} */
    this.flight = new Map();
    this.isWaiting = false;
    // While it is not this one's turn, a small piece asks for it.
    this.isProbing = upload.state === "waiting";
    this.isPumping = false;
    this.isOver = false;
    this.missed = 0; // how often in a row Python did not know of it
    this.heardAt = this.askedAt = performance.now();
    /** @type {(upload: Upload) => void} */
    this.resolve = () => {};
    /** @type {(error: any) => void} */
    this.reject = () => {};
    /** @type {Promise<Upload>} */
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** Fill the window. */
  async pump() {
    if (this.isPumping) return;
    this.isPumping = true;
    try {
      while (!this.isOver && !this.isWaiting && this.flight.size < (this.isProbing ? 1 : WINDOW) && this.next < this.file.size) {
        const { round, next } = this;
        const data = await this.file.read(next, next + (this.isProbing ? HEAD_BYTES : this.transport.piece));
        if (this.isOver || round !== this.round) continue;
        this.next = next + data.byteLength;
        this.seq += 1;
        if (this.flight.size === 0) this.heardAt = performance.now(); // silence counts from here
        this.flight.set(this.seq, performance.now());
        this.transport.post("piece", { session: this.key, seq: this.seq, offset: next }, [data]);
      }
    } catch (error) {
      this.end(error);
    } finally {
      this.isPumping = false;
    }
  }

  /** @param {any} message one of UploadSession's */
  receive(message) {
    if (this.isOver) return;
    this.heardAt = performance.now();
    const { type } = message;
    if (type === "ack") {
      const sentAt = this.flight.get(message.seq);
      if (sentAt === undefined) return; // it was void
      this.flight.delete(message.seq);
      this.transport.learn(this.heardAt - sentAt);
      this.isProbing = false;
      this.show(message.upload);
      void this.pump();
    } else if (type === "again") {
      this.isWaiting = this.isProbing = false;
      this.goTo(message.offset);
      this.show({ ...this.upload, state: "receiving", offset: message.offset });
      void this.pump();
    } else if (type === "wait") {
      this.isWaiting = true;
      this.goTo(message.offset);
      this.show({ ...this.upload, state: "waiting", place: message.place, offset: message.offset });
    } else if (type === "checking") {
      this.show(message.upload);
    } else if (type === "done") {
      this.isOver = true;
      this.resolve(message.upload);
    } else if (type === "error") {
      this.end(new Refused({ kind: message.kind, message: message.message, details: message.details }));
    } else if (type === "paused" || type === "cancelled") {
      this.end(new Refused({ kind: "UploadError", message: "", details: { problem: `was_${type}` } }));
    } else if (type === "lost") {
      this.end(new Dropped("Python does not know of it"));
    }
  }

  /** @param {Upload} upload */
  show(upload) {
    this.upload = upload;
    this.watch(upload);
  }

  /** @param {number} offset */
  goTo(offset) {
    this.round += 1;
    this.next = offset;
    this.flight.clear();
  }

  /** Python says what it last said of this session. @param {string | undefined} said */
  compare(said) {
    this.missed = said === undefined ? this.missed + 1 : 0;
    if (this.missed > 1) this.end(new Dropped("Python does not know of it"));
    else if (this.isWaiting && said !== undefined && said !== "wait") this.ask(); // what came after that was lost
  }

  /** @param {number} now */
  tick(now) {
    if (this.isOver || this.isWaiting) return;
    const silent = now - this.heardAt;
    if (this.transport.isBusy) return;
    if (silent > DROP_AFTER_MS) {
      this.transport.piece = HEAD_BYTES;
      this.end(new Dropped("no answer"));
    } else if (silent > ASK_AFTER_MS && now - this.askedAt > ASK_AFTER_MS) this.ask();
  }

  /** Have Python say where to send from. */
  ask() {
    if (this.isOver) return;
    this.askedAt = performance.now();
    try {
      this.transport.post("ask", { session: this.key });
    } catch (error) {
      this.end(error);
    }
  }

  /** @param {any} error */
  end(error) {
    this.isOver = true;
    this.reject(error);
  }
}
