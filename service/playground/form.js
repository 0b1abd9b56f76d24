/** The question as controls: one for each input, and those of the committee. Knows nothing of answers. */

import { colour } from "./colours.js";
import { fill, h, idOf } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { Pad } from "./pad.js";
import { LEVELS, MOST_SAMPLES, MOST_SEED, numberIn, wholeIn } from "./state.js";
import { tidy, whole } from "./words.js";

const SAMPLES_PER_DECADE = 10;

/**
 * Puts the controls for a state into two elements. `change(part)` is called with the parts of the state that somebody
 * changed, and with `{live: true}` where the answer shall be seen to grow. Returns what shows another state in them.
 */
export function questionForm({ inputs, committee }, manifest, subject, change) {
  const rows = subject.dimensions.map((one, index) => dimension(one, (value, values) => change({ values: values.with(index, value) })));
  const picture = subject.kind === "picture" ? drawing(subject, change) : null;
  const samples = ranged("Samples", null, {
    low: 0, high: Math.log10(MOST_SAMPLES) * SAMPLES_PER_DECADE, step: 1,
    fromSlider: (place) => rounded(10 ** (place / SAMPLES_PER_DECADE)), toSlider: (value) => Math.log10(value) * SAMPLES_PER_DECADE,
    parse: (text) => wholeIn(text, 1, MOST_SAMPLES), complaint: `a whole number from 1 to ${whole(MOST_SAMPLES)}`,
    changed: (value) => change({ samples: value }, { live: true }),
  });
  const seed = seedField(change);
  const dropout = whatIf(manifest, change);
  const level = choice("Interval", LEVELS.map((one) => [String(one), `${Math.round(one * 100)} %`]), (value) => change({ level: Number(value) }));
  const reset = h("button", { type: "button", class: "plain", onclick: () => change({ values: subject.dimensions.map((one) => one.start) }) }, "Reset");

  fill(inputs,
    h("p", { class: "about" }, manifest.description || `${manifest.name}, version ${manifest.version}`),
    picture?.element,
    h("div", { class: "part-head" }, h("h2", null, picture ? "Disturb it" : "Inputs"), reset),
    h("div", { class: "rows" }, rows.map((row) => row.element)),
  );
  fill(committee,
    h("h2", null, "Committee"),
    h("div", { class: "lines" }, seed.element, samples.element, dropout.element, level.element),
  );

  let values = [];
  rows.forEach((row) => (row.values = () => values));
  return {
    show(state) {
      ({ values } = state);
      rows.forEach((row, index) => row.show(state.values[index]));
      picture?.show(state);
      samples.show(state.samples);
      seed.show(state.seed);
      dropout.show(state.dropout);
      level.show(String(state.level));
    },
    repaint: () => picture?.repaint(),
  };
}

function dimension(one, changed) {
  const row = one.categories
    ? choice(one.label, one.categories.map((name, index) => [String(index), name]), (text) => changed(Number(text), row.values()))
    : ranged(one.label, one.units, {
      low: one.low, high: one.high, step: one.step, trained: one.trained,
      fromSlider: tidy, toSlider: (value) => value, parse: (text) => numberIn(text, -1e30, 1e30), complaint: "a number",
      changed: (value) => changed(value, row.values()),
    });
  return row;
}

