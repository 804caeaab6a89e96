// @ts-check
/**
 * The panel of conversations: the list, the search, what was deleted, and files in and out.
 *
 * Promises: shows what the store holds, with what other windows change within two seconds while it is
 * open; asks for rows as one scrolls; whatever is deleted can be brought back from where it was; an
 * answer that is being written is not stopped without asking; words of the person are never lost.
 * Leaves to others: rows (`_chat_library_rows.js`), files (`_chat_library_files.js`), everything else
 * (Python).
 */

import { saveConversation, takeConversations } from "./_chat_library_files.js";
import { LibraryList } from "./_chat_library_rows.js";
import { SidePanel } from "./_chat_side.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";

/**
 * @import { ChatState } from "./chat_box.js"
 * @import { Link } from "./_link.js"
 * @import { Places } from "./_chat_part.js"
 * @import { LibraryRow } from "./_chat_library_rows.js"
 */

const LIBRARY_PAGE = 50;
const LIBRARY_MOST = 200; // rows in one answer
const LOOK_EVERY_MS = 1500;
const TYPING_MS = 150;
const MARKED_MS = 4000;

export class LibraryPart {
  /** @param {Link} link @param {Places} places */
  constructor(link, places) {
    this.link = link;
    this.places = places;
    /** @type {LibraryRow[]} */
    this.rows = [];
    this.query = "";
    this.isDeleted = false;
    this.hasMore = false;
    this.left = 0; // messages that the search does not know yet
    this.isAsking = false;
    this.version = "";
    this.shownId = "";
    this.isBusy = false;
    this.asked = 0;
    this.typing = 0;
    this.isLooking = false;
    this.stateKey = "";
    this.button = h("button", { type: "button", class: "gw-quiet gw-quiet-folds", "aria-label": "Conversations", title: "All conversations", "data-gw": "library-button" }, [icon("list"), h("span", { text: "Conversations" })]);
    places.headStart.append(this.button);
    this.panel = new SidePanel(places.left, { title: "Conversations", name: "library", button: this.button, signal: link.signal, opened: () => void this.refresh(), closed: () => this.say("") });
    this.list = new LibraryList({
      open: (row) => void this.open(row),
      rename: (row, title) => this.rename(row, title),
      pin: (row) => void this.act("library-pin", { conversation: row.id, pinned: !row.pinned }),
      remove: (row) => void this.remove(row),
      restore: (row) => void this.restore(row),
      save: (row, format) => void this.save(row, format),
    });
    this.fresh = ghostButton("fresh", "New conversation", { "data-gw": "library-new" });
    this.bring = ghostButton("upload", "Import conversations from a file", { "data-gw": "library-import" });
    this.panel.tools.append(this.fresh, this.bring);
    this.chooser = h("input", { type: "file", accept: ".json,.jsonl,application/json", hidden: true, tabindex: "-1", "aria-hidden": "true", "data-gw": "library-file" });
    this.search = h("input", { type: "search", class: "gw-lib-search", placeholder: "Search all messages", "aria-label": "Search all messages", autocomplete: "off", spellcheck: "false", maxlength: "1000", "data-gw": "library-search", "data-lm-suppress-shortcuts": "true" });
    this.words = h("div", { class: "gw-lib-words", role: "status", "data-gw": "library-words" });
    this.fault = h("p", { class: "gw-fault", role: "alert", hidden: true, "data-gw": "library-fault" });
    this.empty = h("p", { class: "gw-lib-empty", hidden: true, "data-gw": "library-empty" });
    this.end = h("div", { class: "gw-lib-end", "aria-hidden": "true" });
    this.back = h("button", { type: "button", class: "gw-link gw-lib-back", hidden: true, text: "Back to all conversations", "data-gw": "library-back" });
    this.deleted = h("button", { type: "button", class: "gw-quiet gw-lib-foot", "data-gw": "library-deleted" }, [icon("bin"), h("span", { text: "Recently deleted" })]);
    this.purge = h("button", { type: "button", class: "gw-link gw-lib-purge", hidden: true, text: "Remove all of these for good…", "data-gw": "library-purge" });
    this.panel.body.classList.add("gw-lib");
    this.scroller = h("div", { class: "gw-lib-scroll" }, [this.list.root, this.empty, this.end]);
    this.panel.root.append(this.chooser);
    this.panel.body.append(h("div", { class: "gw-lib-top" }, [this.search, this.back, this.words, this.fault]), this.scroller, this.purge, this.deleted);
    this.listen();
    const timer = setInterval(() => void this.look(), LOOK_EVERY_MS);
    link.signal.addEventListener("abort", () => {
      clearInterval(timer);
      clearTimeout(this.typing);
    });
  }

