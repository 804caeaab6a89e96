// @ts-check
/**
 * Uploads over the dashboard's own HTTP route (gguf_widgets/dashboard/upload_handler.py).
 *
 * Promises: the browser itself reads each piece from the disk while it is sent, so that none of it
 * is in this page's memory; pieces are as long as about a second takes, so that the progress is
 * steady on any network; a connection that is cut ends in `Dropped`, a file that cannot be read in
 * its own sentence. Leaves to others: trying again (_upload_job.js).
 */

import { HEAD_BYTES } from "./_upload_comm.js";
import { Dropped, Refused } from "./_upload_file.js";

/**
 * @import { How, Transport } from "./_upload_comm.js"
 * @import { ChosenFile } from "./_upload_file.js"
 * @import { Upload } from "./_upload_words.js"
 */

const FIRST_PIECE = 1 << 20;
const SMALLEST_PIECE = 256 << 10;
const ANSWER_MS = 30_000;
const PIECE_MS = 90_000; // then it is cut; what arrived is kept, and the next is smaller
const POLL_MS = 500;

/** @param {number} milliseconds @param {AbortSignal} signal @returns {Promise<void>} */
export function pauseFor(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      signal.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    }
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Find the route, if this page is the dashboard's and the server writes to the folder that Python
 * means: a notebook may have changed its own. Other pages are not asked: a server without the route
 * would only log that there is nothing at that address.
 * @param {string} mark of Python's folder
 * @returns {Promise<HttpTransport | null>}
 */
