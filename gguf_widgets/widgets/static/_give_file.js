// @ts-check
/**
 * Give a file to the browser, which keeps it where it keeps downloads.
 *
 * Promises: what it needs for that goes again. Leaves to others: the bytes, and the words about it.
 */

import { h } from "./_dom.js";

const GIVEN_MS = 60_000; // until then the browser has read it

/** @param {BlobPart[]} pieces @param {string} name @param {string} [type] */
export function giveFile(pieces, name, type = "") {
  const url = URL.createObjectURL(new Blob(pieces, { type }));
  const anchor = h("a", { href: url, download: name, hidden: true });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), GIVEN_MS);
}