  listen() {
    const { signal } = this.link;
    this.fresh.addEventListener("click", () => void this.begin());
    this.bring.addEventListener("click", () => this.chooser.click());
    this.chooser.addEventListener("change", () => {
      const [file] = this.chooser.files ?? [];
      if (file) void this.take(file);
      this.chooser.value = ""; // the same file again is a new choice
    });
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => void this.find(), TYPING_MS);
    });
    this.search.addEventListener("keydown", (event) => this.onSearchKey(event));
    this.back.addEventListener("click", () => void this.showDeleted(false));
    this.deleted.addEventListener("click", () => void this.showDeleted(true));
    this.purge.addEventListener("click", () => this.askPurge());
    const observer = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting) void this.more();
    }, { root: this.scroller, rootMargin: "400px" });
    observer.observe(this.end);
    signal.addEventListener("abort", () => observer.disconnect());
    const { root } = this.panel;
    for (const name of ["dragover", "dragleave", "drop"]) root.addEventListener(name, (event) => this.onDrag(/** @type {DragEvent} */ (event)));
  }

  /** @param {any} state @param {ChatState} whole */
  show(state, whole) {
    this.list.formats = state.formats;
    this.isBusy = whole.busy;
    const id = state.id ?? "";
    const isOther = id !== this.shownId;
    this.shownId = id;
    if (isOther) this.list.setShown(id);
    // What happens in this chat is asked for at once, not when the next look comes.
    const key = JSON.stringify([id, state.title, state.pinned, state.busy]);
    if (key !== this.stateKey && this.panel.isOpen) void this.look();
    this.stateKey = key;
  }

  // -- the list --------------------------------------------------------------------------------------

  /** @param {number} offset @param {number} limit @returns {Promise<any>} */
  ask(offset, limit) {
    const window = { offset, limit };
    if (this.query) return this.link.ask("library-find", { query: this.query, ...window });
    return this.link.ask("library-rows", { deleted: this.isDeleted, ...window });
  }

  /** Ask for all rows that are shown again, at least one page. @param {boolean} [isFirst] only one page */
  async refresh(isFirst = false) {
    const number = ++this.asked;
    const wanted = isFirst ? LIBRARY_PAGE : Math.max(LIBRARY_PAGE, this.rows.length);
    /** @type {LibraryRow[]} */
    const rows = [];
    let answer = { more: true, version: "", left: 0 };
    try {
      while (rows.length < wanted && answer.more) {
        const got = await this.ask(rows.length, Math.min(LIBRARY_MOST, wanted - rows.length));
        if (number !== this.asked) return; // something newer was asked
        rows.push(...got.rows);
        answer = got;
      }
    } catch (error) {
      if (number === this.asked) this.sayFault(wordsOf(error));
      return;
    }
    this.version = answer.version;
    this.hasMore = answer.more;
    this.left = answer.left ?? 0;
    this.rows = rows;
    this.draw();
  }

  async more() {
    if (!this.hasMore || this.isAsking || !this.panel.isOpen) return;
    this.isAsking = true;
    const number = this.asked;
    try {
      const got = await this.ask(this.rows.length, LIBRARY_PAGE);
      if (number !== this.asked) return;
      const known = new Set(this.rows.map((row) => row.id));
      this.rows.push(...got.rows.filter((/** @type {LibraryRow} */ row) => !known.has(row.id)));
      this.hasMore = got.more;
      this.draw();
    } catch (error) {
      this.sayFault(wordsOf(error));
    } finally {
      this.isAsking = false;
    }
  }

  draw() {
    this.list.isDeleted = this.isDeleted;
    this.list.shownId = this.shownId;
    this.list.show(this.rows, !this.query && !this.isDeleted);
    this.empty.hidden = this.rows.length > 0;
    this.empty.textContent = this.query ? "Nothing was found. All words must be in one message, or in the name." : this.isDeleted ? "Nothing was deleted." : "No conversation yet. Write a message, and it is kept here.";
    this.purge.hidden = !this.isDeleted || this.rows.length === 0;
  }

  /** See whether another window has changed something. */
  async look() {
    if (!this.panel.isOpen || document.hidden || this.isLooking) return;
    this.isLooking = true;
    try {
      const { version } = await this.link.ask("library-look");
      if (version !== this.version && this.panel.isOpen) await this.refresh();
    } catch {
      // The heartbeat says that nobody is there.
    } finally {
      this.isLooking = false;
    }
  }

  async find() {
    const query = this.search.value.trim() ? this.search.value : "";
    if (query === this.query) return;
    this.query = query;
    this.scroller.scrollTop = 0;
    await this.refresh(true);
    // The first time there may be years of messages to get ready: what is found grows with it.
    for (let before = Infinity; query && query === this.query && this.left > 0 && this.left < before && !this.link.signal.aborted; ) {
      before = this.left;
      this.say(`${this.rows.length} found so far; ${before.toLocaleString("en")} older messages are still to be looked through`);
      await this.refresh(true);
    }
    if (query === this.query && query && this.left > 0) this.say(`${this.rows.length} found; ${this.left.toLocaleString("en")} messages could not be looked through yet`);
    else if (query === this.query && query) this.say(this.rows.length ? `${this.rows.length}${this.hasMore ? " or more" : ""} found` : "Nothing found");
    else if (!query) this.say("");
  }

  /** @param {boolean} isDeleted */
  async showDeleted(isDeleted) {
    this.isDeleted = isDeleted;
    this.query = "";
    this.search.value = "";
    this.search.hidden = isDeleted;
    this.back.hidden = !isDeleted;
    this.deleted.hidden = isDeleted;
    this.panel.heading.textContent = isDeleted ? "Recently deleted" : "Conversations";
    this.say(isDeleted ? "They are kept for 30 days." : "");
    this.list.show([], false);
    this.rows = [];
    (isDeleted ? this.back : this.deleted)?.focus();
    await this.refresh(true);
  }

  /** @param {KeyboardEvent} event */
  onSearchKey(event) {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      this.list.focusFirst();
    } else if (event.key === "Escape" && this.search.value) {
      event.preventDefault();
      event.stopPropagation(); // it empties the field; the next one closes the panel
      this.search.value = "";
      void this.find();
    }
  }

  // -- what is done ----------------------------------------------------------------------------------

  /** @param {string} kind @param {object} content @returns {Promise<any>} null if it failed; it was said */
  async act(kind, content) {
    this.say("");
    try {
      const answer = await this.link.ask(kind, content);
      await this.refresh();
      return answer;
    } catch (error) {
      this.sayFault(wordsOf(error));
      return null;
    }
  }

  /** Do what takes another conversation on screen, unless the person would rather let the answer end. @param {() => void} go */
  unlessBusy(go) {
    if (!this.isBusy) {
      go();
      return;
    }
    this.say("An answer is being written here. Going on stops it; what has arrived is kept.", "Stop and go on", go);
  }

  /** @param {LibraryRow} row */
  open(row) {
    if (this.isDeleted) {
      this.say("This conversation was deleted.", "Restore", () => void this.restore(row));
      return;
    }
    if (row.id === this.shownId && !row.message) {
      this.leave();
      return;
    }
    if (row.id === this.shownId) void this.openNow(row);
    else this.unlessBusy(() => void this.openNow(row));
  }

  /** @param {LibraryRow} row */
  async openNow(row) {
    this.say("");
    try {
      await this.link.ask("library-open", { conversation: row.id, message: row.message ?? null });
    } catch (error) {
      this.sayFault(wordsOf(error));
      return;
    }
    this.leave();
    if (row.message) this.mark(row.message);
  }

  begin() {
    this.unlessBusy(async () => {
      if ((await this.act("library-new", {})) === null) return;
      this.leave();
      this.places.input.focus();
    });
  }

  /** Where the panel lies over the chat, it goes. */
  leave() {
    if (getComputedStyle(this.panel.root).position !== "absolute") return;
    this.panel.hide();
    this.places.input.focus({ preventScroll: true });
  }

  /** Scroll to a message when it has come, and mark it for a while. @param {string} id */
  mark(id) {
    const until = performance.now() + MARKED_MS;
    const seek = () => {
      const found = this.places.root.querySelector(`[data-gw="chat-message"][data-id="${CSS.escape(id)}"]`);
      if (found) {
        // After the list has gone to its end, as it does for another conversation.
        requestAnimationFrame(() => setTimeout(() => {
          found.scrollIntoView({ block: found.clientHeight > 300 ? "start" : "center" });
          found.classList.add("gw-lib-marked");
          setTimeout(() => found.classList.remove("gw-lib-marked"), MARKED_MS);
        }, 50));
      } else if (performance.now() < until && !this.link.signal.aborted) setTimeout(seek, 50);
    };
    seek();
  }

  /** @param {LibraryRow} row @param {string} title @returns {Promise<boolean>} */
  async rename(row, title) {
    return (await this.act("library-rename", { conversation: row.id, title })) !== null;
  }

  /** @param {LibraryRow} row */
  remove(row) {
    if (row.id === this.shownId && this.isBusy) this.unlessBusy(() => void this.removeNow(row));
    else void this.removeNow(row);
  }

  /** @param {LibraryRow} row */
  async removeNow(row) {
    const next = this.list.neighbour(row.id);
    const answer = await this.act("library-delete", { conversation: row.id });
    if (answer === null) return;
    if (next) this.list.focusRow(next);
    else this.search.focus();
    this.say(`“${short(row.title)}” was deleted.`, "Undo", () => void this.restore(row, answer.wasShown));
  }

  /** @param {LibraryRow} row @param {boolean} [isShown] put it on screen again */
  async restore(row, isShown = false) {
    if ((await this.act("library-restore", { conversation: row.id, show: isShown })) === null) return;
    this.say(`“${short(row.title)}” is back.`);
    if (!this.isDeleted) this.list.focusRow(row.id);
    else if (this.rows.length) this.list.focusFirst();
    else this.back.focus();
  }

  askPurge() {
    this.say("They cannot be brought back then.", "Remove for good", async () => {
      const answer = await this.act("library-purge", {});
      if (answer) this.say(`${answer.count} removed for good.`);
      this.back.focus();
    });
  }

  /** @param {LibraryRow} row @param {string} format */
  async save(row, format) {
    this.say("");
    try {
      this.say(await saveConversation(this.link, { conversation: row.id, format }, (words) => this.say(words)));
    } catch (error) {
      this.say("");
      this.sayFault(wordsOf(error));
    }
  }

  /** @param {File} file */
  async take(file) {
    if (this.isDeleted) await this.showDeleted(false);
    this.say("");
    try {
      const { count, id, notes } = await takeConversations(this.link, file, (words) => this.say(words));
      this.search.value = "";
      this.query = "";
      await this.refresh();
      const words = [count === 1 ? "1 conversation was taken in." : `${count.toLocaleString("en")} conversations were taken in.`, ...notes].join(" ");
      const row = this.rows.find((one) => one.id === id);
      if (row) this.say(words, "Open", () => void this.open(row));
      else this.say(words);
    } catch (error) {
      this.say("");
      this.sayFault(wordsOf(error));
    }
  }

  /** @param {DragEvent} event */
  onDrag(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation(); // the place to type takes files, too
    this.panel.root.classList.toggle("gw-lib-drop", event.type === "dragover");
    const [file] = event.type === "drop" ? event.dataTransfer.files : [];
    if (file) void this.take(file);
  }

  // -- words -----------------------------------------------------------------------------------------

  /** @param {string} words @param {string} [label] of a button @param {() => void} [act] */
  say(words, label = "", act = () => {}) {
    this.fault.hidden = true;
    const had = this.words.contains(document.activeElement);
    this.words.replaceChildren(...(words ? [h("span", { text: words })] : []));
    if (label) {
      const button = h("button", { type: "button", class: "gw-link", text: label, "data-gw": "library-act" });
      button.addEventListener("click", () => {
        this.search.focus(); // the button goes
        this.say("");
        act();
      });
      this.words.append(" ", button);
    }
    if (had && !this.words.contains(document.activeElement)) this.search.focus();
  }

  /** @param {string} words */
  sayFault(words) {
    this.fault.textContent = words;
    this.fault.hidden = !words;
  }
}

/** @param {string} title */
const short = (title) => (title.length > 40 ? `${title.slice(0, 39)}…` : title || "The conversation");
