// The ward at a glance: who needs somebody, and every bed in its place.

import { get } from "../api.js";
import { fill, h, roving, say } from "../dom.js";
import { Following } from "../following.js";
import * as live from "../live.js";
import { age, clock, known, number, OUTCOMES, predicted, reason, risk, seconds, SHORT, state } from "../words.js";

const SHOWN = ["hr", "spo2", "resp", "sbp", "temp"];
const REFRESH = 60_000; // the stream tells what changes; asking again now and then rights what was missed

export async function open(main, { query }) {
  const wards = await get("wards");
  const names = wards.map((each) => each.ward);
  const name = names.includes(query.get("ward")) ? query.get("ward") : names[0];
  if (name === undefined) {
    fill(main, h("h1", {}, "Ward"), h("p", { class: "missing" },
      "No samples yet. Send some to POST /vitals, or start with caretrace demo and then caretrace serve demo."));
    return null;
  }
  const ward = new Ward(main, name, names);
  await ward.refresh();
  ward.start();
  return () => ward.stop();
}

class Ward extends Following {
  constructor(main, name, names) {
    super();
    this.name = name;
    this.beds = new Map();
    this.tiles = new Map();
    this.facts = h("p", { class: "facts" });
    this.counts = h("ul", { class: "counts", "aria-label": "Beds by state" });
    this.attention = h("ol", { class: "attention" });
    this.legend = h("span", { hidden: true }, "");
    this.calm = h("p", { class: "muted" }, "Nobody: no alarm is waiting.");
    this.grid = h("ul", { class: "grid", "aria-describedby": "grid-how" });
    roving(this.grid, "a.tile");
    roving(this.attention, "a");
    const choose = h("select", { id: "ward", onchange: () => { location.hash = `#/ward?ward=${encodeURIComponent(choose.value)}`; } },
      names.map((each) => h("option", { value: each, selected: each === name }, each)));
    fill(main,
      h("div", { class: "head" }, h("h1", {}, `Ward ${name}`), names.length > 1 ? [h("label", { for: "ward" }, "Other ward"), choose] : null),
      this.facts, this.counts,
      h("section", { class: "panel", "aria-labelledby": "attention-h" }, h("h2", { id: "attention-h" }, "Who needs somebody now"), this.calm, this.attention),
      h("section", { "aria-labelledby": "grid-h" },
        h("h2", { id: "grid-h" }, "All beds"),
        h("p", { class: "muted small", id: "grid-how" }, "Arrow keys move between beds, Enter opens one. ", this.legend), this.grid));
  }

  start() {
    live.follow(this.name);
    this.follow([
      live.on("samples", (data) => this.samples(data)),
      live.on("scores", (data) => this.scored(data)),
      live.on("alarm", () => this.soon()),
    ], REFRESH);
  }

  async refresh() {
    const told = await get(`ward?ward=${encodeURIComponent(this.name)}`);
    live.setClock(told.time, told.replay?.speed ?? 1);
    this.replay = told.replay;
    this.thresholds = told.thresholds;
    this.beds = new Map(told.beds.map((bed) => [String(bed.subject_id), bed]));
    this.show();
  }

  samples({ time, beds }) {
    for (const [subject, values] of Object.entries(beds ?? {})) {
      const bed = this.beds.get(subject);
      if (!bed) continue;
      bed.values = { ...bed.values, ...values };
      bed.last_sample = time;
      if (bed.state === "stale") this.soon();
      this.tiles.get(subject)?.update(bed, this.thresholds);
    }
  }

  scored({ beds }) {
    for (const [subject, scores] of Object.entries(beds ?? {})) {
      const bed = this.beds.get(subject);
      if (bed) this.tiles.get(subject)?.update(Object.assign(bed, { scores: { ...bed.scores, ...scores } }), this.thresholds);
    }
  }

