// ECharts with the page's colours, loaded by the views that draw with it. A table always says the same.

import { colour, onTheme } from "./theme.js";

const FONT = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif"; // measured as it is drawn
let library = null;

/**
 * Draw a chart that follows its container's width and the theme.
 * @param {HTMLElement} container - Has a height.
 * @param {string} label - What a screen reader says of it.
 * @param {() => object} option - Made anew for each theme.
 * @returns {Promise<() => void>} How to remove it.
 */
export async function chart(container, label, option) {
  library ??= await import("../vendor/echarts/echarts.esm.min.js");
  container.setAttribute("role", "img");
  container.setAttribute("aria-label", label);
  const drawn = library.init(container, null, { renderer: "svg" });
  const draw = () => drawn.setOption({ animation: false, textStyle: { fontFamily: FONT, fontSize: 12 }, ...option() }, true);
  const watcher = new ResizeObserver(() => drawn.resize());
  const stop = onTheme(draw);
  draw();
  watcher.observe(container);
  return () => {
    stop();
    watcher.disconnect();
    drawn.dispose();
  };
}

/** An axis in the page's colours. */
export function axis(more = {}) {
  return {
    nameTextStyle: { color: colour("muted") },
    axisLabel: { color: colour("muted"), fontSize: 12, ...more.axisLabel },
    axisLine: { lineStyle: { color: colour("edge") } },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: colour("line") } },
    ...without(more, "axisLabel"),
  };
}

export function tooltip(more = {}) {
  return {
    trigger: "axis", renderMode: "richText", backgroundColor: colour("surface"), borderColor: colour("edge"),
    textStyle: { color: colour("ink"), fontSize: 13 }, ...more,
  };
}

/** A value with the band of its interval: two stacked invisible-based areas and a line. */
export function banded(name, rows, { low, high, value, ink, x }) {
  const band = colour(ink);
  const quiet = { type: "line", symbol: "none", silent: true, lineStyle: { opacity: 0 }, stack: `band ${name}`, tooltip: { show: false } };
  return [
    { ...quiet, name: "low", data: rows.map((row) => [x(row), low(row)]) },
    { ...quiet, name: "high", areaStyle: { color: band, opacity: 0.16 }, data: rows.map((row) => [x(row), high(row) - low(row)]) },
    { type: "line", name, symbol: rows.length > 60 ? "none" : "circle", symbolSize: 5, lineStyle: { color: band, width: 2 }, itemStyle: { color: band }, data: rows.map((row) => [x(row), value(row)]) },
  ];
}

function without(object, key) {
  const copy = { ...object };
  delete copy[key];
  return copy;
}
