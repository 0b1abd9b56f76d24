/** A picture to draw or to pick, as controls. Knows nothing of answers. */

import { colour } from "./colours.js";
import { h } from "./dom.js";
import { examplesFor } from "./examples.js";
import { Pad } from "./pad.js";

/** The controls for a subject's picture; `change(part)` as in `questionForm`. */
export function drawing(subject, change) {
  const { pixels } = subject;
  const pad = new Pad(pixels, (values) => change({ image: pixels.encoded(values) }));
  const eraser = h("input", { type: "checkbox", onchange: () => (pad.erasing = eraser.checked) });
  const { note, pictures } = examplesFor(subject);
  const examples = pictures.map(([name, image]) => {
    const small = h("canvas", { width: pixels.width, height: pixels.height, "aria-hidden": "true" });
    const take = () => change({ image, values: [0, 0, 0] }, { live: true });
    return { small, image, button: h("button", { type: "button", title: name, "aria-label": `Take ${name}`, onclick: take }, small) };
  });
  const element = h("div", { class: "drawing" },
    h("div", { class: "part-head" }, h("h2", null, examples.length ? "Draw or pick" : "Draw"),
      h("div", { class: "tools" }, h("label", { class: "quiet" }, eraser, " Erase"),
        h("button", { type: "button", class: "plain", onclick: () => change({ image: pixels.blank }) }, "Clear"))),
    h("div", { class: "sheet" }, pad.canvas,
      examples.length ? h("div", { class: "examples", role: "group", "aria-label": "Examples" }, examples.map((one) => one.button)) : null),
    note ? h("p", { class: "hint quiet" }, note) : null,
  );
  let now = null;
  return {
    element,
    show: (state) => {
      now = state;
      pad.show(pixels.decoded(state.image), subject.row(state));
      for (const { button, image } of examples) button.setAttribute("aria-pressed", image === state.image);
    },
    repaint: () => {
      for (const { small, image } of examples) pixels.paint(small, pixels.decoded(image), colour("--pixel"));
      if (now) pad.paint();
    },
  };
}
