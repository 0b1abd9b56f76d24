/** A picture to draw on, with a pointer or with keys. Knows nothing of models. */

import { colour } from "./colours.js";
import { h } from "./dom.js";

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PRESSURE = 0.75; // of full ink, where the pen is; its neighbours get less

export class Pad {
  /** `drawn` is called with the picture's values whenever somebody has drawn on it. */
  constructor(pixels, drawn) {
    this.pixels = pixels;
    this.drawn = drawn;
    this.cursor = [Math.floor(pixels.width / 2), Math.floor(pixels.height / 2)];
    this.erasing = false;
    this.canvas = h("canvas", {
      class: "pad", width: 320, height: Math.round((320 * pixels.height) / pixels.width), tabindex: "0", role: "application",
      "aria-label": "Picture. Draw with the pointer; or move with the arrow keys, draw with Space, erase with Backspace",
      "aria-roledescription": "drawing pad",
      onpointerdown: (event) => this.begin(event), onpointermove: (event) => this.go(event),
      onpointerup: () => this.end(), onpointercancel: () => this.end(), onkeydown: (event) => this.key(event),
      onfocus: () => this.paint(), onblur: () => this.paint(),
    });
  }

  /** The picture that is drawn on, and what disturbances make of it, which is what is shown. */
  show(values, shown) {
    this.values = values;
    this.shown = shown;
    this.paint();
  }

  paint() {
    if (!this.shown) return;
    const context = this.canvas.getContext("2d");
    const side = this.canvas.width / this.pixels.width;
    this.pixels.paint(this.canvas, this.shown, colour("--pixel"));
    if (this.canvas.matches(":focus-visible")) {
      context.strokeStyle = colour("--accent");
      context.lineWidth = 3;
      context.strokeRect(this.cursor[0] * side + 1.5, this.cursor[1] * side + 1.5, side - 3, side - 3);
    }
  }

  begin(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pressed = true;
    this.last = null;
    this.go(event);
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
  }

  go(event) {
    if (!this.pressed) return;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) / box.width) * this.pixels.width, ((event.clientY - box.top) / box.height) * this.pixels.height];
    const [fromX, fromY] = this.last ?? [x, y];
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(x - fromX, y - fromY)));
    for (let step = 1; step <= steps; step += 1) {
      this.ink(fromX + ((x - fromX) * step) / steps, fromY + ((y - fromY) * step) / steps, event.buttons & 2 ? true : this.erasing, 1 / 2);
    }
    this.last = [x, y];
    this.drawn(this.values);
  }

  end() {
    this.pressed = false;
  }

  key(event) {
    const [dx, dy] = KEYS[event.key] ?? [0, 0];
    const { width, height } = this.pixels;
    const erase = event.key === "Backspace" || event.key === "Delete";
    if (dx || dy) this.cursor = [(this.cursor[0] + dx + width) % width, (this.cursor[1] + dy + height) % height];
    else if (event.key === " " || erase) {
      this.ink(this.cursor[0] + 0.5, this.cursor[1] + 0.5, erase, 1);
      this.drawn(this.values);
    } else return;
    event.preventDefault();
    this.paint();
  }

  /** A pen of a pixel's width, soft at its rim. */
  ink(x, y, erasing, strength) {
    const { width, most } = this.pixels;
    this.values = this.values.map((value, index) => {
      const far = Math.hypot((index % width) + 0.5 - x, Math.floor(index / width) + 0.5 - y);
      const touch = Math.max(0, 1 - far / 1.1) * strength;
      if (erasing) return Math.round(value * (1 - Math.min(1, 2 * touch)));
      return Math.min(most, value + Math.round(touch * most * PRESSURE));
    });
  }
}
