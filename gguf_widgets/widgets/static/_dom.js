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
  closer: "M9 3.500a5.500 5.500 0 1 0 0 11a5.500 5.500 0 1 0 0-11M13 13l3.500 3.500M6.500 9h5M9 6.500v5",
  wider: "M9 3.500a5.500 5.500 0 1 0 0 11a5.500 5.500 0 1 0 0-11M13 13l3.500 3.500M6.500 9h5",
  search: "M9 3.500a5.500 5.500 0 1 0 0 11a5.500 5.500 0 1 0 0-11M13 13l3.500 3.500",
  file: "M5.500 3.500h6l3 3v10h-9zM11.500 3.500v3h3",
  table: "M3.500 4.500h13v11h-13zM3.500 8.500h13M8 8.500v7",
  bin: "M4.500 6h11M8 6V4h4v2M6 6l.7 10h6.600l.7-10M8.700 9v4.500M11.300 9v4.500",
  undo: "M7.500 5L4 8.500 7.500 12M4.500 8.500h7a4 4 0 0 1 0 8H9",
  sliders: "M4 6h7M15 6h1M4 14h1M9 14h7M13 4v4M7 12v4",
  edit: "M4 16l.8-3.600L13.500 3.700l2.800 2.800L7.600 15.200zM11.700 5.500l2.800 2.800",
  look: "M2.500 10c2-3.300 4.500-5 7.500-5s5.500 1.700 7.500 5c-2 3.300-4.500 5-7.500 5s-5.500-1.700-7.500-5zM10 7.700a2.300 2.300 0 1 0 0 4.600a2.300 2.300 0 1 0 0-4.600",
  tool: "M13.800 3.700a3.800 3.800 0 0 0-4.400 5l-5.600 5.600a1.700 1.700 0 0 0 2.400 2.400l5.600-5.600a3.800 3.800 0 0 0 5-4.400l-2.500 2.500-2.400-.6-.6-2.400z",
  list: "M4 5.500h12M4 10h12M4 14.500h7",
  more: "M4.500 10h.1M10 10h.1M15.500 10h.1",
  pin: "M7 3.500h6M8 3.500v5L5.500 11v1.500h9V11L12 8.500v-5M10 12.500v4.500",
  folder: "M3 15.500v-10h4.500l2 2H17v8z",
  clip: "M13.500 6.500l-6 6a1.500 1.500 0 0 0 2 2l6-6a3 3 0 0 0-4.500-4.500l-6 6a4.500 4.500 0 0 0 6.500 6.500l4.500-4.500",
  blanks: "M4 5h12M4 15h12M4 10h2M8.500 8h7.500v4H8.500z",
  begin: "M4 4v12M7.500 10H16M12.500 6.500L16 10l-3.500 3.500",
  image: "M3.500 4.500h13v11h-13zM3.500 13l4-4 3.500 3.500 2.500-2.500 3 3M12.500 7.500v.1",
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
