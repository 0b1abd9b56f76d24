/** What a model is asked about: a row of a table, or a picture. Both have dimensions that can be moved and swept over. */

import { tidy } from "./words.js";
import { Pixels } from "./pixels.js";

const BEYOND = 0.25; // how far sliders and sweeps leave the range seen in training, as a share of it
const TABLE_POINTS = 73;
const PICTURE_POINTS = 37;

/** The subject that a manifest's inputs describe. */
export function subjectOf(manifest) {
  const pixels = Pixels.of(manifest.inputs);
  return pixels ? new Picture(pixels, manifest) : new Table(manifest);
}

/**
 * A row of named inputs. Its state is a list of numbers: those of numeric inputs, null where one is missing, and of all
 * others the place of what was chosen among the `choices`, pairs of a name and what is sent.
 */
class Table {
  constructor(manifest) {
    this.kind = "table";
    this.points = TABLE_POINTS;
    this.dimensions = manifest.inputs.map(dimensionOf);
  }

  get sweepable() {
    return this.dimensions.filter((one) => !one.choices && one.high > one.low);
  }

  row(state) {
    return this.dimensions.map(({ choices }, index) => (choices ? choices[state.values[index]][1] : state.values[index]));
  }
}

/** A picture that is turned, faded and disturbed; its state is an image and a number for each of these. */
class Picture {
  constructor(pixels, manifest) {
    this.kind = "picture";
    this.points = PICTURE_POINTS;
    this.pixels = pixels;
    // Examples are handwritten digits: good for whatever tells ten digits apart.
    this.digits = manifest.outputs.map((output) => output.name).join() === "0,1,2,3,4,5,6,7,8,9";
    this.dimensions = [
      { name: "turn", label: "Turn", units: "°", low: -90, high: 90, step: 5, start: 0 },
      { name: "noise", label: "Noise", low: 0, high: 1, step: 0.05, start: 0 },
      { name: "fade", label: "Fade", low: 0, high: 1, step: 0.05, start: 0 },
    ];
  }

  get sweepable() {
    return this.dimensions;
  }

  row(state) {
    const [turn, noise, fade] = state.values;
    return this.pixels.disturbed(this.pixels.decoded(state.image), { turn, noise, fade }).map(short);
  }
}

// Pixels need no more: what sines leave at the far end would only make requests long.
const short = (value) => Number(value.toFixed(3));

/** The numbers at which a sweep asks, from end to end, and as far as a value that was typed. */
export function gridOf({ low, high }, points, value) {
  const [from, to] = [Math.min(low, value ?? low), Math.max(high, value ?? high)];
  return Array.from({ length: points }, (_, index) => tidy(from + ((to - from) * index) / (points - 1)));
}

/** A state with another number in one dimension. */
export const moved = (state, index, value) => ({ ...state, values: state.values.with(index, value) });

function dimensionOf(input) {
  const { name, kind, categories, mean, missing } = input;
  const chosen = (choices, start) => ({ name, label: name, choices, start });
  // Texts that training never saw are all the same to the network, and null is one of them.
  if (kind === "category") return chosen([...categories.map((one) => [one, one]), ["unknown", null]], 0);
  if (kind === "boolean") return chosen([["false", false], ["true", true], ...(missing ? [["missing", null]] : [])], Number(mean >= 0.5));
  return numeric(input);
}

function numeric({ name, units, range, mean, scale, missing }) {
  const [from, to] = range ?? likely(mean, scale);
  const beyond = range ? (to - from) * BEYOND : 0;
  const step = 10 ** Math.floor(Math.log10(Math.max(to - from, 1e-9) / 100));
  // What is never negative in training, an area say, need not be asked for below zero.
  const low = from >= 0 ? Math.max(0, from - beyond) : from - beyond;
  const snapped = (value) => tidy(Math.round(value / step) * step);
  return {
    name, label: name, units, trained: range, step, missing,
    low: to > from ? snapped(low) : from,
    high: to > from ? snapped(to + beyond) : to,
    start: to > from ? snapped(mean ?? (from + to) / 2) : from,
  };
}

/** Where inputs lie whose range nobody recorded, as with networks that were imported. */
const likely = (mean, scale) => (mean != null && scale > 0 ? [mean - 2 * scale, mean + 2 * scale] : [-1, 1]);
