// @ts-check
/**
 * A run on the screen: how far it is, what can be done with it, what came of it, its rows.
 *
 * Promises: sizes stay while figures change; what cannot be done just now says why. Leaves to others:
 * figures and words (Python).
 */

import { ChartsPart } from "./_batch_charts.js";
import { titleForm } from "./_batch_earlier.js";
import { Grid, STATUS_WORDS } from "./_batch_grid.js";
import { wordsOf } from "./_link.js";
import { RowPart } from "./_batch_row.js";
import { copyText } from "./_copy.js";
import { ghostButton, h, icon } from "./_dom.js";
import { saveFile } from "./_save_file.js";

/** @import { Link } from "./_link.js" */

const UNDER_WAY = ["running", "paused"];
const CAN_GO_ON = ["ready", "paused", "stopped", "interrupted", "failed"];
const AT_ONCE = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const TITLES = /** @type {Record<string, string>} */ ({ ready: "Ready", running: "At work", paused: "Paused", stopped: "Stopped", interrupted: "Interrupted", finished: "Finished", failed: "It could not go on" });

/** @param {number} count */
const told = (count) => count.toLocaleString("en");

export class WorkPart {
  /** @param {Link} link @param {(text: string) => void} say @param {AbortSignal} signal */
  constructor(link, say, signal) {
    this.link = link;
    this.say = say;
    this.runId = "";
    this.noun = "rows";
    this.status = "";
    this.tabsKey = "";
    this.labelsKey = "";
    this.areChartsOld = false;
    this.title = h("h3", { class: "gw-bt-grow", "data-gw": "batch-title" });
    this.rename = ghostButton("fresh", "Rename this run", { "data-gw": "batch-run-rename" });
    this.remove = ghostButton("bin", "Delete this run", { "data-gw": "batch-run-delete" });
    this.heading = h("div", { class: "gw-bt-line" }, [this.title, this.rename, this.remove]);
    this.rename.addEventListener("click", () => this.askTitle());
    this.remove.addEventListener("click", () => void this.do("delete", { id: this.runId }));
    this.words = h("p", { "data-gw": "batch-words" });
    this.fill = h("span", { class: "gw-bt-good" });
    this.bad = h("span", { class: "gw-bt-bad" });
    this.bar = h("div", { class: "gw-bt-progress", role: "progressbar", "aria-label": "Rows done", "aria-valuemin": "0", "aria-valuemax": "100", "data-gw": "batch-progress" }, [this.fill, this.bad]);
    this.figures = h("p", { class: "gw-dim gw-bt-num gw-bt-figures", "data-gw": "batch-figures" });
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": "batch-work-error" });
    const button = (/** @type {string} */ kind, /** @type {string} */ name, /** @type {string} */ text) => {
      const made = h("button", { type: "button", class: "gw-button", "data-gw": `batch-${kind}` }, [icon(name), text]);
      made.addEventListener("click", () => void this.do(kind));
      return made;
    };
    this.pause = button("pause", "pause", "Pause");
    this.goOn = button("go-on", "play", "Go on");
    this.goOn.classList.add("gw-primary");
    this.stop = button("stop", "stop", "Stop");
    this.retry = button("retry", "again", "Retry failed");
    this.retry.title = this.goOn.title = "Asks the model as it is loaded now, such as with more room than before";
    this.another = h("button", { type: "button", class: "gw-button", text: "New run", "data-gw": "batch-new" });
    this.another.addEventListener("click", () => void this.do("open", { id: null }));
    this.change = button("set-up", "fresh", "Change and run again");
    this.wanted = 0;
    this.noteBefore = "";
    this.atOnce = h("select", { class: "gw-field", "data-gw": "batch-at-once" });
    this.atOnce.addEventListener("change", () => void this.changeAtOnce(Number(this.atOnce.value)));
    this.atOnceWords = h("span", { class: "gw-dim", role: "status", "data-gw": "batch-at-once-words" });
    this.atOnceBox = h("label", { class: "gw-bt-at-once", hidden: true, title: "How many rows the model computes side by side (n_seq_max). More is often quicker, and needs more memory. The model is loaded anew; what it is at is finished first." }, [h("span", { text: "Rows at once" }), this.atOnce, this.atOnceWords]);
    this.buttons = h("div", { class: "gw-bt-buttons" }, [this.pause, this.goOn, this.stop, this.retry, this.change, this.another, this.atOnceBox]);

    this.formats = h("select", { class: "gw-field", "aria-label": "Kind of file", "data-gw": "batch-format" });
    this.download = h("button", { type: "button", class: "gw-button", "data-gw": "batch-download" }, [icon("down"), "Download"]);
    this.download.addEventListener("click", () => void this.save());
    this.code = h("button", { type: "button", class: "gw-button", "data-gw": "batch-code" }, [icon("copy"), "Copy as code"]);
    this.code.addEventListener("click", () => void this.copyCode());
    this.saved = h("p", { class: "gw-dim", role: "status", "data-gw": "batch-saved" });
    this.codeText = h("pre", { class: "gw-bt-code", hidden: true, tabindex: "0", "aria-label": "The code", "data-gw": "batch-code-text" });

    this.labels = h("div", { class: "gw-bt-labels", "data-gw": "batch-labels" });
    this.tabs = h("div", { class: "gw-bt-chips", role: "group", "aria-label": "Which rows" });
    this.search = h("input", { type: "search", class: "gw-field", placeholder: "Search the rows", "aria-label": "Search the rows", "data-gw": "batch-search", "data-lm-suppress-shortcuts": "true" });
    // At once: while the grid waits for an answer it asks for the latest words only.
    this.search.addEventListener("input", () => this.grid.change({ words: this.search.value }));
    this.unsure = h("button", { type: "button", class: "gw-bt-chip", "aria-pressed": "false", text: "Least certain first", "data-gw": "batch-unsure" });
    this.unsure.addEventListener("click", () => {
      const isOn = this.grid.query.sort === "certainty" && !this.grid.query.descending;
      this.grid.sort(isOn ? "row" : "certainty", false);
    });
    this.found = h("span", { class: "gw-dim gw-bt-num", role: "status", "data-gw": "batch-found" });
    this.row = new RowPart(link, () => {
      this.grid.opened = -1;
      this.grid.draw();
      this.grid.scroller.focus();
    });
    this.grid = new Grid(link, (number) => void this.row.open(number), signal);
    this.grid.told = (total) => this.showFound(total);
    this.charts = new ChartsPart(link, signal, () => this.grid.query.where, (column, value) => this.filter(column, value), (views) => this.showLabels(views));
    this.root = h("section", { class: "gw-bt-part", "aria-label": "Run", "data-gw": "batch-run", hidden: true }, [
      this.heading,
      this.words,
      this.bar,
      this.figures,
      this.error,
      this.buttons,
      this.charts.root,
      this.labels,
      h("div", { class: "gw-bt-tools" }, [this.tabs, this.unsure, this.search]),
      this.found,
      h("div", { class: "gw-bt-rows" }, [this.grid.root, this.row.root]),
      h("div", { class: "gw-bt-buttons" }, [this.formats, this.download, this.code]),
      this.saved,
      this.codeText,
    ]);
  }

