// Whom a run was judged on, the highest risk first; each leads to a timeline.

import { get, Refused } from "../api.js";
import { fill, h, table } from "../dom.js";
import { count, percent } from "../words.js";
import { interval, placed } from "./ward.js";

const MOST = 50;

export async function open(main, { query }) {
  const app = query.get("app") ?? "mortality";
  const subjects = await get(`subjects?app=${encodeURIComponent(app)}&limit=${MOST}`).catch(absent);
  const field = h("input", { id: "subject", inputmode: "numeric", pattern: "-?[0-9]+", required: true, autocomplete: "off" });
  const go = (event) => {
    event.preventDefault();
    location.hash = `#/subject/${encodeURIComponent(field.value.trim())}?app=${app}`;
  };
  fill(main, h("h1", {}, "Subjects"),
    h("p", { class: "facts" }, `Risk of death in the stay, from the run's own predictions on subjects it never learned from · the ${count(subjects.length)} with the highest risk`),
    h("form", { class: "fields", onsubmit: go }, h("div", {}, h("label", { for: "subject" }, "Subject by number"), field), h("button", { class: "first" }, "Open")),
    subjects.length ? list(subjects, app) : h("p", { class: "missing" }, `No predictions of ${app} are on disk: caretrace evaluate RUN writes them.`));
  return null;
}

function absent(error) {
  if (error instanceof Refused && error.status === 404) return [];
  throw error;
}

function list(subjects, app) {
  const row = (each) => [
    h("a", { href: `#/subject/${each.subject_id}?app=${app}` }, String(each.subject_id)),
    percent(each.risk, 1),
    each.low === null || each.low === undefined ? "–" : `${percent(each.low, 1)} to ${percent(each.high, 1)}`,
    [placed(interval(), { ...each, value: each.risk })],
  ];
  return h("section", { class: "panel" }, table("Subjects by risk; the bar shows the interval from 0 to 100 %",
    [["Subject", false], ["Risk", true], ["Interval", true], ["0 to 100 %", false]], subjects.map(row)));
}
