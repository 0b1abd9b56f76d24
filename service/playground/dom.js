/** Elements in one expression. Text never becomes markup. */

const SVG = "http://www.w3.org/2000/svg";

/** h("p", {class: "note", onclick: f, style: {width: "3em"}}, "text", child): an element. Null and false are left out. */
export const h = (tag, attributes, ...children) => made(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const s = (tag, attributes, ...children) => made(document.createElementNS(SVG, tag), attributes, children);

const taken = new Set();

/** An id that tells what it is of, and that nothing else has: two inputs may differ in their punctuation alone. */
export function idOf(label) {
  let id = `in-${label.replace(/\W+/g, "-")}`;
  while (taken.has(id)) id += "_";
  taken.add(id);
  return id;
}

/** Ids can be given again: what had them is gone. */
export const forgetIds = () => taken.clear();

/** Puts other children where the old ones were. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}
