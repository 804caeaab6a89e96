// @ts-check
/**
 * A panel beside the conversation: opened by a button, closed by Esc, over the chat where it is narrow.
 *
 * Promises: one panel a side is open at a time; the focus goes into it and back to its button; whether
 * it is open is kept while the page lives. Leaves to others: what is in it.
 */

import { ghostButton, h } from "./_dom.js";

const ROOM_FOR_TWO_PX = 900; // below it they lie over the conversation, see _chat_side.css

export class SidePanel {
  /**
   * @param {HTMLElement} place `places.left` or `places.right`
   * @param {{title: string, name: string, button: HTMLButtonElement, signal: AbortSignal, opened?: () => void, closed?: () => void}} about
   */
  constructor(place, { title, name, button, signal, opened = () => {}, closed = () => {} }) {
    this.place = place;
    this.button = button;
    this.opened = opened;
    this.closed = closed;
    this.heading = h("h3", { class: "gw-side-title", text: title });
    this.tools = h("div", { class: "gw-head-actions" });
    const close = ghostButton("close", "Close (Esc)", { "data-gw": `${name}-close` });
    this.body = h("div", { class: "gw-side-body" });
    this.root = h("section", { class: "gw-side-panel", "aria-label": title, "data-gw": name, hidden: true }, [
      h("div", { class: "gw-side-head" }, [this.heading, this.tools, close]),
      this.body,
    ]);
    place.append(this.root);
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => (this.isOpen ? this.close() : this.open()));
    close.addEventListener("click", () => this.close());
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      event.preventDefault();
      event.stopPropagation(); // it closes this, and stops no answer
      this.close();
    });
    const middle = place.parentElement ?? place;
    middle.addEventListener("gw-side-open", (event) => {
      // Another one of this side opens; where it is narrow there is room for one only.
      const other = /** @type {HTMLElement} */ (event.target);
      const isInTheWay = place.contains(other) || middle.clientWidth < ROOM_FOR_TWO_PX;
      if (other !== this.root && this.isOpen && isInTheWay) this.hide();
    });
    {
      // It was wide when both were opened.
      const observer = new ResizeObserver(() => {
        const isNarrow = middle.clientWidth > 0 && middle.clientWidth < ROOM_FOR_TWO_PX;
        const open = middle.querySelectorAll(".gw-side-panel:not([hidden])");
        if (this.isOpen && isNarrow && open[0] === this.root && open.length > 1) this.hide();
      });
      observer.observe(middle);
      signal.addEventListener("abort", () => observer.disconnect());
    }
  }

  get isOpen() {
    return !this.root.hidden;
  }

  /** @param {HTMLElement} [first] what gets the focus */
  open(first) {
    this.root.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    this.root.dispatchEvent(new CustomEvent("gw-side-open", { bubbles: true }));
    this.opened();
    const focus = first ?? /** @type {HTMLElement | null} */ (this.body.querySelector("input, textarea, select, button, [tabindex='0']"));
    focus?.focus();
  }

  hide() {
    this.root.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
    this.closed();
  }

  close() {
    const hadFocus = this.root.contains(document.activeElement);
    this.hide();
    if (hadFocus) this.button.focus();
  }
}
