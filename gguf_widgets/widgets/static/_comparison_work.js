// @ts-check
/**
 * A comparison on the screen: how far it is, what came of it, its prompts, its pictures, its files.
 *
 * Promises: sizes stay while figures change; while a person votes without the names, nothing here is
 * shown that tells them. Leaves to others: figures and words (Python), prompts (`_comparison_rows`),
 * votes (`_comparison_vote`).
 */

import { titleForm } from "./_batch_earlier.js";
import { Chart } from "./_chart.js";
import { sideBadge } from "./_comparison_form.js";
import { PromptDetail, PromptList } from "./_comparison_rows.js";
import { VotePart } from "./_comparison_vote.js";
import { ghostButton, h, icon } from "./_dom.js";
import { wordsOf } from "./_link.js";
import { saveFile } from "./_save_file.js";

/** @import { Link } from "./_link.js" */

const COMPARISON_TITLES = /** @type {Record<string, string>} */ ({ ready: "Ready", running: "At work", stopped: "Stopped", interrupted: "Interrupted", finished: "Finished", failed: "It could not go on" });
const PICTURES = /** @type {[string, string][]} */ ([
  ["quality", "Quality, speed and memory"],
  ["differences", "How far apart"],
  ["votes", "Votes"],
]);

/** How one side stands. */
class SideLine {
  /** @param {number} number */
  constructor(number) {
    this.name = h("strong", { class: "gw-bt-cut" });
    this.about = h("span", { class: "gw-dim gw-bt-cut gw-bt-grow" });
    this.words = h("span", { class: "gw-dim" });
    this.fill = h("span", { class: "gw-progress-fill" });
    this.figures = h("p", { class: "gw-dim gw-bt-num" });
    this.error = h("p", { class: "gw-error", role: "alert" });
    this.root = h("div", { class: "gw-cmp-state", "data-gw": "comparison-side-state", "data-number": String(number) }, [
      h("div", { class: "gw-cmp-name" }, [sideBadge(number), this.name, this.about, this.words]),
      h("div", { class: "gw-progress" }, [this.fill]),
      this.figures,
      this.error,
    ]);
  }

  /** @param {any} side */
  show(side) {
    this.root.dataset.status = side.status;
    this.name.textContent = this.name.title = side.label;
    this.about.textContent = this.about.title = side.about;
    this.words.textContent = side.words;
    this.fill.style.width = `${100 * side.fraction}%`;
    this.figures.textContent = side.figures;
    this.error.textContent = side.error;
  }
}

/** The pictures, drawn when somebody wants them. */
class PicturesPart {
  /** @param {Link} link @param {AbortSignal} signal */
  constructor(link, signal) {
    this.link = link;
    this.version = -1;
    this.shown = -1;
    this.kind = "quality";
    this.chips = h("div", { class: "gw-bt-chips", role: "group", "aria-label": "Picture" });
    this.score = h("select", { class: "gw-field gw-cmp-score", "aria-label": "Score in the picture", "data-gw": "comparison-figure-score" });
    this.score.addEventListener("change", () => void this.draw(true));
    this.save = ghostButton("down", "Save this picture", { "data-gw": "comparison-figure-save" });
    this.save.addEventListener("click", () => void this.chart.save(this.heading.textContent ?? "comparison"));
    this.heading = h("h4", { class: "gw-bt-grow" });
    this.words = h("p", { class: "gw-dim", "data-gw": "comparison-figure-words" });
    this.error = h("p", { class: "gw-dim", role: "status", "data-gw": "comparison-figure-error" });
    this.chart = new Chart({
      ask: (offset) => link.ask("plotly", { offset }),
      signal,
      failed: (error) => {
        this.error.textContent = wordsOf(error);
        this.plot.hidden = true;
      },
    });
    this.chart.root.dataset.gw = "comparison-chart";
    this.plot = h("div", { class: "gw-bt-stack" }, [h("div", { class: "gw-bt-line" }, [this.heading, this.save]), h("div", { class: "gw-cmp-plot" }, [this.chart.root]), this.words]);
    this.fold = h("details", { class: "gw-fold", "data-gw": "comparison-pictures" }, [
      h("summary", {}, [icon("open"), h("span", { text: "Pictures" })]),
      h("div", { class: "gw-fold-body gw-bt-stack" }, [h("div", { class: "gw-bt-tools" }, [this.chips, this.score]), this.error, this.plot]),
    ]);
    this.fold.addEventListener("toggle", () => void this.draw(false));
    this.drawChips();
  }

