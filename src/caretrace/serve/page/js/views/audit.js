// Who read and did what; the chain of hashes says whether anything was taken out or changed.

import { get } from "../api.js";
import { fill, h, table } from "../dom.js";
import { clock, count, readable } from "../words.js";

const PORTION = 200;

export async function open(main) {
  const list = h("div", {});
  const older = h("button", { type: "button" }, "Show older");
  const found = new Map();
  let first = 0;
  const load = async (after) => {
    const { entries, intact } = await get(`audit?after=${after}&limit=${PORTION}`);
    for (const each of entries) found.set(each.n, each);
    first = after;
    older.hidden = after === 0;
    const rows = grouped([...found.values()].sort((a, b) => b.n - a.n));
    fill(list, chain(intact), rows.length ? table("Entries, the newest first; the same look at several subjects is one line", COLUMNS, rows.map(row)) : h("p", { class: "missing" }, "Nothing was read or done yet."));
  };
  older.addEventListener("click", () => load(Math.max(0, first - PORTION)).catch((error) => fill(list, h("p", { class: "bad" }, error.message))));
  fill(main, h("h1", {}, "Audit"), h("p", { class: "facts" }, "Every look at a subject, every refusal, every acknowledgement. Entries can only be added."),
    h("section", { class: "panel", "aria-label": "Entries" }, list, older));
  const { last } = await get("audit?limit=1");
  await load(Math.max(0, (last ?? 0) + 1 - PORTION)); // this look is an entry, too
  return null;
}

const COLUMNS = [["No.", false], ["When (UTC)", false], ["Who", false], ["What", false], ["Subject", false], ["Outcome", false], ["Hash", false]];

/** Entries that differ in the subject alone and follow each other within a second. */
function grouped(entries) {
  const groups = [];
  for (const each of entries) {
    const group = groups.at(-1);
    const before = group?.at(-1);
    const same = before && ["who", "what", "outcome"].every((key) => before[key] === each[key]) && before.subject_id !== null
      && each.subject_id !== null && Math.abs(Date.parse(before.time) - Date.parse(each.time)) < 1000;
    if (same) group.push(each);
    else groups.push([each]);
  }
  return groups;
}

function row(group) {
  const [newest] = group;
  const oldest = group.at(-1);
  return [
    newest === oldest ? String(newest.n) : `${oldest.n}–${newest.n}`,
    `${clock(newest.time, true)}:${clock(newest.time).slice(6)}`, newest.who, readable(newest.what), subjects(group), outcome(newest.outcome),
    [h("code", {}, String(newest.hash ?? "").slice(0, 12))],
  ];
}

function subjects(group) {
  if (group.length === 1) return group[0].subject_id === null ? "–" : String(group[0].subject_id);
  return [h("details", {}, h("summary", {}, `${count(group.length)} subjects`), group.map((each) => each.subject_id).sort((a, b) => a - b).join(", "))];
}

const outcome = (word) => (/denied|refused|failed/.test(String(word)) ? [h("span", { class: "bad" }, `▲ ${word}`)] : word);

const chain = (intact) => (intact
  ? h("p", { class: "box good" }, h("strong", {}, "✓ Whole. "), "Each entry's hash follows from the one before it.")
  : h("p", { class: "box bad" }, h("strong", {}, "▲ Broken. "), "An entry was changed or is missing: the hashes do not follow from each other."));
