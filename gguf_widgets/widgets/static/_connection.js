// @ts-check
/**
 * The line to Python: what a widget's model offers, and whether anybody answers.
 *
 * Promises: silence is noticed within seconds while the page is seen, and never held against a page
 * that was hidden; the timer and the listener end with the view.
 */

/**
 * @typedef {{
 *   get(name: string): any,
 *   on(name: string, callback: (...args: any[]) => void): void,
 *   off(name: string, callback: (...args: any[]) => void): void,
 *   send(content: object): void,
 *   widget_manager?: {
 *     kernel?: {status?: string, connectionStatus?: string},
 *     get_model?(id: string): Promise<any>,
 *   },
 * }} WidgetModel
 */

const PING_EVERY_MS = 3000;
const SILENCE_MS = 6000;

/** @returns {string} */
export const newMid = () => Math.random().toString(36).slice(2);

/**
 * Hear Python although anywidget has given up: 0.11 drops every later message to a widget whose
 * code took more than two seconds to load, as it may on a busy machine or a slow one. Where its
 * handler is not what is expected here, nothing is changed.
 * @param {WidgetModel} model
 */
async function hearAnyway(model) {
  const own = await model.widget_manager?.get_model?.(model.get("own_id"));
  const handle = own && Object.getPrototypeOf(Object.getPrototypeOf(own))?._handle_comm_msg;
  if (own?.comm && typeof handle === "function") own.comm.on_msg((/** @type {any} */ message) => handle.call(own, message));
}

/** Sends pings while the page is seen, and says when no answer comes. */
export class Heartbeat {
  /**
   * @param {WidgetModel} model
   * @param {(state: "there" | "busy" | "gone") => void} report
   * @param {() => void} ask ask for the first snapshot once more
   * @param {AbortSignal} signal
   */
  constructor(model, report, ask, signal) {
    this.model = model;
    this.report = report;
    this.ask = ask;
    this.waitingSince = 0;
    this.everHeard = false;
    const timer = setInterval(() => this.beat(), PING_EVERY_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    const seen = () => {
      this.waitingSince = 0; // a hidden page's timers sleep: silence then means nothing
      this.beat();
    };
    document.addEventListener("visibilitychange", seen, { signal });
  }

  beat() {
    if (document.hidden) return;
    if (!this.everHeard && this.waitingSince) void hearAnyway(this.model).then(this.ask);
    const kernel = this.model.widget_manager?.kernel;
    const silent = this.waitingSince > 0 && performance.now() - this.waitingSince > SILENCE_MS;
    const busy = kernel?.connectionStatus === "connected" && kernel.status === "busy";
    if (kernel?.status === "dead" || (silent && !busy)) this.report("gone");
    else if (silent) this.report("busy");
    this.waitingSince ||= performance.now();
    try {
      this.model.send({ kind: "ping", mid: newMid() });
    } catch {
      this.report("gone"); // the comm is closed
    }
  }

  /** A message came. */
  heard() {
    this.everHeard = true;
    this.waitingSince = 0;
    this.report("there");
  }
}