  /** @param {any} run @param {any} progress @param {number} version @param {string} busy */
  show(run, progress, version, busy) {
    this.root.hidden = !run;
    if (!run) {
      this.runId = "";
      this.charts.show("", -1);
      this.row.close();
      return;
    }
    if (run.id !== this.runId) {
      this.runId = run.id;
      this.grid.reset();
      this.row.close();
      this.search.value = "";
      this.saved.textContent = this.error.textContent = "";
      this.codeText.hidden = true;
      this.wanted = 0;
      this.heading.replaceChildren(this.title, this.rename, this.remove);
      this.tabsKey = this.labelsKey = "";
    }
    this.noun = run.noun;
    this.progress = progress;
    const status = run.status;
    if (status !== this.status) {
      this.status = status;
      this.say(`${TITLES[status] ?? status}. ${run.words}`);
    }
    this.root.dataset.status = status;
    this.title.textContent = run.title;
    this.words.textContent = run.words;
    this.fill.style.width = `${(progress.fraction - progress.failedFraction) * 100}%`;
    this.bad.style.width = `${progress.failedFraction * 100}%`;
    const percent = Math.floor(progress.fraction * 100);
    this.bar.setAttribute("aria-valuenow", String(percent));
    const ended = progress.total - progress.waiting;
    const figures = [`${told(ended)} of ${told(progress.total)}${run.noun === "rows" ? "" : ` ${run.noun}`}`, progress.failed ? `${told(progress.failed)} failed` : "", progress.skipped ? `${told(progress.skipped)} left out` : "", progress.speed, progress.left, progress.elapsed && !progress.left ? `after ${progress.elapsed}` : "", progress.note].filter(Boolean).join(" · ");
    this.figures.textContent = figures;
    this.bar.setAttribute("aria-valuetext", figures);
    const isUnderWay = UNDER_WAY.includes(status);
    const isBusy = Boolean(busy);
    const hadFocus = this.buttons.contains(document.activeElement);
    this.pause.hidden = status !== "running";
    this.stop.hidden = !isUnderWay;
    this.goOn.hidden = !CAN_GO_ON.includes(status);
    this.retry.hidden = isUnderWay || !progress.failed;
    this.change.hidden = this.another.hidden = isUnderWay;
    // Also of a run that another process is at: both are asked for through the store.
    for (const one of [this.goOn, this.retry, this.change]) one.disabled = isBusy && status !== "paused";
    if (hadFocus && !this.buttons.contains(document.activeElement)) this.focusButton();
    else if (hadFocus && /** @type {HTMLElement} */ (document.activeElement).hidden) this.focusButton();
    this.download.disabled = this.formats.disabled = isBusy;
    this.showAtOnce(run.canChange && isUnderWay ? progress : undefined, isBusy);
    this.row.allow(!isUnderWay && !isBusy, isUnderWay ? "Wait for the end of the run, or stop it; then ask this row again." : "");
    this.grid.setColumns(run.columns);
    this.unsure.hidden = !run.columns.hasCertainty;
    this.showTabs(progress);
    this.charts.show(run.id, version);
    if (version !== this.grid.version) {
      this.grid.refresh(version);
      this.row.refresh();
    }
  }