  show() {
    const sorted = [...this.beds.values()].sort((a, b) => String(a.bed).localeCompare(String(b.bed), "en", { numeric: true }));
    if (sorted.length !== this.tiles.size || sorted.some((bed) => !this.tiles.has(String(bed.subject_id)))) {
      this.tiles = new Map(sorted.map((bed) => [String(bed.subject_id), new Tile(bed)]));
      fill(this.grid, [...this.tiles.values()].map((tile, index) => {
        tile.link.tabIndex = index ? -1 : 0;
        return tile.item;
      }));
    }
    for (const bed of sorted) this.tiles.get(String(bed.subject_id)).update(bed, this.thresholds);
    this.triage(sorted);
    this.tick();
  }

  triage(sorted) {
    const waiting = sorted.filter((bed) => state(bed.state).rank < 4)
      .sort((a, b) => state(a.state).rank - state(b.state).rank || urgency(b) - urgency(a));
    this.calm.hidden = waiting.length > 0;
    const sign = JSON.stringify(waiting.map((bed) => [bed.subject_id, bed.state, bed.alarms?.map((each) => [each.id, each.state])]));
    if (sign !== this.sign) { // otherwise the focus would be lost with every refresh
      this.sign = sign;
      const at = this.attention.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      fill(this.attention, waiting.map((bed, index) => entry(bed, index)));
      this.attention.querySelector(at ? `a[href="${CSS.escape(at)}"]` : "none")?.focus();
    }
    const tally = Object.groupBy ? Object.groupBy(sorted, (bed) => bed.state) : grouped(sorted);
    fill(this.counts, Object.keys(tally).sort((a, b) => state(a).rank - state(b).rank).map((each) =>
      h("li", {}, chip(each, `${tally[each].length} ${state(each).word.toLowerCase()}`))));
  }

  tick() {
    const replayed = this.replay ? ` · simulated recordings, replayed at ${this.replay.speed === 1 ? "their own" : `${this.replay.speed} times their`} speed` : "";
    say(this.facts, `${this.beds.size} beds · ${clock(live.now())} UTC${replayed}`);
    const notes = new Set([...this.beds.values()].map((bed) => bed.risk?.note).filter(Boolean));
    say(document.getElementById("simulated"), [this.replay ? "Simulated patients: nobody here exists." : "", ...notes].join(" "));
    const apps = new Set([...this.beds.values()].map((bed) => bed.risk?.app).filter(Boolean));
    this.legend.hidden = !apps.size;
    say(this.legend, `A risk is one ${[...apps].map((app) => OUTCOMES[app] ?? `of ${app}`).join(", or ")}, with how far the model's members disagree and how long ago it was predicted; the bar shows it from 0 to 100 %.`);
    for (const [subject, bed] of this.beds) this.tiles.get(subject)?.age(bed);
  }
}

class Tile {
  constructor(bed) {
    this.chip = h("span", { class: "chip" });
    this.reason = h("span", { class: "reason" });
    this.values = Object.fromEntries(SHOWN.map((name) => [name, h("b", {})]));
    this.signs = h("span", { class: "signs" }, SHOWN.map((name) => h("span", {}, h("i", {}, SHORT[name]), " ", this.values[name])));
    this.risk = h("span", { class: "risk" });
    this.ago = h("span", { class: "when" });
    this.bar = interval();
    this.when = h("span", { class: "when" });
    this.link = h("a", { class: "tile", href: `#/bed/${bed.subject_id}` },
      h("span", { class: "row" }, h("strong", {}, bed.bed ?? bed.subject_id), this.chip),
      this.reason, this.signs, this.bar, h("span", { class: "row last" }, this.risk, this.ago, this.when));
    this.item = h("li", {}, this.link);
  }

