// @ts-check
/**
 * The person's file, read in pieces.
 *
 * Promises: no more than a piece is in memory; a file that was changed, moved or removed while it is
 * read ends in a sentence, never in wrong bytes. Browsers refuse to read a file that has changed
 * since it was chosen; its size and time are looked at as well.
 */

/** @import { WireRefusal } from "./_upload_words.js" */

/** An answer that the upload cannot go on like this, in Python's words or our own. */
export class Refused extends Error {
  /** @param {WireRefusal} refusal */
  constructor(refusal) {
    super(refusal.message);
    this.refusal = refusal;
  }

  /** @returns {string} */
  get problem() {
    return String(this.refusal.details?.problem ?? "");
  }
}

/** No answer came: the connection was cut, or the server is not there. It can be tried again. */
export class Dropped extends Error {}

/** A chosen file. */
export class ChosenFile {
  /** @param {File} file */
  constructor(file) {
    this.file = file;
    this.name = file.name;
    this.size = file.size;
    this.lastModified = file.lastModified;
  }

  /**
   * @param {number} from @param {number} to
   * @returns {Promise<ArrayBuffer>}
   * @throws {Refused} the file is not what it was
   */
  async read(from, to) {
    this.look();
    const end = Math.min(to, this.size);
    let data;
    try {
      data = await this.file.slice(from, end).arrayBuffer();
    } catch (error) {
      throw this.refusal(error instanceof DOMException ? error.name : String(error));
    }
    if (data.byteLength !== end - from) throw this.refusal("it became shorter");
    this.look();
    return data;
  }

  /** A part of the file that the browser reads itself. @param {number} from @param {number} to */
  slice(from, to) {
    this.look();
    return this.file.slice(from, Math.min(to, this.size));
  }

  look() {
    if (this.file.size !== this.size || this.file.lastModified !== this.lastModified) throw this.refusal("it was changed");
  }

  /** @param {string} reason */
  refusal(reason) {
    return new Refused({
      kind: "UploadError",
      message:
        "The browser cannot read this file any more: it was changed, moved or removed, or its disk is gone " +
        `(${reason}). What has arrived is kept. If it was only moved, choose it again to go on; if it was ` +
        "changed, cancel this upload and choose the new one.",
      details: { problem: "unreadable" },
    });
  }
}