  /** How many rows are asked at once, if that can be changed now. @param {any} progress @param {boolean} isBusy */
  showAtOnce(progress, isBusy) {
    const now = progress?.numAtOnce;
    this.atOnceBox.hidden = !now;
    if (!now) return;
    if (this.wanted === now) this.wanted = 0;
    if (this.wanted && progress.note && progress.note !== this.noteBefore) this.wanted = 0; // it says why not
    const listed = [...new Set([...AT_ONCE, now])].sort((a, b) => a - b);
    if (this.atOnce.options.length !== listed.length) this.atOnce.replaceChildren(...listed.map((one) => h("option", { value: String(one), text: String(one) })));
    if (document.activeElement !== this.atOnce || !this.wanted) this.atOnce.value = String(this.wanted || now);
    this.atOnce.disabled = isBusy || this.wanted > 0;
    const words = this.wanted ? `Loading the model for ${this.wanted} rows at once…` : "";
    if (this.atOnceWords.textContent !== words) this.atOnceWords.textContent = words;
  }

  /** @param {number} num */
  async changeAtOnce(num) {
    this.wanted = num;
    this.noteBefore = this.progress?.note;
    this.error.textContent = "";
    try {
      await this.link.ask("change", { numAtOnce: num });
    } catch (error) {
      this.wanted = 0;
      this.error.textContent = wordsOf(error);
    }
  }

  askTitle() {
    const id = this.runId;
    const form = titleForm(this.title.textContent ?? "", (title) => this.link.ask("rename", { id, title }), () => {
      this.heading.replaceChildren(this.title, this.rename, this.remove);
      this.rename.focus();
    });
    this.heading.replaceChildren(form);
  }

  focusButton() {
    const next = [...this.buttons.querySelectorAll("button")].find((one) => !one.hidden && !one.disabled);
    next?.focus();
  }

  /** @param {any} progress */
  showTabs(progress) {
    const { query } = this.grid;
    const key = JSON.stringify([progress.done, progress.failed, progress.skipped, progress.waiting, query.status, query.where]);
    if (key === this.tabsKey) return;
    this.tabsKey = key;
    const hadFocus = this.tabs.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.value : undefined;
    const tabs = [["", "All", progress.total], ...Object.entries(STATUS_WORDS).map(([status, text]) => [status, text, progress[status]])];
    const chips = tabs
      .filter(([status, , count]) => status === "" || count || status === query.status)
      .map(([status, text, count]) => {
        const chip = h("button", { type: "button", class: "gw-bt-chip", "aria-pressed": String(query.status === status), "data-gw": "batch-tab", "data-value": String(status), text: `${text} ${told(count)}` });
        chip.addEventListener("click", () => {
          this.grid.change({ status: String(status) });
          this.tabsKey = "";
          this.showTabs(progress);
        });
        return chip;
      });
    for (const [column, value] of Object.entries(query.where)) {
      const chip = h("button", { type: "button", class: "gw-bt-chip", "aria-pressed": "true", title: "Show all values again", "data-gw": "batch-where" }, [`${column}: ${value === true ? "yes" : value === false ? "no" : value}`, icon("close")]);
      chip.addEventListener("click", () => this.filter(column, undefined));
      chips.push(chip);
    }
    this.tabs.replaceChildren(...chips);
    if (hadFocus !== undefined) /** @type {HTMLElement | null} */ (this.tabs.querySelector(`[data-value="${hadFocus}"]`))?.focus();
  }

