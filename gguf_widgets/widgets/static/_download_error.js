// @ts-check
/**
 * What went wrong, and what can be done about it.
 *
 * Promises: everything is set as text; a link leads only to a web page, and says nothing of this
 * one. Leaves to others: the words (Python), doing it (the view).
 */

import { confirmCopy, copyText } from "./_copy.js";
import { ghostButton, h, icon } from "./_dom.js";

/**
 * @typedef {{title: string, problem: string, text: string, again: boolean, goesOn: boolean, find: string, command: string, page: string}} ErrorView
 * @typedef {{again?: () => void, find: (text: string) => void}} ErrorWays
 */

/** A line to be copied into a terminal. @param {string} command */
export function copyable(command) {
  const button = ghostButton("copy", "Copy the line", { "data-gw": "get-copy" });
  button.addEventListener("click", async () => {
    if (await copyText(command)) confirmCopy(button);
  });
  return h("div", { class: "gw-copyable", "data-gw": "get-command" }, [h("code", { text: command }), button]);
}

/** @param {ErrorView} view @param {ErrorWays} ways */
export function errorBlock(view, ways) {
  const block = h("div", { class: "gw-get-error", "data-gw": "get-error", "data-problem": view.problem }, [
    h("p", { class: "gw-get-error-title" }, [icon("warn"), h("strong", { text: view.title })]),
    h("p", { text: view.text }),
  ]);
  if (view.command) block.append(copyable(view.command));
  const buttons = h("div", { class: "gw-get-ways" });
  if (view.again && ways.again) {
    const again = h("button", { type: "button", class: "gw-button", "data-gw": "get-again" }, [icon("again"), view.goesOn ? "Try to go on" : "Try again"]);
    again.addEventListener("click", ways.again);
    buttons.append(again);
  }
  if (view.find) {
    const versions = h("button", { type: "button", class: "gw-button", text: "Show its versions", "data-gw": "get-versions" });
    versions.addEventListener("click", () => ways.find(view.find));
    buttons.append(versions);
  }
  if (/^https?:\/\//.test(view.page)) {
    buttons.append(h("a", { href: view.page, target: "_blank", rel: "noopener noreferrer", text: "Open its page", "data-gw": "get-page" }));
  }
  if (buttons.childElementCount) block.append(buttons);
  return block;
}
