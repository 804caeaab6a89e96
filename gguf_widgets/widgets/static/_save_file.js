// @ts-check
/**
 * Save a file that Python makes: fetched in pieces, and given to the browser.
 *
 * Promises: how far it is, and what came of it, is told in words. Leaves to others: making the file
 * (Python: "download" and "download-piece"), where the words stand.
 */

import { giveFile } from "./_give_file.js";

/** @import { Link } from "./_link.js" */

const MAKING_MS = 600_000;

/**
 * @param {Link} link @param {object} content what kind of file
 * @param {(words: string) => void} say
 */
export async function saveFile(link, content, say) {
  say("Making the file…");
  try {
    const { file } = await link.ask("download", content, [], MAKING_MS);
    const notes = file.notes?.length ? ` ${file.notes.join(" ")}` : "";
    if (file.path) {
      say(`The file is too large to come through this page. It is on the computer that runs Python: ${file.path}${notes}`);
      return;
    }
    const pieces = [];
    for (let offset = 0; offset < file.size; ) {
      const { buffers, size } = await link.ask("download-piece", { key: file.key, offset });
      pieces.push(buffers[0]);
      offset += size;
      say(`Fetching the file: ${Math.round((100 * offset) / file.size)}%`);
    }
    giveFile(pieces, file.name);
    say(`Saved as “${file.name}”.${notes}`);
  } catch (error) {
    say("");
    throw error;
  }
}
