// Light, dark, or as the system says; remembered in this browser.

const ORDER = ["system", "light", "dark"];
const changed = new Set();

export function startTheme(button) {
  let chosen = ORDER.includes(stored()) ? stored() : "system";
  const show = () => {
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    button.textContent = `Theme: ${chosen}`;
    for (const f of changed) f();
  };
  button.addEventListener("click", () => {
    chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
    try { localStorage.setItem("caretrace-theme", chosen); } catch { /* private windows remember nothing */ }
    show();
  });
  for (const media of ["(prefers-color-scheme: dark)", "print"]) matchMedia(media).addEventListener("change", show);
  show();
}

/** Call `f` when the theme changed: canvases have to be drawn again. Returns how to stop. */
export function onTheme(f) {
  changed.add(f);
  return () => changed.delete(f);
}

/** A colour of css/theme.css, as it is now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function stored() {
  try {
    return localStorage.getItem("caretrace-theme");
  } catch {
    return null;
  }
}