  /** @param {string} column @param {any} value */
  filter(column, value) {
    const where = { ...this.grid.query.where };
    if (value === undefined) delete where[column];
    else where[column] = value;
    this.grid.change({ where });
    this.tabsKey = this.labelsKey = "";
    this.showTabs(this.progress);
    this.showLabels(this.charts.views);
    this.areChartsOld = true; // they take a while, and the rows come first
  }

  /** Each label with how many rows have it, to choose rows by. @param {any[]} views of the charts */
  showLabels(views) {
    const labels = views.filter((one) => one.kind === "labels");
    const key = JSON.stringify([labels, this.grid.query.where]);
    if (key === this.labelsKey) return;
    this.labelsKey = key;
    const hadFocus = this.labels.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.key : undefined;
    const parts = labels.map(({ column, names, values, series, left }) => {
      const chips = names.map((/** @type {string} */ text, /** @type {number} */ i) => {
        const value = values[i];
        const isOn = this.grid.query.where[column] === value;
        const count = series.reduce((/** @type {number} */ sum, /** @type {any} */ { counts }) => sum + counts[i], 0);
        const chip = h("button", { type: "button", class: "gw-bt-chip", "aria-pressed": String(isOn), title: isOn ? "Show all values again" : `Show the rows with “${text}”`, "data-gw": "batch-label", "data-key": `${column}:${text}`, "data-name": text }, [
          h("span", { class: "gw-bt-cut", text }),
          h("span", { class: "gw-dim gw-bt-num", text: told(count) }),
        ]);
        chip.addEventListener("click", () => this.filter(column, isOn ? undefined : value));
        return chip;
      });
      if (left[0]) chips.push(h("span", { class: "gw-dim", text: `and ${told(left[0])} other values` }));
      return h("div", { class: "gw-bt-chips", role: "group", "aria-label": `Rows by ${column}` }, [h("span", { class: "gw-dim", text: column }), ...chips]);
    });
    this.labels.replaceChildren(...parts);
    if (hadFocus !== undefined) /** @type {HTMLElement | null} */ (this.labels.querySelector(`[data-key="${CSS.escape(hadFocus)}"]`))?.focus();
  }

  /** @param {number} total */
  showFound(total) {
    if (this.areChartsOld) {
      this.areChartsOld = false;
      requestAnimationFrame(() => setTimeout(() => this.charts.draw()));
    }
    const { status, words, where, sort } = this.grid.query;
    const isChosen = status || words || Object.keys(where).length;
    const text = isChosen ? `${told(total)} ${total === 1 ? this.noun.slice(0, -1) : this.noun} found` : "";
    if (this.found.textContent !== text) this.found.textContent = text;
    this.unsure.setAttribute("aria-pressed", String(sort === "certainty" && !this.grid.query.descending));
  }

  /** @param {{ending: string, label: string}[]} formats */
  showFormats(formats) {
    if (this.formats.options.length === formats.length) return;
    this.formats.replaceChildren(...formats.map(({ ending, label }) => h("option", { value: ending, text: label })));
  }

  // -- what is done ----------------------------------------------------------------------------------

  /** @param {string} kind @param {object} [content] */
  async do(kind, content = {}) {
    this.error.textContent = "";
    try {
      await this.link.ask(kind, content);
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }

  async save() {
    try {
      await saveFile(this.link, { format: this.formats.value }, (words) => (this.saved.textContent = words));
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }

  async copyCode() {
    try {
      const { text } = await this.link.ask("code");
      this.codeText.textContent = text;
      const isCopied = await copyText(text);
      this.codeText.hidden = false;
      this.saved.textContent = isCopied ? "Copied. Paste it into a cell of a notebook." : "The browser did not let it be copied. Select it here:";
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }
}
