/** What the manifest knows of how far the model's doubt can be trusted. What it doesn't know is said, not drawn. */

import { h, s } from "./dom.js";
import { counted, number, percent, whole } from "./words.js";

const SIDE = 300; // units of a square diagram
const NAMES = {
  rmse: "Root mean squared error", mae: "Mean absolute error", r2: "R²", accuracy: "Accuracy", brier: "Brier score",
  log_likelihood: "Log-likelihood", nll: "Negative log-likelihood", crps: "CRPS", ece: "Expected calibration error",
};
const PLAIN = { ridge: "Ridge regression", logistic_regression: "Logistic regression", sklearn_mlp: "scikit-learn’s MLP" };
const SHARES = new Set(["accuracy", "ece"]);

// Kinds of intervals and sets, each with its mark in the diagram.
const PROMISES = { "": "Predictive intervals", conformal_: "Conformal intervals", set_: "Prediction sets" };
const MARKS = { "": "open", conformal_: "full", set_: "full" };
const RADII = { open: 6, full: 4 }; // one is seen around the other

/** The tab, for a manifest. */
export function calibrationView(manifest) {
  return [
    coverage(manifest) ?? h("p", { class: "nothing" }, "This version’s manifest says nothing about coverage."),
    fitted(manifest.calibration ?? {}, manifest.task),
    heldOut(manifest),
    ...distributions(manifest),
  ];
}

/** Promised against held: the held-out figures named `coverage_90` and the like, and what conformity scores say of all levels. */
function coverage({ task, metrics, calibration }) {
  const points = Object.entries(metrics?.test ?? {}).flatMap(([name, held]) => {
    const [, what, level] = /^(|conformal_|set_)coverage_(\d+)$/.exec(name) ?? [];
    return level ? [{ kind: what, promised: Number(level) / 100, held }] : [];
  });
  // Scores are |y − mean| / std: under a normal distribution an interval of ± score promises erf(score / √2).
  const { levels, quantiles, rows } = calibration?.conformal ?? {};
  const scores = task === "regression" && quantiles ? quantiles[0] : [];
  const curve = scores.flatMap((score, index) => (score == null ? [] : [[erf(score / Math.SQRT2), levels[index]]]));
  if (!points.length && !curve.length) return null;
  const key = [
    ...points.map(({ kind, promised, held }) => [MARKS[kind], `${PROMISES[kind]} at ${percent(promised)} held ${percent(held, 1)} of the held-out rows.`]),
    ...(curve.length ? [["line", `All levels, on the ${whole(rows)} rows used to calibrate, before calibration.`]] : []),
    ["ideal", "Ideal: what is promised is what is held."],
  ];
  return h("section", null, h("h3", null, "Coverage"), figure(key, points, curve));
}

/** The error function, to seven digits (Abramowitz and Stegun 1964, 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * x);
  const sum = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592].reduce((total, term) => total * t + term, 0);
  return 1 - sum * t * Math.exp(-x * x);
}

/** What was fitted on rows that the weights were not. */
function fitted({ temperature, conformal, conformal_ensemble }, task) {
  const [what, otherwise] = task === "regression" ? ["Conformal intervals", "the interval is the predictive one"] : ["Prediction sets", "there is no set"];
  const held = [conformal, conformal_ensemble].filter(Boolean).map(({ samples, method }) => `${counted(samples, "sample")} by ${method}`);
  const sentences = [
    held.length ? `${what} hold for ${held.join(" or ")}, at the dropout rates of training. With other settings ${otherwise}.` : null,
    temperature ? `Temperature: ${number(temperature)}.` : null,
  ].filter(Boolean);
  return sentences.length ? h("section", null, h("h3", null, "Calibrated"), sentences.map((sentence) => h("p", null, sentence))) : null;
}

