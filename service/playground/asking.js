/** Asks one question at a time, always the newest; says when the service is gone, and asks again when it is back. */

import { grow } from "./growth.js";
import { Problem, Unreachable, ready } from "./service.js";

const PAUSE = 110; // milliseconds between steps that are meant to be seen; not a measure of the service
const PATIENCE = [1000, 2000, 4000, 8000]; // milliseconds between looks whether it is back

export class Asking {
  /** `shown(question, step)` for each step; `failed(error, question, samples)`, and `mended()` when it is over. */
  constructor({ shown, failed, mended }) {
    Object.assign(this, { shown, failed, mended });
    this.wanted = null;
    this.busy = null;
    this.misses = 0;
  }

  /** The question from now on. Where `live` is false it is answered at once, as far as that goes. */
  ask(question, { live }) {
    this.wanted = { question, live };
    clearTimeout(this.timer);
    if (!this.busy) this.run();
    // Something is shown of every question, however fast they follow each other; the rest is for the last.
    else if (this.busy.answered || live) this.busy.abort();
  }

  /** Forgets what was asked. */
  stop() {
    this.wanted = null;
    clearTimeout(this.timer);
    this.busy?.abort();
  }

  /** Asks the last question again, after a failure. */
  again() {
    clearTimeout(this.timer);
    if (this.last) this.ask(this.last, { live: false });
  }

  async run() {
    try {
      while (this.wanted) await this.answer();
    } finally {
      this.busy = null;
    }
  }

  async answer() {
    const { question, live } = this.wanted;
    const controller = new AbortController();
    this.wanted = null;
    this.last = question;
    this.busy = controller;
    let samples = 0;
    try {
      for await (const step of grow(question, live, controller.signal)) {
        controller.answered = true;
        samples = step.answer.samples;
        this.shown(question, step);
        if (controller.signal.aborted) return;
        if (!step.done && live && !calm()) await pause(controller.signal);
      }
      this.misses = 0;
      this.mended();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error, question, samples);
    }
  }

  fail(error, question, samples) {
    this.failed(error, question, samples);
    const passes = error instanceof Unreachable || (error instanceof Problem && error.status === 503);
    if (!passes) return; // asking again would not help
    this.misses += 1;
    const wait = error.retryAfter * 1000 || PATIENCE[Math.min(this.misses, PATIENCE.length) - 1];
    this.timer = setTimeout(() => this.look(), wait);
  }

  async look() {
    if (await ready()) this.again();
    else this.timer = setTimeout(() => this.look(), PATIENCE[Math.min((this.misses += 1), PATIENCE.length) - 1]);
  }
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

const pause = (signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, PAUSE);
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
  });