  /** `limits`: from which score something is an alarm. */
  update(bed, limits) {
    const { word, sign } = state(bed.state);
    this.link.className = `tile ${bed.state}`;
    this.chip.className = `chip ${bed.state}`;
    say(this.chip, `${sign} ${word}`);
    say(this.reason, words(bed));
    for (const name of SHOWN) say(this.values[name], number(bed.values?.[name], name === "temp" ? 1 : 0));
    if (!bed.risk) {
      say(this.risk, distance(bed.scores, limits));
      say(this.ago, "");
      this.risk.classList.remove("aged", "whole");
    }
    placed(this.bar, bed.risk);
    this.age(bed);
  }

  age(bed) {
    const old = live.now() - seconds(bed.last_sample);
    if (bed.risk) {
      const { ago, old: aged } = predicted(bed.risk, live.now());
      say(this.risk, `${aged ? "▲ Old risk" : "Risk"} ${risk(bed.risk).replace(" %)", ")")}`);
      say(this.ago, ago ? `of ${ago}` : "");
      this.risk.classList.toggle("aged", aged);
      this.risk.classList.add("whole");
      this.bar.classList.toggle("aged", aged);
    }
    say(this.when, known(old) ? `${bed.state === "stale" ? "▲ " : ""}${age(old)} old` : "▲ no sample");
  }
}

/** What sorts those who are equally urgent; a risk that is too old does not count. */
function urgency(bed) {
  return bed.risk && !predicted(bed.risk, live.now()).old ? bed.risk.value : 0;
}

/** Where no risk is known: how far the evidence is from an alarm, in the score's own unit. */
function distance(scores, limits) {
  const left = Object.entries(limits ?? {}).map(([name, limit]) => limit - scores?.[name]).filter(known);
  if (!left.length) return "";
  const least = Math.min(...left);
  return least > 0 ? `${number(least, 1)} below alarm` : `${number(-least, 1)} above alarm`;
}

/** "Sudden change", or of several alarms the most urgent and how many more. */
function words(bed) {
  const alarms = waiting(bed);
  if (!alarms.length) return "";
  return reason(alarms[0].reason) + (alarms.length > 1 ? ` and ${alarms.length - 1} more` : "");
}

/** Alarms that are not over, the most urgent first. */
function waiting(bed) {
  return (bed.alarms ?? []).filter((each) => each.state !== "cleared").sort((a, b) => state(a.state).rank - state(b.state).rank);
}

function entry(bed, index) {
  const [alarm] = waiting(bed);
  return h("li", {}, h("a", { href: `#/bed/${bed.subject_id}`, tabindex: index ? "-1" : "0" },
    chip(bed.state), h("strong", {}, bed.bed ?? bed.subject_id),
    h("span", {}, alarm?.words ?? words(bed) ?? ""),
    h("span", { class: "muted" }, alarm ? `since ${clock(alarm.raised)}` : ""),
    h("span", { class: "muted" }, bed.risk ? `${predicted(bed.risk, live.now()).old ? "old risk" : "risk"} ${risk(bed.risk)}` : "")));
}

export function chip(name, text) {
  const { word, sign } = state(name);
  return h("span", { class: `chip ${name}` }, `${sign} ${text ?? word}`);
}

/** A track from 0 to 100 % with the interval as a bar and the value as a stroke; the text beside it says the same. */
export function interval() {
  return h("span", { class: "interval", "aria-hidden": "true" }, h("span", {}), h("b", {}));
}

export function placed(bar, value) {
  bar.classList.toggle("none", !known(value?.value));
  if (!known(value?.value)) return bar;
  const [low, high] = known(value.low) && known(value.high) ? [value.low, value.high] : [value.value, value.value];
  bar.firstChild.style.setProperty("left", `${100 * low}%`);
  bar.firstChild.style.setProperty("width", `${100 * (high - low)}%`);
  bar.lastChild.style.setProperty("left", `${100 * value.value}%`);
  return bar;
}

function grouped(beds) {
  const found = {};
  for (const bed of beds) (found[bed.state] ??= []).push(bed);
  return found;
}
