// Which view is shown: the part of the address behind "#/" names it.

import { get, post, Refused, send } from "./api.js";
import { fill, h, say } from "./dom.js";
import * as live from "./live.js";
import { may, me, setMe } from "./me.js";
import { startTheme } from "./theme.js";
import { age } from "./words.js";

// Name in the address → title, module, and for whom the navigation lists it.
const VIEWS = {
  ward: ["Ward", () => import("./views/ward.js"), "viewer"],
  bed: ["Bed", () => import("./views/bed.js"), null],
  board: ["Emergency board", () => import("./views/board.js"), "viewer"],
  subjects: ["Subjects", () => import("./views/subjects.js"), "clinician"],
  subject: ["Subject", () => import("./views/subject.js"), null],
  cohort: ["Synthetic cohort", () => import("./views/cohort.js"), "viewer"],
  models: ["Models", () => import("./views/models.js"), "viewer"],
  audit: ["Audit", () => import("./views/audit.js"), "admin"],
};
const PARENT = { bed: "ward", subject: "subjects" };
const main = document.getElementById("main");
let close = null, turn = 0, first = true;

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  return { name: VIEWS[name] ? name : "ward", rest, query: new URLSearchParams(query) };
}

async function show() {
  const mine = ++turn;
  const { name, rest, query } = place();
  const [title, load] = VIEWS[name];
  close?.();
  close = null;
  navigation(PARENT[name] ?? name);
  document.title = `${title} · caretrace`;
  fill(main, h("p", { class: "loading" }, "Loading …"));
  try {
    const view = await load();
    const end = await view.open(main, { rest, query });
    if (mine !== turn) return end?.();
    close = end ?? null;
  } catch (error) {
    if (mine === turn) await failed(error);
  }
  if (!first) main.focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
  first = false;
  main.dataset.view = name; // tests wait for it
}

async function failed(error) {
  if (error instanceof Refused && error.status === 401) return signIn();
  if (!(error instanceof Refused)) console.error(error);
  fill(main, h("section", { class: "panel" },
    h("h1", {}, "This could not be shown"),
    h("p", {}, error.message),
    h("p", {}, h("button", { type: "button", onclick: show }, "Try again"))));
}

function signIn() {
  const token = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const wrong = h("p", { class: "bad", role: "alert" });
  const send = async (event) => {
    event.preventDefault();
    try {
      await post("session", { token: token.value });
      await start();
    } catch (error) {
      say(wrong, error.message);
      token.focus();
    }
  };
  live.leave();
  document.getElementById("leave").hidden = true;
  fill(main, h("section", { class: "panel" },
    h("h1", {}, "Sign in"),
    h("p", {}, "This service asks for a token; whoever runs it makes one with caretrace serve --token."),
    h("form", { onsubmit: send },
      h("label", { for: "token" }, "Token"), token, " ", h("button", { class: "first" }, "Sign in")),
    wrong));
  token.focus();
  main.dataset.view = "sign-in";
}

function navigation(current) {
  fill(document.getElementById("nav"), Object.entries(VIEWS).filter(([, view]) => view[2] && may(view[2])).map(([name, [title]]) =>
    h("li", {}, h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, title))));
}

/** The line in the head, and the bar that cannot be overlooked. */
function freshness() {
  const line = document.getElementById("live");
  const lost = document.getElementById("lost");
  const waiting = !live.watching();
  const old = !waiting && !live.fresh();
  line.className = `live${old ? " off" : waiting || !live.connected() ? " idle" : ""}`;
  say(line, waiting ? "no ward followed" : old ? "connection lost" : live.connected() ? "live" : "connecting");
  document.documentElement.classList.toggle("old", old);
  lost.hidden = !old;
  if (old) say(lost, `▲ Nothing was heard from the service for ${age(live.silentFor())}. What is shown is old; do not act on it.`);
}

async function start() {
  try {
    setMe(await get("me"));
    const { who, role, open } = me();
    const alone = open || who === "local";
    say(document.getElementById("who"), alone ? "no sign-in on this machine" : `${who}, ${role}`);
    document.getElementById("leave").hidden = alone;
  } catch (error) {
    if (error.status === 401) return signIn();
  }
  await show();
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address behind # is the view's
  main.focus();
});
document.getElementById("leave").addEventListener("click", async () => {
  await send("DELETE", "session").catch(() => {});
  location.reload(); // nothing of what was shown stays
});
startTheme(document.getElementById("theme"));
addEventListener("hashchange", show);
setInterval(freshness, 1000);
start();
