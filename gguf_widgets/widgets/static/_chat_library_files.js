// @ts-check
/**
 * Conversations as files: fetched from Python piece by piece and saved, chosen or dropped and sent.
 *
 * Promises: no message is larger than a piece; how far it is is told; a fault is thrown in words.
 * Leaves to others: what is in the files (Python), where the words stand (`_chat_library.js`).
 */

import { newMid } from "./_connection.js";
import { giveFile } from "./_give_file.js";

/** @import { Link } from "./_link.js" */

const LIBRARY_PIECE = 1 << 20;
const LIBRARY_MAX_BYTES = 200_000_000;
const LIBRARY_WAIT_MS = 600_000;

/**
 * Make a file in Python, fetch it and hand it to the browser to save.
 * @param {Link} link @param {{conversation: string, format: string}} what
 * @param {(words: string) => void} say @returns {Promise<string>} what to say at the end
 */
export async function saveConversation(link, what, say) {
  say("Making the file…");
  const { file } = await link.ask("library-export", what, [], LIBRARY_WAIT_MS);
  const pieces = [];
  for (let offset = 0; offset < file.size; ) {
    const { buffers, size } = await link.ask("library-piece", { key: file.key, offset });
    if (!size) throw new Error("A part of the file went missing on its way. Try again.");
    pieces.push(buffers[0]);
    offset += size;
    if (file.size > LIBRARY_PIECE) say(`Fetching the file: ${Math.round((100 * offset) / file.size)}%`);
  }
  giveFile(pieces, file.name, file.mime);
  return [`Saved as “${file.name}”.`, ...file.notes].join(" ");
}

/**
 * Send a file to Python, which takes its conversations in.
 * @param {Link} link @param {File} file @param {(words: string) => void} say
 * @returns {Promise<{count: number, id: string, notes: string[]}>}
 */
export async function takeConversations(link, file, say) {
  if (!file.size) throw new Error(`“${file.name}” is empty.`);
  if (file.size > LIBRARY_MAX_BYTES) throw new Error(`“${file.name}” has ${Math.round(file.size / 1e6)} MB; at most ${LIBRARY_MAX_BYTES / 1e6} MB can be sent through a page. From a cell: gw.ChatInterface.load_file(path).`);
  const key = newMid();
  /** @type {any} */
  let answer = {};
  for (let offset = 0; offset < file.size; offset += LIBRARY_PIECE) {
    const piece = await file.slice(offset, offset + LIBRARY_PIECE).arrayBuffer();
    const isLast = offset + piece.byteLength >= file.size;
    say(isLast ? "Reading the file…" : `Sending the file: ${Math.round((100 * offset) / file.size)}%`);
    answer = await link.ask("library-import", { key, offset, size: file.size }, [piece], LIBRARY_WAIT_MS);
  }
  return answer;
}
