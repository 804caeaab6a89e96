// @ts-check
/**
 * What is said of an upload: sizes, times, titles, and what can be done after a refusal.
 *
 * Promises: the same number reads as in Python (`core.format`); nothing here touches the page.
 */

/**
 * @typedef {{
 *   id: string, name: string, given_name: string, told: string, size: number, offset: number,
 *   send_from: number, writer?: string, state: string, place: number, bytes_per_s: number | null,
 *   seconds_left: number | null, num_hashed_bytes: number, path: string, sha256: string,
 *   notes: string[], error: WireRefusal | null,
 * }} Upload
 * @typedef {{kind: string, message: string, details: Record<string, any>}} WireRefusal
 * @typedef {{label: string, action: "go-on" | "take-over" | "save-as" | "again" | "choose", saveAs?: string}} Way
 */

const SPACE = "\u00a0"; // a figure and its unit stay on one line
const UNITS = ["KB", "MB", "GB", "TB", "PB"];

/** @param {number} value @returns {[string, string]} the figure and its unit */
function figure(value) {
  if (value < 1000) return [String(Math.round(value)), value === 1 ? "byte" : "bytes"];
  let scaled = value;
  for (const unit of UNITS) {
    scaled /= 1000;
    if (scaled < 999.5 || unit === "PB") {
      const text = scaled < 99.95 ? scaled.toFixed(1) : scaled.toFixed(0);
      return [text.replace(/\.0$/, ""), unit];
    }
  }
  return ["", ""];
}

/** @param {number} numBytes */
export const sizeText = (numBytes) => figure(numBytes).join(SPACE);

/** "1.2 of 4.2 GB", or "850 MB of 4.2 GB". @param {number} part @param {number} whole */
export function partText(part, whole) {
  const [figures, unit] = figure(part);
  return unit === figure(whole)[1] ? `${figures} of ${sizeText(whole)}` : `${sizeText(part)} of ${sizeText(whole)}`;
}

/** @param {number} seconds */
function timeText(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))}${SPACE}s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)}${SPACE}min`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  const days = Math.floor(minutes / (24 * 60));
  return days === 1 ? "1 day" : `${days} days`;
}

/** @param {number | null} seconds */
export const leftText = (seconds) => (seconds === null ? "" : `about ${timeText(seconds)} left`);

/** @param {number} seconds */
export const ageText = (seconds) => (seconds < 60 ? "a moment ago" : `${timeText(seconds)} ago`);

/** @type {Record<string, string>} */
const TITLES = {
  name: "This name cannot be used",
  size: "This file cannot be uploaded",
  space: "Not enough room on the disk",
  quota: "The models folder is full",
  too_many: "Too many uploads are unfinished",
  exists: "The name is taken",
  in_use: "Another page is uploading this file",
  taken_over: "Another page has taken over",
  changed: "This is not the same file any more",
  wrong_hash: "The file did not arrive as it was sent",
  unknown: "This upload is not known any more",
  damaged: "What had arrived cannot be used",
  folder: "The models folder cannot be used",
  disk: "The disk failed",
  unreadable: "The file cannot be read any more",
};

/** Whether the file itself is no use, so that nothing can be done. @param {WireRefusal} refusal */
export const isFinal = (refusal) =>
  refusal.kind !== "UploadError" || ["name", "size", "head"].includes(refusal.details.problem);

/** @param {WireRefusal} refusal */
export function titleOf(refusal) {
  if (refusal.kind !== "UploadError") return "Refused: this file cannot be used";
  return TITLES[refusal.details.problem] ?? "The upload stopped";
}

/** What can be done about a refusal. @param {WireRefusal} refusal @returns {Way[]} */
export function waysOut(refusal) {
  if (isFinal(refusal)) return [];
  const { problem, suggestion } = refusal.details;
  switch (problem) {
    case "exists":
      return typeof suggestion === "string" ? [{ label: `Save as “${suggestion}”`, action: "save-as", saveAs: suggestion }] : [];
    case "in_use":
      return [{ label: "Take over", action: "take-over" }];
    case "taken_over":
      return [{ label: "Go on here", action: "take-over" }];
    case "unreadable":
      return [{ label: "Choose the file again", action: "choose" }];
    case "changed":
    case "damaged":
      return [{ label: "Begin again", action: "again" }];
    case "space":
    case "quota":
    case "disk":
      return [{ label: "Go on", action: "go-on" }];
    default:
      return [{ label: "Try again", action: "go-on" }];
  }
}
