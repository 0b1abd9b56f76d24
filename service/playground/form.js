/** The question as controls: one for each input, and those of the committee. Knows nothing of answers. */

import { choice, ranged } from "./controls.js";
import { drawing } from "./drawing.js";
import { fill, h, idOf } from "./dom.js";
import { LEVELS, MOST_SAMPLES, MOST_SEED, methodsOf, numberIn, wholeIn } from "./state.js";
import { percent, tidy, untyped, whole } from "./words.js";

const SAMPLES_PER_DECADE = 10;

/**
 * Puts the controls for a state into two elements. `change(part)` is called with the parts of the state that somebody
 * changed, and with `{live: true}` where the answer shall be seen to grow. Returns what shows another state in them.
 */
export function questionForm({ inputs, committee }, manifest, subject, change) {
  let values = [];
  const rows = subject.dimensions.map((one, index) => dimension(one, (value) => change({ values: values.with(index, value) })));
  const picture = subject.kind === "picture" ? drawing(subject, change) : null;
  const reset = h("button", { type: "button", class: "plain", onclick: () => change({ values: subject.dimensions.map((one) => one.start) }) }, "Reset");
  const parts = {
    method: methodsOf(manifest).length > 1 ? methodField(manifest, change) : null,
    seed: seedField(change),
    samples: samplesField(change),
    dropout: dropoutField(manifest, change),
    level: choice(manifest.task === "regression" ? "Interval" : "Set level", LEVELS.map((one) => [one, percent(one)]), (level) => change({ level: Number(level) })),
  };
  fill(inputs,
    h("p", { class: "about" }, manifest.description || `${manifest.name}, version ${manifest.version}`),
    picture?.element,
    h("div", { class: "part-head" }, h("h2", null, picture ? "Distort" : "Inputs"), reset),
    h("div", { class: picture ? "lines" : "rows" }, rows.map((row) => row.element)),
  );
  fill(committee, h("h2", null, "Committee"), h("div", { class: "lines" }, Object.values(parts).map((one) => one?.element)));
  return {
    show(state) {
      ({ values } = state);
      rows.forEach((row, index) => row.show(values[index]));
      picture?.show(state);
      for (const [name, part] of Object.entries(parts)) part?.show(state[name]);
    },
    repaint: () => picture?.repaint(),
  };
}

function dimension(one, changed) {
  if (one.choices) return choice(one.label, one.choices.map(([name], place) => [place, name]), (place) => changed(Number(place)));
  return ranged(one.label, one.units, {
    ...one, fromSlider: tidy, toSlider: (value) => value, parse: (text) => numberIn(text, -1e30, 1e30), complaint: "a number", changed,
  });
}

function methodField({ members }, change) {
  const field = choice("Ask", [["dropout", "one network"], ["ensemble", `all ${members.length}`]], (method) => change({ method }));
  field.element.title = "Which networks are thinned: one, or all members of the ensemble, which take turns";
  return field;
}

const samplesField = (change) => ranged("Samples", null, {
  low: 0, high: Math.log10(MOST_SAMPLES) * SAMPLES_PER_DECADE, step: 1,
  fromSlider: (place) => rounded(10 ** (place / SAMPLES_PER_DECADE)), toSlider: (value) => Math.log10(value) * SAMPLES_PER_DECADE,
  parse: (text) => wholeIn(text.replaceAll(",", ""), 1, MOST_SAMPLES), complaint: `a whole number from 1 to ${whole(MOST_SAMPLES)}`,
  changed: (samples) => change({ samples }, { live: true }),
});

function seedField(change) {
  const id = idOf("seed");
  const field = h("input", {
    type: "text", id, inputmode: "numeric", autocomplete: "off", "aria-describedby": `${id}-hint`,
    onchange: () => {
      const seed = wholeIn(untyped(field.value), 0, MOST_SEED);
      field.setAttribute("aria-invalid", seed == null);
      hint.hidden = seed != null;
      if (seed != null) change({ seed }, { live: true });
    },
  });
  const hint = h("p", { class: "hint", id: `${id}-hint`, hidden: true }, `Must be a whole number from 0 to ${whole(MOST_SEED)}.`);
  const another = h("button", {
    type: "button", class: "small", title: "Another seed, another committee", onclick: () => change({ seed: crypto.getRandomValues(new Uint32Array(1))[0] % 100_000 }, { live: true }),
  }, "Another");
  return {
    element: h("div", { class: "row seed" }, h("label", { for: id }, "Seed"), another, field, hint),
    show: (seed) => {
      field.value = String(seed);
      field.removeAttribute("aria-invalid");
      hint.hidden = true;
    },
  };
}

/** Dropout as it was trained, or another p in every layer. */
function dropoutField(manifest, change) {
  const id = idOf("dropout");
  const rates = [...new Set(ratesOf(manifest.architecture))];
  const usual = rates[0] ?? 0.5;
  const box = h("input", { type: "checkbox", id, "aria-describedby": `${id}-hint`, onchange: () => change({ dropout: box.checked ? Number(slider.value) : null }) });
  const shown = h("output", { for: `${id}-p` });
  const slider = h("input", {
    type: "range", id: `${id}-p`, min: 0, max: 1, step: 0.05, value: usual, "aria-label": "Dropout p of every layer, slider",
    oninput: () => change({ dropout: Number(slider.value) }),
  });
  const hint = h("p", { class: "hint quiet", id: `${id}-hint` });
  const trained = rates.join(", ") || "its own";
  return {
    element: h("div", { class: "row dropout" }, h("label", { for: id }, box, "Dropout p"), slider, shown, hint),
    show: (dropout) => {
      box.checked = dropout != null;
      slider.disabled = dropout == null;
      slider.value = dropout ?? usual;
      shown.textContent = dropout == null ? "" : dropout.toFixed(2);
      hint.textContent = dropout == null ? `Trained with ${trained}; tick to change.` : `In every layer, instead of ${trained}.`;
    },
  };
}

/** All p in an architecture that are not 0, wherever they stand in it. */
function ratesOf(architecture) {
  return Object.entries(architecture)
    .filter(([name]) => name.includes("dropout"))
    .flatMap(([, rates]) => rates)
    .filter((rate) => typeof rate === "number" && rate > 0);
}

/** 1, 2, 3, … 10, 13, 16, 20, …: two digits are enough for a number of samples. */
const rounded = (value) => Number(value.toPrecision(value < 10 ? 1 : 2));
