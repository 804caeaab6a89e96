// @ts-check
/**
 * Numbers and times of the live charts, as people read them.
 *
 * Promises: the same number reads the same here and in what Python writes (`core/format.py`); times
 * are the person's own.
 */

/** @typedef {{by: number, unit: string}} LiveScale */

/** What a number is divided by, so that an axis reads in the unit people use. @type {Record<string, LiveScale[]>} */
const LIVE_SCALES = {
  bytes: [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "KB"], [1, "bytes"]].map(([by, unit]) => ({ by: Number(by), unit: String(unit) })),
  "bytes/s": [[1e9, "GB/s"], [1e6, "MB/s"], [1e3, "KB/s"], [1, "bytes/s"]].map(([by, unit]) => ({ by: Number(by), unit: String(unit) })),
  s: [{ by: 1, unit: "s" }, { by: 1e-3, unit: "ms" }],
  percent: [{ by: 1, unit: "%" }],
  count: [{ by: 1, unit: "" }],
};

/** @param {string} unit @param {number} most the highest number there is @returns {LiveScale} */
export function liveScale(unit, most) {
  const choices = LIVE_SCALES[unit] ?? [{ by: 1, unit }];
  return choices.find(({ by }) => most >= by) ?? choices[choices.length - 1];
}

/** @param {number} value @returns {string} two or three digits that mean something */
const digits = (value) => value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 9.95 ? 1 : 0 });

/** @param {number} seconds @returns {string} */
export function liveDuration(seconds) {
  if (!(seconds >= 0)) return "unknown";
  if (seconds < 0.9995) return seconds ? `${(seconds * 1000).toFixed(0)} ms` : "0 s";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [size, unit, part, partUnit] of /** @type {[number, string, number, string][]} */ ([[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]])) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / part);
    return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${partUnit}` : ""}`;
  }
  return `${whole} s`;
}

/** @param {string} unit @param {number} value @returns {string} a number with its unit */
export function liveNumber(unit, value) {
  if (!Number.isFinite(value)) return "unknown";
  if (unit === "s") return liveDuration(value);
  if (unit === "percent") return `${Math.round(value)}%`;
  if (unit === "count") return Math.round(value).toLocaleString("en");
  if (unit.startsWith("bytes")) {
    if (Math.abs(value) < 1) return unit === "bytes" ? "none" : "nothing";
    const { by, unit: name } = liveScale(unit, Math.abs(value));
    const scaled = value / by;
    return `${scaled.toLocaleString("en", { maximumFractionDigits: scaled < 99.95 && by > 1 ? 1 : 0 })} ${name}`;
  }
  if (unit === "tokens") return `${Math.round(value).toLocaleString("en")} tokens`;
  return `${digits(value)} ${unit}`;
}

/** @param {number} at seconds since 1970 @returns {Date} */
const dateOf = (at) => new Date(at * 1000);

/** @param {number} at @returns {string} such as 14:02 */
export const liveClock = (at) => dateOf(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

/** @param {number} at @returns {string} such as today, yesterday, 3 November */
export function liveDay(at) {
  const date = dateOf(at);
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const days = Math.ceil((midnight.getTime() - date.getTime()) / 86_400_000);
  if (days <= 0) return "today";
  if (days === 1) return "yesterday";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "long", ...(date.getFullYear() === midnight.getFullYear() ? {} : { year: "numeric" }) });
}

/** @param {number} from @param {number} to @returns {string} such as yesterday, 14:02 to 15:10 */
export function liveSpan(from, to) {
  const [day, last] = [liveDay(from), liveDay(to)];
  return day === last ? `${day}, ${liveClock(from)} to ${liveClock(to)}` : `${day}, ${liveClock(from)} to ${last}, ${liveClock(to)}`;
}

/**
 * plotly.js shows a time as it is in London: the person's own is handed over as if it were that.
 * @param {number} at seconds since 1970 @returns {number} by how many milliseconds it is moved
 */
export const liveShift = (at) => -dateOf(at).getTimezoneOffset() * 60_000;
