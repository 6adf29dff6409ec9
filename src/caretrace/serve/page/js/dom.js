// Elements without markup in strings: what the service says is text, and stays text.

/** h("p", {class: "x", onclick: f}, "text", child, …) → element; null children are left out. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [property, set] of Object.entries(value)) element.style.setProperty(property, set);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child);
  }
}

/** Show these children, and nothing else, in an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Set a text only where it differs: the rest of the page is not laid out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table with a heading per column; `columns` are [title, numeric], rows lists of cells. */
export function table(caption, columns, rows) {
  const cell = (value, index) => {
    const name = index === 0 ? "th" : "td";
    const attributes = { class: columns[index][1] ? "n" : null, scope: index === 0 ? "row" : null };
    return h(name, attributes, Array.isArray(value) ? value : value ?? "–");
  };
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, n]) => h("th", { scope: "col", class: n ? "n" : null }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))));
}

/** One Tab stop for many elements; arrows, Home and End move between them. */
export function roving(container, selector) {
  const items = () => [...container.querySelectorAll(selector)];
  const focusOn = (element) => {
    for (const each of items()) each.tabIndex = each === element ? 0 : -1;
    element.focus();
  };
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item) for (const each of items()) each.tabIndex = each === item ? 0 : -1;
  });
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(event.target.closest(selector));
    const to = at < 0 ? -1 : next(all, at, event.key);
    if (to < 0) return;
    event.preventDefault();
    focusOn(all[to]);
  });
}

function next(all, at, key) {
  const last = all.length - 1;
  if (key === "ArrowRight") return Math.min(at + 1, last);
  if (key === "ArrowLeft") return Math.max(at - 1, 0);
  if (key === "Home") return 0;
  if (key === "End") return last;
  if (key !== "ArrowDown" && key !== "ArrowUp") return -1;
  const here = all[at].getBoundingClientRect();
  const way = key === "ArrowDown" ? 1 : -1;
  for (let i = at + way; i >= 0 && i <= last; i += way) {
    const there = all[i].getBoundingClientRect();
    if ((there.top - here.top) * way > 4 && Math.abs(there.left - here.left) < 4) return i;
  }
  return way > 0 && all[last].getBoundingClientRect().top > here.top + 4 ? last : at;
}

/** A message that goes away by itself and that screen readers speak. */
export function tell(text) {
  const line = h("p", {}, text);
  document.getElementById("told").append(line);
  setTimeout(() => line.remove(), 8000);
}
