// The emergency board: how likely a crisis is, how sure the forecast, and what drives it. Of sites, never of people.

import { get, Refused } from "../api.js";
import { axis, chart, tooltip } from "../chart.js";
import { fill, h, table } from "../dom.js";
import { colour } from "../theme.js";
import { clock, known, number, percent } from "../words.js";
import { interval, placed } from "./ward.js";

const LEVELS = [[0.5, "bad", "▲ likely"], [0.2, "warn", "△ possible"], [0, "good", "○ unlikely"]];

export async function open(main) {
  fill(main, h("h1", {}, "Emergency board"), h("p", { class: "loading", role: "status" },
    "Computing the forecasts … The first time the service reads the whole dataset, which takes some seconds for a year of a city."));
  const { hospitals, why } = await get("board").catch(absent);
  fill(main, h("h1", {}, "Emergency board"),
    h("p", { class: "facts" }, "Chance of a crisis in each emergency department, as the model forecasts it. It speaks of organisations; nobody is ranked by it."));
  if (!hospitals.length) {
    main.append(h("p", { class: "missing" }, why ?? "No hospital is known to this run."));
    return null;
  }
  main.append(summary(hospitals));
  const ends = [];
  for (const site of hospitals) {
    const plot = h("div", { class: "chart" });
    main.append(panel(site, plot));
    if (site.hours?.length) ends.push(await chart(plot, label(site), () => option(site)));
  }
  return () => { for (const end of ends) end(); };
}

/** Where no run of safety is served there is no board, and the service says so. */
function absent(error) {
  if (error instanceof Refused && error.status === 404) return { hospitals: [], why: error.message };
  throw error;
}

function summary(hospitals) {
  const horizons = hospitals[0].horizons.map((each) => each.hours);
  const cell = (site, hours) => {
    const found = site.horizons.find((each) => each.hours === hours);
    return found ? told(found) : "–";
  };
  return h("section", { class: "panel", "aria-label": "All departments" }, table(
    "Every department: chance of a crisis, with its 95 % interval",
    [["Department", false], ["Crowding (NEDOCS)", true], ...horizons.map((hours) => [ahead(hours), true]), ["Ambulance there in (median)", true]],
    hospitals.map((site) => [name(site), crowding(site),
      ...horizons.map((hours) => cell(site, hours)), minutes(site.response_minutes?.p50)])));
}

function panel(site, plot) {
  return h("section", { class: "panel", "aria-labelledby": `site-${site.site}` },
    h("div", { class: "head" }, h("h2", { id: `site-${site.site}` }, name(site)), h("span", { class: "muted small" }, `as of ${clock(site.time, true)} UTC`)),
    h("div", { class: "board" },
      h("div", {}, h("h3", {}, "Chance of a crisis"), h("ul", { class: "horizons" }, site.horizons.map(horizon)),
        h("dl", { class: "figures" },
          figure("Crowding (NEDOCS)", crowding(site), ""),
          figure("Ambulance there in", minutes(site.response_minutes?.p50), known(site.response_minutes?.p80) ? `8 in 10 within ${minutes(site.response_minutes.p80)}` : "no calls to tell from"))),
      h("div", {}, h("h3", {}, "What drives it"), drivers(site.drivers)),
      h("div", {}, h("h3", {}, "The last hours, and the chance foreseen"),
        site.hours?.length ? plot : h("p", { class: "missing" }, "No course is known."),
        site.hours?.length ? h("details", {}, h("summary", {}, "The same as a table"), course(site)) : null)));
}

function horizon(each) {
  const [, tone, word] = LEVELS.find(([least]) => each.probability >= least) ?? LEVELS[2];
  return h("li", {}, h("span", { class: "muted" }, ahead(each.hours)), h("strong", {}, percent(each.probability)),
    h("span", { class: `level ${tone}` }, word),
    placed(interval(), { ...each, value: each.probability }),
    h("span", { class: "muted small" }, known(each.low) ? `95 % interval ${percent(each.low)} to ${percent(each.high)}` : "no interval"));
}

function drivers(found = []) {
  if (!found.length) return h("p", { class: "muted" }, "None is certified for this run.");
  return h("ul", { class: "drivers" }, found.map((each) => {
    const up = ["up", "raises"].includes(each.direction);
    return h("li", {}, h("span", { class: up ? "bad" : "good" }, up ? "▲ raises" : "▼ lowers"), " ", each.words,
      known(each.effect) ? h("span", { class: "effect muted" }, ` (${each.effect > 0 ? "+" : "−"}${number(100 * Math.abs(each.effect), 1)} points in 8 h)`) : null);
  }));
}

function course(site) {
  return table("Hour by hour", [["Hour (UTC)", false], ["NEDOCS", true], ["Chance of a crisis", true]],
    site.hours.map((each) => [clock(each.time, true), number(each.nedocs), percent(each.probability)]));
}

function option(site) {
  const ink = colour("muted");
  const at = (each) => Date.parse(each.time);
  return {
    grid: { left: 48, right: 52, top: 34, bottom: 28 }, useUTC: true, tooltip: tooltip(),
    legend: { data: ["NEDOCS", "Chance of a crisis"], textStyle: { color: colour("ink") }, top: 0 },
    xAxis: axis({ type: "time", splitLine: { show: false }, axisLabel: { hideOverlap: true } }),
    yAxis: [axis({ type: "value", min: 0, name: "" }), axis({ type: "value", min: 0, max: 1, splitLine: { show: false }, axisLabel: { formatter: (v) => `${Math.round(100 * v)} %` } })],
    series: [
      { name: "NEDOCS", type: "line", symbol: "none", lineStyle: { color: colour("s0"), width: 2 }, itemStyle: { color: colour("s0") }, data: site.hours.map((each) => [at(each), each.nedocs]),
        markLine: { silent: true, symbol: "none", lineStyle: { color: ink, type: "dotted" }, label: { color: ink, formatter: "overcrowded", position: "insideStartTop" }, data: [{ yAxis: 101 }] } },
      { name: "Chance of a crisis", type: "line", symbol: "none", yAxisIndex: 1, lineStyle: { color: colour("s1"), width: 2, type: "dashed" }, itemStyle: { color: colour("s1") }, data: site.hours.map((each) => [at(each), each.probability]) },
    ],
  };
}

const name = (site) => (String(site.site).length < 4 ? `Department ${site.site}` : site.site);
const label = (site) => `${name(site)}: crowding and chance of a crisis over the last ${site.hours.length} hours; the table below says the same`;
const ahead = (hours) => (hours === 0 ? "now" : `in ${hours} h`);
const told = (each) => `${percent(each.probability)}${known(each.low) ? ` (${(100 * each.low).toFixed(0)}–${percent(each.high)})` : ""}`;
/** "118, overcrowded"; where this hour's is not written down yet, the last that is, with its hour. */
function crowding(site) {
  if (known(site.nedocs?.value)) return `${number(site.nedocs.value)}, ${site.nedocs.words}`;
  const last = (site.hours ?? []).findLast((each) => known(each.nedocs));
  return last ? `${number(last.nedocs)} at ${clock(last.time, true).slice(11)}` : "not known";
}

const minutes = (value) => (known(value) ? `${number(value, value < 10 ? 1 : 0)} min` : "–");
const figure = (what, value, about) => h("div", {}, h("dt", {}, what), h("dd", {}, h("strong", {}, value), " ", h("span", { class: "muted small" }, about)));