function figure(key, points, curve) {
  const at = ([x, y]) => [34 + x * (SIDE - 44), SIDE - 34 - y * (SIDE - 54)];
  const ticks = [0, 0.5, 1];
  const line = (from, to, kind) => s("line", { class: kind, x1: at(from)[0], y1: at(from)[1], x2: at(to)[0], y2: at(to)[1] });
  const told = points.map(({ promised, held }) => `promised ${percent(promised)}, held ${percent(held, 1)}`).join("; ");
  return h("figure", { class: "diagram" },
    s("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", "aria-label": `Coverage: ${told}` },
      ticks.map((tick) => [line([0, tick], [1, tick], "grid"), line([tick, 0], [tick, 1], "grid"),
        s("text", { x: at([tick, 0])[0], y: SIDE - 16, "text-anchor": "middle" }, `${tick * 100}`),
        s("text", { x: 28, y: at([0, tick])[1] + 4, "text-anchor": "end" }, `${tick * 100}`)]),
      s("text", { x: SIDE - 10, y: SIDE - 2, "text-anchor": "end" }, "promised, %"),
      s("text", { x: 34, y: 11, "text-anchor": "start" }, "held, %"),
      line([0, 0], [1, 1], "ideal"),
      curve.length ? s("polyline", { class: "found", points: curve.map((point) => at(point).join()).join(" ") }) : null,
      points.map(({ kind, promised, held }) => s("circle", { class: MARKS[kind], cx: at([promised, held])[0], cy: at([promised, held])[1], r: RADII[MARKS[kind]] })),
    ),
    h("figcaption", null, h("ul", { class: "key" }, key.map(([mark, text]) => h("li", null, sign(mark), text)))));
}

/** A mark of the diagram beside what it means. */
const sign = (mark) => s("svg", { viewBox: "0 0 18 12", "aria-hidden": "true" },
  mark === "line" ? s("polyline", { class: "found", points: "1,9 6,7 11,5 17,2" })
    : mark === "ideal" ? s("line", { class: "ideal", x1: 1, y1: 10, x2: 17, y2: 2 })
      : s("circle", { class: mark, cx: 9, cy: 6, r: RADII[mark] - 1 }));

function heldOut({ metrics, provenance, members }) {
  const test = metrics?.test ?? {};
  const others = Object.entries(metrics?.baseline ?? {}).filter(([, found]) => found && typeof found === "object");
  const names = Object.keys(NAMES).filter((name) => typeof test[name] === "number");
  if (!names.length) return h("p", { class: "nothing" }, "This version’s manifest has no figures on held-out rows.");
  const text = (name, value) => (value == null ? "–" : SHARES.has(name) ? percent(value, 1) : number(value));
  const rows = provenance?.rows?.test;
  return h("section", null,
    h("h3", null, "On held-out rows"),
    rows ? h("p", { class: "quiet" }, `${whole(rows)} rows that training never saw; committees of ${counted(test.samples ?? 0, "sample")}.`) : null,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Held-out figures" }, h("table", { class: "figures" },
      h("thead", null, h("tr", null, ["", "Committee", members?.length ? "Members’ mean" : "Full network", ...others.map(([name]) => PLAIN[name] ?? name)].map((name) => (name ? h("th", { scope: "col" }, name) : h("td"))))),
      h("tbody", null, names.map((name) => h("tr", null, h("th", { scope: "row" }, NAMES[name]),
        [test[name], test[`${name}_full_network`], ...others.map(([, found]) => found[name])].map((value) => h("td", null, text(name, value)))))),
    )));
}

const QUANTITIES = {
  epistemic_std: "Epistemic standard deviation", predictive_std: "Total standard deviation",
  mutual_information: "Mutual information", predictive_entropy: "Predictive entropy",
};

/** How doubtful the model usually is: nine edges between tenths of the validation rows. */
function distributions({ uncertainty, outputs, task }) {
  const found = Object.entries(uncertainty?.distributions ?? {}).filter(([name, one]) => QUANTITIES[name] && one.edges?.length > 1);
  if (!found.length) return [];
  const scale = task === "regression" && outputs.length === 1 ? outputs[0].scale : 1;
  const unit = task === "classification" ? " nats" : "";
  return [h("section", null,
    h("h3", null, "How much doubt is usual"),
    h("p", { class: "quiet" }, `${whole(uncertainty.values)} values on validation rows, in tenths: the bar spans the middle eight, the strong mark is the median.`),
    found.map(([name, { edges }]) => {
      const [low, high] = [edges[0] * scale, edges.at(-1) * scale];
      const at = (edge) => `${(100 * edge * scale) / high}%`;
      return h("div", { class: "tenths" }, h("span", null, QUANTITIES[name]),
        h("span", { class: "line", "aria-hidden": "true" },
          h("span", { class: "bar", style: { left: at(edges[0]), width: `calc(${at(edges.at(-1))} - ${at(edges[0])})` } }),
          edges.map((edge, index) => h("span", { class: index === Math.floor(edges.length / 2) ? "tick middle" : "tick", style: { left: at(edge) } }))),
        h("span", { class: "quiet" }, `${number(low)} … ${number(high)}${unit}`));
    }))];
}