/** A number that can be slid and typed. What is typed may lie beyond the slider. */
function ranged(label, note, { low, high, step, trained, fromSlider, toSlider, parse, complaint, changed }) {
  const id = idOf(label);
  const hint = h("p", { class: "hint", id: `${id}-hint`, hidden: true });
  const slider = h("input", {
    type: "range", id: `${id}-slider`, min: low, max: high, step: step ?? "any", "aria-label": `${label}, slider`, disabled: high <= low,
    oninput: () => {
      const value = fromSlider(Number(slider.value));
      if (show(value)) changed(value);
    },
  });
  const field = h("input", {
    type: "text", id, inputmode: "decimal", autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}-hint`,
    onchange: () => {
      const value = parse(field.value.replace("−", "-").trim());
      field.setAttribute("aria-invalid", value == null);
      if (value == null) {
        hint.hidden = false;
        hint.textContent = `Must be ${complaint}.`;
      } else if (show(value)) changed(value);
    },
  });
  if (trained && high > low) {
    const place = (value) => `${(100 * (value - low)) / (high - low)}%`;
    slider.style.setProperty("--from", place(trained[0]));
    slider.style.setProperty("--to", place(trained[1]));
    slider.classList.add("has-range");
  }
  let now = null;
  function show(value) {
    const other = value !== now;
    now = value;
    const text = String(value);
    if (field.value !== text) field.value = text;
    field.removeAttribute("aria-invalid");
    slider.value = toSlider(value);
    const beyond = trained && (value < trained[0] || value > trained[1]);
    hint.hidden = !beyond;
    hint.textContent = beyond ? `Outside ${tidy(trained[0])} … ${tidy(trained[1])}, the range seen in training.` : "";
    return other;
  }
  const element = h("div", { class: "row" },
    h("label", { for: id }, label, note ? h("span", { class: "quiet" }, ` (${note})`) : null), field, slider, hint);
  return { element, show };
}

function choice(label, options, changed) {
  const name = idOf(label);
  const inputs = options.map(([value, text]) => h("label", null,
    h("input", { type: "radio", name, value, onchange: () => changed(value) }), h("span", null, text)));
  const element = h("fieldset", { class: "row choice" }, h("legend", null, label), h("div", { class: "segments" }, inputs));
  return {
    element,
    show: (value) => inputs.forEach((one) => (one.firstChild.checked = one.firstChild.value === value)),
  };
}

function seedField(change) {
  const id = idOf("seed");
  const field = h("input", {
    type: "text", id, inputmode: "numeric", autocomplete: "off", "aria-describedby": `${id}-hint`,
    onchange: () => {
      const seed = wholeIn(field.value.trim(), 0, MOST_SEED);
      field.setAttribute("aria-invalid", seed == null);
      hint.hidden = seed != null;
      if (seed != null) change({ seed }, { live: true });
    },
  });
  const hint = h("p", { class: "hint", id: `${id}-hint`, hidden: true }, "Must be a whole number from 0 to 9,007,199,254,740,991.");
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

/** Dropout as it was trained, or what if every layer's p were another. */
function whatIf(manifest, change) {
  const id = idOf("what-if");
  const rates = [...new Set(ratesOf(manifest.architecture))];
  const trained = rates.length ? rates.join(", ") : "its own";
  const usual = rates.find((rate) => rate > 0) ?? 0.5;
  const box = h("input", { type: "checkbox", id, onchange: () => change({ dropout: box.checked ? Number(slider.value) : null }) });
  const shown = h("output", { for: `${id}-p` });
  const slider = h("input", {
    type: "range", id: `${id}-p`, min: 0, max: 1, step: 0.05, value: usual, "aria-label": "Dropout p of every layer, slider",
    oninput: () => change({ dropout: Number(slider.value) }),
  });
  return {
    element: h("div", { class: "row what-if" },
      h("label", { for: id, title: `Dropout: every layer drops its units with this probability, instead of ${trained}` }, box, "What if p"), slider, shown),
    show: (dropout) => {
      box.checked = dropout != null;
      slider.disabled = dropout == null;
      slider.value = dropout ?? usual;
      shown.textContent = dropout == null ? trained : dropout.toFixed(2);
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

function drawing(subject, change) {
  const { pixels } = subject;
  const pad = new Pad(pixels, (values) => change({ image: pixels.encoded(values) }));
  const eraser = h("input", { type: "checkbox", onchange: () => (pad.erasing = eraser.checked) });
  const examples = subject.digits
    ? EXAMPLES.map(([name, text]) => {
      const small = h("canvas", { width: pixels.width, height: pixels.height, "aria-hidden": "true" });
      const image = pixels.width === 8 && pixels.height === 8 && pixels.most === 16 ? text : pixels.enlarged(text);
      const button = h("button", { type: "button", title: name, "aria-label": `Take ${name}`, onclick: () => change({ image, values: [0, 0, 0] }, { live: true }) }, small);
      return { button, small, image };
    })
    : [];
  const element = h("div", { class: "drawing" },
    h("div", { class: "part-head" }, h("h2", null, "Draw or pick"),
      h("div", { class: "tools" }, h("label", { class: "quiet" }, eraser, " Erase"),
        h("button", { type: "button", class: "plain", onclick: () => change({ image: pixels.blank }) }, "Clear"))),
    pad.canvas,
    examples.length ? h("div", { class: "examples", role: "group", "aria-label": "Examples" }, examples.map((one) => one.button)) : null,
  );
  let now = null;
  const paint = () => examples.forEach(({ small, image }) => pixels.paint(small, pixels.decoded(image), colour("--pixel")));
  return {
    element,
    show: (state) => {
      now = state;
      pad.show(pixels.decoded(state.image), subject.row(state));
      for (const { button, image } of examples) button.setAttribute("aria-pressed", image === state.image);
    },
    repaint: () => {
      paint();
      if (now) pad.paint();
    },
  };
}

/** 1, 2, 3, … 10, 13, 16, 20, …: two digits are enough for a number of samples. */
const rounded = (value) => Number(value.toPrecision(value < 10 ? 1 : 2));
