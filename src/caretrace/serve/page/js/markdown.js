// As much Markdown as model cards use: headings, lists, tables, code, links to nowhere, emphasis. Text stays text.

import { h } from "./dom.js";

/** @param {string} text @param {number} level - What "#" becomes. */
export function markdown(text, level = 2) {
  const lines = String(text).replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  const out = [];
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    const heading = /^(#{1,6})\s+(.*)/.exec(line);
    if (heading) {
      out.push(h(`h${Math.min(6, heading[1].length + level - 1)}`, {}, inline(heading[2])));
      i += 1;
    } else if (line.startsWith("```")) {
      const end = upTo(lines, i + 1, (each) => each.startsWith("```"));
      out.push(h("pre", { tabindex: "0" }, lines.slice(i + 1, end).join("\n")));
      i = end + 1;
    } else if (line.trimStart().startsWith("|")) {
      const end = upTo(lines, i, (each) => !each.trimStart().startsWith("|"));
      out.push(grid(lines.slice(i, end)));
      i = end;
    } else if (/^\s*[-*]\s/.test(line)) {
      const end = upTo(lines, i, (each) => !/^\s*[-*]\s|^\s+\S/.test(each));
      out.push(h("ul", {}, items(lines.slice(i, end)).map((each) => h("li", {}, inline(each)))));
      i = end;
    } else if (line.trim()) {
      const end = upTo(lines, i, (each) => !each.trim() || /^(#|```|\||\s*[-*]\s)/.test(each));
      out.push(h("p", {}, inline(lines.slice(i, Math.max(end, i + 1)).join(" "))));
      i = Math.max(end, i + 1);
    } else i += 1;
  }
  return out;
}

function upTo(lines, from, stop) {
  let i = from;
  while (i < lines.length && !stop(lines[i])) i += 1;
  return i;
}

function items(lines) {
  const found = [];
  for (const line of lines) {
    const start = /^\s*[-*]\s+(.*)/.exec(line);
    if (start) found.push(start[1]);
    else found[found.length - 1] += ` ${line.trim()}`;
  }
  return found;
}

function grid(lines) {
  const rows = lines.map((line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim()));
  const [head, ...body] = rows.filter((row) => !row.every((cell) => /^:?-*:?$/.test(cell)));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of the card" }, h("table", {},
    h("thead", {}, h("tr", {}, head.map((cell) => (cell ? h("th", { scope: "col" }, inline(cell)) : h("td", {}))))),
    h("tbody", {}, body.map((row) => h("tr", {}, row.map((cell) => h("td", {}, inline(cell))))))));
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*|\[[^\]]+\]\([^)]+\))/).map((part) => {
    if (/^`.+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return h("strong", {}, part.slice(2, -2));
    if (/^\*.+\*$/.test(part)) return h("em", {}, part.slice(1, -1));
    const link = /^\[([^\]]+)\]/.exec(part);
    return link ? link[1] : part;
  });
}
