/** Tabs as keyboards and screen readers know them: one stop for Tab, arrow keys between them (ARIA practices). */

import { h } from "./dom.js";
import { counted, whole } from "./words.js";

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };

/**
 * A tab for each name, and beside them how far an answer has grown; `picked(name)` is called when somebody picked one.
 * `show(name)` shows its panel, `grown(samples, all)` the rest.
 */
export function tabs(names, panels, picked) {
  const keys = Object.keys(names);
  const buttons = keys.map((key) => h("button", {
    type: "button", role: "tab", id: `tab-${key}`, "aria-controls": `panel-${key}`, onclick: () => picked(key),
  }, names[key]));
  keys.forEach((key) => {
    panels[key].id = `panel-${key}`;
    panels[key].setAttribute("role", "tabpanel");
    panels[key].setAttribute("aria-labelledby", `tab-${key}`);
  });
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": "What is shown", onkeydown: (event) => {
    const from = buttons.indexOf(document.activeElement);
    const to = { Home: 0, End: keys.length - 1 }[event.key] ?? (event.key in STEPS ? (from + STEPS[event.key] + keys.length) % keys.length : -1);
    if (from < 0 || to < 0) return;
    event.preventDefault();
    buttons[to].focus();
    picked(keys[to]);
  } }, buttons);
  const count = h("span");
  const meter = h("span");
  const progress = h("div", { class: "progress" }, count, h("span", { class: "meter", "aria-hidden": "true" }, meter));
  return {
    element: h("div", { class: "tab-row" }, list, progress),
    grown(samples, all) {
      count.textContent = samples < all ? `${whole(samples)} of ${counted(all, "sample")}` : counted(all, "sample");
      meter.style.width = `${(100 * samples) / all}%`;
    },
    show(shown) {
      keys.forEach((key, index) => {
        buttons[index].setAttribute("aria-selected", key === shown);
        buttons[index].tabIndex = key === shown ? 0 : -1;
        panels[key].hidden = key !== shown;
      });
    },
  };
}
