// What is served, and how far each model may be trusted: its card, as it travels with the bundle.

import { get } from "../api.js";
import { fill, h, table } from "../dom.js";
import { markdown } from "../markdown.js";
import { clock, known, number, readable } from "../words.js";

export async function open(main, { rest }) {
  const bundles = await get("bundles");
  const chosen = bundles.find((each) => String(each.id) === rest[0]) ?? bundles[0];
  fill(main, h("h1", {}, "Models"), h("p", { class: "facts" }, "What is served here, with its figures on subjects it never learned from."));
  if (!chosen) {
    main.append(h("p", { class: "missing" }, "No bundle is served."));
    return null;
  }
  const card = await get(`bundles/${encodeURIComponent(chosen.id)}/card`);
  main.append(
    h("ul", { class: "bundles" }, bundles.map((each) => h("li", {}, h("a", {
      class: "bundle", href: `#/models/${encodeURIComponent(each.id)}`, "aria-current": each === chosen ? "true" : null,
    }, h("strong", {}, each.title ?? each.app), h("span", { class: "muted small" }, each.summary ?? ""), h("span", { class: "muted small" }, `trained ${clock(each.trained, true)}`))))),
    h("section", { class: "panel", "aria-label": "Figures" }, h("h2", {}, chosen.title ?? chosen.app), figures(card.metrics), gates(card.gates)),
    h("section", { class: "panel card", "aria-label": "Model card" }, markdown(card.markdown ?? "No card travels with this bundle.", 2)));
  return null;
}

function figures(metrics) {
  const rows = Object.entries(metrics ?? {}).filter(([, each]) => known(each?.value));
  if (!rows.length) return h("p", { class: "missing" }, "Not judged yet: caretrace evaluate RUN.");
  return table("Figures on held-out subjects, with 95 % intervals", [["Figure", false], ["Value", true], ["Interval", true]],
    rows.map(([name, each]) => [readable(name), number(each.value, 3), known(each.low) ? `${number(each.low, 3)} to ${number(each.high, 3)}` : "–"]));
}

function gates(found) {
  const rows = Object.entries(found ?? {});
  if (!rows.length) return null;
  return table("Bounds set beforehand", [["Bound", false], ["Found", true], ["Bound", true], ["", false]],
    rows.map(([name, each]) => [readable(name), number(each.value, 3), number(each.bound, 3), each.passed ? [h("span", { class: "good" }, "✓ kept")] : [h("span", { class: "bad" }, "✗ missed")]]));
}
