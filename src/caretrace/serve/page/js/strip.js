// Live strips: one uPlot per signal, with its normal band, alarms, gaps and threshold drawn in.

import { colour } from "./theme.js";
import { clock, number } from "./words.js";

const { uPlot } = globalThis;
const HEIGHT = 108;
const DIGITS = { temp: 1 };
const utc = { hour: "2-digit", minute: "2-digit", timeZone: "UTC", hour12: false };
const format = new Intl.DateTimeFormat("en-GB", utc);

/** @param {{name: string, label: string, lines: {name: string, colour: string, dash?: number[]}[],
 *   normal?: number[], limits?: {value: number, colour: string}[], marks: () => {start: number, end: number}[],
 *   range?: number[]}} signal */
export class Strip {
  constructor(container, signal, sync) {
    this.container = container;
    this.signal = signal;
    this.sync = sync;
    this.data = [[], ...signal.lines.map(() => [])];
    this.draw();
    this.watcher = new ResizeObserver(() => this.plot.setSize({ width: this.width(), height: HEIGHT }));
    this.watcher.observe(container);
  }

  width() {
    return Math.max(160, this.container.clientWidth);
  }

  /** Made anew when the theme changes: canvas knows no CSS. */
  draw() {
    this.plot?.destroy();
    this.plot = new uPlot(this.options(), this.data, this.container);
  }

  set(times, ...columns) {
    this.data = [times, ...columns];
    this.plot.setData(this.data);
  }

  destroy() {
    this.watcher.disconnect();
    this.plot.destroy();
  }

  options() {
    const { signal } = this;
    const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return {
      width: this.width(), height: HEIGHT, legend: { show: false }, padding: [6, 20, 0, 0],
      cursor: { sync: { key: this.sync }, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_, low, high) => this.span(low, high) } },
      axes: [
        { ...axis, size: 24, values: (_, ticks) => ticks.map((t) => format.format(t * 1000)) },
        { ...axis, size: 44, space: 26, values: (_, ticks) => ticks.map((t) => number(t, ticks.some((each) => each % 1) ? 1 : 0)) },
      ],
      series: [{}, ...signal.lines.map((line) => ({
        label: line.name, stroke: colour(line.colour), width: 1.6, dash: line.dash, spanGaps: false, points: { show: false },
      }))],
      hooks: { drawClear: [(plot) => this.ground(plot)] },
    };
  }

  span(low, high) {
    const { normal, limits = [], range } = this.signal;
    const all = [low, high, ...(normal ?? []), ...limits.map((each) => each.value), ...(range ?? [])].filter(Number.isFinite);
    if (!all.length) return [0, 1];
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const room = (most - least || 1) * 0.08;
    return [least - room, most + room];
  }

  /** What lies behind the line: the normal band, alarms, and hatching where nothing was measured. */
  ground(plot) {
    const { ctx, bbox } = plot;
    const { normal, limits = [], marks } = this.signal;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    if (normal) {
      const [low, high] = normal.map((value) => plot.valToPos(value, "y", true));
      ctx.fillStyle = colour("normal");
      ctx.fillRect(bbox.left, high, bbox.width, low - high);
    }
    for (const mark of marks()) this.band(plot, mark.start, mark.end ?? plot.scales.x.max, colour("struck"), colour("s1"));
    for (const [start, end] of gaps(this.data)) this.hatch(plot, start, end);
    for (const limit of limits) {
      const y = plot.valToPos(limit.value, "y", true);
      ctx.strokeStyle = colour(limit.colour);
      ctx.setLineDash([7, 5]);
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.restore();
  }

  band(plot, start, end, fill, edge) {
    const { ctx, bbox } = plot;
    const [left, right] = [start, end].map((t) => plot.valToPos(t, "x", true));
    ctx.fillStyle = fill;
    ctx.fillRect(left, bbox.top, Math.max(3, right - left), bbox.height);
    ctx.fillStyle = edge;
    ctx.fillRect(left, bbox.top, 2 * devicePixelRatio, bbox.height);
  }

  hatch(plot, start, end) {
    const { ctx, bbox } = plot;
    const [left, right] = [start, end].map((t) => plot.valToPos(t, "x", true));
    if (right - left < 3) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, right - left, bbox.height);
    ctx.clip();
    ctx.fillStyle = colour("gap");
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.strokeStyle = colour("edge");
    ctx.lineWidth = devicePixelRatio;
    for (let x = left - bbox.height; x < right; x += 9 * devicePixelRatio) {
      ctx.beginPath();
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
      ctx.stroke();
    }
    ctx.restore();
  }
}

/** Where the first line had no value for longer than its usual steps: [start, end] in seconds. */
function gaps([times, values]) {
  const longest = 2.5 * stepOf(times);
  const found = [];
  let last = null;
  for (let i = 0; i < times.length; i += 1) {
    if (values[i] === null || values[i] === undefined) continue;
    if (last !== null && times[i] - last > longest) found.push([last, times[i]]);
    last = times[i];
  }
  if (last !== null && times.at(-1) - last > longest) found.push([last, times.at(-1)]);
  return found;
}

/** The usual time between two steps, seconds. */
export function stepOf(times) {
  const apart = times.slice(-200).map((time, i, all) => time - all[i - 1]).slice(1).sort((a, b) => a - b);
  return apart.length ? apart[apart.length >> 1] : 1;
}

/** The newest value of a line, and when it was. */
export function newest(times, values) {
  for (let i = times.length - 1; i >= 0; i -= 1) {
    if (values[i] !== null && values[i] !== undefined) return { value: values[i], time: times[i] };
  }
  return null;
}

export const shown = (name, value) => number(value, DIGITS[name] ?? 0);
export { clock };