  drawChips() {
    this.chips.replaceChildren(
      ...PICTURES.map(([kind, text]) => {
        const chip = h("button", { type: "button", class: "gw-bt-chip", "aria-pressed": String(kind === this.kind), "data-gw": "comparison-figure", "data-kind": kind, text });
        chip.addEventListener("click", () => {
          this.kind = kind;
          this.drawChips();
          /** @type {HTMLElement | null} */ (this.chips.querySelector(`[data-kind="${kind}"]`))?.focus();
          void this.draw(true);
        });
        return chip;
      }),
    );
  }

  /** @param {any} open @param {number} version of the figures */
  show(open, version) {
    const key = JSON.stringify(open.scores);
    if (this.score.dataset.key !== key) {
      this.score.dataset.key = key;
      this.score.replaceChildren(h("option", { value: "", text: "Score: chosen by itself" }), ...open.scores.map((/** @type {any} */ one) => h("option", { value: one.name, text: one.label })));
    }
    this.version = version;
    void this.draw(false);
  }

  /** @param {boolean} isOther */
  async draw(isOther) {
    this.score.hidden = this.kind === "votes";
    const { version } = this;
    if (!this.fold.open || version < 0 || (!isOther && this.shown === version)) return;
    this.shown = version;
    const { kind } = this;
    try {
      const { figure } = await this.link.ask("figure", { figure: kind, score: this.score.value });
      if (kind !== this.kind) return;
      this.error.textContent = "";
      this.plot.hidden = false;
      this.heading.textContent = figure.heading;
      this.words.textContent = figure.words;
      this.chart.root.style.height = `${figure.height}px`;
      this.chart.show((theme) => themed(theme.isDark ? figure.dark : figure.light, theme), `${figure.heading}. ${figure.words}`);
    } catch (error) {
      if (kind !== this.kind) return;
      this.error.textContent = wordsOf(error);
      this.plot.hidden = true;
    }
  }
}

/** In the page's own colours; data and layout are changed by plotly.js, so each drawing gets its own. @param {any} figure @param {any} theme */
function themed(figure, theme) {
  const { data, layout } = structuredClone(figure);
  for (const name of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(name)) layout[name] = { ...layout[name], gridcolor: theme.line, linecolor: theme.line, tickfont: { color: theme.dim, size: 12 }, fixedrange: true };
  }
  return { data, layout: { ...layout, font: { family: theme.font, size: 12, color: theme.text } } };
}

