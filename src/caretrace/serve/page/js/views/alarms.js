// Alarms of a bed, and what somebody does about them.

import { get, post } from "../api.js";
import { fill, h, say, tell } from "../dom.js";
import { may } from "../me.js";
import { clock, known, number, reason, readable, state } from "../words.js";
import { chip } from "./ward.js";

const WHYS = ["Seen, I am with the patient", "Known, being treated", "Artefact: probe, motion or line", "Physician called"];

export class AlarmList {
  /** @param {() => Promise<void>} changed - Called after something was done. */
  constructor(changed) {
    this.changed = changed;
    this.element = h("div", { class: "alarms" });
    this.sign = null;
  }

  show(alarms) {
    const sign = JSON.stringify(alarms.map((each) => [each.id, each.state, each.changed, each.snoozed_until]));
    if (sign === this.sign) return; // what somebody has opened stays open
    this.sign = sign;
    const focused = document.activeElement?.dataset?.alarm;
    const sorted = [...alarms].sort((a, b) => state(a.state).rank - state(b.state).rank || Date.parse(b.raised) - Date.parse(a.raised));
    const open = sorted.filter((each) => each.state !== "cleared");
    const over = sorted.filter((each) => each.state === "cleared");
    fill(this.element,
      open.length ? null : h("p", { class: "muted" }, "No alarm now."),
      open.map((each) => this.card(each)),
      over.length ? h("details", {}, h("summary", {}, `${over.length} that are over`), over.map((each) => this.card(each))) : null);
    if (focused) (this.element.querySelector(`[data-alarm="${CSS.escape(focused)}"]`) ?? this.element.querySelector("button, summary"))?.focus();
  }

  card(alarm) {
    const { id } = alarm;
    const open = ["active", "pending"].includes(alarm.state);
    const allowed = may("clinician");
    const more = h("div", {});
    const shown = alarm.state === "active" && alarm.kind === "technical" ? "technical" : alarm.state;
    return h("article", { class: `alarm ${shown}`, "aria-labelledby": `alarm-${id}` },
      h("h3", { id: `alarm-${id}` }, chip(shown), " ", reason(alarm.reason)),
      h("p", {}, alarm.words ?? ""),
      h("p", { class: "muted small" },
        `Raised ${clock(alarm.raised)} UTC`,
        known(alarm.score) ? ` · score ${number(alarm.score, 2)} against a threshold of ${number(alarm.threshold, 2)}` : "",
        alarm.kind ? ` · ${alarm.kind}` : "",
        alarm.by ? ` · ${alarm.by}: ${alarm.why ?? ""}` : "",
        alarm.snoozed_until ? ` · snoozed until ${clock(alarm.snoozed_until)} UTC` : ""),
      h("p", { class: "buttons" },
        h("button", { type: "button", class: open ? "first" : null, "data-alarm": `a${id}`, disabled: !open || !allowed, onclick: () => this.ask(alarm, "acknowledge") }, open ? "Acknowledge" : alarm.state === "acknowledged" ? "Acknowledged" : "Nothing to acknowledge"), " ",
        h("button", { type: "button", "data-alarm": `s${id}`, disabled: alarm.state === "cleared" || !allowed, onclick: () => this.ask(alarm, "snooze") }, "Snooze"),
        allowed ? null : h("span", { class: "muted small" }, " A clinician's token is needed for both.")),
      h("details", { ontoggle: (event) => event.target.open && reproduce(id, more) }, h("summary", {}, "How it arose, and what was done"), more));
  }

  /** Nobody acknowledges without saying why: a dialog, kept to one choice and one key. */
  ask(alarm, what) {
    const back = document.activeElement;
    const wrong = h("p", { class: "bad", role: "alert" });
    const why = h("select", { id: "why" }, WHYS.map((each) => h("option", {}, each)), h("option", { value: "" }, "Something else, in my words"));
    const own = h("textarea", { id: "own", maxlength: "500" });
    const words = h("div", { hidden: true }, h("label", { for: "own" }, "In my words"), own);
    why.addEventListener("change", () => { words.hidden = why.value !== ""; });
    const minutes = what === "snooze" ? h("select", { id: "minutes" }, [5, 10, 15, 30].map((each) => h("option", { value: each }, `${each} minutes`))) : null;
    const done = async (event) => {
      event.preventDefault();
      const said = why.value || own.value.trim();
      if (!said) return say(wrong, "Say why: it is kept with the alarm.");
      try {
        await post(`alarms/${alarm.id}/${what}`, { why: said, ...(minutes ? { minutes: Number(minutes.value) } : {}) });
        dialog.close();
        tell(what === "snooze" ? `Snoozed for ${minutes.value} minutes.` : "Acknowledged.");
        await this.changed();
      } catch (error) {
        say(wrong, error.message);
      }
    };
    const title = what === "snooze" ? "Snooze this alarm" : "Acknowledge this alarm";
    const dialog = h("dialog", { "aria-labelledby": "ask-h", onclose: () => { dialog.remove(); (back?.isConnected ? back : document.getElementById("main")).focus(); } },
      h("form", { onsubmit: done },
        h("h2", { id: "ask-h" }, title),
        h("p", {}, `${reason(alarm.reason)} · bed ${alarm.bed ?? "–"} · raised ${clock(alarm.raised)} UTC`),
        minutes ? [h("label", { for: "minutes" }, "For how long"), minutes] : null,
        h("label", { for: "why" }, "Why"), why, words, wrong,
        h("div", { class: "buttons" },
          h("button", { class: "first", type: "submit" }, readable(what)),
          h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"))));
    document.body.append(dialog);
    dialog.showModal();
  }
}

async function reproduce(id, place) {
  try {
    const [alarm, { history }] = await Promise.all([get(`alarms/${id}`), get(`alarms/${id}/history`)]);
    const { command, samples, ...rest } = alarm.reproduction ?? {};
    fill(place,
      h("ol", { class: "history" }, (history ?? []).map((each) =>
        h("li", {}, `${clock(each.time)} ${readable(each.state)}${each.who ? `, ${each.who}` : ""}${each.why ? `: ${each.why}` : ""}`))),
      again(rest),
      command ? h("pre", {}, command) : null,
      h("details", {}, h("summary", {}, "Bundle, policy and score"), h("pre", { tabindex: "0" }, JSON.stringify(rest, null, 1))),
      Array.isArray(samples) ? h("details", {}, h("summary", {}, `The ${samples.length} steps it rests on`), h("pre", { tabindex: "0" }, samples.map((each) => JSON.stringify(each)).join("\n"))) : null);
  } catch (error) {
    fill(place, h("p", { class: "bad" }, error.message));
  }
}

/** Whether the same samples gave the same alarm when the service computed it anew for this look. */
function again({ reproduced, bundle, steps }) {
  if (reproduced === true) return h("p", { class: "good" }, `✓ Computed again from ${steps} steps with ${bundle}: the same alarm.`);
  if (reproduced === false) return h("p", { class: "bad" }, `▲ Computed again from ${steps} steps with ${bundle}: it did not come out again.`);
  return h("p", { class: "muted" }, "It was not computed again: what it rests on is not kept any more, or no model raised it.");
}
