/** Pictures as rows of pixels: what they look like in an address, and how they are turned, faded and disturbed. */

// One character per pixel, from paper to ink.
const LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const NAME = /^pixel_(\d+)_(\d+)$/;

export class Pixels {
  /** The pixels that inputs named pixel_ROW_COLUMN are, row by row; null where any input is something else. */
  static of(inputs) {
    const places = inputs.map((input) => NAME.exec(input.name)?.slice(1).map(Number));
    const width = Math.max(...places.map((place) => (place ? place[1] + 1 : 0)));
    const inOrder = places.every((place, index) => place && place[0] * width + place[1] === index);
    return inOrder && inputs.length % width === 0 ? new Pixels(width, inputs.length / width, inputs) : null;
  }

  constructor(width, height, inputs) {
    this.width = width;
    this.height = height;
    // Where nobody recorded ranges, pixels are likely to be shares of ink.
    this.most = Math.max(...inputs.map((input) => input.range?.[1] ?? 0)) || 1;
    // A few whole numbers are kept exactly.
    this.levels = Number.isInteger(this.most) && this.most > 1 && this.most < LEVELS.length ? this.most : LEVELS.length - 1;
  }

  /** Whether an image has all the levels that there are characters. */
  get fine() {
    return this.levels === LEVELS.length - 1;
  }

  get blank() {
    return "0".repeat(this.width * this.height);
  }

  /** "0g…" → numbers from 0 to `most`; null where that is no picture of this size. */
  decoded(text) {
    const levels = Array.from(text, (character) => LEVELS.indexOf(character));
    const good = levels.length === this.width * this.height && levels.every((one) => one >= 0 && one <= this.levels);
    return good ? levels.map((level) => (level * this.most) / this.levels) : null;
  }

  encoded(values) {
    const levels = values.map((value) => Math.round((Math.min(Math.max(value, 0), this.most) * this.levels) / this.most));
    return levels.map((level) => LEVELS[level]).join("");
  }

  /** A picture of 8 × 8 pixels from 0 to 16, at this size. */
  enlarged(text) {
    const source = Array.from(text, (character) => LEVELS.indexOf(character) / 16);
    const at = sampler(source, 8, 8);
    return this.encoded(this.map((x, y) => this.most * at(((x + 0.5) * 8) / this.width - 0.5, ((y + 0.5) * 8) / this.height - 0.5)));
  }

  /** Turned by degrees, clockwise; faded towards paper and mixed with noise by shares. Zeros change nothing. */
  disturbed(values, { turn, noise, fade }) {
    let now = values;
    if (turn) {
      const [sin, cos] = [Math.sin((turn * Math.PI) / 180), Math.cos((turn * Math.PI) / 180)];
      const [middleX, middleY] = [(this.width - 1) / 2, (this.height - 1) / 2];
      const at = sampler(values, this.width, this.height);
      now = this.map((x, y) => {
        const [dx, dy] = [x - middleX, y - middleY];
        return at(middleX + dx * cos + dy * sin, middleY - dx * sin + dy * cos);
      });
    }
    if (fade) now = now.map((value) => value * (1 - fade));
    if (noise) now = now.map((value, index) => value * (1 - noise) + this.most * noise * speckle(index));
    return now;
  }

  /** Draws a picture into all of a canvas, in a colour of ink. */
  paint(canvas, values, ink) {
    const context = canvas.getContext("2d");
    const side = canvas.width / this.width;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = ink;
    values.forEach((value, index) => {
      context.globalAlpha = Math.min(1, Math.max(0, value / this.most));
      context.fillRect((index % this.width) * side, Math.floor(index / this.width) * side, side, side);
    });
    context.globalAlpha = 1;
  }

  map(f) {
    return Array.from({ length: this.width * this.height }, (_, i) => f(i % this.width, Math.floor(i / this.width)));
  }
}

/** Bilinear interpolation; outside there is paper. */
function sampler(values, width, height) {
  const pixel = (x, y) => (x >= 0 && x < width && y >= 0 && y < height ? values[y * width + x] : 0);
  return (x, y) => {
    const [left, top] = [Math.floor(x), Math.floor(y)];
    const [right, below] = [x - left, y - top];
    return (
      (pixel(left, top) * (1 - right) + pixel(left + 1, top) * right) * (1 - below) +
      (pixel(left, top + 1) * (1 - right) + pixel(left + 1, top + 1) * right) * below
    );
  };
}

/** A number from 0 to 1 that is always the same for a pixel: a link shows the same noise (splitmix32). */
function speckle(index) {
  let state = Math.imul(index + 1, 0x9e3779b9);
  state = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
  state = Math.imul(state ^ (state >>> 15), 0x735a2d97);
  return ((state ^ (state >>> 15)) >>> 0) / 2 ** 32;
}
