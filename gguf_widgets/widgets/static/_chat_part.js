// @ts-check
/**
 * What a part of the chat is on the page, and the places that it may fill.
 *
 * Promises: nothing but names; the chat's parts agree on them. Leaves to others: the parts
 * (`_chat_*.js`), and which there are (`chat_box.js`).
 *
 * A part is a class made with `(link, places)`. It appends its elements to the places, asks Python
 * with `link.ask("name-do", {...})`, and may have any of the methods of `Part`.
 */

/** @import { MessageView } from "./_chat_messages.js" */
/** @import { ChatState } from "./chat_box.js" */

/**
 * @typedef {object} Places
 * @property {HTMLElement} root the whole chat; events of the chat's own go here ("gw-edit-last",
 *   "gw-changed" when a part has changed whether something can be sent, and "gw-acted" when the
 *   person has done something that can be undone, with "writes" where an answer comes of it)
 * @property {HTMLElement} headStart buttons at the head's start, before the title
 * @property {HTMLElement} headEnd buttons at the head's end
 * @property {HTMLElement} left a panel beside the conversation; see SidePanel in _chat_side.js
 * @property {HTMLElement} right
 * @property {HTMLElement} above over the place to type: chips, offers, forms
 * @property {HTMLElement} composer the box in which the person types, for dropping
 * @property {HTMLTextAreaElement} input
 * @property {HTMLElement} composerStart small buttons at the start of the line under the text
 * @property {HTMLElement} composerEnd small things before Send
 * @property {HTMLElement} foot under the place to type
 */

/**
 * @typedef {object} Part
 * @property {(state: any, whole: ChatState) => void} [show] this part's state, and the chat's
 * @property {(content: any, buffers: DataView[]) => void} [takeMessage] a message of Python whose
 *   kind begins with this part's name and "-"
 * @property {(view: MessageView) => HTMLElement[]} [buttonsFor] buttons under a message; the same
 *   elements again for the same message keep their focus
 * @property {(view: MessageView) => HTMLElement | null} [bodyFor] shown between a message's text and
 *   its buttons; the same element again for the same message
 * @property {(view: MessageView) => HTMLElement[]} [buttonsForError] ways out, under an error
 * @property {(id: string) => void} [forget] a message is not on screen any more
 * @property {(text: string) => boolean | Promise<boolean>} [beforeSend] false: not now; the part has
 *   said why
 * @property {() => object} [forSending] what goes to Python with the message
 * @property {() => void} [afterSend]
 * @property {(content: any) => void} [restore] it could not be sent: give back what the person made
 */

export {};
