// Numbers, times and states as people read them.

export const STATES = {
  active: { word: "Alarm", sign: "▲", rank: 0 },
  pending: { word: "Pending", sign: "△", rank: 1 },
  technical: { word: "Technical", sign: "◆", rank: 2 },
  stale: { word: "Stale", sign: "✕", rank: 3 },
  acknowledged: { word: "Acknowledged", sign: "✓", rank: 4 },
  cleared: { word: "Cleared", sign: "◇", rank: 5 },
  quiet: { word: "Quiet", sign: "○", rank: 6 },
};
export const REASONS = {
  sudden: "Sudden change", lasting: "Lasting deterioration", probe_off: "Probe off", flat: "Flat line", stale: "No samples",
};
export const CHANNELS = {
  hr: "Heart rate", spo2: "Oxygen saturation", resp: "Respiration", sbp: "Systolic pressure",
  dbp: "Diastolic pressure", map: "Mean pressure", temp: "Temperature",
};
export const SHORT = { hr: "HR", spo2: "SpO₂", resp: "RR", sbp: "Sys", dbp: "Dia", map: "MAP", temp: "Temp" };

export const state = (name) => STATES[name] ?? { word: name ?? "unknown", sign: "?", rank: 3 };
export const reason = (name) => REASONS[name] ?? String(name ?? "").replaceAll("_", " ");
export const known = (value) => typeof value === "number" && Number.isFinite(value);
export const number = (value, digits = 0) => (known(value) ? value.toFixed(digits).replace("-", "−") : "–");
export const percent = (value, digits = 0) => (known(value) ? `${(100 * value).toFixed(digits)} %` : "–");
export const count = (value) => (known(value) ? value.toLocaleString("en-GB") : "–");
export const readable = (name) => {
  const words = String(name).replaceAll("_", " ").replaceAll("//", " / ").trim();
  const first = words.charAt(0).toUpperCase() + words.slice(1);
  return first.replace(/\b(auroc|auprc|ece|vus pr|nnaa|r2|tpr|js|f1)\b/gi, (each) => (each === "r2" ? "R²" : each.toUpperCase()));
};

/** "62 % (48–75 %)", the interval always beside the value. */
export function risk(value, digits = 0) {
  if (!value || !known(value.value)) return "–";
  if (!known(value.low) || !known(value.high)) return `${percent(value.value, digits)} (no interval)`;
  return `${percent(value.value, digits)} (${(100 * value.low).toFixed(digits)}–${percent(value.high, digits)})`;
}

/** What an application's risk is of, where people have a word for it. */
export const OUTCOMES = { mortality: "of death in the stay" };

/** How long ago a risk was predicted by the ward's clock (epoch seconds), and whether that is too long to be one of now. */
export function predicted(value, now) {
  const past = now - seconds(value.time);
  return { ago: known(past) ? `${age(past)} ago` : "", old: known(past) ? past > (value.old_after_seconds ?? Infinity) : Boolean(value.old) };
}

export const seconds = (iso) => (iso ? Date.parse(iso) / 1000 : NaN);

/** "14:05:31"; with the day where asked. All times are UTC, as the service keeps them. */
export function clock(time, day = false) {
  const at = new Date(typeof time === "number" ? time * 1000 : time);
  if (Number.isNaN(at.getTime())) return "–";
  const text = at.toISOString();
  return day ? `${text.slice(0, 10)} ${text.slice(11, 16)}` : text.slice(11, 19);
}

export function age(value) {
  if (!known(value)) return "never";
  const s = Math.max(0, Math.round(value));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}
