/** Controls: what each looks like, says and returns. Knows nothing of models. */

import { h, idOf } from "./dom.js";
import { plain, tidy, typed, untyped } from "./words.js";

/**
 * A number that can be slid and typed; what is typed may lie beyond the slider. Where it may be `missing` there is a box
 * for that, and its value is null then.
 */
export function ranged(label, note, { low, high, step, trained, missing, fromSlider, toSlider, parse, complaint, changed }) {
  const id = idOf(label);
  const hint = h("p", { class: "hint", id: `${id}-hint`, hidden: true });
  const take = (value) => show(value) && changed(value);
  const slider = h("input", {
    type: "range", id: `${id}-slider`, min: low, max: high, step: step ?? "any", "aria-label": `${label}, slider`, disabled: high <= low,
    oninput: () => take(fromSlider(Number(slider.value))),
  });
  const field = h("input", {
    type: "text", id, inputmode: "decimal", autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}-hint`,
    onchange: () => {
      const text = untyped(field.value);
      const value = missing && text === "" ? null : parse(text);
      const wrong = value == null && !(missing && text === "");
      field.setAttribute("aria-invalid", wrong);
      if (wrong) {
        hint.hidden = false;
        hint.textContent = `Must be ${complaint}.`;
      } else take(value);
    },
  });
  const absent = missing ? h("input", { type: "checkbox", "aria-label": `${label} is missing`, onchange: () => take(absent.checked ? null : tidy(Number(slider.value))) }) : null;
  if (trained && high > low) {
    const place = (value) => `${(100 * (value - low)) / (high - low)}%`;
    slider.style.setProperty("--from", place(trained[0]));
    slider.style.setProperty("--to", place(trained[1]));
    slider.classList.add("has-range");
  }
  let now;
  function show(value) {
    const other = value !== now;
    now = value;
    const text = value == null ? "" : typed(value);
    if (field.value !== text) field.value = text;
    field.removeAttribute("aria-invalid");
    field.placeholder = value == null ? "missing" : "";
    slider.disabled = value == null || high <= low;
    if (value != null) slider.value = toSlider(value);
    if (absent) absent.checked = value == null;
    const beyond = trained && value != null && (value < trained[0] || value > trained[1]);
    hint.hidden = !beyond;
    hint.textContent = beyond ? `Outside ${plain(trained[0])} … ${plain(trained[1])}, the range seen in training.` : "";
    return other;
  }
  const name = h("label", { for: id }, label, note ? h("span", { class: "quiet" }, ` (${note})`) : null);
  const element = h("div", { class: "row" },
    absent ? h("div", { class: "name" }, name, h("label", { class: "absent quiet" }, absent, "missing")) : name, field, slider, hint);
  return { element, show };
}

const MOST_SEGMENTS = 6;

/** One of a few options, pairs of a value and a name, side by side; of many, as a list that opens. */
export function choice(label, options, changed) {
  if (options.length > MOST_SEGMENTS) {
    const list = select(label, options, changed);
    list.element.className = "row list";
    return list;
  }
  const name = idOf(label);
  const inputs = options.map(([value, text]) => h("label", null,
    h("input", { type: "radio", name, value, onchange: () => changed(value) }), h("span", null, text)));
  const element = h("fieldset", { class: "row choice" }, h("legend", null, label), h("div", { class: "segments" }, inputs));
  return {
    element,
    show: (value) => inputs.forEach((one) => (one.firstChild.checked = one.firstChild.value === String(value))),
  };
}

/** One of a list that opens. */
export function select(label, options, changed) {
  const id = idOf(label);
  const list = h("select", { id, onchange: () => changed(list.value) }, options.map(([value, text]) => h("option", { value }, text)));
  return {
    element: h("span", { class: "select" }, h("label", { for: id }, label), list),
    show: (value) => {
      if (value != null) list.value = value;
    },
  };
}