export class ComparisonWork {
  /** @param {Link} link @param {(text: string) => void} say @param {AbortSignal} signal */
  constructor(link, say, signal) {
    this.link = link;
    this.say = say;
    this.id = "";
    this.status = "";
    this.resultKey = "";
    this.version = -1;
    /** @type {SideLine[]} */
    this.sides = [];
    this.title = h("h3", { class: "gw-bt-grow", "data-gw": "comparison-title" });
    this.rename = ghostButton("edit", "Rename this comparison", { "data-gw": "comparison-title-edit" });
    this.rename.addEventListener("click", () => this.askTitle());
    this.heading = h("div", { class: "gw-bt-line" }, [this.title, this.rename]);
    this.words = h("p", { "data-gw": "comparison-words" });
    this.fill = h("span", { class: "gw-bt-good" });
    this.bar = h("div", { class: "gw-bt-progress", role: "progressbar", "aria-label": "Answers", "aria-valuemin": "0", "aria-valuemax": "100", "data-gw": "comparison-progress" }, [this.fill]);
    this.figures = h("p", { class: "gw-dim gw-bt-num gw-bt-figures", "data-gw": "comparison-figures" });
    this.notes = h("div", { class: "gw-bt-stack", "data-gw": "comparison-notes" });
    this.states = h("div", { class: "gw-cmp-states" });
    this.error = h("p", { class: "gw-error", role: "alert", "data-gw": "comparison-work-error" });
    const button = (/** @type {string} */ kind, /** @type {string} */ name, /** @type {string} */ text) => {
      const made = h("button", { type: "button", class: "gw-button", "data-gw": `comparison-${kind}` }, [icon(name), text]);
      made.addEventListener("click", () => void this.do(kind));
      return made;
    };
    this.goOn = button("go-on", "play", "");
    this.goOnText = h("span", { text: "Go on" });
    this.goOn.append(this.goOnText);
    this.goOn.classList.add("gw-primary");
    this.stop = button("stop", "stop", "Stop");
    this.votes = h("button", { type: "button", class: "gw-button", title: "Two answers at a time, without the names. Keys: 1, 2, 3 (both), 0 (none)", "data-gw": "comparison-vote-open" }, [icon("look"), "Vote without the names"]);
    this.votes.addEventListener("click", () => void this.openVotes());
    this.another = h("button", { type: "button", class: "gw-button", text: "New comparison", "data-gw": "comparison-new" });
    this.another.addEventListener("click", () => void this.do("open", { id: null }));
    this.buttons = h("div", { class: "gw-bt-buttons" }, [this.goOn, this.stop, this.votes, this.another]);
    this.differences = h("ul", { class: "gw-cmp-differences", role: "list", "data-gw": "comparison-differences" });
    this.table = h("div", { class: "gw-bt-cells gw-cmp-table", tabindex: "0", role: "region", "aria-label": "What came of each side", "data-gw": "comparison-summary" });
    this.result = h("div", { class: "gw-bt-stack", hidden: true }, [h("h4", { text: "What came of it" }), this.differences, this.table]);
    this.pictures = new PicturesPart(link, signal);
    this.list = new PromptList(link, (number) => void this.detail.open(number), signal);
    this.detail = new PromptDetail(link, () => {
      this.list.opened = -1;
      this.list.draw();
      this.list.scroller.focus();
    });
    this.downloads = h("div", { class: "gw-bt-buttons" });
    this.saved = h("p", { class: "gw-dim", role: "status", "data-gw": "comparison-saved" });
    this.vote = new VotePart(link, say, () => this.closeVotes());
    this.plain = h("div", { class: "gw-bt-part" }, [
      this.heading,
      this.words,
      this.bar,
      this.figures,
      this.notes,
      this.states,
      this.error,
      this.buttons,
      this.result,
      this.pictures.fold,
      h("h4", { text: "Prompts" }),
      this.list.root,
      this.detail.root,
      h("h4", { text: "Take it away" }),
      this.downloads,
      this.saved,
    ]);
    this.root = h("section", { "aria-label": "Comparison", hidden: true, "data-gw": "comparison-work" }, [this.plain, this.vote.root]);
  }

  /** @param {any} state */
  show({ open, result, busy, formats }) {
    this.root.hidden = !open;
    if (!open) {
      this.id = "";
      this.detail.close();
      if (this.vote.isOpen) this.vote.close();
      return;
    }
    if (open.id !== this.id) this.reset(open);
    if (open.status !== this.status) {
      this.status = open.status;
      this.say(`${COMPARISON_TITLES[open.status] ?? open.status}. ${open.words}`);
    }
    this.root.dataset.status = open.status;
    this.title.textContent = open.title;
    this.words.textContent = open.words;
    const percent = Math.floor(open.fraction * 100);
    this.fill.style.width = `${open.fraction * 100}%`;
    this.bar.setAttribute("aria-valuenow", String(percent));
    this.figures.textContent = [open.figures, open.note].filter(Boolean).join(" · ");
    this.showNotes(open.notes);
    open.sides.forEach((/** @type {any} */ side, /** @type {number} */ i) => this.sides[i]?.show(side));
    const isRunning = open.status === "running";
    const hadFocus = this.buttons.contains(document.activeElement);
    this.stop.hidden = !isRunning;
    this.goOn.hidden = !open.canGoOn;
    if (this.goOnText.textContent !== open.goOnText) this.goOnText.textContent = open.goOnText;
    this.goOn.disabled = Boolean(busy);
    this.another.hidden = isRunning && open.isHere;
    if (hadFocus && (!this.buttons.contains(document.activeElement) || /** @type {HTMLElement} */ (document.activeElement).hidden)) this.focusButton();
    this.showResult(result);
    this.pictures.show(open, result?.of ?? -1);
    this.list.refresh(open.version);
    if (open.version !== this.version) {
      this.version = open.version;
      void this.detail.refresh();
    }
    this.showFormats(formats);
  }

