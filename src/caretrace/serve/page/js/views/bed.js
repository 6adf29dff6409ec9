// One bed: strips of every signal, what the model makes of them, and its alarms.

import { get } from "../api.js";
import { fill, h, say, table } from "../dom.js";
import { Following } from "../following.js";
import * as live from "../live.js";
import { newest, shown, stepOf, Strip } from "../strip.js";
import { onTheme } from "../theme.js";
import { age, CHANNELS, clock, number, OUTCOMES, predicted, reason, risk, seconds } from "../words.js";
import { AlarmList } from "./alarms.js";
import { interval, placed } from "./ward.js";

const STALE = 300; // seconds without a value after which a signal is struck through
const KEPT = 6000; // steps; older ones leave the strips
const LINES = { sudden: { colour: "s1" }, lasting: { colour: "s3", dash: [9, 4] } };

export async function open(main, { rest, query }) {
  const hours = Number(query.get("hours")) || 2;
  const bed = new Bed(main, rest[0], hours);
  await bed.refresh();
  if (!Number.isFinite(live.now())) await bed.askTime(); // opened by its address, before any ward
  bed.start();
  return () => bed.stop();
}

class Bed extends Following {
  constructor(main, subject, hours) {
    super();
    Object.assign(this, { main, subject, hours, strips: new Map(), latest: new Map() });
    this.alarms = new AlarmList(() => this.refresh());
  }

  async refresh() {
    const bed = await get(`beds/${encodeURIComponent(this.subject)}?hours=${this.hours}`);
    const same = this.bed && bed.channels.length === this.bed.channels.length;
    this.bed = bed;
    this.times = bed.times;
    this.step = stepOf(bed.times);
    if (bed.time) live.setClock(bed.time, bed.replay?.speed);
    if (!same) this.build();
    this.alarms.show(bed.alarms);
    this.show();
  }

  async askTime() {
    const { time, replay } = await get(`ward?ward=${encodeURIComponent(this.bed.ward)}`);
    live.setClock(time, replay?.speed ?? 1);
    this.tick();
  }

  build() {
    const { bed } = this;
    for (const strip of this.strips.values()) strip.destroy();
    this.strips.clear();
    this.facts = h("p", { class: "facts" });
    this.risk = h("p", { class: "told-risk" });
    this.bar = interval();
    this.about = h("p", { class: "muted small" });
    this.table = h("div", {});
    const spans = h("select", { id: "hours", onchange: () => { location.hash = `#/bed/${this.subject}?hours=${spans.value}`; } },
      [0.5, 1, 2, 6, 12, 24].map((each) => h("option", { value: each, selected: each === this.hours }, each < 1 ? "30 minutes" : each === 1 ? "1 hour" : `${each} hours`)));
    const boxes = [...bed.channels.map((channel) => this.box(channel)), this.scores()].filter(Boolean);
    fill(this.main,
      h("div", { class: "head" }, h("h1", {}, `Bed ${bed.bed ?? "–"}`), h("a", { href: `#/ward?ward=${encodeURIComponent(bed.ward ?? "")}` }, `Back to ward ${bed.ward ?? ""}`)),
      this.facts,
      h("div", { class: "bed-risk" }, this.risk, this.bar, this.about),
      h("div", { class: "bed" },
        h("section", { class: "panel", "aria-labelledby": "alarms-h" }, h("h2", { id: "alarms-h" }, "Alarms"), this.alarms.element),
        h("section", { class: "panel strips", "aria-labelledby": "strips-h" },
          h("div", { class: "head" }, h("h2", { id: "strips-h" }, "Signals"), h("label", { for: "hours" }, "Show the last"), spans),
          h("p", { class: "legend muted small" },
            h("span", { class: "key normal" }, "usual range of adults"), h("span", { class: "key struck" }, "alarm"), h("span", { class: "key hatch" }, "nothing measured")),
          boxes.map((each) => each.element),
          h("details", {}, h("summary", {}, "The same as a table"), this.table))));
    for (const each of boxes) this.strips.set(each.name, new Strip(each.plot, each.signal, "bed"));
  }

  box(channel) {
    const label = CHANNELS[channel.name] ?? channel.name;
    const normal = channel.normal ? ` · usual ${channel.normal[0]} to ${channel.normal[1]}` : "";
    return this.frame(channel.name, label, `${channel.unit ?? ""}${normal}`, {
      normal: channel.normal, marks: () => this.bed.anomalies ?? [], lines: [{ name: label, colour: "s0" }],
    });
  }

  scores() {
    const names = Object.keys(this.bed.scores ?? {});
    if (!names.length) return null;
    const limits = names.filter((name) => this.bed.thresholds?.[name] !== undefined)
      .map((name) => ({ value: this.bed.thresholds[name], colour: LINES[name]?.colour ?? "s5" }));
    return this.frame("scores", "What the model makes of it", "evidence of something sudden (solid) or lasting (dashed); alarms above the broken line", {
      limits, marks: () => this.bed.anomalies ?? [],
      lines: names.map((name) => ({ name: reason(name), colour: LINES[name]?.colour ?? "s5", dash: LINES[name]?.dash })),
    });
  }

  frame(name, label, about, signal) {
    const value = h("b", { class: "now" });
    const since = h("span", { class: "muted small" });
    const plot = h("div", { class: "plot", role: "img" });
    this.latest.set(name, { value, since, plot, label });
    return { name, plot, signal, element: h("div", { class: "strip" },
      h("div", { class: "strip-head" }, h("h3", {}, label), value, h("span", { class: "muted small" }, about), since), plot) };
  }

