// @ts-check
/**
 * A key pressed in a widget is the widget's: in JupyterLab, "x" on one of our buttons would cut the
 * cell.
 *
 * Promises: keys without Ctrl, Alt or Meta that are pressed inside `root` are not taken for commands
 * of the notebook; those with one still are, but where a field asks for all of them. Leaves to others:
 * what the keys do.
 */

/**
 * JupyterLab hears keys at the document before anything in it does, and lets go of those whose target
 * carries an attribute. The window hears them even before that.
 * @param {HTMLElement} root @param {AbortSignal} signal
 */
export function keepKeys(root, signal) {
  window.addEventListener(
    "keydown",
    (event) => {
      const { target } = event;
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (!(target instanceof HTMLElement) || !root.contains(target) || target.dataset.lmSuppressShortcuts) return;
      target.dataset.lmSuppressShortcuts = "true";
      setTimeout(() => delete target.dataset.lmSuppressShortcuts);
    },
    { capture: true, signal },
  );
}