export async function findHttpRoute(mark) {
  const { voila, baseUrl } = document.body.dataset;
  if (voila !== "voila" || !baseUrl?.endsWith("voila/") || !("gw_did_not_start" in window)) return null;
  const url = new URL(`${baseUrl.slice(0, -"voila/".length)}gw/uploads`, location.href);
  if (url.origin !== location.origin) return null;
  try {
    const answer = await fetch(url, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    const { piece_bytes: pieceBytes, folder } = answer.ok ? await answer.json() : { piece_bytes: 0, folder: "" };
    return folder === mark && Number.isSafeInteger(pieceBytes) && pieceBytes >= SMALLEST_PIECE ? new HttpTransport(url.href, pieceBytes) : null;
  } catch {
    return null; // messages will do
  }
}

/** The value that the server wants to see again, so that no other site can send in our name. */
function xsrfToken() {
  const found = document.cookie.split("; ").find((cookie) => cookie.startsWith("_xsrf="));
  return found ? decodeURIComponent(found.slice("_xsrf=".length)) : "";
}

/** @param {ArrayBuffer} data */
function base64(data) {
  let text = "";
  for (let at = 0; at < data.byteLength; at += 8192) {
    text += String.fromCharCode(...new Uint8Array(data, at, Math.min(8192, data.byteLength - at)));
  }
  return btoa(text);
}

/** @implements {Transport} */
export class HttpTransport {
  /** @param {string} url of the list of uploads @param {number} largest bytes in one request */
  constructor(url, largest) {
    this.name = /** @type {const} */ ("http");
    this.url = url;
    this.largest = largest;
    this.piece = FIRST_PIECE;
  }

  /**
   * @param {string} method @param {string} path
   * @param {{body?: BodyInit, writer?: string, signal?: AbortSignal, timeoutMs?: number}} [more]
   * @returns {Promise<any>}
   */
  async request(method, path, { body, writer, signal, timeoutMs = ANSWER_MS } = {}) {
    /** @type {Record<string, string>} */
    const headers = { "Content-Type": body instanceof Blob ? "application/octet-stream" : "application/json" };
    if (method !== "GET") headers["X-XSRFToken"] = xsrfToken();
    if (writer) headers["X-Upload-Writer"] = writer;
    const limit = AbortSignal.timeout(timeoutMs);
    const stop = signal ? AbortSignal.any([signal, limit]) : limit;
    let answer, text;
    try {
      answer = await fetch(this.url + path, { method, headers, body: body ?? null, credentials: "same-origin", cache: "no-store", signal: stop });
      text = await answer.text();
    } catch (error) {
      if (signal?.aborted) throw new DOMException("stopped", "AbortError");
      throw new Dropped(String(error));
    }
    let content = null;
    try {
      content = text ? JSON.parse(text) : null;
    } catch {
      // A proxy's own page, or an answer that was cut.
    }
    if (answer.ok) {
      if (content === null && answer.status !== 204) throw new Dropped("the answer was cut");
      return content;
    }
    if (content?.message && content.details) throw new Refused(content);
    throw new Dropped(`HTTP ${answer.status}`);
  }

  /** @param {ChosenFile} file @param {How} how @returns {Promise<Upload>} */
  async begin(file, { saveAs, takeOver = false, known = null }) {
    const head = base64(await file.read(0, HEAD_BYTES));
    const told = {
      name: file.name,
      size: file.size,
      head,
      last_modified_ms: file.lastModified,
      save_as: saveAs ?? null,
      writer: known?.writer || null,
      take_over: takeOver,
      label: document.title,
    };
    return this.request("POST", "", { body: JSON.stringify(told) });
  }

  /**
   * @param {Upload} upload @param {ChosenFile} file @param {(upload: Upload) => void} watch
   * @param {AbortSignal} signal
   * @returns {Promise<Upload>}
   */
  async send(upload, file, watch, signal) {
    const { id, writer = "" } = upload;
    let at = upload.send_from;
    let now = upload;
    const show = (/** @type {Upload} */ next) => {
      now = { ...next, writer };
      watch(now);
    };
    while (at < file.size && now.state !== "checking") {
      if (now.state === "waiting") {
        await pauseFor(2 * POLL_MS, signal);
        show(await this.request("GET", `/${id}`, { writer, signal }));
        continue;
      }
      try {
        show(await this.put(id, at, file, writer, signal));
        at = now.offset;
      } catch (error) {
        if (!(error instanceof Refused) || error.problem !== "waiting") throw error;
        now = { ...now, state: "waiting" };
      }
    }
    if (now.state !== "checking") show(await this.request("POST", `/${id}/finish`, { body: "{}", writer, signal }));
    // Right after it was told to finish, it may not have begun to yet.
    for (let early = 0; now.state === "checking" || (now.state === "receiving" && early < 10); early += 1) {
      await pauseFor(POLL_MS, signal);
      const next = await this.request("GET", `/${id}`, { writer, signal });
      if (next.state === "receiving") now = { ...next, writer };
      else show(next);
    }
    if (now.error) throw new Refused(now.error);
    return now;
  }

  /**
   * @param {string} id @param {number} at @param {ChosenFile} file @param {string} writer
   * @param {AbortSignal} signal
   * @returns {Promise<Upload>}
   */
  async put(id, at, file, writer, signal) {
    const body = file.slice(at, at + this.piece);
    const began = performance.now();
    try {
      const upload = await this.request("PUT", `/${id}?offset=${at}`, { body, writer, signal, timeoutMs: PIECE_MS });
      const took = performance.now() - began;
      if (took < 500 && body.size === this.piece) this.piece = Math.min(this.largest, this.piece * 2);
      else if (took > 2000) this.piece = Math.max(SMALLEST_PIECE, this.piece >> 1);
      return upload;
    } catch (error) {
      if (error instanceof Dropped) {
        this.piece = SMALLEST_PIECE;
        await file.read(at, at + 1); // a browser tells a file that is gone as if the network were
      }
      throw error;
    }
  }

  /** @param {Upload} upload */
  async pause(upload) {
    await this.request("POST", `/${upload.id}/pause`, { body: "{}", writer: upload.writer ?? "" });
  }

  /** @param {Upload} upload */
  async cancel(upload) {
    await this.request("DELETE", `/${upload.id}`, { writer: upload.writer ?? "" });
  }

  /** Without this the server would wait for the page for some seconds before another one may go on. @param {Upload} upload */
  leave({ id, writer = "" }) {
    const headers = { "Content-Type": "application/json", "X-XSRFToken": xsrfToken(), "X-Upload-Writer": writer };
    fetch(`${this.url}/${id}/pause`, { method: "POST", headers, body: "{}", credentials: "same-origin", keepalive: true }).catch(() => {});
  }
}