  show() {
    const { bed } = this;
    for (const channel of bed.channels) {
      const values = bed.values[channel.name] ?? [];
      this.strips.get(channel.name).set(this.times, values);
      const last = newest(this.times, values);
      const { value, plot, label } = this.latest.get(channel.name);
      say(value, last ? `${shown(channel.name, last.value)}` : "–");
      plot.setAttribute("aria-label", last ? `${label}: ${shown(channel.name, last.value)} ${channel.unit ?? ""} at ${clock(last.time)}` : `${label}: nothing measured`);
    }
    const names = Object.keys(bed.scores ?? {});
    if (names.length) {
      this.strips.get("scores").set(this.times, ...names.map((name) => bed.scores[name]));
      const { value, plot, label } = this.latest.get("scores");
      const told = names.map((name) => `${reason(name).toLowerCase()} ${number(newest(this.times, bed.scores[name])?.value, 1)}`).join(", ");
      say(value, told);
      plot.setAttribute("aria-label", `${label}: ${told}`);
    }
    fill(this.table, this.recent());
    placed(this.bar, bed.risk);
    this.tick();
  }

  recent() {
    const { channels, values } = this.bed;
    const rows = [];
    for (let i = this.times.length - 1; i >= 0 && rows.length < 30; i -= 1) {
      rows.push([clock(this.times[i]), ...channels.map((channel) => shown(channel.name, values[channel.name]?.[i]))]);
    }
    return table("The last 30 steps; – where nothing was measured", [["Time (UTC)", false], ...channels.map((c) => [`${CHANNELS[c.name] ?? c.name}, ${c.unit ?? ""}`, true])], rows);
  }

  start() {
    live.follow(this.bed.ward);
    this.follow([
      live.on("samples", (data) => this.samples(data)),
      live.on("scores", (data) => this.scored(data)),
      live.on("alarm", (alarm) => { if (String(alarm.subject_id) === this.subject) this.soon(); }),
      onTheme(() => { for (const strip of this.strips.values()) strip.draw(); }),
    ], 20_000);
  }

  stop() {
    super.stop();
    for (const strip of this.strips.values()) strip.destroy();
  }

  /** A step of this bed: kept until the next request brings the same from the store. */
  samples({ time, beds }) {
    const values = beds?.[this.subject];
    if (!values) return;
    this.at(seconds(time), (place) => {
      for (const [name, column] of Object.entries(this.bed.values)) if (values[name] !== undefined) column[place] = values[name];
    });
  }

  scored({ time, beds }) {
    const scores = beds?.[this.subject];
    if (!scores) return;
    this.at(seconds(time), (place) => {
      for (const [name, column] of Object.entries(this.bed.scores ?? {})) if (scores[name] !== undefined) column[place] = scores[name];
    });
  }

  at(moment, write) {
    const step = this.step ?? 1;
    const time = Math.floor(moment / step) * step; // what comes within a step belongs to it
    const columns = [...Object.values(this.bed.values), ...Object.values(this.bed.scores ?? {})];
    if (time < (this.times.at(-1) ?? -Infinity)) return;
    if (time > (this.times.at(-1) ?? -Infinity)) {
      this.times.push(time);
      for (const column of columns) column.push(null);
    }
    write(this.times.length - 1);
    const from = time - this.hours * 3600;
    while (this.times.length > KEPT || this.times[0] < from) {
      this.times.shift();
      for (const column of columns) column.shift();
    }
    if (!this.drawing) this.drawing = requestAnimationFrame(() => { this.drawing = null; this.show(); });
  }

  /** The risk with when it was predicted: it grows old between two requests. */
  tickRisk() {
    const told = this.bed.risk;
    if (!told) {
      say(this.risk, "");
      say(this.about, "No risk is kept for this bed.");
      return;
    }
    const { ago, old } = predicted(told, live.now());
    this.risk.classList.toggle("aged", old);
    this.bar.classList.toggle("aged", old);
    say(this.risk, `${old ? "▲ Old risk" : "Risk"} ${OUTCOMES[told.app] ?? ""} ${risk(told, 1)}, predicted for ${clock(told.time, true)} UTC, ${ago}`);
    say(this.about, `By ${told.app}, run ${told.bundle}. The interval says how far the members of the model disagree, not how often the outcome falls within. ${old ? `After ${age(told.old_after_seconds)} a risk counts as old. ` : ""}${told.note ?? ""}`);
  }

  tick() {
    const last = this.times.at(-1);
    const old = live.now() - last;
    say(this.facts, `Subject ${this.subject} · ward ${this.bed.ward ?? "–"} · ${last === undefined ? "no sample yet" : `last sample ${clock(last)} UTC${Number.isFinite(old) ? `, ${age(old)} old` : ""}`}`);
    this.tickRisk();
    for (const channel of this.bed.channels) {
      const found = newest(this.times, this.bed.values[channel.name] ?? []);
      const behind = found ? live.now() - found.time : NaN;
      const { since, value } = this.latest.get(channel.name);
      const stale = !found || behind >= STALE;
      value.classList.toggle("stale", stale);
      say(since, stale ? `▲ ${found ? `last measured ${age(behind)} ago` : "not measured"}` : "");
    }
  }
}
