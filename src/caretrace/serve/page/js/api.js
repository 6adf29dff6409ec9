// Every request of the page goes through here.

/** What the service refused, in its own words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path) => send("GET", path);
export const post = (path, body) => send("POST", path, body);

export async function send(method, path, body) {
  const options = { method, headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(0, "The service does not answer. Is it still running?");
  }
  const text = await answer.text();
  const value = parsed(text);
  if (!answer.ok) throw new Refused(answer.status, words(value) ?? `The service answered ${answer.status}.`);
  return value;
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

function words(value) {
  const detail = value?.detail ?? value?.error;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((each) => each.msg ?? String(each)).join("; ");
  return detail ? JSON.stringify(detail) : null;
}
