// Who read and did what; the chain of hashes says whether anything was taken out or changed.

import { get } from "../api.js";
import { fill, h, table } from "../dom.js";
import { clock, readable } from "../words.js";

export async function open(main) {
  const list = h("div", {});
  const more = h("button", { type: "button" }, "Show more");
  const found = [];
  const load = async () => {
    const after = found.length ? found.at(-1).n : 0;
    const { entries, intact } = await get(`audit?after=${after}`);
    found.push(...entries);
    more.disabled = !entries.length;
    fill(list, chain(intact), found.length ? table("Entries", COLUMNS, [...found].reverse().map(row)) : h("p", { class: "missing" }, "Nothing was read or done yet."));
  };
  more.addEventListener("click", () => load().catch((error) => fill(list, h("p", { class: "bad" }, error.message))));
  fill(main, h("h1", {}, "Audit"), h("p", { class: "facts" }, "Every look at a subject, every refusal, every acknowledgement. Entries can only be added."),
    h("section", { class: "panel", "aria-label": "Entries" }, list, more));
  await load();
  return null;
}

const COLUMNS = [["No.", false], ["When (UTC)", false], ["Who", false], ["What", false], ["Subject", false], ["Outcome", false], ["Hash", false]];

const row = (each) => [String(each.n), `${clock(each.time, true)}:${clock(each.time).slice(6)}`, each.who, readable(each.what), each.subject_id === null ? "–" : String(each.subject_id), outcome(each.outcome), [h("code", {}, String(each.hash ?? "").slice(0, 12))]];

const outcome = (word) => (/denied|refused|failed/.test(String(word)) ? [h("span", { class: "bad" }, `▲ ${word}`)] : word);

const chain = (intact) => (intact
  ? h("p", { class: "box good" }, h("strong", {}, "✓ Whole. "), "Each entry's hash follows from the one before it.")
  : h("p", { class: "box bad" }, h("strong", {}, "▲ Broken. "), "An entry was changed or is missing: the hashes do not follow from each other."));
