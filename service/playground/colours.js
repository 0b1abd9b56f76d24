/** The theme, and its colours as a canvas needs them: style sheets alone say what they are. */

const THEMES = ["auto", "light", "dark"];
const NAMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const SIGNS = { auto: "◐", light: "○", dark: "●" };
const KEY = "penumbra.theme";

const probe = document.createElement("span");
const known = new Map();

/** A custom property's colour in the theme of now, or so many per cent of it: colour("--ink"), colour("--ink", 20). */
export function colour(name, share = 100) {
  const key = `${name} ${share}`;
  if (!known.has(key)) {
    if (!probe.isConnected) document.body.append(probe);
    probe.hidden = true;
    probe.style.color = share === 100 ? `var(${name})` : `color-mix(in srgb, var(${name}) ${share}%, transparent)`;
    known.set(key, getComputedStyle(probe).color);
  }
  return known.get(key);
}

/** Makes a button go through the themes; `changed` is called whenever colours are others. */
export function themed(button, changed) {
  const show = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = SIGNS[theme];
    button.title = NAMES[theme];
    button.setAttribute("aria-label", NAMES[theme]);
    known.clear();
  };
  let theme = stored();
  show(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // A browser that keeps nothing forgets it.
    }
    show(theme);
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    known.clear();
    changed();
  });
}

function stored() {
  try {
    const found = localStorage.getItem(KEY);
    return THEMES.includes(found) ? found : "auto";
  } catch {
    return "auto";
  }
}
