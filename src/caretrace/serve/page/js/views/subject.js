// One subject: the risk along the stay, and what each measurement contributed, beside its raw value.

import { get } from "../api.js";
import { axis, banded, chart, tooltip } from "../chart.js";
import { fill, h, table } from "../dom.js";
import { colour } from "../theme.js";
import { clock, known, number, percent, risk } from "../words.js";

export async function open(main, { rest, query }) {
  const [subject] = rest;
  const app = query.get("app") ?? "mortality";
  const told = await get(`subjects/${encodeURIComponent(subject)}/timeline?app=${encodeURIComponent(app)}`);
  const plot = h("div", { class: "chart" });
  const course = told.trajectory ?? [];
  fill(main,
    h("div", { class: "head" }, h("h1", {}, `Subject ${subject}`), h("a", { href: `#/subjects?app=${app}` }, "All subjects")),
    h("p", { class: "facts" }, facts(told)),
    h("section", { class: "panel", "aria-labelledby": "risk-h" }, h("h2", { id: "risk-h" }, "The risk along the stay"),
      h("p", { class: "muted small" }, "Each point knows only what had been measured by then. The band is its interval."),
      course.length ? [plot, h("details", {}, h("summary", {}, "The same as a table"), risks(course))] : h("p", { class: "missing" }, "No trajectory was kept for this subject.")),
    h("section", { class: "panel", "aria-labelledby": "events-h" }, h("h2", { id: "events-h" }, "What the record says, and what it contributed"),
      certificate(told), events(told)));
  if (!course.length) return null;
  return chart(plot, `Risk of subject ${subject} over ${course.length} moments; the table below says the same`, () => option(course));
}

/** The words of the certificate stand over every attribution: a method that failed may be drawn, but not believed. */
function certificate({ certified, method, heading, judged_on: judged, limits, events: all }) {
  if (!all?.some((each) => known(each.contribution))) {
    return h("p", { class: "box warn" }, h("strong", {}, "△ No attribution is shown. "), "Values alone, as they were recorded.");
  }
  const said = certified
    ? `The method (${method}) found planted causes on simulated truth; its certificate travels with the bundle.`
    : `The method (${method}) has not passed the tests on planted truth for this configuration. The figures are exact, their reading as reasons is not.`;
  return [
    h("p", { class: `box ${certified ? "good" : "bad"}` }, h("strong", {}, certified ? "✓ Certified. " : "▲ Not importance. "), heading ? `${heading}. ` : "", said, judged ? ` It was ${judged}.` : ""),
    limits?.length ? h("details", {}, h("summary", {}, "What it may not be used for"), h("ul", {}, [limits].flat().map((each) => h("li", {}, each)))) : null,
  ];
}

const STRONGEST = 20;
const COLUMNS = [["Measurement", false], ["Value", true], ["When (UTC)", false], ["Lowers · raises", false], ["Contribution", true]];

function events({ events: all = [] }) {
  const most = Math.max(1e-9, ...all.map((each) => Math.abs(each.contribution ?? 0)));
  const row = (each) => [
    [each.words ?? each.code, h("span", { class: "sub" }, h("code", {}, each.code))],
    each.shown || (known(each.value) ? `${Number(each.value.toPrecision(4))} ${each.unit ?? ""}` : each.value ?? "–"),
    clock(each.time, true),
    [push(each.contribution, most)],
    known(each.contribution) ? `${each.contribution > 0 ? "▲ +" : "▼ −"}${number(Math.abs(each.contribution), 2)}` : "–",
  ];
  const weight = (each) => Math.abs(each.contribution ?? 0);
  const strongest = [...all].sort((a, b) => weight(b) - weight(a)).slice(0, STRONGEST);
  const told = "▲ raises the risk, ▼ lowers it (differences of the score before calibration)";
  if (all.length <= STRONGEST) return table(`${all.length} measurements; ${told}`, COLUMNS, strongest.map(row));
  return [
    table(`The ${STRONGEST} of ${all.length} measurements that contribute most; ${told}`, COLUMNS, strongest.map(row)),
    h("details", {}, h("summary", {}, `All ${all.length} in order of time`), table("All measurements", COLUMNS, all.map(row))),
  ];
}

function push(value, most) {
  const bar = h("span", {});
  const share = known(value) ? Math.abs(value) / most : 0;
  bar.className = value > 0 ? "up" : "down";
  bar.style.setProperty("width", `${100 * share}%`);
  return h("span", { class: "push", "aria-hidden": "true" }, bar);
}

const risks = (course) => table("Risk, moment by moment", [["When (UTC)", false], ["Risk", true], ["Interval", true]],
  course.map((each) => [clock(each.time, true), percent(each.risk, 1), known(each.low) ? `${percent(each.low, 1)} to ${percent(each.high, 1)}` : "–"]));

/** When was predicted what, and what does not change. */
function facts(told) {
  const fixed = (told.static ?? []).map((each) => (typeof each === "string" ? each : each.value ? `${each.name ?? each.words ?? each.code} ${each.value}` : null));
  const predicted = told.prediction_time ? [`predicted at ${clock(told.prediction_time, true)} UTC`, `risk ${risk({ ...told, value: told.risk }, 1)}`] : [];
  return [...predicted, ...fixed].filter(Boolean).join(" · ");
}

function option(course) {
  const part = (key) => (each) => each[key] ?? each.risk;
  return {
    grid: { left: 52, right: 16, top: 12, bottom: 30 }, useUTC: true,
    tooltip: tooltip({ valueFormatter: (v) => percent(Array.isArray(v) ? v[1] : v, 1) }),
    xAxis: axis({ type: "time", splitLine: { show: false }, axisLabel: { hideOverlap: true } }),
    yAxis: axis({ type: "value", min: 0, axisLabel: { formatter: (v) => `${Math.round(100 * v)} %` } }),
    series: banded("Risk", course, { low: part("low"), high: part("high"), value: part("risk"), ink: "s0", x: (each) => Date.parse(each.time) }),
    aria: { enabled: false }, color: [colour("s0")],
  };
}
