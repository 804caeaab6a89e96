// What is wrong with a screen: see screen_check.py, which runs this in the page.
(rootSelector) => {
  const faults = [];
  const roots = [...document.querySelectorAll(rootSelector)];
  if (!roots.length) return [`${rootSelector} is not there`];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth + 1) faults.push(`the page scrolls sideways: ${page.scrollWidth} > ${page.clientWidth}`);

  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const color = rgba(getComputedStyle(one).backgroundColor);
      layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => {
    const [hi, lo] = [light(a), light(b)].sort((x, y) => y - x);
    return (hi + 0.05) / (lo + 0.05);
  };
  const faint = (element) => {
    for (let one = element; one; one = one.parentElement) {
      if (Number(getComputedStyle(one).opacity) < 1 || one.inert || one.disabled) return true;
    }
    return false;
  };
  const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: false });
  const named = (element, text) => `${element.tagName.toLowerCase()}.${element.className?.baseVal ?? element.className} "${text.trim().slice(0, 40)}"`;
  const scrolls = (element) => {
    for (let one = element.parentElement; one; one = one.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(one).overflowX) && one.scrollWidth > one.clientWidth) return true;
    }
    return false;
  };

  for (const root of roots) {
    const edge = root.getBoundingClientRect();
    for (const element of root.querySelectorAll("*")) {
      if (!seen(element) || element.closest(".gw-live, svg, option")) continue;
      const own = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim()).map((node) => node.data).join(" ");
      const style = getComputedStyle(element);
      const isControl = element.matches("button, input, select, summary, a");
      if (!own && !isControl) continue;
      const box = element.getBoundingClientRect();
      if (box.width === 0 || box.height === 0) {
        if (!element.matches("input[type=file]")) faults.push(`has no size: ${named(element, own)}`);
        continue;
      }
      if ((box.right > edge.right + 1 || box.left < edge.left - 1) && !scrolls(element)) faults.push(`sticks out: ${named(element, own)}`);
      if (isControl && !element.matches("input, select") && element.scrollWidth > element.clientWidth + 1) faults.push(`its text is cut: ${named(element, own)}`);
      // A text that is cut on purpose ends in "…" and has the whole in its tooltip, or its row's.
      if (own && style.overflowX === "hidden" && element.scrollWidth > element.clientWidth + 1 && !element.closest("[title]")) faults.push(`cut, with no tooltip: ${named(element, own)}`);
      if (element.matches("button, a, summary, input:not([type=hidden]), select")) {
        const says = element.getAttribute("aria-label") || element.textContent.trim() || element.title || element.labels?.length || element.placeholder;
        if (!says && !element.matches("[aria-hidden=true]")) faults.push(`nothing names it: ${named(element, own)}`);
      }
      if (own && !faint(element)) {
        const back = behind(element);
        const found = ratio(over(rgba(style.color), back), back);
        if (found < 4.5) faults.push(`contrast ${found.toFixed(2)}: ${named(element, own)}`);
      }
    }
  }
  return faults;
}
