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

/** A row of named inputs. Its state is a list of numbers; a categorical input's is the index of its category. */
class Table {
  constructor(manifest) {
    this.kind = "table";
    this.points = TABLE_POINTS;
    this.dimensions = manifest.inputs.map(dimensionOf);
  }

  get sweepable() {
    return this.dimensions.filter((one) => !one.categories && one.high > one.low);
  }

  row(state) {
    return this.dimensions.map((one, index) => one.categories?.[state.values[index]] ?? state.values[index]);
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
      { name: "noise", label: "Noise", units: "share", low: 0, high: 1, step: 0.05, start: 0 },
      { name: "fade", label: "Fade", units: "share", low: 0, high: 1, step: 0.05, start: 0 },
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
  const [from, to] = [Math.min(low, value), Math.max(high, value)];
  return Array.from({ length: points }, (_, index) => tidy(from + ((to - from) * index) / (points - 1)));
}

/** A state with another number in one dimension. */
export const moved = (state, index, value) => ({ ...state, values: state.values.with(index, value) });

function dimensionOf({ name, units, range, mean, categories }) {
  if (categories) return { name, label: name, categories, start: 0 };
  const [from, to] = range;
  const beyond = (to - from) * BEYOND;
  const step = 10 ** Math.floor(Math.log10(Math.max(to - from, 1e-9) / 100));
  // What is never negative in training, an area say, need not be asked for below zero.
  const low = from >= 0 ? Math.max(0, from - beyond) : from - beyond;
  const snapped = (value) => tidy(Math.round(value / step) * step);
  return {
    name, label: name, units, trained: range, step,
    low: to > from ? snapped(low) : from,
    high: to > from ? snapped(to + beyond) : to,
    start: to > from ? snapped(mean ?? (from + to) / 2) : from,
  };
}
