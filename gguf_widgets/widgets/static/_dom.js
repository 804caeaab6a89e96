// @ts-check
/**
 * Elements and icons, for every widget.
 *
 * Promises: text is set as text, never read as HTML; an icon takes the colour around it.
 */

const SVG = "http://www.w3.org/2000/svg";
/** Strokes on a 20 x 20 grid. @type {Record<string, string>} */
const ICONS = {
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  fresh: "M9 4H5.5A1.5 1.5 0 0 0 4 5.500v9A1.5 1.5 0 0 0 5.500 16h9a1.5 1.5 0 0 0 1.500-1.500V11M8 12l.5-2.500L15 3l2 2-6.500 6.500z",
  copy: "M7.500 7.500h8v8h-8zM12.500 7.500v-3h-8v8h3",
  again: "M15.500 8A6 6 0 1 0 16 10.500M16 4.500V8h-3.500",
  done: "M4.500 10.500l3.500 3.500 7.500-8",
  down: "M10 4v12M5 11l5 5 5-5",
  warn: "M10 3.500l7.500 13h-15zM10 8.500v3.500M10 14.200v.1",
  refresh: "M15.500 8A6 6 0 1 0 16 10.500M16 4.500V8h-3.500",
  open: "M8 5.500l4.500 4.500L8 14.500",
  panel: "M4 4.500h12v11H4zM8 4.500v11",
  info: "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14M10 9v4.500M10 6.400v.1",
  close: "M5.500 5.500l9 9M14.500 5.500l-9 9",
  upload: "M10 13V4M6 8l4-4 4 4M4 12.500v3h12v-3",
  pause: "M7.500 5v10M12.500 5v10",
  play: "M7 5l8 5-8 5z",
  search: "M9 3.500a5.500 5.500 0 1 0 0 11a5.500 5.500 0 1 0 0-11M13 13l3.500 3.500",
  file: "M5.500 3.500h6l3 3v10h-9zM11.500 3.500v3h3",
  table: "M3.500 4.500h13v11h-13zM3.500 8.500h13M8 8.500v7",
  bin: "M4.500 6h11M8 6V4h4v2M6 6l.7 10h6.600l.7-10M8.700 9v4.500M11.300 9v4.500",
  folder: "M3 15.500v-10h4.500l2 2H17v8z",
};

/**
 * Make an element. Attributes that are null or false are left out; `text` sets its text.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean | null>} [attributes]
 * @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name === "text") element.textContent = String(value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/**
 * Give an element these children. One that was there already is not taken out and put back, which
 * would take its focus away.
 * @param {Element} element @param {Node[]} children
 */
export function setChildren(element, children) {
  for (const old of [...element.childNodes]) if (!children.includes(old)) old.remove();
  children.forEach((child, i) => {
    if (element.childNodes[i] !== child) element.insertBefore(child, element.childNodes[i] ?? null);
  });
}

/** @param {string} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", `gw-icon gw-icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name] ?? "");
  svg.append(path);
  return svg;
}

/**
 * @param {string} name the icon
 * @param {string} label for the tooltip and for screen readers
 * @param {Record<string, string | boolean | null>} [attributes]
 */
export function iconButton(name, label, attributes = {}) {
  return h("button", { type: "button", title: label, "aria-label": label, ...attributes }, [icon(name)]);
}

/**
 * An icon button without a frame.
 * @param {string} name the icon
 * @param {string} label for the tooltip and for screen readers
 * @param {Record<string, string | boolean | null>} [attributes]
 */
export function ghostButton(name, label, attributes = {}) {
  return iconButton(name, label, { class: "gw-ghost", ...attributes });
}
