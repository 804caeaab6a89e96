// @ts-check
/**
 * A file at an address: what it is, its checksum if there is one, and fetching it.
 *
 * Promises: everything is set as text; what is typed outlives news. Leaves to others: looking at the
 * address (Python).
 */

import { h, icon } from "./_dom.js";
import { dotted, fitText } from "./_download_repo.js";

/**
 * @import { FitView } from "./_download_repo.js"
 * @import { DownloadView } from "./_download_row.js"
 *
 * @typedef {{name: string, title: string, host: string, facts: string[], fit: FitView, here: boolean, single: boolean}} AddressView
 */

export class AddressCard {
  /** @param {(sha256: string) => Promise<string>} download says what is wrong, or "" */
  constructor(download) {
    this.download = download;
    this.shown = "";
    this.name = "";
    const id = `gw-get-${Math.random().toString(36).slice(2)}`;
    this.title = h("strong", { class: "gw-get-name" });
    this.facts = h("p", { class: "gw-dim" });
    this.sentence = h("p", { class: "gw-dim" });
    this.sum = h("input", {
      id, type: "text", class: "gw-field", placeholder: "64 digits", autocomplete: "off", spellcheck: "false",
      "aria-describedby": `${id}-help`, "data-gw": "get-sha256", "data-lm-suppress-shortcuts": "true",
    });
    this.help = h("p", { id: `${id}-help`, class: "gw-dim", text: "If its page states one, paste it: then it is sure that this file arrives, and no other." });
    this.wrong = h("p", { class: "gw-error", role: "alert", "data-gw": "get-sha256-error" });
    this.sumPart = h("div", { class: "gw-get-sum" }, [h("label", { for: id, text: "SHA-256 checksum (optional)" }), this.sum, this.wrong, this.help]);
    this.button = h("button", { type: "button", class: "gw-button gw-primary", "data-gw": "get-download" }, [icon("down"), h("span", { text: "Download" })]);
    this.state = h("span", { class: "gw-get-state", "data-gw": "get-state", tabindex: "-1" });
    this.root = h("div", { class: "gw-get-card", hidden: true, "data-gw": "get-address" }, [
      h("p", { class: "gw-get-names" }, [this.title]),
      this.facts,
      this.sentence,
      this.sumPart,
      h("div", { class: "gw-get-action" }, [this.button, this.state]),
    ]);
    this.button.addEventListener("click", () => void this.go());
    this.sum.addEventListener("input", () => this.say(""));
    this.sum.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      void this.go();
    });
  }

  async go() {
    this.say(await this.download(this.sumPart.hidden ? "" : this.sum.value));
  }

  /** @param {string} text */
  say(text) {
    this.wrong.textContent = text;
    this.sum.setAttribute("aria-invalid", String(text !== ""));
    if (text) this.sum.focus();
  }

  /** @param {AddressView | null} view */
  update(view) {
    const shown = JSON.stringify(view);
    if (shown === this.shown) return;
    this.shown = shown;
    this.root.hidden = view === null;
    if (!view) return;
    if (view.name !== this.name) {
      this.name = view.name;
      this.sum.value = "";
      this.say("");
    }
    this.root.dataset.name = view.title;
    this.title.textContent = view.title;
    this.title.title = view.name;
    this.facts.replaceChildren(...dotted([`from ${view.host}`, ...view.facts, fitText(view.fit)]));
    this.sentence.textContent = view.fit && view.fit.verdict !== "yes" ? view.fit.sentence : "";
    this.sumPart.hidden = !view.single || view.here;
    this.isHere = view.here;
  }

  /** @param {Map<string, DownloadView>} jobs by the name they were asked for by */
  showJobs(jobs) {
    const job = jobs.get(this.name);
    const isBusy = job !== undefined && !["done", "failed"].includes(job.state);
    const hadFocus = this.root.contains(document.activeElement);
    const text = this.isHere ? "Here already" : isBusy ? "See below how far it is" : "";
    this.button.hidden = text !== "";
    this.sum.disabled = text !== "";
    this.state.hidden = text === "";
    if (this.state.textContent !== text) this.state.replaceChildren(...(this.isHere ? [icon("done"), text] : [text]));
    if (hadFocus && !this.root.contains(document.activeElement)) this.state.focus();
  }
}
