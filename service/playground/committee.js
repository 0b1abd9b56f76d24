/** A classification's answer for one row: what each class gets, from whom, and who votes for it. */

import { fill, h, s } from "./dom.js";
import { number, percent, whole } from "./words.js";

const COLOURS = 10;
const MOST_CLASSES = 12;
const WIDE = 400; // units of the drawing, stretched to the width there is
const HIGH = 28;

/** A class has the same colour wherever it is seen: as a class of the style sheet, and as the name of a colour. */
export const classOf = (index) => `class-${index % COLOURS}`;
export const classColour = (index) => `--${classOf(index)}`;

/** A line per class: each thinned network as a dot, their mean and its spread; and the votes. */
export function committee(answer, draws, labels) {
  const [probabilities, std, votes] = [answer.probabilities[0], answer.std?.[0], answer.votes[0]];
  const order = labels.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  // Few classes stay in their own order, where each has its place.
  const shown = labels.length <= MOST_CLASSES ? labels.map((_, index) => index) : order.slice(0, MOST_CLASSES);
  const rows = shown.map((index) => h("tr", { class: index === order[0] ? `${classOf(index)} leads` : classOf(index) },
    h("th", { scope: "row" }, labels[index]),
    h("td", { class: "strip" }, strip(probabilities[index], std?.[index], draws.map((one) => one[0][index]))),
    h("td", { class: "figure" }, percent(probabilities[index])),
    h("td", { class: "figure quiet" }, std ? `± ${(100 * std[index]).toFixed(std[index] < 0.0995 ? 1 : 0)}` : "–"),
    h("td", { class: "figure" }, whole(votes[index])),
  ));
  return h("table", { class: "committee" },
    h("caption", { class: "unseen" }, "Probability of each class, its spread among thinned networks, and votes"),
    h("thead", null, h("tr", null,
      h("th", { scope: "col" }, "Class"),
      h("th", { scope: "col", class: "strip" }, h("span", null, "0"), h("span", null, "probability"), h("span", null, "1")),
      h("th", { scope: "col", class: "figure" }, "Mean"),
      h("th", { scope: "col", class: "figure" }, "Spread"),
      h("th", { scope: "col", class: "figure" }, "Votes"),
    )),
    h("tbody", null, rows),
  );
}

function strip(mean, std, points) {
  const at = (share) => (6 + share * (WIDE - 12)).toFixed(1);
  const from = Math.max(0, mean - (std ?? 0));
  const to = Math.min(1, mean + (std ?? 0));
  return s("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line", { class: "ground", x1: at(0), x2: at(1), y1: HIGH / 2, y2: HIGH / 2 }),
    s("rect", { class: "spread", x: at(from), y: HIGH / 2 - 7, width: Math.max(0, at(to) - at(from)), height: 14, rx: 2 }),
    // Points of equal probability stand beside each other; which goes where depends on the network alone.
    points.map((share, index) => s("line", {
      class: "one", x1: at(share), x2: at(share), y1: 5 + ((index * 0.618) % 1) * 14, y2: 9 + ((index * 0.618) % 1) * 14,
    })),
    s("line", { class: "mean", x1: at(mean), x2: at(mean), y1: 3, y2: HIGH - 3 }),
  );
}

/** All votes side by side, those for the leading classes first. */
export function ballot(votes, labels) {
  const all = votes.reduce((sum, one) => sum + one, 0);
  const order = votes.map((_, index) => index).filter((index) => votes[index] > 0).sort((a, b) => votes[b] - votes[a] || a - b);
  const said = order.map((index) => `${labels[index]}: ${votes[index]}`).join(", ");
  return h("div", { class: "ballot", role: "img", "aria-label": `Votes. ${said}` },
    order.map((index) => h("span", { class: classOf(index), style: { "flex-grow": votes[index] } }, votes[index] / all > 0.08 ? `${labels[index]} · ${whole(votes[index])}` : "")),
  );
}

/** What the doubt consists of: parts of a whole, each with its name, its size and what it means. */
export function doubt(element, { title, whole: all, parts, unit }) {
  const rest = 1 - parts.reduce((sum, part) => sum + part.share, 0);
  return fill(element,
    h("div", { class: "doubt-head" }, h("h3", null, title), h("p", { class: "figure" }, all)),
    h("div", { class: "doubt-bar", "aria-hidden": "true" },
      parts.map((part) => h("span", { class: part.kind, style: { "flex-grow": Math.max(part.share, 0) } })),
      rest > 0.001 ? h("span", { class: "rest", style: { "flex-grow": rest } }) : null,
    ),
    h("dl", { class: "doubt-parts" }, parts.map((part) => h("div", { class: part.kind },
      h("dt", null, part.name), h("dd", null, h("strong", null, number(part.value), unit ? ` ${unit}` : ""), ` ${part.meaning}`),
    ))),
  );
}
