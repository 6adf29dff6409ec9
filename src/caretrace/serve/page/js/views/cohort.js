// Synthetic people: what the generator draws, beside what it learned from, and new ones on request.

import { get, post } from "../api.js";
import { axis, chart, tooltip } from "../chart.js";
import { fill, h, say, table, tell } from "../dom.js";
import { may } from "../me.js";
import { colour } from "../theme.js";
import { count, percent } from "../words.js";

const SHOWN = 8;
const FORMATS = { meds: "MEDS", "mimic-iii": "MIMIC-III tables", fhir: "FHIR R4", omop: "OMOP CDM" };

export async function open(main) {
  const told = await get("cohort");
  const { summary } = told;
  const jobs = h("ul", { class: "jobs" });
  const follow = new Jobs(jobs, told.jobs ?? []);
  const ages = h("div", { class: "chart" });
  fill(main, h("h1", {}, "Synthetic cohort"),
    h("p", { class: "facts" }, "Nobody in it exists. Whether it resembles anybody real too closely, and what it is good for, the report of the run says."),
    h("section", { class: "panel", "aria-labelledby": "draw-h" }, h("h2", { id: "draw-h" }, "Draw new people"),
      may("clinician") ? form(follow) : h("p", { class: "muted" }, "A clinician's token is needed to draw some."), jobs));
  if (!summary) {
    main.append(h("p", { class: "missing" }, "No run of the synth application is served, or it has drawn nobody yet."));
    return () => follow.stop();
  }
  main.append(h("div", { class: "two" },
    h("section", { class: "panel", "aria-labelledby": "ages-h" }, h("h2", { id: "ages-h" }, `Age and sex of ${count(summary.subjects)} people`), ages,
      h("details", {}, h("summary", {}, "The same as a table"), table("People by age and sex", [["Age", false], ["Women", true], ["Men", true]], summary.ages.map((each) => [each.band, count(each.F), count(each.M)])))),
    h("section", { class: "panel", "aria-labelledby": "codes-h" }, h("h2", { id: "codes-h" }, "Most frequent diagnoses"), codes(summary.codes))),
  h("section", { class: "panel", "aria-labelledby": "lives-h" }, h("h2", { id: "lives-h" }, "Some of them, in words"),
    h("ul", { class: "lives" }, (summary.trajectories ?? []).map((each) => h("li", {}, each)))));
  const end = await chart(ages, "People by age and sex; the table below says the same", () => option(summary.ages));
  return () => { end(); follow.stop(); };
}

function codes(all = []) {
  const columns = [["Diagnosis", false], ["Synthetic", true], ["Learned from", true]];
  const rows = all.map((each) => [[each.words ?? each.code, h("span", { class: "sub" }, h("code", {}, each.code))], percent(each.share, 1), percent(each.real_share, 1)]);
  return [
    table("Share of people who have them", columns, rows.slice(0, SHOWN)),
    rows.length > SHOWN ? h("details", {}, h("summary", {}, `${rows.length - SHOWN} more`), table("Those that follow", columns, rows.slice(SHOWN))) : null,
  ];
}

function form(follow) {
  const field = (name, title, element) => h("div", {}, h("label", { for: name }, title), Object.assign(element, { id: name }));
  const n = field("n", "How many", h("input", { type: "number", min: 1, max: 10000, value: 100, required: true }));
  const years = field("age", "Age, if all the same", h("input", { type: "number", min: 0, max: 110 }));
  const sex = field("sex", "Sex", h("select", {}, [["", "both"], ["F", "women"], ["M", "men"]].map(([value, word]) => h("option", { value }, word))));
  const format = field("format", "Format", h("select", {}, Object.entries(FORMATS).map(([value, word]) => h("option", { value }, word))));
  const seed = field("seed", "Seed", h("input", { type: "number", min: 0, value: 0 }));
  const wrong = h("p", { class: "bad", role: "alert" });
  const value = (box) => box.lastChild.value;
  const draw = async (event) => {
    event.preventDefault();
    say(wrong, "");
    const asked = { n: Number(value(n)), format: value(format), seed: Number(value(seed)) };
    if (value(years)) asked.age = Number(value(years));
    if (value(sex)) asked.sex = value(sex);
    try {
      const { job } = await post("generate", asked);
      tell(`Drawing ${asked.n} people.`);
      await follow.add(job);
    } catch (error) {
      say(wrong, error.message);
    }
  };
  return h("form", { onsubmit: draw }, h("div", { class: "fields" }, n, years, sex, format, seed, h("button", { class: "first" }, "Draw")), wrong);
}

/** What was asked for, and how far it is; asked again every second while something runs. */
class Jobs {
  constructor(element, jobs) {
    this.element = element;
    this.jobs = new Map(jobs.map((job) => [job.id, job]));
    this.show();
    this.ticking = setInterval(() => this.ask(), 1000);
  }

  stop() {
    clearInterval(this.ticking);
  }

  async add(id) {
    this.jobs.set(id, await get(`jobs/${encodeURIComponent(id)}`));
    this.show();
  }

  async ask() {
    for (const job of this.jobs.values()) {
      if (job.state === "waiting" || job.state === "running") await this.add(job.id).catch(() => {});
    }
  }

  show() {
    fill(this.element, [...this.jobs.values()].reverse().slice(0, 8).map((job) => h("li", {},
      h("span", {}, job.what ?? `Job ${job.id}`), " ",
      job.state === "done" ? h("a", { href: job.url ?? `jobs/${job.id}/result`, download: "" }, "Download") : h("span", {}, word(job)),
      job.state === "running" ? h("progress", { max: 1, value: job.progress ?? 0, "aria-label": `Progress of ${job.what ?? job.id}` }) : null)));
  }
}

const word = (job) => ({ waiting: "waits", running: `running, ${percent(job.progress)}`, failed: `▲ failed: ${job.result ?? "see the log"}` })[job.state] ?? job.state;

function option(ages) {
  const series = (key, name, ink) => ({ name, type: "bar", data: ages.map((each) => each[key]), itemStyle: { color: colour(ink), decal: key === "M" ? { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [3, 4], rotation: 0.7, color: colour("surface") } : undefined } });
  return {
    grid: { left: 48, right: 12, top: 34, bottom: 28 }, tooltip: tooltip(),
    legend: { textStyle: { color: colour("ink") }, top: 0 },
    xAxis: axis({ type: "category", data: ages.map((each) => each.band) }), yAxis: axis({ type: "value" }),
    series: [series("F", "Women", "s3"), series("M", "Men", "s0")],
  };
}
