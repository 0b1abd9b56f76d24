/** What a chart shows of an answer to a sweep, with its legend and its table. Draws nothing. */

import { classColour } from "./committee.js";
import { voters } from "./question.js";
import { number, pair, percent, whole } from "./words.js";

// Two-sided quantiles of the normal distribution, for bands of standard deviations beside an interval of that level.
const WIDTHS = { 0.5: 0.6745, 0.8: 1.2816, 0.9: 1.6449, 0.95: 1.96, 0.99: 2.5758 };
const NAMES = ["first", "second", "third"];
const NOTED = 0.2; // a probability that another class must reach somewhere to be shown

/** Of one output: its mean, what the networks disagree about, all that is unknown, and the calibrated interval. */
export function regressionCurves(question, { answer, draws }, output) {
  const { summary, manifest } = question;
  const column = (matrix) => matrix?.slice(1).map((row) => row[output]) ?? null;
  const [mean, std, epistemic] = [answer.mean, answer.std, answer.epistemic_std].map(column);
  const { kind } = answer.interval;
  const interval = { lower: column(answer.interval.lower), upper: column(answer.interval.upper) };
  const width = WIDTHS[summary.interval];
  const around = (spread) => spread && { upper: mean.map((one, i) => one + width * spread[i]), lower: mean.map((one, i) => one - width * spread[i]) };
  const total = kind === "predictive" ? interval : kind === "conformal" ? around(std) : null;
  const { name } = manifest.outputs[output];
  const level = percent(summary.interval);
  return {
    label: name, here: answer.mean[0][output], total,
    conformal: kind === "conformal" ? interval : null,
    first: { mean, ...(around(epistemic) ?? {}) },
    curves: draws.map((rows) => rows.slice(1).map((row) => row[output])),
    legend: [
      ["line", "mean"],
      ["band", `epistemic, ± ${width.toFixed(2)} std`],
      ...(total ? [["band-total", `total, ${level}`]] : []),
      ...(kind === "conformal" ? [["conformal", `conformal, ${level}`]] : []),
      ["curve", drawn(question, draws) + flat(question)],
    ],
    columns: ["Mean", "Epistemic ±", "Total ±", `${level} from`, "to"],
    figures: (at) => [mean, epistemic, std, interval.lower, interval.upper].map((list) => number(list?.[at])),
    told: (at) => `${name} ${pair(mean[at], std?.[at]).filter(Boolean).join(" ± ")}`,
  };
}

/** One class; of many also the runner-up, and those that come closest somewhere on the way. Each has its own colour. */
export function classCurves(question, { answer, draws }, chosen) {
  const { manifest } = question;
  const labels = manifest.outputs.map((output) => output.name);
  const [probabilities, std] = [answer.probabilities.slice(1), answer.std?.slice(1)];
  const shown = [chosen, ...rivals(answer.probabilities, chosen)];
  const curve = (index) => ({
    colour: classColour(index),
    mean: probabilities.map((row) => row[index]),
    upper: std?.map((row, i) => Math.min(1, probabilities[i][index] + row[index])),
    lower: std?.map((row, i) => Math.max(0, probabilities[i][index] - row[index])),
  });
  return {
    label: `Probability of ${labels[chosen]}`, here: answer.probabilities[0][chosen], bounds: [0, 1],
    ...Object.fromEntries(shown.map((index, place) => [NAMES[place], curve(index)])),
    curves: draws.map((rows) => rows.slice(1).map((row) => row[chosen])),
    legend: [
      ...shown.map((index) => ["line", labels[index], index]),
      ["band", "± one standard deviation", chosen],
      ["curve", `${drawn(question, draws)} on ${labels[chosen]}${flat(question)}`, chosen],
    ],
    columns: shown.flatMap((index) => [labels[index], "±"]),
    figures: (at) => shown.flatMap((index) => [percent(probabilities[at][index]), std ? (100 * std[at][index]).toFixed(1) : "–"]),
    told: (at) => shown.map((index) => `${labels[index]} ${percent(probabilities[at][index])}`).join(" · "),
  };
}

function rivals([here, ...there], chosen) {
  if (here.length === 2) return [];
  const others = here.map((_, index) => index).filter((index) => index !== chosen);
  const by = (size) => others.filter((index) => size(index) > NOTED).sort((a, b) => size(b) - size(a));
  const found = [...by((index) => here[index]).slice(0, 1), ...by((index) => Math.max(...there.map((row) => row[index])))];
  return [...new Set(found)].slice(0, NAMES.length - 1);
}

function drawn({ curves, state }, draws) {
  const count = Math.min(draws.length, curves.samples);
  return `${whole(count)} ${voters(state, count)}`;
}

/** A network that has dropped the input itself says the same wherever that goes. */
const flat = ({ manifest, dimension, state }) =>
  (manifest.architecture.input_dropout && dimension.trained && state.dropout !== 0 ? `; flat where ${dimension.label} itself is dropped` : "");
