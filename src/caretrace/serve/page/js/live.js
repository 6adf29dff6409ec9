// The stream of the ward: one connection for the whole page, and what is known about its freshness.

const SILENCE = 25; // seconds without any event after which nothing on the page counts as live
const listeners = new Map();
let source = null, ward = null, lastId = null, begun = 0, heard = 0, retry = null;

/** The ward's clock: it runs faster than the wall in a replay. */
const base = { time: NaN, at: 0, speed: 1 };

export function setClock(iso, speed) {
  const time = Date.parse(iso) / 1000;
  if (!Number.isFinite(time)) return;
  Object.assign(base, { time, at: performance.now(), speed: speed ?? base.speed });
}

/** Seconds since 1970 by the ward's clock; a lost connection does not stop it. */
export const now = () => base.time + ((performance.now() - base.at) / 1000) * base.speed;
export const speed = () => base.speed;
export const silentFor = () => (performance.now() - (heard || begun)) / 1000;
export const fresh = () => silentFor() < SILENCE;
export const connected = () => heard > 0;
export const watching = () => source !== null;

/** Call `f(data)` at every event of a kind: samples, scores, alarm; returns how to stop. */
export function on(kind, f) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(f);
  return () => listeners.get(kind).delete(f);
}

/** Follow a ward; after a break the browser asks for what came since the last event. */
export function follow(name) {
  if (source && ward === name) return;
  leave();
  ward = name;
  begun = performance.now();
  open();
}

export function leave() {
  clearTimeout(retry);
  source?.close();
  source = null;
  heard = 0;
}

function open() {
  const query = new URLSearchParams();
  if (ward) query.set("ward", ward);
  if (lastId) query.set("after", lastId);
  source = new EventSource(`stream?${query}`);
  source.onerror = () => {
    if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    retry = setTimeout(open, 3000);
  };
  for (const kind of ["samples", "scores", "alarm", "beat"]) source.addEventListener(kind, (event) => hear(kind, event));
}

function hear(kind, event) {
  heard = performance.now();
  if (event.lastEventId) lastId = event.lastEventId;
  let data = null;
  try {
    data = JSON.parse(event.data);
  } catch {
    return; // a beat may be empty
  }
  if (data?.time) setClock(data.time);
  for (const f of listeners.get(kind) ?? []) f(data);
}