  /** Another comparison. @param {any} open */
  reset(open) {
    this.id = open.id;
    this.version = -1;
    this.status = "";
    this.sides = open.sides.map((/** @type {any} */ side) => new SideLine(side.number));
    this.states.replaceChildren(...this.sides.map(({ root }) => root));
    this.detail.close();
    if (this.vote.isOpen) this.vote.close();
    this.saved.textContent = this.error.textContent = "";
    this.heading.replaceChildren(this.title, this.rename);
    this.result.hidden = true;
    this.resultKey = "";
    this.pictures.shown = -1;
    this.list.reset(open.labels, open.numPrompts, open.heading);
  }

  focusButton() {
    const next = [...this.buttons.querySelectorAll("button")].find((one) => !one.hidden && !one.disabled);
    (next ?? this.title).focus();
  }

  /** @param {string[]} notes */
  showNotes(notes) {
    const key = JSON.stringify(notes);
    if (this.notes.dataset.key === key) return;
    this.notes.dataset.key = key;
    this.notes.replaceChildren(...notes.map((text) => h("p", { class: "gw-bt-mind" }, [icon("info"), h("span", { text })])));
  }

  /** @param {any} result */
  showResult(result) {
    this.result.hidden = !result;
    const key = JSON.stringify(result);
    if (!result || key === this.resultKey) return;
    this.resultKey = key;
    const told = result.differences.map((/** @type {any} */ one) => h("li", { "data-clear": String(one.clear) }, [h("span", { class: "gw-dim", text: `${one.score}: ` }), h("span", { text: one.words })]));
    for (const text of result.votes) told.push(h("li", {}, [h("span", { class: "gw-dim", text: "Your votes: " }), h("span", { text })]));
    if (!told.length) told.push(h("li", { class: "gw-dim", text: "Nothing to tell yet: two sides must have answered the same prompt." }));
    this.differences.replaceChildren(...told);
    const head = h("tr", {}, result.heads.map((/** @type {string} */ text, /** @type {number} */ i) => h("th", { scope: "col", text, title: result.titles[i] || text })));
    const rows = result.rows.map((/** @type {string[]} */ cells, /** @type {number} */ number) => h("tr", {}, cells.map((text, i) => (i ? h("td", { text, title: text }) : h("th", { scope: "row", title: text }, [h("span", { class: "gw-cmp-rowname" }, [sideBadge(number), h("span", { class: "gw-bt-cut", text: text.slice(2) })])])))));
    const { scrollLeft } = this.table;
    this.table.replaceChildren(h("table", {}, [h("thead", {}, [head]), h("tbody", {}, rows)]));
    this.table.scrollLeft = scrollLeft;
  }

  /** @param {{ending: string, label: string, title: string}[]} formats */
  showFormats(formats) {
    if (this.downloads.childElementCount) return;
    for (const { ending, label, title } of formats) {
      const button = h("button", { type: "button", class: "gw-button", title, "data-gw": "comparison-download", "data-format": ending }, [icon("down"), label]);
      button.addEventListener("click", () => void this.save(ending));
      this.downloads.append(button);
    }
  }

  askTitle() {
    const { id } = this;
    const form = titleForm(this.title.textContent ?? "", (title) => this.link.ask("rename", { id, title }), () => {
      this.heading.replaceChildren(this.title, this.rename);
      this.rename.focus();
    });
    this.heading.replaceChildren(form);
  }

  async openVotes() {
    this.error.textContent = "";
    try {
      await this.vote.open();
      this.plain.hidden = true;
      this.root.scrollIntoView({ block: "nearest" });
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }

  closeVotes() {
    this.plain.hidden = false;
    this.votes.focus();
  }

  /** @param {string} kind @param {object} [content] */
  async do(kind, content = {}) {
    this.error.textContent = "";
    try {
      await this.link.ask(kind, content);
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }

  /** @param {string} format */
  async save(format) {
    try {
      await saveFile(this.link, { format }, (words) => (this.saved.textContent = words));
    } catch (error) {
      this.error.textContent = wordsOf(error);
    }
  }
}
